from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from pharia_kernel.errors import OutboundRefused
from pharia_kernel.outbound import OutboundPolicy, Permit

Resolver = Callable[..., None]

OPEN = OutboundPolicy()
PUBLIC = "93.184.216.34"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Gives names addresses, as a name server of the attacker's could."""

    def set_names(**addresses: list[str]) -> None:
        async def getaddrinfo(
            host: str, port: int, **_: object
        ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
            if host not in addresses:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
                for address in addresses[host]
            ]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    return set_names


# --- what the text tells --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("127.0.0.1", "is this machine"),
        ("127.255.0.9", "is this machine"),
        ("[::1]", "is this machine"),
        ("[::ffff:127.0.0.1]", "is this machine"),
        ("[::ffff:7f00:1]", "is this machine"),
        ("[::127.0.0.1]", "is this machine"),
        ("2130706433", "is this machine"),
        ("0x7f000001", "is this machine"),
        ("0x7f.1", "is this machine"),
        ("0177.0.0.1", "is this machine"),
        ("127.1", "is this machine"),
        ("localhost", "is this machine"),
        ("LocalHost.", "is this machine"),
        ("a.localhost", "is this machine"),
        ("0.0.0.0", "is no address of a host"),
        ("0", "is no address of a host"),
        ("0.1.2.3", "is no address of a host"),
        ("[::]", "is no address of a host"),
        ("169.254.169.254", "link-local"),
        ("[fe80::1]", "link-local"),
        ("[::ffff:169.254.169.254]", "link-local"),
        ("[64:ff9b::a9fe:a9fe]", "link-local"),
        ("[2002:a9fe:a9fe::1]", "link-local"),
        ("2852039166", "link-local"),
        ("[fd00:ec2::254]", "metadata service"),
        ("100.100.100.200", "metadata service"),
        ("168.63.129.16", "metadata service"),
        ("224.0.0.1", "multicast"),
        ("[ff02::1]", "multicast"),
        ("255.255.255.255", "reserved"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_this_machine_and_metadata_are_refused(scheme: str, host: str, why: str) -> None:
    with pytest.raises(OutboundRefused, match=why) as refused:
        OPEN.check_url(f"{scheme}://{host}:8080/mcp")
    assert "`outbound.allow`" in refused.value.detail
    if "localhost" not in host.lower():
        with pytest.raises(OutboundRefused, match=why):
            await OPEN.resolve(host.strip("[]"), 8080)


@pytest.mark.parametrize(
    "url",
    [
        "https://mcp.example.com/mcp",
        f"http://{PUBLIC}",
        "http://[2606:2800:220:1::1]:8080",
        "http://10.0.0.1",
        "http://localhost.example.com",
    ],
)
def test_the_rest_is_not_refused_for_its_text(url: str) -> None:
    OPEN.check_url(url)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "http://", "mcp", "http://[::1", "http://a:x"]
)
def test_a_url_without_host_is_refused(url: str) -> None:
    with pytest.raises(OutboundRefused, match="no HTTP URL"):
        OPEN.check_url(url)


# --- what the name resolves to --------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "::1", "fe80::1%2", "0.0.0.0", "::ffff:127.0.0.1"]
)
async def test_a_name_that_resolves_to_what_is_forbidden(names: Resolver, address: str) -> None:
    names(evil=[address])
    OPEN.check_url("http://evil")
    with pytest.raises(OutboundRefused) as refused:
        await OPEN.resolve("evil", 80)
    assert "evil (" in refused.value.detail


async def test_forbidden_addresses_among_others_are_left_out(names: Resolver) -> None:
    names(both=["127.0.0.1", PUBLIC, PUBLIC, "::1"])
    assert await OPEN.resolve("Both.", 80) == [PUBLIC]


async def test_a_name_that_does_not_resolve_is_no_matter_of_the_policy(names: Resolver) -> None:
    names()
    with pytest.raises(OSError, match="not known"):
        await OPEN.resolve("nobody", 80)


# --- private addresses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fc00::1", "198.18.0.1"],
)
async def test_private_addresses_can_be_blocked(names: Resolver, address: str) -> None:
    names(intranet=[address])
    assert await OPEN.resolve("intranet", 80) == [address]
    blocking = OutboundPolicy.of(block_private_addresses=True)
    with pytest.raises(OutboundRefused, match=r"outbound\.block-private-addresses"):
        await blocking.resolve("intranet", 80)


