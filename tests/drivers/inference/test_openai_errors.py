from __future__ import annotations

import json
from typing import Any

import pytest

from pharia_kernel.drivers.inference.openai_errors import (
    Asked,
    Redactor,
    failed_attempt,
    parse_problem,
    to_error,
)
from pharia_kernel.errors import (
    CsiError,
    ModelNotFound,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)

ASKED = Asked("big-model", "s3cret", Redactor("llm.internal.example"))


def openai(message: str = "m", **fields: Any) -> bytes:
    return json.dumps({"error": {"message": message, **fields}}).encode()


def aleph_alpha(message: str, code: str) -> bytes:
    return json.dumps({"error": message, "code": code}).encode()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, b"", UpstreamUnauthorized),
        (403, b"<html>", UpstreamUnauthorized),
        (400, openai(code="invalid_api_key"), UpstreamUnauthorized),
        (404, openai(code="model_not_found"), ModelNotFound),
        (403, openai(code="model_not_found"), ModelNotFound),
        (404, aleph_alpha("No such model", "UNKNOWN_MODEL"), ModelNotFound),
        (404, openai("The model `big-model` does not exist.", code=404), ModelNotFound),
        (404, openai("Not Found"), UpstreamRejected),
        (404, b"404 page not found", UpstreamRejected),
        (429, openai(type="requests"), UpstreamOverloaded),
        (429, b"", UpstreamOverloaded),
        (429, openai(type="insufficient_quota"), UpstreamRejected),
        (503, aleph_alpha("Too busy", "QUEUE_FULL"), UpstreamOverloaded),
        (503, b"", UpstreamOverloaded),
        (502, b"<html>Bad Gateway</html>", UpstreamUnavailable),
        (504, b"", UpstreamTimeout),
        (408, b"", UpstreamTimeout),
        (400, openai(code="context_length_exceeded"), UpstreamRejected),
        (307, b"", UpstreamRejected),
        (500, openai(), UpstreamRejected),
    ],
)
def test_an_answer_becomes_a_typed_error(status: int, body: bytes, error: type[CsiError]) -> None:
    assert type(failed_attempt(status, body, None, ASKED).error) is error


@pytest.mark.parametrize(
    ("status", "retry"),
    [(429, True), (502, True), (503, True), (500, False), (504, False), (400, False)],
)
def test_only_what_passes_is_retried(status: int, retry: bool) -> None:
    assert failed_attempt(status, openai(), None, ASKED).retry is retry


def test_a_used_up_quota_is_not_retried() -> None:
    assert not failed_attempt(429, openai(type="insufficient_quota"), None, ASKED).retry


def test_the_pause_asked_for_reaches_the_caller() -> None:
    assert failed_attempt(429, b"", 7.0, ASKED).error.retry_after == 7.0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (openai("m"), "m"),
        (aleph_alpha("m", "C"), "m"),
        (b'[{"error": {"message": "m"}}]', "m"),
        (b'{"object": "error", "message": "m"}', "m"),
        (b'{"message": "m"}', "m"),
        (b'{"error": {"message": 5}}', None),
    ],
)
def test_dialects(body: bytes, message: str | None) -> None:
    problem = parse_problem(body)
    assert problem
    assert problem.message == message


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"7", b"{}", b'{"error": null}', b"\xff", b"[" * 10**5]
)
def test_what_is_no_error_object(body: bytes) -> None:
    assert parse_problem(body) is None


def test_a_status_in_the_error_object_counts_when_there_is_no_other() -> None:
    problem = parse_problem(openai(code=429))
    assert type(to_error(None, problem, ASKED)) is UpstreamOverloaded
    assert type(to_error(400, problem, ASKED)) is UpstreamRejected


def test_the_message_of_an_error_object_is_shown() -> None:
    error = failed_attempt(400, openai("`n` must be\n positive"), None, ASKED).error
    assert error.detail.endswith("answered with status 400: `n` must be positive")
    assert error.problem()["upstream_status"] == 400


def test_a_body_that_is_no_error_object_is_not_shown() -> None:
    error = failed_attempt(500, b"Traceback: /srv/secret", None, ASKED).error
    assert error.detail == "The inference backend answered with status 500."


def test_messages_are_cleaned() -> None:
    message = (
        "See https://llm.internal.example/v1?key=1 or LLM.internal.example:8080\x1b[0m\n"
        "with s3cret " + "x" * 1000
    )
    detail = failed_attempt(400, openai(message), None, ASKED).error.detail
    assert "See [url] or [backend] [0m with [token] xxx" in detail
    assert len(detail) < 400
