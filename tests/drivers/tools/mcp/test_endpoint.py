from __future__ import annotations

import pytest

from pharia_kernel.drivers.tools.mcp import McpServerConfig
from pharia_kernel.drivers.tools.mcp.endpoint import Endpoint

SECRETS = McpServerConfig(
    url="https://anna:s%40crt@tools.example.com:8443/mcp?key=hidden#part",
    headers={"X-Tenant": "acme-hidden"},
)


def of(url: str, **options: object) -> Endpoint:
    return Endpoint.of(McpServerConfig(url=url, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://localhost/mcp", "localhost"),
        ("http://localhost:8000/mcp/", "localhost_8000"),
        ("https://tools.example.com/v1/weather/mcp", "tools_example_com_v1_weather"),
        ("https://tools.example.com/", "tools_example_com"),
        ("https://tools.example.com/mcp?key=1", "tools_example_com"),
        ("http://[::1]:9000/mcp", "1_9000"),
    ],
)
def test_name_comes_from_host_port_and_path(url: str, name: str) -> None:
    assert of(url).name == name


def test_user_and_password_become_a_header() -> None:
    endpoint = Endpoint.of(SECRETS)
    assert dict(endpoint.headers) == {
        "authorization": "Basic YW5uYTpzQGNydA==",
        "x-tenant": "acme-hidden",
    }
    assert endpoint.url == "https://tools.example.com:8443/mcp?key=hidden"


def test_public_parts_hold_no_secret() -> None:
    endpoint = Endpoint.of(SECRETS)
    assert endpoint.public_url == "https://tools.example.com:8443/mcp"
    assert endpoint.label == "tools.example.com:8443"


@pytest.mark.parametrize("value", [SECRETS, Endpoint.of(SECRETS)])
def test_representation_holds_no_secret(value: object) -> None:
    assert not any(secret in repr(value) for secret in ("s%40crt", "s@crt", "hidden", "YW5u"))


def test_token_becomes_a_bearer_header() -> None:
    assert dict(of("http://localhost/mcp", token="t0k").headers) == {"authorization": "Bearer t0k"}


def test_server_is_the_same_only_with_the_same_credentials() -> None:
    url = "http://localhost/mcp"
    assert of(url, token="a") == of(url, token="a", timeout=1.0)
    assert len({of(url), of(url, token="a"), of(url, token="b"), of(url + "?x=1")}) == 4


@pytest.mark.parametrize("url", ["localhost/mcp", "ftp://localhost/mcp", "http:///mcp", ""])
def test_refuses_what_is_no_http_url(url: str) -> None:
    with pytest.raises(ValueError, match="absolute HTTP or HTTPS URL"):
        of(url)


@pytest.mark.parametrize(
    ("url", "headers"),
    [("http://a:b@localhost/mcp", {}), ("http://localhost/mcp", {"AUTHORIZATION": "Basic x"})],
)
def test_refuses_two_ways_to_authenticate(url: str, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"MCP server localhost .* more than one way"):
        of(url, headers=headers, token="t0k")
