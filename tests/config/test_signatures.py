from __future__ import annotations

from pathlib import Path

import pytest

from pharia_kernel.config import InPlaceNamespace
from pharia_kernel.config.signatures import SignatureIdentity

from .conftest import Load, Problems

OCI = """
[namespaces.a]
skills = []
registry = "ghcr.io"
"""


def test_keys_and_identities(load: Load) -> None:
    toml = f"""{OCI}
signature-keys = ["team.pub", "release.pub"]
signature-trust-root = "trusted_root.json"
signature-identities = [
    {{ issuer = "https://accounts.example.com", subject = "anna@example.com" }},
    {{ issuer = "https://ci.example.com", subject-regex = "https://github.com/example/.*" }},
]
"""
    namespace = load(toml).namespaces["a"]
    assert isinstance(namespace, InPlaceNamespace)
    assert namespace.demands_signatures
    assert namespace.signature_keys == [Path("team.pub"), Path("release.pub")]
    assert namespace.signature_trust_root == Path("trusted_root.json")
    assert namespace.signature_identities == [
        SignatureIdentity(issuer="https://accounts.example.com", subject="anna@example.com"),
        SignatureIdentity(
            issuer="https://ci.example.com", subject_regex="https://github.com/example/.*"
        ),
    ]


def test_in_the_environment(load: Load) -> None:
    settings = load(
        OCI,
        NAMESPACES__A__SIGNATURE_KEYS="a.pub,b.pub",
        NAMESPACES__A__SIGNATURE_IDENTITIES='[{"issuer": "https://a", "subject": "b"}]',
    )
    namespace = settings.namespaces["a"]
    assert isinstance(namespace, InPlaceNamespace)
    assert namespace.signature_keys == [Path("a.pub"), Path("b.pub")]
    assert namespace.signature_identities == [SignatureIdentity(issuer="https://a", subject="b")]


def test_nothing_is_demanded_by_default(load: Load) -> None:
    namespace = load(OCI).namespaces["a"]
    assert isinstance(namespace, InPlaceNamespace)
    assert not namespace.demands_signatures


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('signature-keys = "a.pub"', "expected a list"),
        ('signature-keys = ["a", "a"]', "`a` is listed more than once"),
        ('signature-trust-root = "a"', "is of use only beside `signature-identities`"),
        ('signature-identities = [{ issuer = "https://a" }]', "either `subject` or"),
        (
            'signature-identities = [{ issuer = "https://a", subject = "b", subject-regex = "c" }]',
            "either `subject` or",
        ),
        ('signature-identities = [{ subject = "b" }]', "is missing"),
        ('signature-identities = [{ issuer = "a", subject = "b" }]', "http:// or https:// URL"),
        (
            'signature-identities = [{ issuer = "https://a", subject-regex = "(" }]',
            "expected a regular expression",
        ),
        (
            'signature-identities = [{ issuer = "https://a", subjekt = "b" }]',
            "signature-identities[0].subject",
        ),
    ],
)
def test_mistakes(problems: Problems, toml: str, problem: str) -> None:
    assert problem in str(problems(OCI + toml))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("signature-keys", '["a.pub"]'),
        ("signature-identities", '[{ issuer = "https://a", subject = "b" }]'),
    ],
)
@pytest.mark.parametrize("form", ["skills = []", 'config-url = "https://a"'])
def test_a_folder_has_no_signatures(problems: Problems, form: str, key: str, value: str) -> None:
    found = str(problems(f'[namespaces.a]\npath = "x"\n{form}\n{key} = {value}'))
    assert f"namespaces.a.{key}" in found
    assert "only OCI registries have signatures" in found


def test_a_watched_directory_has_no_signatures(problems: Problems) -> None:
    found = str(problems('[namespaces.a]\ndirectory = "x"\nsignature-keys = ["a.pub"]'))
    assert "not allowed beside `directory`" in found
