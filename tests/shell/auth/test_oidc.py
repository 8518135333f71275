from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp.test_utils import unused_port
from joserfc import jws, jwt
from joserfc.jwk import OctKey

from pharia_kernel.config.authorization import Oidc, Permission
from pharia_kernel.errors import AuthorizationUnavailable, InvalidToken
from pharia_kernel.shell.auth import jwks, oidc
from pharia_kernel.shell.auth.authorizers import Authorizers
from pharia_kernel.shell.auth.bearer import LONGEST_TOKEN
from pharia_kernel.shell.auth.jwks import ProviderKeys
from pharia_kernel.shell.auth.oidc import OidcAuthorizer
from pharia_kernel.shell.auth.permissions import Identity
from pharia_kernel.skills.types import Caller
from tests.shell.auth.support import Clock, settings
from tests.shell.support import within
from tests.skills_layer.support import eventually
from tests.support.oidc import AUDIENCE, HOUR, OpenIdProvider, ec_key, rsa_key

SKEW = 60


class Checker:
    """An authorizer, its clock, and that of the cache of keys."""

    def __init__(self, provider: OpenIdProvider, clock: Clock, **config: Any) -> None:
        given = {"issuer": provider.issuer, "audience": AUDIENCE} | config
        self.config = Oidc.model_validate(given)
        self.clock = clock
        self.uptime = Clock()
        keys = ProviderKeys(self.config.issuer, self.config.jwks_url, clock=self.uptime)
        self.authorizer = OidcAuthorizer(self.config, keys, clock=clock)

    async def identify(self, token: str) -> Identity:
        if known := self.authorizer.known(token):
            return known
        jwt = oidc.read(token)
        assert jwt is not None and self.authorizer.issued(jwt)
        return await self.authorizer.identify(token, jwt)

    async def refusal(self, token: str) -> str:
        with pytest.raises(InvalidToken) as caught:
            await self.identify(token)
        assert token not in caught.value.detail
        return caught.value.detail


NewChecker = Callable[..., Checker]


@pytest.fixture
async def new_checker(provider: OpenIdProvider, clock: Clock) -> AsyncIterator[NewChecker]:
    made: list[Checker] = []

    def make(**config: Any) -> Checker:
        made.append(Checker(provider, clock, **config))
        return made[-1]

    yield make
    for checker in made:
        await checker.authorizer.close()


@pytest.fixture
def checker(new_checker: NewChecker) -> Checker:
    return new_checker()


# --- good tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [rsa_key("first"), ec_key("second")])
async def test_signed_token(provider: OpenIdProvider, checker: Checker, key: Any) -> None:
    token = provider.token(key=key, pharia_permissions=["run:team-a"])
    identity = await checker.identify(token)
    assert identity.name == "oidc ada"
    assert identity.grants.allow(Permission.RUN, "team-a")
    assert not identity.forwards_token


@pytest.mark.parametrize("kind", ["at+jwt", "application/at+jwt", "jwt", None])
async def test_types_of_access_tokens(
    provider: OpenIdProvider, checker: Checker, kind: str | None
) -> None:
    await checker.identify(provider.token(header={"typ": kind}))


async def test_one_of_several_audiences(provider: OpenIdProvider, checker: Checker) -> None:
    await checker.identify(provider.token(aud=["other", AUDIENCE]))


async def test_without_a_key_id_every_key_is_tried(
    provider: OpenIdProvider, checker: Checker
) -> None:
    provider.keys = [rsa_key("first"), rsa_key("another")]
    await checker.identify(provider.token(key=rsa_key("another"), header={"kid": None}))


async def test_the_clock_may_be_off_a_little(provider: OpenIdProvider, checker: Checker) -> None:
    now = int(checker.clock())
    await checker.identify(provider.token(exp=now - SKEW + 5))
    await checker.identify(provider.token(nbf=now + SKEW - 5, iat=now + SKEW - 5))


