from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pharia_kernel.config import Address
from pharia_kernel.config.authorization import Permission
from pharia_kernel.errors import Forbidden, InvalidToken, Unauthenticated
from pharia_kernel.shell.auth import Authorizers, exposure
from pharia_kernel.skills.types import Caller
from tests.shell.auth.support import KEY, OTHER_KEY, Iam, api_keys, settings
from tests.shell.support import TRACEPARENT, within
from tests.support.oidc import AUDIENCE, OpenIdProvider, rsa_key

TRACE = {"traceparent": TRACEPARENT}
CI = {"permissions": ["run"], "namespaces": ["team-a"]}

New = Callable[..., Authorizers]


@pytest.fixture
async def new() -> AsyncIterator[New]:
    made: list[Authorizers] = []

    def make(**given: Any) -> Authorizers:
        made.append(Authorizers(settings(**given)))
        return made[-1]

    yield make
    for authorizers in made:
        await authorizers.close()


def caller(token: str | None) -> Caller:
    return Caller(token=token, trace_headers=TRACE)


def oidc(provider: OpenIdProvider, **more: Any) -> dict[str, Any]:
    return {"issuer": provider.issuer, "audience": AUDIENCE} | more


async def test_without_authorization_everybody_may_everything(new: New) -> None:
    authorizers = new()
    await authorizers.start()
    for token in (None, "anything", "x" * 100_000):
        principal = await authorizers.authenticate(caller(token))
        principal.require("anywhere", Permission.DEPLOY)
        assert principal.is_admin
        assert principal.caller == caller(token)


async def test_the_form_of_a_token_tells_whose_it_is(
    new: New, iam: Iam, provider: OpenIdProvider
) -> None:
    authorizers = new(authorization_url=iam.url, api_keys=api_keys(ci=CI), oidc=oidc(provider))
    assert (await authorizers.authenticate(caller(KEY))).name == "api-key ci"
    assert (await authorizers.authenticate(caller(provider.token()))).name == "oidc ada"
    for token in ("opaque", provider.token(iss="https://other"), "a.b.c"):
        assert (await authorizers.authenticate(caller(token))).name == "iam"
    # Nobody is asked about the tokens of others.
    asked = [request.headers["Authorization"] for request, _ in iam.requests]
    assert len(asked) == 3
    for token in (OTHER_KEY, provider.token(key=rsa_key("attacker"), header={"kid": "first"})):
        with pytest.raises(InvalidToken):
            await authorizers.authenticate(caller(token))
    assert len(iam.requests) == 3


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "", KEY.replace("_", "-")])
async def test_tokens_of_no_known_kind(new: New, provider: OpenIdProvider, token: str) -> None:
    authorizers = new(api_keys=api_keys(ci=CI), oidc=oidc(provider))
    with pytest.raises(InvalidToken, match="an API key, which begins with `pk_` or a JWT"):
        await authorizers.authenticate(caller(token))


async def test_keys_are_the_business_of_iam_if_none_are_configured(new: New, iam: Iam) -> None:
    authorizers = new(authorization_url=iam.url)
    assert (await authorizers.authenticate(caller(KEY))).name == "iam"


async def test_no_token(new: New, iam: Iam, provider: OpenIdProvider) -> None:
    for given in (
        {"authorization_url": iam.url},
        {"api_keys": api_keys(ci=CI)},
        {"oidc": oidc(provider)},
    ):
        with pytest.raises(Unauthenticated, match="Bearer token expected"):
            await new(**given).authenticate(caller(None))
    assert iam.requests == []


async def test_which_tokens_backends_see(new: New, iam: Iam, provider: OpenIdProvider) -> None:
    authorizers = new(authorization_url=iam.url, api_keys=api_keys(ci=CI), oidc=oidc(provider))
    jwt = provider.token()
    forwarding = new(oidc=oidc(provider, forward_token=True))
    for checker, token, seen in (
        (authorizers, KEY, None),
        (authorizers, jwt, None),
        (authorizers, "opaque", "opaque"),
        (forwarding, jwt, jwt),
    ):
        principal = await checker.authenticate(caller(token))
        assert principal.caller == caller(seen)


# --- other settings -------------------------------------------------------------------------------


