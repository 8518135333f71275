"""How ``HttpCsi`` reaches a kernel. Anything else that answers the same calls can take its place,
such as a recording of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import httpx

ADDRESS, TOKEN = "PHARIA_KERNEL_ADDRESS", "PHARIA_AI_TOKEN"
_TIMEOUT = 600.0
"""Seconds without a byte. A model may think for minutes."""


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
    """To a running kernel."""

    def __init__(self, address: str, token: str | None = None, timeout: float = _TIMEOUT) -> None:
        import httpx

        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._address = address.rstrip("/")
        self._client = httpx.Client(
            base_url=f"{self._address}/csi/v2/",
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=10.0),
        )

    @classmethod
    def from_environment(cls) -> HttpTransport:
        """To ``PHARIA_KERNEL_ADDRESS``, with the token ``PHARIA_AI_TOKEN`` if there is one."""
        address = os.environ.get(ADDRESS)
        if not address:
            raise CsiError(
                f"Set {ADDRESS} to the address of a kernel, such as http://127.0.0.1:8081"
                f" (and {TOKEN} if it asks for a token)."
            )
        return cls(address, os.environ.get(TOKEN))

    def call(self, function: str, body: Any) -> Any:
        import httpx

        try:
            response = self._client.post(function, json=body)
        except httpx.HTTPError as error:
            raise self._unreachable(function, error) from error
        _check(function, response)
        return response.json()

    def stream(self, function: str, body: Any) -> Iterator[Event]:
        import httpx

        headers = {"Accept": "text/event-stream"}
        try:
            with self._client.stream("POST", function, json=body, headers=headers) as response:
                if response.status_code >= 400:
                    response.read()
                _check(function, response)
                yield from _events(function, response.iter_lines())
        except httpx.HTTPError as error:
            raise self._unreachable(function, error) from error

    def close(self) -> None:
        self._client.close()

    def _unreachable(self, function: str, error: Exception) -> CsiError:
        reason = str(error) or type(error).__name__
        return CsiError(f"{function}: no answer from the kernel at {self._address} ({reason}).")


def _check(function: str, response: httpx.Response) -> None:
    if response.status_code < 400:
        return
    code = None
    detail = response.text
    if "json" in response.headers.get("content-type", ""):
        problem = response.json()
        if isinstance(problem, dict):
            detail, code = problem.get("detail", detail), problem.get("code")
    raise CsiError(f"{function}: {response.status_code} {detail}", response.status_code, code)


def _events(function: str, lines: Iterator[str]) -> Iterator[Event]:
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
                raise CsiError(f"{function}: {content.get('message')}", code=content.get("code"))
            yield name, content
            name, data = "message", []