async def test_long_headers_are_fine(provider: OpenIdProvider, checker: Checker) -> None:
    await checker.identify(provider.token(header={"x5c": ["A" * 2000], "custom": 1}))


# --- bad tokens -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "other"}, "another audience"),
        ({"aud": ["other", "another"]}, "another audience"),
        ({"aud": None}, "lacks a claim: aud"),
        ({"aud": 7}, "another audience"),
        ({"exp": 1}, "has expired"),
        ({"exp": None}, "lacks a claim: exp"),
        ({"exp": "tomorrow"}, "`exp` is malformed"),
        ({"exp": True}, "`exp` is malformed"),
        ({"nbf": 2**40}, "not valid yet"),
        ({"iat": 2**40}, "issued in the future"),
        ({"sub": 7}, "`sub` is malformed"),
    ],
)
async def test_claims_that_do_not_fit(
    provider: OpenIdProvider, checker: Checker, claims: dict[str, Any], reason: str
) -> None:
    assert reason in await checker.refusal(provider.token(**claims))


async def test_endless_tokens(provider: OpenIdProvider, checker: Checker) -> None:
    await checker.identify(provider.token(exp=10**18))
    not_finite = jws.serialize_compact(
        {"alg": "RS256", "kid": "first"},
        json.dumps(provider.claims(exp=float("inf"))),
        rsa_key("first"),
    )
    assert oidc.read(not_finite) is None


async def test_another_issuer_is_not_ours(provider: OpenIdProvider, checker: Checker) -> None:
    for issuer in ("https://other", provider.issuer + "/", None, [provider.issuer]):
        token = oidc.read(provider.token(iss=issuer))
        assert token and not checker.authorizer.issued(token)


def _unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = (json.dumps(header), json.dumps(claims))
    encoded = (base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts)
    return ".".join([*encoded, ""])


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", None, 5, [], {"alg": "RS256"}])
async def test_no_algorithm(provider: OpenIdProvider, checker: Checker, name: Any) -> None:
    token = _unsigned({"alg": name, "kid": "first"}, provider.claims())
    assert "algorithm that is not accepted" in await checker.refusal(token)


async def test_public_key_as_shared_secret(provider: OpenIdProvider, checker: Checker) -> None:
    for kid in ("first", None):
        header = {"alg": "HS256"} | ({"kid": kid} if kid else {})
        unsigned = _unsigned(header, provider.claims()).removesuffix(".")
        mac = hmac.digest(rsa_key("first").as_pem(), unsigned.encode(), "sha256")
        token = f"{unsigned}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
        assert "algorithm that is not accepted" in await checker.refusal(token)


