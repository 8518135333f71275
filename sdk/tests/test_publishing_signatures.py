"""Signatures that publishing makes, judged by the kernel's own verifier."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from nacl.secret import SecretBox
from pharia_kernel.oci.client import OciClient
from pharia_kernel.skills.registry.base import Snapshot
from pharia_kernel.skills.registry.oci import OciRegistry
from pharia_kernel.skills.signatures.keys import TrustedKey
from pharia_kernel.skills.signatures.verifier import SignatureVerifier, Trust
from publishing_support import component, published, sdk, written
from tests.skills_layer.signatures.support import PrivateKey, public_pem
from tests.support.registry import RegistryProcess, registry_server, unique

__all__ = ["registry_server"]

KEYS: dict[str, PrivateKey] = {
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "rsa": rsa.generate_private_key(65537, 2048),
}
PASSWORD = "a password"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("COSIGN_PASSWORD", raising=False)
    return tmp_path


@pytest.fixture
async def client(registry_server: RegistryProcess) -> AsyncIterator[OciClient]:
    opened = registry_server.client()
    yield opened
    await opened.close()


def pem(key: PrivateKey, password: str | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def as_cosign_encrypts(key: PrivateKey, password: str) -> bytes:
    """A ``cosign.key``, with the parameters that cosign takes."""
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    salt, cost = bytes(range(32)), {"N": 65536, "r": 8, "p": 1}
    derived = hashlib.scrypt(
        password.encode(), salt=salt, n=65536, r=8, p=1, maxmem=1 << 28, dklen=32
    )
    sealed = SecretBox(derived).encrypt(der, nonce := bytes(24))
    body = {
        "kdf": {"name": "scrypt", "params": cost, "salt": _b64(salt)},
        "cipher": {"name": "nacl/secretbox", "nonce": _b64(nonce)},
        "ciphertext": _b64(sealed.ciphertext),
    }
    lines = base64.encodebytes(json.dumps(body).encode())
    kind = b"ENCRYPTED SIGSTORE PRIVATE KEY-----\n"
    return b"-----BEGIN " + kind + lines + b"-----END " + kind


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def signer(client: OciClient, target: str, digest: str, folder: Path, *names: str) -> str:
    """Who signed it, if these keys are trusted."""
    keys = []
    for name in names:
        (folder / f"{name}.pub").write_bytes(public_pem(KEYS[name]))
        keys.append(TrustedKey.read(folder / f"{name}.pub"))
    name = target.rpartition("/")[2]
    verifier = SignatureVerifier(OciRegistry(client, "team"), Trust(keys=tuple(keys)))
    return await verifier.verify(name, Snapshot(f"sha256:{'0' * 64}", 4, digest, digest))


@pytest.fixture
def target(registry_server: RegistryProcess) -> str:
    return f"{registry_server.host}/team/{unique()}"


@pytest.mark.parametrize("name", KEYS)
async def test_kinds_of_keys(client: OciClient, target: str, folder: Path, name: str) -> None:
    (folder / "team.key").write_bytes(pem(KEYS[name]))
    done = published(written(folder, component('"x"')), target, "--sign", "team.key")
    assert done["signed_with"] == "team.key"
    assert await signer(client, target, done["digest"], folder, name) == f"{name}.pub"


async def test_keys_of_cosign(
    client: OciClient, target: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(folder, component('"x"'))
    (folder / "cosign.key").write_bytes(as_cosign_encrypts(KEYS["p256"], PASSWORD))
    unasked = sdk("publish", file, target, "--sign", "cosign.key")
    assert unasked.exit_code == 1
    assert "set COSIGN_PASSWORD" in unasked.output
    monkeypatch.setenv("COSIGN_PASSWORD", "a wrong one")
    wrong = sdk("publish", file, target, "--sign", "cosign.key")
    assert wrong.exit_code == 1
    assert "password of the key cosign.key is wrong" in wrong.output
    assert "a wrong one" not in wrong.output
    assert await client.head(target.partition("/")[2], "latest") is None
    monkeypatch.setenv("COSIGN_PASSWORD", PASSWORD)
    done = published(file, target, "--sign", "cosign.key")
    assert await signer(client, target, done["digest"], folder, "p256") == "p256.pub"


async def test_encrypted_pem(
    client: OciClient, target: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSIGN_PASSWORD", PASSWORD)
    (folder / "team.key").write_bytes(pem(KEYS["p384"], PASSWORD))
    done = published(written(folder, component('"x"')), target, "--sign", "team.key")
    assert await signer(client, target, done["digest"], folder, "p384") == "p384.pub"


async def test_signatures_of_others_stay(client: OciClient, target: str, folder: Path) -> None:
    """What is there can be signed by somebody else, too."""
    file = written(folder, component('"x"'))
    for name in ("p256", "ed25519"):
        (folder / f"{name}.key").write_bytes(pem(KEYS[name]))
        done = published(file, target, "--sign", f"{name}.key")
    for name in ("p256", "ed25519"):
        assert await signer(client, target, done["digest"], folder, name) == f"{name}.pub"
    again = published(file, target, "--sign", "ed25519.key")
    assert "signature" in again["skipped"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no private key"),
        (b"-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\nAAAA\n-----END", "no private key"),
        (public_pem(KEYS["p256"]), "no private key"),
        (pem(ec.generate_private_key(ec.SECP521R1())), "kind that kernels don't accept"),
    ],
)
def test_what_is_no_key(
    target: str, folder: Path, content: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSIGN_PASSWORD", "x")
    (folder / "bad.key").write_bytes(content)
    refused = sdk("publish", written(folder, component('"x"')), target, "--sign", "bad.key")
    assert refused.exit_code == 1
    assert reason in refused.output
    assert "bad.key" in refused.output
