from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pharia_kernel.config.authorization import ApiKey, Permission
from pharia_kernel.errors import InvalidToken
from pharia_kernel.shell.auth.keys import ApiKeys
from tests.shell.auth.support import KEY, OTHER_KEY, api_keys

RUNS = {"permissions": ["run", "csi"], "namespaces": ["team-a"]}


def keys_of(now: datetime | None = None, **tables: dict[str, Any]) -> ApiKeys:
    given = {name: ApiKey.model_validate(key) for name, key in api_keys(**tables).items()}
    return ApiKeys(given, clock=lambda: now or datetime.now(UTC))


def test_each_key_has_its_own_permissions() -> None:
    keys = keys_of(ci=RUNS, ops={"permissions": ["admin"]})
    ci, ops = keys.identify(KEY), keys.identify(OTHER_KEY)
    assert (ci.name, ops.name) == ("api-key ci", "api-key ops")
    assert ci.grants.allow(Permission.RUN, "team-a")
    assert not ci.grants.allow(Permission.RUN, "team-b")
    assert not ci.grants.allow(Permission.DEPLOY, "team-a")
    assert ops.grants.allow(Permission.DEPLOY, "team-b")
    assert not ci.forwards_token
    assert not ops.forwards_token


@pytest.mark.parametrize("token", [OTHER_KEY, KEY[:-1], KEY + "k", KEY.upper(), "pk_", "pk_\udcff"])
def test_unknown_keys(token: str) -> None:
    with pytest.raises(InvalidToken) as caught:
        keys_of(ci=RUNS).identify(token)
    assert caught.value.detail == "The API key is unknown."


def test_the_hash_is_no_key() -> None:
    table = api_keys(ci=RUNS)["ci"]
    keys = ApiKeys({"ci": ApiKey.model_validate(table)})
    for token in (table["hash"], table["hash"].removeprefix("sha256:")):
        with pytest.raises(InvalidToken):
            keys.identify(token)


def test_expiry() -> None:
    expires = datetime(2027, 1, 31, tzinfo=UTC)
    table = RUNS | {"expires": expires}
    assert keys_of(expires - timedelta(seconds=1), ci=table).identify(KEY)
    with pytest.raises(InvalidToken, match="`ci` expired at 2027-01-31T00:00:00"):
        keys_of(expires, ci=table).identify(KEY)


@pytest.mark.parametrize(
    ("token", "is_key"),
    [(KEY, True), ("pk_x", True), ("pk_", True), ("pk_a.b", True), ("apk_x", False), ("", False)],
)
def test_the_form_of_keys(token: str, is_key: bool) -> None:
    assert ApiKeys.recognise(token) == is_key