async def test_secrets_in_the_key_set_are_left_out(
    provider: OpenIdProvider, checker: Checker
) -> None:
    provider.extra_keys = [{"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}]
    token = jwt.encode({"alg": "HS256", "kid": "shared"}, provider.claims(), OctKey.generate_key())
    assert "algorithm that is not accepted" in await checker.refusal(token)
    await checker.identify(provider.token())


async def test_algorithms_are_pinned(provider: OpenIdProvider, new_checker: NewChecker) -> None:
    checker = new_checker(algorithms=["ES256"])
    assert "algorithm that is not accepted" in await checker.refusal(provider.token())
    await checker.identify(provider.token(key=ec_key("second")))


async def test_a_key_is_for_its_algorithm(
    provider: OpenIdProvider, new_checker: NewChecker
) -> None:
    checker = new_checker(algorithms=["RS256", "RS512"])
    provider.extra_keys = [
        rsa_key("for-256").as_dict(private=False, alg="RS256"),
        rsa_key("to-encrypt").as_dict(private=False, use="enc"),
        {**rsa_key("to-wrap").as_dict(private=False), "key_ops": ["wrapKey"], "use": "sig"},
    ]
    await checker.identify(provider.token(key=rsa_key("for-256")))
    for key, algorithm in (("for-256", "RS512"), ("to-encrypt", "RS256"), ("to-wrap", "RS256")):
        token = provider.token(key=rsa_key(key), header={"alg": algorithm})
        assert "does not know" in await checker.refusal(token)
    # A signature of the wrong kind of key.
    confused = provider.token(key=ec_key("second"), header={"alg": "ES256", "kid": "first"})
    assert "algorithm that is not accepted" in await checker.refusal(confused)


async def test_small_rsa_keys_are_left_out(
    provider: OpenIdProvider, checker: Checker, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.warns(UserWarning, match="2048"):
        provider.keys.append(rsa_key("small", 1024))
        token = provider.token(key=rsa_key("small", 1024))
        assert "does not know" in await checker.refusal(token)
    assert "RSA with 1024 bits" in caplog.text


async def test_broken_keys_are_left_out(
    provider: OpenIdProvider, checker: Checker, caplog: pytest.LogCaptureFixture
) -> None:
    provider.extra_keys = [
        "no key", 5, {}, {"kty": "RSA"}, {"kty": "RSA", "n": "", "e": "AQAB", "kid": "empty"},
        {"kty": "RSA", "n": 5, "e": []}, {"kty": "EC", "crv": "P-0", "x": "AA", "y": "AA"},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"},
        {**ec_key("second").as_dict(private=False), "key_ops": 5},
        {**ec_key("second").as_dict(private=False), "use": ["sig"]},
    ]  # fmt: skip
    await checker.identify(provider.token())
    assert "is malformed and is left out" in caplog.text


async def test_foreign_signature(provider: OpenIdProvider, checker: Checker) -> None:
    forged = provider.token(key=rsa_key("attacker"), header={"kid": "first"})
    assert await checker.refusal(forged) == "The token's signature is wrong."
    header, _, signature = provider.token().split(".")
    claims = provider.token(sub="admin").split(".")[1]
    assert "signature is wrong" in await checker.refusal(f"{header}.{claims}.{signature}")
    assert "signature is wrong" in await checker.refusal(f"{header}.{claims}.")


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": 5},
        {"crit": []},
        {"b64": True},
    ],
)
async def test_extensions_are_not_supported(
    provider: OpenIdProvider, checker: Checker, header: dict[str, Any]
) -> None:
    token = _unsigned({"alg": "RS256", "kid": "first"} | header, provider.claims())
    assert "extension" in await checker.refusal(token)


@pytest.mark.parametrize("kind", ["logout+jwt", "dpop+jwt", "JWE", ""])
async def test_other_kinds_of_jwts(provider: OpenIdProvider, checker: Checker, kind: str) -> None:
    token = _unsigned({"alg": "RS256", "kid": "first", "typ": kind}, provider.claims())
    assert "not an access token" in await checker.refusal(token)


async def test_key_id_that_is_no_text(provider: OpenIdProvider, checker: Checker) -> None:
    token = _unsigned({"alg": "RS256", "kid": ["first"]}, provider.claims())
    assert "`kid` is not a string" in await checker.refusal(token)


def _parts(header: bytes, payload: bytes) -> str:
    encoded = (base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (header, payload))
    return ".".join([*encoded, "AA"])


@pytest.mark.parametrize(
    "token",
    [
        "",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d.e",
        "é.é.é",
        "\x00.\x00.\x00",
        _parts(b"[]", b"{}"),
        _parts(b'"alg"', b"{}"),
        _parts(b'{"alg":"RS256"}', b"[]"),
        _parts(b'{"alg":"RS256","b64":false,"crit":["b64"]}', b"{}"),
        _parts(b'{"alg":"RS256","b64":false}', b"{}"),
        _parts(b'{"alg":"RS256"}', b"\xff"),
        _parts(b'{"alg":"RS256"}', b"[" * 10_000),
        _parts(b"[" * 10_000, b"{}"),
        _parts(b'{"alg":' * 1500, b"{}"),
        _parts(b'{"alg":"RS256","exp":' + b"9" * 5000 + b"}", b"{}"),
    ],
)
def test_what_is_no_jwt(token: str) -> None:
    assert oidc.read(token) is None


def test_a_jwt_in_a_jwt(provider: OpenIdProvider) -> None:
    inner = provider.token().encode()
    assert oidc.read(_parts(b'{"alg":"RS256","cty":"JWT"}', inner)) is None


async def test_huge_tokens_are_not_even_looked_at(provider: OpenIdProvider) -> None:
    authorizers = Authorizers(settings(oidc={"issuer": provider.issuer, "audience": AUDIENCE}))
    token = provider.token(pharia_permissions=["run:*"] * 3000)
    with pytest.raises(InvalidToken, match=f"longer than {LONGEST_TOKEN} characters"):
        await authorizers.authenticate(Caller(token=token))
    assert provider.asked == []
    await authorizers.close()


# --- permissions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "granted"),
    [
        (["run:team-a", "csi:*"], {"run:team-a", "csi:*"}),
        ("openid run:team-a profile deploy:team-b", {"run:team-a", "deploy:team-b"}),
        (["run:a", "run:b"], {"run:a", "run:b"}),
        (["admin"], {"admin:*"}),
        (["run", "run:", ":a", "fly:a", "admin:a", "Admin", 5, None, ["run:a"], "x y"], set()),
        ({"run": "a"}, set()),
        (None, set()),
        (5, set()),
    ],
)
async def test_permissions_claim(
    provider: OpenIdProvider, checker: Checker, claim: Any, granted: set[str]
) -> None:
    identity = await checker.identify(provider.token(pharia_permissions=claim))
    assert _texts(identity) == granted
    assert identity.grants.admin == ("admin:*" in granted)


