from __future__ import annotations

import pytest

from pharia_kernel.outbound import OutboundPolicy

from .conftest import Load, Problems


def test_the_policy(load: Load) -> None:
    toml = """
        [outbound]
        allow = ["mcp.example.com", "*.internal", "10.1.0.0/16", "localhost:8080", "[::1]:80"]
        only-allowed = true
        block-private-addresses = true
    """
    assert load(toml).outbound.policy() == OutboundPolicy.of(
        ["mcp.example.com", "*.internal", "10.1.0.0/16", "localhost:8080", "[::1]:80"],
        only_allowed=True,
        block_private_addresses=True,
    )


def test_the_default(load: Load) -> None:
    assert load().outbound.policy() == OutboundPolicy()


def test_in_the_environment(load: Load) -> None:
    settings = load(OUTBOUND__ALLOW="localhost:8080,10.0.0.0/8", OUTBOUND__ONLY_ALLOWED="true")
    assert settings.outbound.policy() == OutboundPolicy.of(
        ["localhost:8080", "10.0.0.0/8"], only_allowed=True
    )


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('allow = ["http://mcp.example.com"]', "expected a host, domain or network"),
        ('allow = ["10.0.0.1/8"]', "expected a host, domain or network"),
        ('allow = ["a", "a"]', "listed more than once"),
        ('allow = "a"', "expected a list"),
        ("only-allowed = 3", "expected true or false"),
        ("block-private = true", "outbound.block-private-addresses"),
    ],
)
def test_mistakes(problems: Problems, toml: str, problem: str) -> None:
    assert problem in str(problems(f"[outbound]\n{toml}"))
