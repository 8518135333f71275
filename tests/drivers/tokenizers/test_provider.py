from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from pharia_kernel.csi.types import CallContext
from pharia_kernel.drivers.tokenizers.provider import ProviderTokenizers
from pharia_kernel.errors import (
    BadUpstreamAnswer,
    CsiError,
    ModelNotFound,
    TokenRequired,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from tests.drivers.tokenizers.server import TokenizerServer
from tests.drivers.tokenizers.tiny import tiny_json

CALLER = CallContext(token="token")


@pytest.fixture
async def provider(server: TokenizerServer) -> AsyncGenerator[ProviderTokenizers, None]:
    provider = ProviderTokenizers(server.url + "/", timeout=30)
    yield provider
    await provider.close()


async def test_the_tokenizer_is_fetched_with_the_callers_token_and_trace(
    provider: ProviderTokenizers, server: TokenizerServer
) -> None:
    context = CallContext(token="token", trace_headers={"traceparent": "00-a-b-01"})
    assert (await provider.load("tiny", context)).json == tiny_json()
    assert server.headers["Authorization"] == "Bearer token"
    assert server.headers["traceparent"] == "00-a-b-01"


async def test_names_of_models_are_one_segment_of_the_path(
    provider: ProviderTokenizers, server: TokenizerServer
) -> None:
    name = "org/modèl?x=1#%2F"
    server.bodies[name] = b"{}"
    assert (await provider.load(name, CALLER)).json == b"{}"
    assert server.asked == {name: 1}


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_names_that_would_lead_elsewhere_are_not_asked_for(
    provider: ProviderTokenizers, server: TokenizerServer, name: str
) -> None:
    with pytest.raises(ModelNotFound):
        await provider.load(name, CALLER)
    assert not server.asked


async def test_without_a_token_the_provider_is_not_asked(provider: ProviderTokenizers) -> None:
    with pytest.raises(TokenRequired):
        provider.key("tiny", CallContext())


async def test_the_key_tells_tokens_apart_without_containing_them(
    provider: ProviderTokenizers,
) -> None:
    keys = {provider.key("tiny", CallContext(token=token)) for token in ("a", "b", "a")}
    assert len(keys) == 2
    assert b"token" not in repr(provider.key("tiny", CALLER)).encode()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, UpstreamUnauthorized),
        (503, UpstreamOverloaded),
        (500, UpstreamRejected),
        (302, UpstreamRejected),
    ],
)
async def test_statuses_become_typed_errors(
    provider: ProviderTokenizers, server: TokenizerServer, status: int, kind: type[CsiError]
) -> None:
    server.status = status
    with pytest.raises(kind):
        await provider.load("tiny", CALLER)


async def test_a_refused_token_and_an_unknown_model(provider: ProviderTokenizers) -> None:
    with pytest.raises(UpstreamUnauthorized) as refused:
        await provider.load("tiny", CallContext(token="stolen"))
    assert "stolen" not in refused.value.detail
    with pytest.raises(ModelNotFound, match="nobodys"):
        await provider.load("nobodys", CALLER)


async def test_a_provider_that_hangs_is_given_up(server: TokenizerServer) -> None:
    server.open.clear()
    provider = ProviderTokenizers(server.url, timeout=0.05)
    with pytest.raises(UpstreamTimeout, match=r"0\.05 s"):
        await provider.load("tiny", CALLER)
    await provider.close()


async def test_a_provider_that_is_not_there(unused_tcp_port: int) -> None:
    provider = ProviderTokenizers(f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(UpstreamUnavailable) as error:
        await provider.load("tiny", CALLER)
    assert str(unused_tcp_port) not in error.value.detail
    await provider.close()


async def test_an_endless_tokenizer_is_refused(server: TokenizerServer) -> None:
    server.bodies["tiny"] = b"x" * 1001
    provider = ProviderTokenizers(server.url, max_bytes=1000)
    with pytest.raises(BadUpstreamAnswer, match="1000 bytes"):
        await provider.load("tiny", CALLER)
    await provider.close()


def test_the_url_has_to_be_absolute() -> None:
    with pytest.raises(ValueError, match="absolute"):
        ProviderTokenizers("inference.example.com")