def _texts(identity: Identity) -> set[str]:
    scopes = identity.grants.scopes.items()
    return {f"{permission}:{name}" for permission, names in scopes for name in names}


@pytest.mark.parametrize(
    ("path", "claims"),
    [
        ("roles", {"roles": ["dev", "unknown"]}),
        ("roles", {"roles": "dev ops-of-others"}),
        ("realm_access.roles", {"realm_access": {"roles": ["dev"]}}),
        ("https://example.com/roles", {"https://example.com/roles": ["dev"]}),
    ],
)
async def test_roles(
    provider: OpenIdProvider, new_checker: NewChecker, path: str, claims: dict[str, Any]
) -> None:
    roles = {
        "dev": {"permissions": ["run", "deploy"], "namespaces": ["team-a"]},
        "ops": {"permissions": ["admin"]},
    }
    checker = new_checker(roles_claim=path, roles=roles)
    identity = await checker.identify(provider.token(**claims, pharia_permissions=["csi:b"]))
    assert _texts(identity) == {"run:team-a", "deploy:team-a", "csi:b"}
    assert _texts(await checker.identify(provider.token(realm_access=["dev"]))) == set()


async def test_forwarding(provider: OpenIdProvider, new_checker: NewChecker) -> None:
    checker = new_checker(forward_token=True)
    assert (await checker.identify(provider.token())).forwards_token


# --- verified tokens are remembered ---------------------------------------------------------------


async def test_verified_once_until_it_expires(provider: OpenIdProvider, checker: Checker) -> None:
    token = provider.token()
    identity = await checker.identify(token)
    assert checker.authorizer.known(token) is identity
    checker.clock.advance(HOUR + SKEW + 1)
    assert checker.authorizer.known(token) is None
    assert "expired" in await checker.refusal(token)


async def test_what_a_withdrawn_key_signed_is_forgotten(
    provider: OpenIdProvider, checker: Checker
) -> None:
    token = provider.token()
    await checker.identify(token)
    provider.keys = [ec_key("second")]
    checker.uptime.advance(jwks.USUAL_LIFETIME)
    await checker.identify(provider.token())  # which has the keys fetched again
    assert "does not know" in await checker.refusal(token)


