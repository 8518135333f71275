"""The last runs, for the console and whoever else wants to know; and spans that belong to them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Security
from pydantic import WithJsonSchema
from starlette.responses import Response

from pharia_kernel.config.authorization import is_loopback
from pharia_kernel.console import otlp, reports
from pharia_kernel.errors import Forbidden, NotFound, UnsupportedMediaType
from pharia_kernel.shell.auth import ApiToken, Asking, Permission, Principal
from pharia_kernel.shell.auth.authorizers import ANYBODY
from pharia_kernel.shell.body import read_body
from pharia_kernel.shell.openapi import json_answer, json_response, problem_answers
from pharia_kernel.telemetry import history, names
from pharia_kernel.telemetry.history import History, RunRecord, SpanEvent, SpanRecord

MAX_REPORT = 4 << 20
"""Bytes of spans in one request; the default of collectors."""
_JSON, _PROTOBUF = "application/json", "application/x-protobuf"
_NOT_CACHED = {"Cache-Control": "no-store"}
_LONGEST_LIST = 1000

_Skill = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "example": "dev/greet"}),
    Query(description="Only runs of this skill: `namespace/name`."),
]
_TraceId = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "example": "4bf92f3577b34da6a3ce929d0e0e4736"}),
    Query(description="Only runs of this trace: 32 hexadecimal digits."),
]
_Limit = Annotated[int, Query(ge=1, le=_LONGEST_LIST, description="At most so many.")]

_RUN = {
    "id": "0f6a3c7be1a94d5c8a3f1d2e4b5c6d7e",
    "namespace": "dev",
    "skill": "dev/greet",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "began": 1760000000.0,
    "seconds": 0.41,
    "outcome": "skill_failed",
    "error": {"code": "skill_failed", "title": "Skill failed", "fixable_by": "skill-author"},
    "tokens": {"input": 21, "output": 34},
}
_SPAN: dict[str, Any] = {
    "span_id": "00f067aa0ba902b7",
    "parent_id": "a3ce929d0e0e4736",
    "name": names.SKILL_EXECUTION,
    "kind": "internal",
    "service": names.SCOPE,
    "began": 1760000000.0,
    "seconds": 0.4,
    "failed": True,
    "status": "Skill failed",
    "attributes": {"skill": "dev/greet"},
    "events": [],
}
_RUN_IN_DETAIL = {
    **_RUN,
    "spans": [_SPAN],
    "dropped_spans": 0,
    "logs": [{"time": 1760000000.2, "channel": "stdout", "text": "Hello"}],
    "dropped_logs": 0,
    "tool_calls": [
        {
            "name": "add",
            "began": 1760000000.1,
            "seconds": 0.01,
            "error": "tool_failed",
            "arguments": '{"a":1,"b":2}',
            "result": '[{"type":"text","content":"3"}]',
        }
    ],
}


def router(token: ApiToken) -> APIRouter:
    routes = APIRouter(tags=["operations"], dependencies=[Security(token)])

    @routes.get(
        "/v1/runs",
        operation_id="runs",
        response_class=Response,
        responses={
            200: json_answer("The runs, newest first.", "RunList", [_RUN]),
            **problem_answers(400, 401, 403, 404),
        },
    )
    async def list_runs(
        asking: Asking, skill: _Skill = None, trace_id: _TraceId = None, limit: _Limit = 100
    ) -> Response:
        """The last runs, as far as the kernel keeps them (`console-runs`). To see everybody's takes
        the permission `deploy`; those of a trace are shown to all who know its id and may run
        skills there.
        """
        kept = _history()
        needed = (Permission.RUN, Permission.DEPLOY) if trace_id else (Permission.DEPLOY,)
        found = [
            run
            for run in kept.newest()
            if skill in (None, run.skill)
            and trace_id in (None, run.recording.trace_id)
            and asking.may(run.namespace, *needed)
        ]
        answer = [_summary(run, kept.spans(run)) for run in found[:limit]]
        return _answer(answer)

    @routes.get(
        "/v1/runs/{id}",
        operation_id="run",
        response_class=Response,
        responses={
            200: json_answer("The run.", "RunDetail", _RUN_IN_DETAIL),
            **problem_answers(401, 403, 404),
        },
    )
    async def show_run(id: str, asking: Asking) -> Response:
        """One of the last runs, with its spans, its tool calls and what the skill printed. Prompts,
        answers and the arguments of tools are there if `otel-gen-ai-content-capture` is on.
        """
        kept = _history()
        run = kept.get(id)
        if run is None or not asking.may(run.namespace, Permission.RUN, Permission.DEPLOY):
            raise NotFound(f"No run `{id[:64]}` is kept.")
        return _answer(_detail(run, kept.spans(run)))

    @routes.post(
        "/v1/traces",
        operation_id="report_spans",
        response_class=Response,
        responses={
            200: json_answer("They are kept, as far as there is room.", "TracesAnswer", {}),
            **problem_answers(400, 401, 403, 404, 413, 415),
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "description": "`ExportTraceServiceRequest` of OTLP/HTTP.",
                "content": {
                    _JSON: {"schema": {"type": "object"}},
                    _PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
                },
            }
        },
    )
    async def report_spans(request: Request, asking: Asking) -> Response:
        """Spans of your own processes (OTLP/HTTP): they are shown beside those of the kernel, in
        the runs that have the same trace id. They are not exported.
        """
        _check_origin(request, asking)
        kept = _history()
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in (_JSON, _PROTOBUF):
            raise UnsupportedMediaType(f"Content-Type must be `{_PROTOBUF}` or `{_JSON}`.")
        headers = dict(request.scope["headers"])
        body = await read_body(headers, request.receive, MAX_REPORT)
        decode = otlp.from_json if media_type == _JSON else otlp.from_protobuf
        reported = await asyncio.to_thread(decode, body)
        return _taken(reports.keep(kept, reported), media_type)

    return routes


def _history() -> History:
    kept = history.current()
    if kept is None:
        raise NotFound("This kernel keeps no runs: `console-runs` is 0.")
    return kept


def _check_origin(request: Request, asking: Principal) -> None:
    """Without authorization, the network can't fill the history with what it likes."""
    host = request.client.host if request.client else ""
    if asking.name == ANYBODY.name and not is_loopback(host):
        raise Forbidden(
            "Without authorization, spans are taken from the machine of the kernel only. "
            "Its operator can set `api-keys`, `oidc` or `authorization-url`."
        )


