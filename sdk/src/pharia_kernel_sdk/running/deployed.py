"""Calls a skill that a kernel serves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn
from urllib.parse import quote

import httpx

from pharia_kernel_sdk.csi.inference import Reasoning
from pharia_kernel_sdk.publishing.errors import KernelError
from pharia_kernel_sdk.publishing.kernel import connection, refusal, unreachable
from pharia_kernel_sdk.running.errors import InvalidInputError, SkillError, SkillFailedError
from pharia_kernel_sdk.running.results import Streamed
from pharia_kernel_sdk.running.skill import Item, Listener, TellingRecorder, ToolNotice, nobody
from pharia_kernel_sdk.streaming import MessageAppend, MessageBegin, MessageEnd
from pharia_kernel_sdk.transport import events

_TIMEOUT = httpx.Timeout(None, connect=10.0)
"""Kernels end runs that take too long."""
_WRONG_KIND = "wrong_skill_kind"
_ERRORS: dict[str, type[SkillError]] = {
    "invalid_input": InvalidInputError,
    "input_schema_violation": InvalidInputError,
    "skill_failed": SkillFailedError,
    "skill_bug": SkillFailedError,
}
"""Codes of problems that are about the skill, and not about the kernel."""


class _WrongKind(Exception):
    """The skill is a message stream."""


class DeployedSkill:
    """``path`` is ``namespace/name``. Raises ``KernelError`` if the address makes no sense."""

    def __init__(self, path: str, address: str, token: str | None = None) -> None:
        namespace, _, name = path.partition("/")
        self._path = f"/v1/skills/{quote(namespace, safe='')}/{quote(name, safe='')}"
        self._client = connection(address, token, _TIMEOUT)
        self._streams = False

    def __enter__(self) -> DeployedSkill:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def run(self, input_: bytes, listener: Listener = nobody) -> Any:
        if not self._streams:
            try:
                with self._ask("run", input_) as response:
                    return _output(response)
            except _WrongKind:
                self._streams = True
        recorder = TellingRecorder(listener)
        with self._ask("message-stream", input_) as response:
            for name, data in events(response.iter_lines(), _fail):
                if (item := _item(name, data)) is not None:
                    _tell(item, recorder, listener)
        return Streamed.of(recorder)

    @contextmanager
    def _ask(self, route: str, body: bytes) -> Iterator[httpx.Response]:
        url = f"{self._path}/{route}"
        headers = {"Content-Type": "application/json"}
        try:
            with self._client.stream("POST", url, content=body, headers=headers) as response:
                if not response.is_success:
                    _refused(response)
                yield response
        except httpx.HTTPError as error:
            raise unreachable(self._client.base_url, error) from None


def _output(response: httpx.Response) -> Any:
    try:
        return json.loads(response.read())
    except ValueError:
        raise KernelError(f"What answers at {response.request.url.host} is no kernel.") from None


def _refused(response: httpx.Response) -> NoReturn:
    response.read()
    try:
        problem = response.json()
    except ValueError:
        problem = response.text
    if isinstance(problem, dict):
        if problem.get("code") == _WRONG_KIND and response.request.url.path.endswith("/run"):
            raise _WrongKind
        _raise_if_skills(problem)
    raise KernelError(refusal(response.status_code, problem), response.status_code)


def _fail(problem: dict[str, Any]) -> NoReturn:
    """What ends a stream that has begun."""
    _raise_if_skills(problem)
    status = problem.get("status")
    raise KernelError(f"{problem.get('title')}: {problem.get('message')}", status)


def _raise_if_skills(problem: dict[str, Any]) -> None:
    if error := _ERRORS.get(str(problem.get("code"))):
        raise error(str(problem.get("detail")))


def _item(name: str, data: dict[str, Any]) -> Item | None:
    """None for events that are not known here."""
    match name, data.get("type"):
        case "message", "begin":
            return MessageBegin()
        case "message", "append":
            return MessageAppend(data["text"])
        case "message", "end":
            return MessageEnd(data["payload"])
        case "reasoning", _:
            return Reasoning(data["text"])
        case "tool", ("begin" | "end" | "error") as state:
            return ToolNotice(data["name"], state, data.get("message"))
    return None


def _tell(item: Item, recorder: TellingRecorder, listener: Listener) -> None:
    if isinstance(item, ToolNotice):
        listener(item)
    else:
        recorder.write(item)