@pytest.mark.parametrize("address", [PUBLIC, "2606:2800:220:1::1", "::ffff:93.184.216.34"])
async def test_public_addresses_are_not_private(names: Resolver, address: str) -> None:
    names(public=[address])
    blocking = OutboundPolicy.of(block_private_addresses=True)
    assert await blocking.resolve("public", 80) == [address]


async def test_private_addresses_behind_translation_are_private(names: Resolver) -> None:
    names(translated=["64:ff9b::a01:203"])
    with pytest.raises(OutboundRefused, match="private"):
        await OutboundPolicy.of(block_private_addresses=True).resolve("translated", 80)


# --- the list -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("permit", "host", "port", "covered"),
    [
        ("mcp.example.com", "mcp.example.com", 443, True),
        ("MCP.example.com.", "mcp.example.com", 80, True),
        ("mcp.example.com", "evil.mcp.example.com", 443, False),
        ("mcp.example.com:8443", "mcp.example.com", 443, False),
        ("*.internal", "tools.internal", 80, True),
        ("*.internal", "a.b.internal", 80, True),
        ("*.internal", "internal", 80, False),
        ("*.internal", "notinternal", 80, False),
        ("*.internal:8080", "tools.internal", 8080, True),
        ("*.internal:8080", "tools.internal", 80, False),
        ("10.1.0.0/16", "10.1.0.0", 80, False),
    ],
)
def test_names(permit: str, host: str, port: int, covered: bool) -> None:
    assert Permit.parse(permit).covers_name(host, port) is covered


@pytest.mark.parametrize(
    ("permit", "resolved"),
    [
        ("tools", "127.0.0.1"),
        ("tools:8080", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.0/8:8080", "127.0.0.1"),
        ("127.0.0.1:8080", "127.0.0.1"),
        ("127.0.0.1", "::ffff:127.0.0.1"),
        ("[::1]:8080", "::1"),
        ("::1", "::1"),
        ("fe80::/10", "fe80::1"),
    ],
)
async def test_the_list_permits_what_is_otherwise_refused(
    names: Resolver, permit: str, resolved: str
) -> None:
    names(tools=[resolved])
    for policy in (
        OutboundPolicy.of([permit]),
        OutboundPolicy.of(
            ["other.example.com", permit], only_allowed=True, block_private_addresses=True
        ),
    ):
        policy.check_url("http://tools:8080")
        assert await policy.resolve("tools", 8080) == [resolved]


@pytest.mark.parametrize("permit", ["tools:80", "127.0.0.2", "127.0.0.1:80", "tools.example.com"])
async def test_the_list_permits_nothing_else(names: Resolver, permit: str) -> None:
    names(tools=["127.0.0.1"])
    with pytest.raises(OutboundRefused, match=r"tools \(127.0.0.1\) is this machine"):
        await OutboundPolicy.of([permit]).resolve("tools", 8080)


async def test_a_permitted_network_is_not_permitted_through_a_tunnel(names: Resolver) -> None:
    names(tunnel=["2002:a01:203::1"])
    policy = OutboundPolicy.of(["10.0.0.0/8"], only_allowed=True)
    with pytest.raises(OutboundRefused):
        await policy.resolve("tunnel", 80)


async def test_only_what_is_allowed(names: Resolver) -> None:
    names(example=[PUBLIC])
    policy = OutboundPolicy.of(["*.internal"], only_allowed=True)
    with pytest.raises(OutboundRefused, match=r"example, which can, with `outbound.only-allowed`"):
        policy.check_url("https://example")
    with pytest.raises(OutboundRefused, match=r"outbound\.only-allowed"):
        await policy.resolve("example", 443)
    with pytest.raises(OutboundRefused, match=r"outbound\.only-allowed"):
        policy.check_url(f"http://{PUBLIC}")
    policy.check_url("http://tools.internal")


async def test_nothing_is_allowed(names: Resolver) -> None:
    names(example=[PUBLIC])
    with pytest.raises(OutboundRefused):
        await OutboundPolicy.of(only_allowed=True).resolve("example", 443)


def test_a_name_may_resolve_into_a_permitted_network() -> None:
    OutboundPolicy.of(["10.0.0.0/8"], only_allowed=True).check_url("https://tools.example.com")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "a b",
        "http://mcp.example.com",
        "a/b",
        "a:0",
        "a:65536",
        "a.*.b",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "127.1",
        "0x7f000001",
    ],
)
def test_entries_that_make_no_sense(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        Permit.parse(text)