async def test_keys_come_and_go(new: New) -> None:
    authorizers = new(api_keys=api_keys(ci=CI))
    await authorizers.reconfigure(
        settings(api_keys=api_keys(ci=CI | {"permissions": ["csi"]}, other=CI))
    )
    ci = await authorizers.authenticate(caller(KEY))
    assert ci.may("team-a", Permission.CSI)
    assert not ci.may("team-a", Permission.RUN)
    assert (await authorizers.authenticate(caller(OTHER_KEY))).name == "api-key other"
    changed = api_keys(gone=CI, other=CI)
    del changed["gone"]
    await authorizers.reconfigure(settings(api_keys=changed))
    with pytest.raises(InvalidToken):
        await authorizers.authenticate(caller(KEY))


async def test_what_stays_keeps_what_it_knows(new: New, iam: Iam, provider: OpenIdProvider) -> None:
    given: dict[str, Any] = {"authorization_url": iam.url, "oidc": oidc(provider)}
    authorizers = new(**given)
    token = provider.token()
    for _ in range(2):
        await authorizers.authenticate(caller(token))
        await authorizers.authenticate(caller("opaque"))
        await authorizers.reconfigure(settings(**given, api_keys=api_keys(ci=CI)))
    assert (provider.fetched, len(iam.requests)) == (1, 1)


async def test_a_provider_comes_and_goes(new: New, iam: Iam, provider: OpenIdProvider) -> None:
    authorizers = new(authorization_url=iam.url)
    token = provider.token(pharia_permissions=["run:team-a"])
    assert (await authorizers.authenticate(caller(token))).name == "iam"
    await authorizers.reconfigure(settings(oidc=oidc(provider)))
    assert (await authorizers.authenticate(caller(token))).name == "oidc ada"
    await authorizers.reconfigure(settings(oidc=oidc(provider, audience="another")))
    with pytest.raises(InvalidToken, match="another audience"):
        await authorizers.authenticate(caller(token))
    await authorizers.reconfigure(settings())
    assert (await authorizers.authenticate(caller(None))).is_admin


async def test_questions_that_are_under_way_are_answered(new: New, iam: Iam) -> None:
    authorizers = new(authorization_url=iam.url)
    gate = asyncio.Event()
    iam.waits_for(gate)
    request = asyncio.create_task(authorizers.authenticate(caller("opaque")))
    await within(iam.arrived.wait())
    change = asyncio.create_task(authorizers.reconfigure(settings(api_keys=api_keys(ci=CI))))
    gate.set()
    assert (await within(request)).name == "iam"
    await within(change)
    with pytest.raises(InvalidToken):
        await authorizers.authenticate(caller("opaque"))


async def test_keys_are_fetched_at_the_start(
    new: New, provider: OpenIdProvider, caplog: pytest.LogCaptureFixture
) -> None:
    await new(oidc=oidc(provider)).start()
    assert provider.fetched == 1
    provider.down = True
    with caplog.at_level(logging.ERROR):
        await new(oidc=oidc(provider)).start()
    assert "Cannot get the keys" in caplog.text


async def test_refused_by_iam(new: New, iam: Iam) -> None:
    iam.says(403, "")
    with pytest.raises(Forbidden):
        await new(authorization_url=iam.url).authenticate(caller("opaque"))


# --- exposure -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "open_to_all"),
    [
        ("0.0.0.0", True),
        ("::", True),
        ("192.0.2.1", True),
        ("kernel.example.com", True),
        ("127.0.0.1", False),
        ("127.9.9.9", False),
        ("::1", False),
        ("localhost", False),
    ],
)
def test_exposure_without_authorization(host: str, open_to_all: bool) -> None:
    sentence = exposure(settings(kernel_address=Address(host, 8081)))
    assert (sentence is not None) == open_to_all
    assert sentence is None or str(Address(host, 8081)) in sentence


@pytest.mark.parametrize(
    "given",
    [
        {"authorization_url": "https://iam"},
        {"api_keys": api_keys(ci=CI)},
        {"oidc": {"issuer": "https://login", "audience": "kernel"}},
    ],
)
def test_no_exposure_with_authorization(given: dict[str, Any]) -> None:
    assert exposure(settings(kernel_address=Address("0.0.0.0", 8081), **given)) is None
