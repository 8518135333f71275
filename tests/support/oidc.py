"""An OpenID provider: discovery document, key set, and tokens signed with real keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from joserfc import jwt
from joserfc.jwk import ECKey, Key, RSAKey

from pharia_kernel.shell.auth.oidc import Registry

AUDIENCE = "pharia-kernel"
HOUR = 3600


@cache
def rsa_key(name: str, bits: int = 2048) -> RSAKey:
    """The same for the same name: making one takes a while."""
    return RSAKey.generate_key(bits, {"kid": name, "use": "sig"})


@cache
def ec_key(name: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": name, "alg": "ES256"})


class OpenIdProvider:
    """``keys`` are those that it publishes. The first one signs."""

    def __init__(self) -> None:
        self.keys: list[Key] = [rsa_key("first"), ec_key("second")]
        self.extra_keys: list[Any] = []
        """Further entries of the key set, as they are."""
        self.metadata: dict[str, Any] = {}
        """Members of the discovery document that are not as they should be."""
        self.headers: dict[str, str] = {}
        self.down = False
        self.gate = asyncio.Event()
        """Answers wait for it."""
        self.gate.set()
        self.asked: list[str] = []
        """Paths of the requests."""
        self.arrived = asyncio.Event()
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._metadata)
        app.router.add_get("/keys", self._key_set)
        app.router.add_get("/moved", self._moved)
        self.server = TestServer(app)

    @property
    def issuer(self) -> str:
        return str(self.server.make_url("/")).rstrip("/")

    @property
    def fetched(self) -> int:
        """How often the key set was asked for."""
        return self.asked.count("/keys")

    async def _answer(self, request: web.Request, document: Any) -> web.Response:
        self.asked.append(request.path)
        self.arrived.set()
        await self.gate.wait()
        if self.down:
            return web.Response(status=503)
        return web.json_response(document, headers=self.headers)

    async def _metadata(self, request: web.Request) -> web.Response:
        usual = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
        return await self._answer(request, usual | self.metadata)

    async def _key_set(self, request: web.Request) -> web.Response:
        keys = [key.as_dict(private=False) for key in self.keys]
        return await self._answer(request, {"keys": [*keys, *self.extra_keys]})

    async def _moved(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        raise web.HTTPFound("/keys")

    # --- tokens

    def claims(self, **claims: Any) -> dict[str, Any]:
        """Of a token that is good for an hour; a claim that is None is left out."""
        now = int(time.time())
        usual = {"iss": self.issuer, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + HOUR}
        return {name: value for name, value in (usual | claims).items() if value is not None}

    def token(
        self, *, key: Key | None = None, header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        key = key or self.keys[0]
        usual = {"alg": "ES256" if isinstance(key, ECKey) else "RS256", "kid": key.kid}
        given = {name: value for name, value in (usual | (header or {})).items() if value}
        registry = Registry(algorithms=[given["alg"]], strict_check_header=False)
        return jwt.encode(given, self.claims(**claims), key, registry=registry)


@asynccontextmanager
async def openid_provider() -> AsyncGenerator[OpenIdProvider, None]:
    provider = OpenIdProvider()
    await provider.server.start_server()
    try:
        yield provider
    finally:
        provider.gate.set()
        await provider.server.close()