async def test_keys_are_renewed_although_only_known_tokens_come(
    provider: OpenIdProvider, checker: Checker
) -> None:
    token = provider.token()
    await checker.identify(token)
    provider.keys = [ec_key("second")]
    checker.uptime.advance(0.9 * jwks.USUAL_LIFETIME)
    assert checker.authorizer.known(token)  # and the keys are fetched again meanwhile
    await eventually(lambda: checker.authorizer.known(token) is None)


async def test_keys_that_could_not_be_renewed_for_long_end_what_is_known(
    provider: OpenIdProvider, checker: Checker
) -> None:
    token = provider.token(exp=checker.clock() + 10 * jwks.LONGEST_STALE)
    await checker.identify(token)
    provider.gate.clear()
    checker.uptime.advance(jwks.LONGEST_STALE)
    assert checker.authorizer.known(token) is None
    provider.gate.set()


# --- the provider's keys --------------------------------------------------------------------------


async def test_keys_are_fetched_once(provider: OpenIdProvider, checker: Checker) -> None:
    tokens = [provider.token(sub=str(n)) for n in range(20)]
    await within(asyncio.gather(*map(checker.identify, tokens)))
    assert provider.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_keys_at_a_url_of_their_own(
    provider: OpenIdProvider, new_checker: NewChecker
) -> None:
    checker = new_checker(jwks_url=f"{provider.issuer}/keys")
    await checker.authorizer.start()
    await checker.identify(provider.token())
    assert provider.asked == ["/keys"]


async def test_a_new_key_is_found(provider: OpenIdProvider, checker: Checker) -> None:
    await checker.identify(provider.token())
    provider.keys = [rsa_key("new"), rsa_key("first")]
    checker.uptime.advance(jwks.PAUSE)
    await checker.identify(provider.token())
    assert provider.fetched == 2


async def test_unknown_keys_are_no_way_to_flood_the_provider(
    provider: OpenIdProvider, checker: Checker
) -> None:
    await checker.identify(provider.token())
    checker.uptime.advance(jwks.PAUSE)
    tokens = [provider.token(header={"kid": f"unknown-{n}"}) for n in range(50)]
    for reason in await within(asyncio.gather(*map(checker.refusal, tokens))):
        assert reason == "The token is signed with a key that its issuer does not know."
    assert provider.fetched == 2
    await checker.refusal(provider.token(header={"kid": "another"}))
    assert provider.fetched == 2
    await checker.identify(provider.token(sub="somebody else"))


async def test_keys_are_renewed_before_they_are_old(
    provider: OpenIdProvider, checker: Checker
) -> None:
    await checker.identify(provider.token())
    provider.gate.clear()
    checker.uptime.advance(0.9 * jwks.USUAL_LIFETIME)
    await within(checker.identify(provider.token(sub="does not wait")))
    provider.gate.set()
    checker.uptime.advance(0.2 * jwks.USUAL_LIFETIME)
    await within(checker.identify(provider.token(sub="waits for it, or has it")))
    assert provider.fetched == 2


@pytest.mark.parametrize(
    ("header", "lifetime"),
    [
        ("", jwks.USUAL_LIFETIME),
        ("public, max-age=120", 120.0),
        ("max-age=1", jwks.SHORTEST_LIFETIME),
        ("Max-Age=999999, must-revalidate", jwks.LONGEST_LIFETIME),
        ("s-max-age=120, max-age=x", jwks.USUAL_LIFETIME),
    ],
)
async def test_the_provider_says_how_long_keys_are_good(
    provider: OpenIdProvider, checker: Checker, header: str, lifetime: float
) -> None:
    provider.headers = {"Cache-Control": header}
    await checker.identify(provider.token())
    checker.uptime.advance(0.79 * lifetime)
    await checker.identify(provider.token(sub="b"))
    assert provider.fetched == 1
    checker.uptime.advance(0.22 * lifetime)
    await checker.identify(provider.token(sub="c"))
    assert provider.fetched == 2


