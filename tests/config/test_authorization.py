from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pharia_kernel.config.authorization import Permission, hash_api_key, is_trustworthy

from .conftest import Load, Problems

HASH = f"sha256:{'0' * 64}"
OIDC = '[oidc]\nissuer = "https://login"\naudience = "kernel"\n'


def key(**lines: str) -> str:
    table = {"hash": f'"{HASH}"', "permissions": '["run"]', "namespaces": '["dev"]'} | lines
    return "[api-keys.ci]\n" + "".join(f"{name} = {text}\n" for name, text in table.items() if text)


def test_hash_of_a_key() -> None:
    # Of `echo -n pk_test | sha256sum`.
    assert hash_api_key("pk_test") == (
        "sha256:4cd87eb8bb26640d6ddae9d27afd08952e597754bb59f082e62b84a66e8e6ecf"
    )


def test_keys(load: Load) -> None:
    ci = load(key()).api_keys["ci"]
    assert (ci.hash, ci.permissions, ci.namespaces) == (HASH, [Permission.RUN], ["dev"])
    assert ci.expires is None


def test_keys_from_the_environment(load: Load) -> None:
    settings = load(
        API_KEYS__CI__HASH=HASH.upper().replace("SHA", "sha"),
        API_KEYS__CI__PERMISSIONS="run,deploy",
        API_KEYS__CI__NAMESPACES="*",
        API_KEYS__CI__EXPIRES="2027-01-31",
    )
    ci = settings.api_keys["ci"]
    assert (ci.hash, ci.permissions, ci.namespaces) == (HASH, ["run", "deploy"], ["*"])
    assert ci.expires == datetime(2027, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ('"2027-01-31"', datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:00:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ('"2027-01-31T12:00:00+02:00"', datetime(2027, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_expiry(load: Load, text: str, instant: datetime) -> None:
    settings = load(key(expires=text))
    assert settings.api_keys["ci"].expires == instant
    assert load(settings.describe()) == settings


@pytest.mark.parametrize("text", ["2027-01-31T12:00:00", '"tomorrow"', "5", '"2027-13-01"'])
def test_no_expiry(problems: Problems, text: str) -> None:
    (problem,) = problems(key(expires=text))
    assert "api-keys.ci.expires" in problem
    assert "expected a date such as 2027-01-31" in problem


@pytest.mark.parametrize(
    ("lines", "where", "why"),
    [
        ({"hash": '"secret"'}, "hash", 'expected "sha256:" and 64 hexadecimal digits'),
        ({"hash": ""}, "hash", "is missing"),
        ({"permissions": "[]"}, "permissions", "at least 1"),
        ({"permissions": '["fly"]'}, "permissions[0]", "'run', 'deploy', 'csi' or 'admin'"),
        ({"permissions": '["run", "run"]'}, "permissions", "listed more than once"),
        ({"namespaces": ""}, "namespaces", "is empty"),
        ({"namespaces": "[]"}, "namespaces", 'write ["*"] for all'),
        ({"namespaces": '["B_"]'}, "namespaces[0]", "Invalid namespace `B_`"),
        ({"permissions": '["admin"]'}, "namespaces", "must be left out"),
        ({"expire": "2027-01-31"}, "expire", "unknown key"),
    ],
)
def test_mistakes_in_keys(problems: Problems, lines: dict[str, str], where: str, why: str) -> None:
    (problem,) = problems(key(**lines))
    assert f"api-keys.ci.{where}" in problem
    assert why in problem


def test_admin_needs_no_namespaces(load: Load) -> None:
    assert load(key(permissions='["admin"]', namespaces="")).api_keys["ci"].namespaces == []


@pytest.mark.parametrize(
    ("line", "where", "why"),
    [
        ('algorithms = ["none"]', "algorithms[0]", "'RS256'"),
        ('algorithms = ["HS256"]', "algorithms[0]", "'RS256'"),
        ("algorithms = []", "algorithms", "at least 1"),
        ('jwks-url = "http://login/keys"', "jwks-url", "expected an https:// URL"),
        ('roles-claim = "roles"', "roles-claim", "no effect"),
        ('roles.dev = { permissions = ["run"] }\nroles-claim = "r"', "roles.dev.names", "empty"),
        ('roles.ops = { permissions = ["admin"] }', "roles-claim", "is missing"),
        ('roles.dev = { permision = ["run"] }\nroles-claim = "r"', "roles.dev.perm", "is missing"),
        ('clock-skew = "-5s"', "clock-skew", "expected a duration"),
        ('issuers = "x"', "issuers", "unknown key"),
    ],
)  # fmt: skip
def test_mistakes_in_oidc(problems: Problems, line: str, where: str, why: str) -> None:
    found = problems(OIDC + line)
    assert any(f"oidc.{where}" in problem and why in problem for problem in found), found


def test_unknown_key_of_a_role(problems: Problems) -> None:
    role = 'roles.dev = { permissions = ["run"], namespace = ["*"] }\nroles-claim = "r"'
    found = problems(OIDC + role)
    assert any("did you mean" in problem and "namespaces" in problem for problem in found), found


def test_what_oidc_needs(problems: Problems) -> None:
    found = problems('[oidc]\nclock-skew = "5s"')
    assert sorted(re.findall(r"oidc\.\w+", " ".join(found))) == ["oidc.audience", "oidc.issuer"]


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://login.example.com", True),
        ("http://login.example.com", False),
        ("http://localhost:8080/realms/x", True),
        ("http://127.0.0.1", True),
        ("http://[::1]:80", True),
        ("http://localhost.example.com", False),
        ("http://127.0.0.1.example.com", False),
        ("http://user:127.0.0.1@example.com", False),
        ("ftp://login.example.com", False),
        ("ftp://localhost", False),
        ("http://[::1", False),
        ("", False),
    ],
)
def test_where_keys_may_come_from(url: str, good: bool) -> None:
    assert is_trustworthy(url) == good


def test_the_example_in_the_documentation_works(load: Load) -> None:
    document = Path(__file__).parents[2] / "docs" / "authorization.md"
    example = document.read_text().split("```toml\n")[1].split("```")[0]
    oidc = load(example).oidc
    assert oidc is not None
    assert set(oidc.roles) == {"developer", "operator"}
