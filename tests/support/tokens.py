"""A token service for registries, as Docker's token specification describes it."""

from __future__ import annotations

import base64
import datetime
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.support.tls import pem

ISSUER = "test-issuer"
SERVICE = "test-registry"
REFRESH_TOKEN = "refresh-me"
PUBLIC = "public/"
"""Repositories under it may be pulled by anybody."""


@dataclass
class Asked:
    """One request for a token."""

    method: str
    scopes: list[str]
    authorization: str | None
    form: dict[str, str]


@dataclass
class TokenServer:
    users: dict[str, str]
    """Who gets tokens: names to passwords."""
    key: ec.EllipticCurvePrivateKey
    certificate: bytes
    """PEM, for the registry."""
    lifetime: float = 300.0
    """Seconds, as told to clients."""
    asked: list[Asked] = field(default_factory=list)
    script: deque[web.Response] = field(default_factory=deque)
    """Answers to the next requests instead of tokens."""
    url: str = ""

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[TokenServer]:
        key = ec.generate_private_key(ec.SECP256R1())
        server = cls({"testuser": "hunter2"}, key, _self_signed(key))
        app = web.Application()
        app.router.add_get("/token", server._get)
        app.router.add_post("/token", server._post)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
            yield server
        finally:
            await runner.cleanup()

    async def _get(self, request: web.Request) -> web.Response:
        authorization = request.headers.get("Authorization")
        scopes = request.query.getall("scope", [])
        self.asked.append(Asked("GET", scopes, authorization, {}))
        assert request.query["service"] == SERVICE
        if self.script:
            return self.script.popleft()
        user = self._user(authorization)
        if authorization and user is None:
            return web.json_response({"details": "incorrect username or password"}, status=401)
        return web.json_response({"token": self._token(user, scopes), **self._terms()})

    async def _post(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        scopes = form["scope"].split()
        self.asked.append(Asked("POST", scopes, request.headers.get("Authorization"), form))
        if self.script:
            return self.script.popleft()
        if (form["grant_type"], form["refresh_token"]) != ("refresh_token", REFRESH_TOKEN):
            return web.json_response({"error": "invalid_grant"}, status=400)
        assert form["service"] == SERVICE
        return web.json_response({"access_token": self._token("someone", scopes), **self._terms()})

    def _terms(self) -> dict[str, Any]:
        return {"expires_in": self.lifetime}

    def _user(self, authorization: str | None) -> str | None:
        if authorization is None:
            return None
        user, _, password = base64.b64decode(authorization.split()[1]).decode().partition(":")
        return user if self.users.get(user) == password else None

    def _token(self, user: str | None, scopes: list[str]) -> str:
        now = int(time.time())
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            granted = actions.split(",") if user else ["pull"] if name.startswith(PUBLIC) else []
            access.append({"type": kind, "name": name, "actions": granted})
        claims = {
            "iss": ISSUER,
            "sub": user or "",
            "aud": SERVICE,
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": uuid.uuid4().hex,
            "access": access,
        }
        der = x509.load_pem_x509_certificate(self.certificate).public_bytes(
            serialization.Encoding.DER
        )
        header = {"alg": "ES256", "typ": "JWT", "x5c": [base64.b64encode(der).decode()]}
        return jwt.encode(header, claims, ECKey.import_key(pem(self.key)))


def _self_signed(key: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)
