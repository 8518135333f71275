"""How ``HttpCsi`` reaches a kernel. Anything else that answers the same calls can take its place,
such as a recording of them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

if TYPE_CHECKING:
    import httpx

ADDRESS, TOKEN = "PHARIA_KERNEL_ADDRESS", "PHARIA_AI_TOKEN"
_TIMEOUT = 600.0
"""Seconds without a byte. A model may think for minutes."""
_BUSY = (429, 503)
"""Statuses of calls that may be answered later."""
_BROKEN_OFF = "shutting_down"
"""Code of a call that may have been begun."""
_ONCE = "invoke_tool"
"""Has effects, so it must not be made twice."""
_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before a call is repeated, if the kernel does not say how long."""
_LONGEST_PAUSE = 60.0


class CsiError(Exception):
    """The kernel could not answer a call.

    ``status`` is that of HTTP, or None if there was no answer; ``code`` the kernel's error code.
    """

    def __init__(self, message: str, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


Event = tuple[str, dict[str, Any]]
"""Name and data of a server-sent event."""


class Transport(Protocol):
    """Calls of a kernel's ``/csi/v2`` routes."""

    def call(self, function: str, body: Any) -> Any:
        """The JSON answer to a JSON body. Raises ``CsiError``."""

    def stream(self, function: str, body: Any) -> Iterator[Event]:
        """The events of a stream, which ends when the iterator is closed. Raises ``CsiError``."""

    def close(self) -> None: ...


class HttpTransport:
    """To a running kernel. One that can't answer a call now is asked again, a few times and when it
    says (``Retry-After``), unless it says that this is of no use (``retryable``). Threads can share
    a transport.
    """

    def __init__(
        self,
        address: str,
        token: str | None = None,
        timeout: float = _TIMEOUT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        import httpx

        self._sleep = sleep

        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._address = address.rstrip("/")
        self._client = httpx.Client(
            base_url=f"{self._address}/csi/v2/",
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=10.0),
        )

    @classmethod
    def from_environment(cls) -> HttpTransport:
        """To ``PHARIA_KERNEL_ADDRESS``, with the token ``PHARIA_AI_TOKEN`` if there is one: in the
        environment, or in the file ``.env`` of the current folder or the nearest above it."""
        # Imported here because most processes never read it.
        from pharia_kernel_sdk.publishing.environment import Environment
        from pharia_kernel_sdk.publishing.errors import PublishError

        try:
            environment = Environment.read()
        except PublishError as error:
            raise CsiError(str(error)) from None
        address = environment.get(ADDRESS)
        if not address:
            raise CsiError(
                f"Set {ADDRESS} to the address of a kernel, such as http://127.0.0.1:8081"
                f" (and {TOKEN} if it asks for a token)."
            )
        return cls(address, environment.get(TOKEN))

    def call(self, function: str, body: Any) -> Any:
        import httpx

        try:
            response = self._post(function, body)
        except httpx.HTTPError as error:
            raise self._unreachable(function, error) from error
        _check(function, response)
        return response.json()

    def stream(self, function: str, body: Any) -> Iterator[Event]:
        import httpx

        try:
            with contextlib.closing(self._post(function, body, stream=True)) as response:
                _check(function, response)
                yield from events(response.iter_lines(), _failure(function))
        except httpx.HTTPError as error:
            raise self._unreachable(function, error) from error

    def _post(self, function: str, body: Any, *, stream: bool = False) -> httpx.Response:
        """The answer; errors as well, and these have been read."""
        headers = {"Accept": "text/event-stream"} if stream else {}
        for usual in (*_PAUSES, None):
            request = self._client.build_request("POST", function, json=body, headers=headers)
            response = self._client.send(request, stream=stream)
            if response.status_code < 400:
                break
            response.read()
            pause = None if usual is None else _pause(function, response, usual)
            if pause is None:
                break
            self._sleep(pause)
        return response

    def close(self) -> None:
        self._client.close()

    def _unreachable(self, function: str, error: Exception) -> CsiError:
        reason = str(error) or type(error).__name__
        return CsiError(f"{function}: no answer from the kernel at {self._address} ({reason}).")


def _pause(function: str, response: httpx.Response, usual: float) -> float | None:
    """Seconds until the call may be repeated; none if that does not help, or does harm."""
    if response.status_code not in _BUSY:
        return None
    problem = _problem(response)
    if problem.get("retryable") is False:
        return None
    if problem.get("code") == _BROKEN_OFF and function == _ONCE:
        return None
    try:
        asked = float(response.headers.get("retry-after", usual))
    except ValueError:  # a date
        asked = usual
    return asked if 0 <= asked <= _LONGEST_PAUSE else None


def _check(function: str, response: httpx.Response) -> None:
    if response.status_code < 400:
        return
    problem = _problem(response)
    detail, code = problem.get("detail", response.text), problem.get("code")
    raise CsiError(f"{function}: {response.status_code} {detail}", response.status_code, code)


def _problem(response: httpx.Response) -> dict[str, Any]:
    """What the kernel says of an error (RFC 9457); empty if somebody else has answered."""
    if "json" not in response.headers.get("content-type", ""):
        return {}
    try:
        problem = response.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _failure(function: str) -> Callable[[dict[str, Any]], NoReturn]:
    def fail(problem: dict[str, Any]) -> NoReturn:
        raise CsiError(f"{function}: {problem.get('message')}", code=problem.get("code"))

    return fail


def events(lines: Iterable[str], fail: Callable[[dict[str, Any]], NoReturn]) -> Iterator[Event]:
    """Server-sent events whose data are JSON objects. ``fail`` gets the data of an event ``error``,
    and raises it."""
    name, data = "message", []
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif not line and data:
            content = json.loads("\n".join(data))
            if name == "error":
                fail(content)
            yield name, content
            name, data = "message", []
