"""Tokenizers that the inference provider hands out (Aleph Alpha's API)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Hashable
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from pharia_kernel.csi.types import CallContext
from pharia_kernel.drivers.inference.credentials import CallersToken
from pharia_kernel.drivers.inference.openai_errors import Asked, Redactor, parse_problem, to_error
from pharia_kernel.drivers.inference.upstream import reason
from pharia_kernel.drivers.tokenizers.base import HuggingFaceTokenizer
from pharia_kernel.errors import (
    BadUpstreamAnswer,
    ModelNotFound,
    UpstreamTimeout,
    UpstreamUnavailable,
)

log = logging.getLogger("pharia_kernel.tokenizers")

_MAX_ERROR_BYTES = 64 * 1024


class ProviderTokenizers:
    """``GET {url}/models/{model}/tokenizer`` with the caller's token.

    Each token has to prove once that it may have a tokenizer: what the provider gave to one caller
    is not given to another.
    """

    name = "the inference provider"

    def __init__(
        self, url: str, *, timeout: float = 30.0, max_bytes: int = 64 * 1024 * 1024
    ) -> None:
        """``timeout`` in seconds is for the whole download. Raises ``ValueError`` for a URL that is
        not absolute."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"`{url}` is not an absolute HTTP or HTTPS URL")
        self._base = url.rstrip("/")
        self._redactor = Redactor(parts.hostname)
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._token = CallersToken()
        self._session: aiohttp.ClientSession | None = None

    def key(self, model: str, context: CallContext) -> Hashable:
        """Raises ``TokenRequired``."""
        return hashlib.sha256(self._token.bearer(context).encode()).digest()

    async def load(self, model: str, context: CallContext) -> HuggingFaceTokenizer:
        if model in ("", ".", ".."):
            # They would lead to another route.
            raise ModelNotFound(f"`{model}` cannot be the name of a model.")
        token = self._token.bearer(context)
        asked = Asked(model=model, token=token, redactor=self._redactor)
        headers = {**context.trace_headers, "Authorization": f"Bearer {token}"}
        url = URL(f"{self._base}/models/{quote(model, safe='')}/tokenizer", encoded=True)
        try:
            async with self._open_session().get(
                url, headers=headers, allow_redirects=False
            ) as response:
                return await HuggingFaceTokenizer.of(await self._body(response, asked))
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"The inference backend did not send the tokenizer within {self._timeout:g} s."
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            log.warning("No tokenizer from %s: %s", url, reason(error))
            raise UpstreamUnavailable(
                "The inference backend, which has the tokenizer, cannot be reached."
            ) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _body(self, response: aiohttp.ClientResponse, asked: Asked) -> bytes:
        if response.status != 200:
            start = await response.content.read(_MAX_ERROR_BYTES)
            raise to_error(response.status, parse_problem(start), asked)
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > self._max_bytes:
                raise BadUpstreamAnswer(f"The tokenizer is larger than {self._max_bytes} bytes.")
        return bytes(body)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                # Cookies would carry state from one caller to the next.
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session
