"""Which provider gets a request."""

import pytest

from pharia_kernel.csi.types import CallContext, CompletionParams, CompletionRequest
from pharia_kernel.drivers.inference.aleph_alpha import AlephAlphaDriver
from pharia_kernel.drivers.inference.router import Route, Router
from pharia_kernel.errors import ModelNotFound
from tests.support.aleph_alpha import running_aleph_alpha

A, B, C = (AlephAlphaDriver("http://127.0.0.1:9") for _ in range(3))
PROVIDERS = {"a": A, "b": B, "c": C}


def test_an_exact_name_wins_over_patterns() -> None:
    router = Router(PROVIDERS, [Route("llama-*", "a"), Route("llama-3", "b")])
    assert router.route("llama-3") == (B, "llama-3")
    assert router.route("llama-2") == (A, "llama-2")


def test_the_first_pattern_wins() -> None:
    router = Router(PROVIDERS, [Route("*-small", "a"), Route("llama-*", "b")])
    assert router.route("llama-small") == (A, "llama-small")


def test_an_alias_is_the_name_at_the_provider() -> None:
    router = Router(PROVIDERS, [Route("fast", "c", "llama-3.1-8b")])
    assert router.route("fast") == (C, "llama-3.1-8b")


def test_the_default_takes_the_rest() -> None:
    router = Router(PROVIDERS, [Route("x", "a")], default="b")
    assert router.route("anything") == (B, "anything")


def test_an_unknown_model_names_what_there_is() -> None:
    router = Router(PROVIDERS, [Route("llama-*", "a"), Route("gpt", "b")])
    with pytest.raises(ModelNotFound, match=r"`claude`.*`llama-\*`"):
        router.route("claude")


def test_an_unknown_provider_is_found_at_once() -> None:
    with pytest.raises(KeyError):
        Router(PROVIDERS, [Route("x", "nobody")])
    with pytest.raises(KeyError):
        Router(PROVIDERS, [], default="nobody")


async def test_requests_go_where_they_belong_under_the_providers_name() -> None:
    async with running_aleph_alpha() as one, running_aleph_alpha() as two:
        router = Router(
            {"one": AlephAlphaDriver(one.url), "two": AlephAlphaDriver(two.url)},
            [Route("big", "one", "luminous-supreme")],
            default="two",
        )
        caller = CallContext(token="t")
        params = CompletionParams()
        await router.complete(CompletionRequest("big", "x", params), caller)
        events = router.completion_stream(CompletionRequest("other", "x", params), caller)
        assert [event async for event in events]
        await router.close()
        assert [body["model"] for _, body, _ in one.received] == ["luminous-supreme"]
        assert [body["model"] for _, body, _ in two.received] == ["other"]
