"""What went wrong at an OpenAI-compatible server, from its answer."""

from __future__ import annotations

import logging
import re
from typing import Any

import msgspec
from msgspec import Struct

from pharia_kernel.errors import (
    CsiError,
    ModelNotFound,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from pharia_kernel.resilience import AttemptFailed

_MESSAGE_LENGTH = 300
_LOGGED_LENGTH = 2000
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")

_RETRIED = (429, 502, 503)
_UNAUTHORIZED = ("invalid_api_key",)
_UNKNOWN_MODEL = ("model_not_found", "unknown_model")
_NO_QUOTA = ("insufficient_quota",)
_OVERLOADED = ("queue_full", "rate_limit_exceeded", "server_overloaded", "overloaded_error")


log = logging.getLogger("pharia_kernel.inference")


class UpstreamProblem(Struct):
    """The error object of an answer, in any of the dialects in use."""

    message: str | None
    labels: list[str]
    """``code`` and ``type``, in lower case."""
    status: int | None
    """HTTP status, for dialects that put it into ``code``."""


class Redactor:
    """Takes out of upstream messages what callers are not to see."""

    def __init__(self, host: str) -> None:
        self._host = re.compile(rf"(?<![\w.-]){re.escape(host)}(:\d+)?(?![\w.-])", re.IGNORECASE)

    def clean(self, message: str, token: str) -> str:
        message = message.replace(token, "[token]") if token else message
        message = self._host.sub("[backend]", _URL.sub("[url]", message))
        message = _UNPRINTABLE.sub(" ", message).strip()
        return message if len(message) <= _MESSAGE_LENGTH else message[:_MESSAGE_LENGTH] + "…"


class Asked(Struct, frozen=True):
    """What errors need to know about the request."""

    model: str
    token: str
    redactor: Redactor

    def for_log(self, answer: bytes) -> bytes:
        """The beginning of what the server said, which may quote the token that it was sent."""
        if self.token:
            answer = answer.replace(self.token.encode(), b"[token]")
        return answer[:_LOGGED_LENGTH]


def parse_problem(body: bytes) -> UpstreamProblem | None:
    """None if the body is no JSON object that tells of an error."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return None
    inner = value.get("error")
    if isinstance(inner, dict):
        return _problem({"code": value.get("code"), **inner})
    if isinstance(inner, str):
        return _problem({**value, "message": inner})
    if value.get("object") == "error" or isinstance(value.get("message"), str):
        return _problem(value)
    return None


def _problem(fields: dict[str, Any]) -> UpstreamProblem:
    message, code = fields.get("message"), fields.get("code")
    return UpstreamProblem(
        message=message if isinstance(message, str) else None,
        labels=[str(fields[key]).lower() for key in ("code", "type") if fields.get(key)],
        status=int(str(code)) if re.fullmatch(r"[45][0-9]{2}", str(code)) else None,
    )


def failed_attempt(
    status: int, body: bytes, retry_after: float | None, asked: Asked
) -> AttemptFailed:
    """For an answer whose status is not 200."""
    log.warning("The answer with status %d was: %r", status, asked.for_log(body))
    problem = parse_problem(body)
    error = to_error(status, problem, asked)
    error.retry_after = retry_after
    return AttemptFailed(error, retry=status in _RETRIED and not _labelled(problem, _NO_QUOTA))


def to_error(status: int | None, problem: UpstreamProblem | None, asked: Asked) -> CsiError:
    """The typed error; no status if the error object came inside a successful answer."""
    status = status or (problem.status if problem else None)
    if _labelled(problem, _UNKNOWN_MODEL) or (status == 404 and _names(problem, asked.model)):
        return ModelNotFound(
            f"The inference backend has no model `{asked.model[:200]}` that the token may use."
        )
    if status in (401, 403) or _labelled(problem, _UNAUTHORIZED):
        return UpstreamUnauthorized("The inference backend refused the token that it was sent.")
    if _labelled(problem, _NO_QUOTA):
        return UpstreamRejected("The quota of the account at the inference backend is used up.")
    if status in (429, 503) or _labelled(problem, _OVERLOADED):
        return UpstreamOverloaded("The inference backend has too much to do at the moment.")
    if status == 502:
        return UpstreamUnavailable("The gateway of the inference backend does not reach it.")
    if status in (408, 504):
        return UpstreamTimeout("The inference backend reports that it ran out of time.")
    return _rejected(status, problem, asked)


def _rejected(
    status: int | None, problem: UpstreamProblem | None, asked: Asked
) -> UpstreamRejected:
    how = "reported an error" if status is None else f"answered with status {status}"
    message = problem.message if problem else None
    said = asked.redactor.clean(message, asked.token) if message else ""
    detail = f"The inference backend {how}: {said}" if said else f"The inference backend {how}."
    return UpstreamRejected(detail, **({} if status is None else {"upstream_status": status}))


def _labelled(problem: UpstreamProblem | None, labels: tuple[str, ...]) -> bool:
    return problem is not None and any(label in labels for label in problem.labels)


def _names(problem: UpstreamProblem | None, model: str) -> bool:
    return bool(model and problem and problem.message and model in problem.message)
