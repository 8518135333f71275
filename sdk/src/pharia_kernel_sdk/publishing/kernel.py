"""What a kernel's status API tells, and how to have it look for new versions."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from pharia_kernel_sdk.publishing.errors import KernelError

DEFAULT_ADDRESS = "http://127.0.0.1:8081"
_TIMEOUT = 60.0

Json = dict[str, Any]


class Kernel:
    """A running kernel. All methods raise ``KernelError``."""

    def __init__(self, address: str = DEFAULT_ADDRESS, token: str | None = None) -> None:
        self._client = connection(address, token, httpx.Timeout(_TIMEOUT))

    def __enter__(self) -> Kernel:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def namespaces(self) -> list[Json]:
        """Those that the token may deploy to."""
        return self._list("/v1/namespaces")

    def skills(self) -> list[Json]:
        return self._list("/v1/skills", {"detail": "true"})

    def namespace(self, name: str) -> Json:
        """A namespace with its skills and their history."""
        return self._object(f"/v1/namespaces/{_part(name)}")

    def refresh(self, namespace: str) -> None:
        """Have its description read again, and its registry asked for new versions."""
        self._ask("POST", f"/v1/namespaces/{_part(namespace)}/refresh")

    def runs(self, skill: str | None, limit: int) -> list[Json]:
        """The last runs, newest first; ``skill`` is ``namespace/name``."""
        query = {"limit": str(limit)} | ({"skill": skill} if skill else {})
        return self._list("/v1/runs", query)

    def run(self, id: str) -> Json:
        """One run with what it printed."""
        return self._object(f"/v1/runs/{_part(id)}")

    def _list(self, path: str, query: Mapping[str, str] | None = None) -> list[Json]:
        answer = self._ask("GET", path, query)
        if not isinstance(answer, list):
            raise self._stranger()
        return answer

    def _object(self, path: str) -> Json:
        answer = self._ask("GET", path)
        if not isinstance(answer, dict):
            raise self._stranger()
        return answer

    def _ask(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Any:
        try:
            response = self._client.request(method, path, params=query)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(self._client.base_url, error) from None
        try:
            answer = response.json()
        except ValueError:
            raise self._stranger(response.status_code) from None
        if response.is_success:
            return answer
        raise KernelError(refusal(response.status_code, answer), response.status_code)

    def _stranger(self, status: int | None = None) -> KernelError:
        return KernelError(
            f"What answers at {_shown(self._client.base_url)} is no kernel of this version.", status
        )


def _part(name: str) -> str:
    return quote(name, safe="")


def connection(address: str, token: str | None, timeout: httpx.Timeout) -> httpx.Client:
    """To the kernel of that address. Raises ``KernelError`` if it makes no sense."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=kernel_url(address), headers=headers, timeout=timeout)


def kernel_url(address: str) -> httpx.URL:
    """Raises ``KernelError`` if the address makes no sense. The message does not show it, because
    addresses may have passwords in them."""
    try:
        url = httpx.URL(address.rstrip("/"))
    except httpx.InvalidURL as error:
        raise KernelError(f"The address of the kernel makes no sense: {error}.") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise KernelError(
            "The address of the kernel makes no sense: it begins with http:// or https://, such as "
            f"{DEFAULT_ADDRESS}."
        )
    return url


def unreachable(address: httpx.URL, error: Exception) -> KernelError:
    reason = str(error) or type(error).__name__
    return KernelError(
        f"No answer from the kernel at {_shown(address)} ({reason}). PHARIA_KERNEL_ADDRESS or "
        "--kernel names another."
    )


def _shown(address: httpx.URL) -> str:
    """Without credentials."""
    return str(address.copy_with(userinfo=b"")).rstrip("/")


def refusal(status: int, answer: Any) -> str:
    detail = answer.get("detail") if isinstance(answer, dict) else None
    hint = " PHARIA_AI_TOKEN or --token holds the token." if status == 401 else ""
    return f"The kernel answers {status}: {detail or answer}{hint}"
