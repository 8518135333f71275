"""Which servers the URLs may lead to that other people's namespaces bring.

A team writes the description of its namespace, and the kernel connects to the MCP servers that it
names. So without limits a team could reach what only the kernel's machine can: its own ports, the
metadata service of the cloud, hosts of the internal network (server-side request forgery). What a
name resolves to decides, at the moment of connecting: a check of the text alone is evaded by a name
that resolves to `127.0.0.1`, or to something else the second time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pharia_kernel.errors import OutboundRefused

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME = re.compile(r"(?=.{1,253}$)(\*\.)?[a-z0-9_][a-z0-9_-]*(\.[a-z0-9_-]+)*\.?")
_WITH_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*):(?P<port>[0-9]{1,5})")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_METADATA = frozenset(
    ipaddress.ip_address(text)
    # Where clouds serve credentials of the machine outside the link-local range: AWS over IPv6,
    # Alibaba, Oracle, Azure.
    for text in ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")


# --- what is permitted ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Permit:
    """One entry of ``outbound.allow``: a host, all hosts of a domain, or a network; and a port."""

    name: str | None
    """In lower case; ``*.`` in front stands for one label or more."""
    network: IpNetwork | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Permit:
        """Such as ``mcp.example.com``, ``*.internal``, ``localhost:8080``, ``10.1.0.0/16``,
        ``192.0.2.7:443`` or ``[2001:db8::]/32``; raises ``ValueError``."""
        host, port = text.strip().lower(), None
        if parts := _WITH_PORT.fullmatch(host):
            host, port = parts["host"], int(parts["port"])
            if not 0 < port < 65536:
                raise ValueError(f"not a port: {port}")
        try:
            return cls(None, ipaddress.ip_network(re.sub(r"[\[\]]", "", host)), port)
        except ValueError:
            if not _NAME.fullmatch(host) or _literal(host):
                raise ValueError(f"not a host, domain or network: {text}") from None
        return cls(host.rstrip("."), None, port)

    def covers_name(self, host: str, port: int) -> bool:
        if self.name is None or self.port not in (None, port):
            return False
        if self.name.startswith("*."):
            return host.endswith(self.name[1:]) and len(host) >= len(self.name)
        return host == self.name

    def covers_address(self, address: IpAddress, port: int) -> bool:
        return self.network is not None and self.port in (None, port) and address in self.network


@dataclass(frozen=True)
class OutboundPolicy:
    """The settings ``outbound``, applied to URLs that are not the operator's own."""

    allow: tuple[Permit, ...] = field(default=())
    only_allowed: bool = False
    block_private_addresses: bool = False

    @classmethod
    def of(
        cls,
        allow: Iterable[str] = (),
        *,
        only_allowed: bool = False,
        block_private_addresses: bool = False,
    ) -> OutboundPolicy:
        """Raises ``ValueError`` if an entry makes no sense."""
        return cls(tuple(map(Permit.parse, allow)), only_allowed, block_private_addresses)

    def check_url(self, url: str) -> None:
        """Raises ``OutboundRefused`` for what the text alone tells.

        That nothing is raised does not permit anything: ``resolve`` does.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
        except ValueError:
            host = port = None
        if not host or port is None:
            raise OutboundRefused("is refused: its URL is no HTTP URL with a host")
        host = _normal(host)
        if (address := _literal(host)) is not None:
            self._check(address, host, port)
        elif not self._names(host, port) and not any(permit.network for permit in self.allow):
            if self.only_allowed:
                raise self._not_allowed(host)
            if _is_localhost(host):
                raise _refused(f"{host} is this machine", "can only be reached if")

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of the host that a connection may be made to, in order of preference.

        Connect to nothing but these. Raises ``OutboundRefused`` if all are forbidden, and
        ``OSError`` if the name does not resolve.
        """
        host = _normal(host)
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        permitted: list[str] = []
        refusal: OutboundRefused | None = None
        for text in dict.fromkeys(str(info[4][0]) for info in found):
            try:
                self._check(ipaddress.ip_address(text), host, port)
            except OutboundRefused as error:
                refusal = error
            else:
                permitted.append(text)
        if not permitted:
            raise refusal or OSError(f"{host} has no address")
        return permitted

    # --- the rule ---------------------------------------------------------------------------------

    def _names(self, host: str, port: int) -> bool:
        return any(permit.covers_name(host, port) for permit in self.allow)

    def _check(self, address: IpAddress, host: str, port: int) -> None:
        """Raises ``OutboundRefused`` if this address of the host is not to be connected to."""
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if self._names(host, port) or any(p.covers_address(address, port) for p in self.allow):
            return
        if self.only_allowed:
            raise self._not_allowed(host)
        meant = list(_meanings(address))
        for one in meant:
            if kind := _always_refused(one):
                raise _refused(f"{_with_address(host, address)} {kind}", "can only be reached if")
        if self.block_private_addresses and not all(one.is_global for one in meant):
            raise _refused(
                f"{_with_address(host, address)} is a private address",
                "can, with `outbound.block-private-addresses`, only be reached if",
            )

    def _not_allowed(self, host: str) -> OutboundRefused:
        return _refused(host, "can, with `outbound.only-allowed`, only be reached if")


def _refused(what: str, unless: str) -> OutboundRefused:
    """Goes on after the name of what was to be reached."""
    return OutboundRefused(
        f"is refused: {what}, which {unless} the setting `outbound.allow` has it"
    )


def _with_address(host: str, address: IpAddress) -> str:
    return host if host == str(address) else f"{host} ({address})"


# --- hosts and addresses --------------------------------------------------------------------------


def _normal(host: str) -> str:
    return host.lower().rstrip(".").strip("[]")


def _is_localhost(host: str) -> bool:
    """By name (RFC 6761)."""
    return host == "localhost" or host.endswith(".localhost")


def _literal(host: str) -> IpAddress | None:
    """The address that a host is, also in the spellings of ``inet_aton``: ``127.1``,
    ``2130706433``, ``0x7f000001``, ``0177.0.0.1``."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError, ValueError):
        return None


def _meanings(address: IpAddress) -> Iterator[IpAddress]:
    """The address, and the IPv4 addresses that it is a tunnel or a translation to."""
    yield address
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)


def _always_refused(address: IpAddress) -> str | None:
    """What is wrong with it, if nothing but ``outbound.allow`` permits it."""
    if address.is_loopback:
        return "is this machine"
    if address.is_unspecified or address in _THIS_NETWORK:
        return "is no address of a host"
    if address.is_link_local:
        return "is a link-local address, such as metadata services of clouds have"
    if address in _METADATA:
        return "is a metadata service of a cloud"
    if address.is_multicast:
        return "is a multicast address"
    if address.is_reserved and isinstance(address, ipaddress.IPv4Address):
        return "is a reserved address"
    return None