async def test_old_keys_serve_while_the_provider_is_down(
    provider: OpenIdProvider, checker: Checker, caplog: pytest.LogCaptureFixture
) -> None:
    await checker.identify(provider.token())
    provider.down = True
    checker.uptime.advance(10 * jwks.USUAL_LIFETIME)
    await checker.identify(provider.token(sub="b"))
    attempts = len(provider.asked)
    await checker.identify(provider.token(sub="c"))
    assert len(provider.asked) == attempts  # not at every request
    assert "Cannot get the keys" in caplog.text
    checker.uptime.advance(jwks.LONGEST_STALE)
    with pytest.raises(AuthorizationUnavailable):
        await checker.identify(provider.token(sub="d"))
    provider.down = False
    checker.uptime.advance(jwks.PAUSE)
    await checker.identify(provider.token(sub="d"))


async def test_provider_that_was_never_reached(provider: OpenIdProvider, clock: Clock) -> None:
    nobody = f"http://127.0.0.1:{unused_port()}"
    checker = Checker(provider, clock, issuer=nobody)
    for _ in range(3):
        with pytest.raises(AuthorizationUnavailable) as caught:
            await checker.identify(provider.token(iss=nobody))
        assert nobody not in caught.value.detail
        assert caught.value.retry_after == jwks.PAUSE
    await checker.authorizer.close()


async def test_hanging_provider(provider: OpenIdProvider, caplog: pytest.LogCaptureFixture) -> None:
    provider.gate.clear()
    keys = ProviderKeys(provider.issuer, timeout=0.05)
    with pytest.raises(AuthorizationUnavailable):
        await keys.current()
    assert "no answer in time" in caplog.text
    await keys.close()


async def test_closing_does_not_wait(provider: OpenIdProvider) -> None:
    provider.gate.clear()
    keys = ProviderKeys(provider.issuer)
    waiting = asyncio.create_task(keys.current())
    await within(provider.arrived.wait())
    await within(keys.close())
    with pytest.raises(AuthorizationUnavailable):
        await within(waiting)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"issuer": "https://other"}, "of another issuer"),
        ({"issuer": None}, "of another issuer"),
        ({"jwks_uri": None}, "no https:// URL"),
        ({"jwks_uri": "http://192.0.2.1/keys"}, "no https:// URL"),
        ({"jwks_uri": "file:///etc/passwd"}, "no https:// URL"),
    ],
)
async def test_metadata_that_cannot_be_trusted(
    provider: OpenIdProvider,
    checker: Checker,
    metadata: dict[str, Any],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider.metadata = metadata
    with pytest.raises(AuthorizationUnavailable):
        await checker.identify(provider.token())
    assert reason in caplog.text
    assert provider.fetched == 0


async def test_redirects_are_not_followed(
    provider: OpenIdProvider, checker: Checker, caplog: pytest.LogCaptureFixture
) -> None:
    provider.metadata = {"jwks_uri": f"{provider.issuer}/moved"}
    with pytest.raises(AuthorizationUnavailable):
        await checker.identify(provider.token())
    assert "status 302" in caplog.text
    assert provider.fetched == 0


@pytest.mark.parametrize(
    ("keys", "reason"), [([], "no key that can be used"), (["x" * (1 << 20)], "more than 1048576")]
)
async def test_key_sets_that_cannot_be_used(
    provider: OpenIdProvider,
    checker: Checker,
    keys: list[Any],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    token = provider.token()
    provider.keys, provider.extra_keys = [], keys
    with caplog.at_level(logging.ERROR), pytest.raises(AuthorizationUnavailable):
        await checker.identify(token)
    assert reason in caplog.text
