"""Servers that a description from elsewhere names, and the outbound policy."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pharia_kernel.drivers.tools.mcp import HealthState, McpServerConfig, McpServers
from pharia_kernel.drivers.tools.mcp.guard import GuardedTransport
from pharia_kernel.errors import OutboundRefused, ToolFailed
from pharia_kernel.outbound import OutboundPolicy
from tests.drivers.tools.mcp.support import (
    NAMESPACE,
    QUICK,
    call,
    config_of,
    health,
    names,
    until,
    within,
)
from tests.support.mcp_servers import ToolServer, running

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@pytest.fixture
async def server() -> AsyncGenerator[ToolServer, None]:
    async with running("echo") as server:
        yield server


@asynccontextmanager
async def guarded(
    policy: OutboundPolicy, *configs: McpServerConfig
) -> AsyncGenerator[McpServers, None]:
    mcp = McpServers(QUICK, policy)
    mcp.configure(NAMESPACE, configs)
    await mcp.start()
    try:
        await within(mcp.settled())
        yield mcp
    finally:
        await within(mcp.close())


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


def named(server: ToolServer, host: str) -> McpServerConfig:
    return McpServerConfig(url=server.url.replace("127.0.0.1", host), guarded=True)


def resolve_to(monkeypatch: pytest.MonkeyPatch, addresses: dict[str, list[str]]) -> None:
    """Stands in for a name server; ``addresses`` may change while it is in use."""
    real = asyncio.get_running_loop().getaddrinfo

    async def getaddrinfo(host: Any, port: Any, **options: Any) -> Any:
        found = [await real(one, port, **options) for one in addresses.get(host, [host])]
        return [info for infos in found for info in infos]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


# --- servers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "localhost"])
async def test_a_refused_server_is_not_asked_and_has_no_tools(
    server: ToolServer, host: str
) -> None:
    async with guarded(OutboundPolicy(), named(server, host)) as mcp:
        assert health(mcp).state is HealthState.FAILING
        assert "is this machine" in (health(mcp).error or "")
        assert "`outbound.allow`" in (health(mcp).error or "")
        assert names(mcp) == []
        with pytest.raises(ToolFailed, match=r"is refused: .*`outbound\.allow`"):
            await call(mcp, "echo")
    assert server.received == []


async def test_a_permitted_server_works(server: ToolServer) -> None:
    policy = OutboundPolicy.of([f"localhost:{port_of(server.url)}"], only_allowed=True)
    async with guarded(policy, named(server, "localhost")) as mcp:
        assert await call(mcp, "echo") == ["{}"]


async def test_the_operators_own_servers_are_not_checked(server: ToolServer) -> None:
    async with guarded(OutboundPolicy.of(only_allowed=True), config_of(server)) as mcp:
        assert await call(mcp, "echo") == ["{}"]


async def test_a_session_of_the_operator_is_not_shared(server: ToolServer) -> None:
    async with guarded(OutboundPolicy(), config_of(server)) as mcp:
        assert await call(mcp, "echo") == ["{}"]
        mcp.configure("team", [named(server, "127.0.0.1")])
        await within(mcp.settled())
        assert names(mcp, "team") == []
        assert names(mcp) == ["echo"]


async def test_a_name_is_judged_by_its_address(
    server: ToolServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, {"tools.example.com": ["127.0.0.1"]})
    async with guarded(OutboundPolicy(), named(server, "tools.example.com")) as mcp:
        assert "tools.example.com (127.0.0.1) is this machine" in (health(mcp).error or "")
    assert server.received == []


async def test_a_name_that_changes_its_address_loses_its_tools(
    server: ToolServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = {"localhost": ["127.0.0.1"]}
    resolve_to(monkeypatch, addresses)
    policy = OutboundPolicy.of(["127.0.0.1"])
    async with guarded(policy, named(server, "localhost")) as mcp:
        assert names(mcp) == ["echo"]
        addresses["localhost"] = ["127.0.0.2"]
        await server.die()
        await until(mcp, lambda: "127.0.0.2" in (health(mcp).error or ""))
        assert names(mcp) == []


# --- connections ----------------------------------------------------------------------------------


@asynccontextmanager
async def answering(
    answer: bytes, *, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[tuple[int, list[bytes]], None]:
    """A server at 127.0.0.1: its port, and what it was asked."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()


def client(policy: OutboundPolicy) -> httpx2.AsyncClient:
    transport = GuardedTransport(policy, httpx2.Limits(max_connections=None))
    timeout = httpx2.Timeout(None, connect=30)
    return httpx2.AsyncClient(
        transport=transport, timeout=timeout, follow_redirects=True, trust_env=False
    )


async def test_a_redirect_is_no_way_around() -> None:
    async with answering(OK) as (inner, heads):
        location = f"Location: http://127.0.0.1:{inner}/".encode()
        redirect = b"HTTP/1.1 307 X\r\n" + location + b"\r\nContent-Length: 0\r\n\r\n"
        async with answering(redirect) as (outer, _):
            policy = OutboundPolicy.of([f"127.0.0.1:{outer}"])
            async with client(policy) as http:
                with pytest.raises(OutboundRefused):
                    await within(http.get(f"http://127.0.0.1:{outer}/"))
        assert heads == []


async def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, {"tools.example.com": ["127.0.0.3", "127.0.0.1"]})
    async with answering(OK) as (port, heads), client(OutboundPolicy.of(["127.0.0.0/8"])) as http:
        response = await within(http.get(f"http://tools.example.com:{port}/"))
        assert response.text == "ok"
        assert f"Host: tools.example.com:{port}".lower().encode() in heads[0].lower()


async def test_nobody_listens() -> None:
    async with answering(OK) as (port, _):
        pass
    async with client(OutboundPolicy.of(["127.0.0.1"])) as http:
        with pytest.raises(httpx2.ConnectError):
            await within(http.get(f"http://127.0.0.1:{port}/"))
        with pytest.raises(httpx2.ConnectError):
            await within(http.get("http://nobody.invalid/"))


async def test_certificates_are_checked_against_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = self_signed(tmp_path, "tools.example.com")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    resolve_to(
        monkeypatch, {"tools.example.com": ["127.0.0.1"], "other.example.com": ["127.0.0.1"]}
    )
    async with (
        answering(OK, tls=tls) as (port, _),
        client(OutboundPolicy.of(["127.0.0.1"])) as http,
    ):
        response = await within(http.get(f"https://tools.example.com:{port}/"))
        assert response.text == "ok"
        with pytest.raises(httpx2.ConnectError):
            await within(http.get(f"https://other.example.com:{port}/"))


def self_signed(directory: Path, name: str) -> ssl.SSLContext:
    """For a server; the certificate is ``cert.pem`` in the directory."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context
