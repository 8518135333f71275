"""Spans as OTLP sends them, https://opentelemetry.io/docs/specs/otlp/: in protobuf and in JSON.

JSON is not protobuf's usual JSON: ids are hexadecimal digits. Both become the same shapes here, of
which only what the console shows is read. Sizes are bounded by whoever keeps the spans.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, field

from pharia_kernel.errors import BadRequest
from pharia_kernel.telemetry.history import MAX_ATTRIBUTES, MAX_EVENTS

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue as ProtoValue
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue as ProtoKeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

_TRACE_ID = re.compile("(?!0{32})[0-9a-f]{32}")
_SPAN_ID = re.compile("(?!0{16})[0-9a-f]{16}")
_KINDS = ("internal", "internal", "server", "client", "producer", "consumer")
_TIMES = 1 << 64
UNKNOWN_SERVICE = "unknown_service"
_ERROR = 2
"""``STATUS_CODE_ERROR``"""


class KeyValue(Struct, rename="camel"):
    key: str = ""
    value: dict[str, Any] = {}
    """One member, ``stringValue`` or the like."""


class Status(Struct, rename="camel"):
    message: str = ""
    code: int = 0


class Event(Struct, rename="camel"):
    name: str = ""
    time_unix_nano: int | str = 0
    attributes: list[KeyValue] = []


class OtlpSpan(Struct, rename="camel"):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    name: str = ""
    kind: int = 0
    start_time_unix_nano: int | str = 0
    end_time_unix_nano: int | str = 0
    attributes: list[KeyValue] = []
    events: list[Event] = []
    status: Status = field(default_factory=Status)

    def __post_init__(self) -> None:
        """Raises ``ValueError`` if an id or a time is none."""
        self.trace_id, self.span_id = self.trace_id.lower(), self.span_id.lower()
        self.parent_span_id = self.parent_span_id.lower()
        if not _TRACE_ID.fullmatch(self.trace_id):
            raise ValueError("`traceId` must be 32 hexadecimal digits that are not all zero")
        if not _SPAN_ID.fullmatch(self.span_id):
            raise ValueError("`spanId` must be 16 hexadecimal digits that are not all zero")
        if self.parent_span_id and not _SPAN_ID.fullmatch(self.parent_span_id):
            raise ValueError("`parentSpanId` must be 16 hexadecimal digits, or empty")
        times = [event.time_unix_nano for event in self.events]
        for time in (self.start_time_unix_nano, self.end_time_unix_nano, *times):
            if not 0 <= int(time) < _TIMES:
                raise ValueError("times must be nanoseconds since 1970, in 64 bits")

    @property
    def kind_name(self) -> str:
        return _KINDS[self.kind] if 0 <= self.kind < len(_KINDS) else _KINDS[0]

    @property
    def failed(self) -> bool:
        return self.status.code == _ERROR


class _ScopeSpans(Struct, rename="camel"):
    spans: list[OtlpSpan] = []


class _Resource(Struct, rename="camel"):
    attributes: list[KeyValue] = []


class _ResourceSpans(Struct, rename="camel"):
    resource: _Resource = field(default_factory=_Resource)
    scope_spans: list[_ScopeSpans] = []


class _Request(Struct, rename="camel"):
    resource_spans: list[_ResourceSpans] = []


_decode_json = msgspec.json.Decoder(_Request).decode
Reported = tuple[str, OtlpSpan]
"""The service that reports, and its span."""


def from_json(body: bytes) -> list[Reported]:
    """Raises ``BadRequest``."""
    try:
        request = _decode_json(body)
        return [
            (_service(resource.resource.attributes), span)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not OTLP/JSON: {error}.") from None


def from_protobuf(body: bytes) -> list[Reported]:
    """Raises ``BadRequest``."""
    # Only those who report spans wait for the import.
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        request = ExportTraceServiceRequest.FromString(body)
        return [
            (_service(_attributes(resource.resource.attributes)), _span(span))
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
    except (DecodeError, ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not OTLP/protobuf: {error}.") from None


def _span(span: ProtoSpan) -> OtlpSpan:
    return OtlpSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        name=span.name,
        kind=span.kind,
        start_time_unix_nano=span.start_time_unix_nano,
        end_time_unix_nano=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        events=[
            Event(event.name, event.time_unix_nano, _attributes(event.attributes))
            for event in span.events[: MAX_EVENTS + 1]
        ],
        status=Status(span.status.message, span.status.code),
    )


def _attributes(pairs: Any) -> list[KeyValue]:
    return [KeyValue(pair.key, _value(pair.value)) for pair in pairs[:MAX_ATTRIBUTES]]


_MEMBERS = {
    "string_value": "stringValue",
    "bool_value": "boolValue",
    "int_value": "intValue",
    "double_value": "doubleValue",
    "bytes_value": "bytesValue",
}


def _value(value: ProtoValue) -> dict[str, Any]:
    match value.WhichOneof("value"):
        case None:
            return {}
        case "array_value":
            items = value.array_value.values[:MAX_ATTRIBUTES]
            return {"arrayValue": {"values": [_value(item) for item in items]}}
        case "kvlist_value":
            pairs: list[ProtoKeyValue] = list(value.kvlist_value.values[:MAX_ATTRIBUTES])
            values = [{"key": pair.key, "value": _value(pair.value)} for pair in pairs]
            return {"kvlistValue": {"values": values}}
        case "bytes_value":
            return {"bytesValue": value.bytes_value.hex()}
        case member:
            return {_MEMBERS[member]: getattr(value, member)} if member in _MEMBERS else {}


# --- plain values ---------------------------------------------------------------------------------


def plain(attributes: list[KeyValue]) -> Iterator[tuple[str, str | bool | int | float | list[str]]]:
    """Keys and values as the kernel keeps its own; what is nested is JSON text."""
    for pair in attributes[:MAX_ATTRIBUTES]:
        value = _plain(pair.value)
        if isinstance(value, list):
            yield pair.key, [item if isinstance(item, str) else _json(item) for item in value]
        elif isinstance(value, dict):
            yield pair.key, _json(value)
        elif value is not None:
            yield pair.key, value


def _plain(value: Any) -> Any:
    """Of ``AnyValue``; none for what it can't be."""
    match value:
        case {"arrayValue": {"values": list(items)}}:
            return [_plain(item) for item in items[:MAX_ATTRIBUTES]]
        case {"kvlistValue": {"values": list(pairs)}}:
            return {
                str(pair["key"]): _plain(pair.get("value"))
                for pair in pairs[:MAX_ATTRIBUTES]
                if isinstance(pair, dict) and "key" in pair
            }
        case {"intValue": int(number) | str(number)}:
            try:
                return int(number)
            except ValueError:
                return number
        case {"stringValue": str(text)} | {"bytesValue": str(text)}:
            return text
        case {"boolValue": bool(number)} | {"doubleValue": int(number) | float(number)}:
            return number
    return None


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _service(attributes: list[KeyValue]) -> str:
    for key, value in plain(attributes):
        if key == "service.name":
            return str(value)
    return UNKNOWN_SERVICE