def _taken(rejected: int, media_type: str) -> Response:
    """``ExportTraceServiceResponse``"""
    reason = "There is no more room for spans of the trace." if rejected else ""
    if media_type == _JSON:
        partial = {"rejectedSpans": str(rejected), "errorMessage": reason}
        return _answer({"partialSuccess": partial} if rejected else {})
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTracePartialSuccess,
        ExportTraceServiceResponse,
    )

    success = ExportTracePartialSuccess(rejected_spans=rejected, error_message=reason)
    answer = ExportTraceServiceResponse(partial_success=success if rejected else None)
    return Response(answer.SerializeToString(), media_type=_PROTOBUF)


def _answer(value: Any) -> Response:
    answer = json_response(value)
    answer.headers.update(_NOT_CACHED)
    return answer


# --- the shapes -----------------------------------------------------------------------------------


def _seconds(begin: int, end: int | None) -> float | None:
    return None if end is None else max(0, end - begin) / 1e9


def _summary(run: RunRecord, spans: list[SpanRecord]) -> dict[str, Any]:
    return {
        "id": run.id,
        "namespace": run.namespace,
        "skill": run.skill,
        "trace_id": run.recording.trace_id,
        "began": run.began / 1e9,
        "seconds": _seconds(run.began, run.ended),
        "outcome": run.outcome,
        "error": run.error,
        "tokens": {
            "input": _sum(spans, names.INPUT_TOKENS),
            "output": _sum(spans, names.OUTPUT_TOKENS),
        },
    }


def _sum(spans: list[SpanRecord], key: str) -> int:
    """Over the kernel's own spans: others may report the same tokens once more."""
    counts = [span.attributes.get(key) for span in spans if span.service == names.SCOPE]
    return sum(count for count in counts if isinstance(count, int))


def _detail(run: RunRecord, spans: list[SpanRecord]) -> dict[str, Any]:
    own = [span for span in spans if span.service == names.SCOPE]
    return {
        **_summary(run, spans),
        "spans": [_span(span) for span in spans],
        "dropped_spans": run.recording.dropped,
        "logs": [_log(e) for span in own for e in span.events if e.name == names.OUTPUT],
        "dropped_logs": sum(span.dropped_events for span in own),
        "tool_calls": [
            _tool_call(span)
            for span in own
            if span.attributes.get(names.OPERATION) == names.EXECUTE_TOOL
        ],
    }


def _span(span: SpanRecord) -> dict[str, Any]:
    return {
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "name": span.name,
        "kind": span.kind,
        "service": span.service,
        "began": span.begin / 1e9,
        "seconds": _seconds(span.begin, span.end),
        "failed": span.failed,
        "status": span.status,
        "attributes": span.attributes,
        "events": [
            {"name": event.name, "time": event.time / 1e9, "attributes": event.attributes}
            for event in span.events
            if event.name != names.OUTPUT
        ],
    }


def _log(event: SpanEvent) -> dict[str, Any]:
    return {
        "time": event.time / 1e9,
        "channel": event.attributes.get(names.LOG_IOSTREAM),
        "text": event.attributes.get(names.LOG_ORIGINAL),
    }


def _tool_call(span: SpanRecord) -> dict[str, Any]:
    attributes = span.attributes
    return {
        "name": attributes.get(names.GEN_AI_TOOL_NAME),
        "began": span.begin / 1e9,
        "seconds": _seconds(span.begin, span.end),
        "error": attributes.get(names.ERROR_TYPE),
        "arguments": attributes.get(names.TOOL_ARGUMENTS),
        "result": attributes.get(names.TOOL_RESULT),
    }
