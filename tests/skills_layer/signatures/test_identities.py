"""Signatures of identities, checked offline against the trust root of a Sigstore of our own."""

from __future__ import annotations

import copy
import re
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from sigstore.errors import TUFError
from sigstore.verify import Verifier

from pharia_kernel.errors import SignatureRejected, SkillUnavailable
from pharia_kernel.skills.signatures import identities
from pharia_kernel.skills.signatures.identities import (
    TrustedIdentity,
    TrustRoot,
    UnusableTrustRoot,
)
from pharia_kernel.skills.signatures.verifier import Trust
from tests.skills_layer.signatures.sigstore import EMAIL, ISSUER, Sigstore, new_key
from tests.skills_layer.signatures.support import (
    OTHER_DIGEST,
    Signed,
    b64,
    envelope,
    key_bundle,
    sign,
    simple_payload,
    statement,
    trust_in,
)
from tests.support.registry import RegistryProcess

WORKFLOW = "https://github.com/example/skills/.github/workflows/release.yml@refs/tags/v1"
ANNA = TrustedIdentity(ISSUER, EMAIL)


@pytest.fixture
async def signed(registry_server: RegistryProcess) -> AsyncGenerator[Signed, None]:
    client = registry_server.client()
    yield await Signed.push(client)
    await client.close()


@pytest.fixture(scope="module")
def sigstore() -> Sigstore:
    return Sigstore()


@pytest.fixture
def root(tmp_path: Path, sigstore: Sigstore) -> TrustRoot:
    path = tmp_path / "trusted_root.json"
    path.write_bytes(sigstore.trust_root())
    return TrustRoot.read(path)


@pytest.fixture
def trust(root: TrustRoot) -> Trust:
    return Trust(identities=(ANNA,), root=root)


async def rejection(signed: Signed, trust: Trust) -> str:
    with pytest.raises(SignatureRejected) as rejected:
        await signed.signer(trust)
    return rejected.value.detail


# --- good signatures ------------------------------------------------------------------------------


async def test_a_statement_by_a_trusted_identity(
    signed: Signed, sigstore: Sigstore, trust: Trust
) -> None:
    assert "there is no signature" in await rejection(signed, trust)
    bundle = sigstore.statement_bundle(sigstore.signer(), statement(signed.digest))
    await signed.store_bundle(bundle)
    assert await signed.signer(trust) == f"{EMAIL} ({ISSUER})"


async def test_a_signature_of_the_manifest_itself(
    signed: Signed, sigstore: Sigstore, trust: Trust
) -> None:
    await signed.store_bundle(sigstore.message_bundle(sigstore.signer(), await signed.manifest()))
    assert await signed.signer(trust) == f"{EMAIL} ({ISSUER})"


async def test_the_older_extension_for_the_issuer(
    signed: Signed, sigstore: Sigstore, trust: Trust
) -> None:
    signer = sigstore.signer(old_issuer=True)
    await signed.store_bundle(sigstore.statement_bundle(signer, statement(signed.digest)))
    assert await signed.signer(trust) == f"{EMAIL} ({ISSUER})"


@pytest.mark.parametrize(
    ("identity", "trusted"),
    [
        (TrustedIdentity(ISSUER, WORKFLOW), True),
        (TrustedIdentity(ISSUER, None, re.compile(r"https://github\.com/example/.*")), True),
        (TrustedIdentity(ISSUER, None, re.compile(r"https://github\.com/example/")), False),
        (TrustedIdentity(ISSUER, None, re.compile(r".*@refs/heads/main")), False),
        (TrustedIdentity(ISSUER, WORKFLOW[:-1]), False),
        (TrustedIdentity("https://other.example.com", WORKFLOW), False),
        (TrustedIdentity("https://other.example.com", None, re.compile(".*")), False),
    ],
)
async def test_identities(
    signed: Signed,
    sigstore: Sigstore,
    root: TrustRoot,
    identity: TrustedIdentity,
    trusted: bool,
) -> None:
    signer = sigstore.signer(WORKFLOW)
    await signed.store_bundle(sigstore.statement_bundle(signer, statement(signed.digest)))
    if trusted:
        signed_by = await signed.signer(Trust(identities=(ANNA, identity), root=root))
        assert signed_by == f"{WORKFLOW} ({ISSUER})"
    else:
        detail = await rejection(signed, Trust(identities=(ANNA, identity), root=root))
        assert f"{WORKFLOW} of the issuer {ISSUER}, whom `signature-identities`" in detail


async def test_keys_and_identities_together(
    signed: Signed, sigstore: Sigstore, root: TrustRoot, tmp_path: Path
) -> None:
    key = new_key()
    trust = Trust(keys=trust_in(tmp_path, [key]).keys, identities=(ANNA,), root=root)
    bundle = sigstore.statement_bundle(sigstore.signer(), statement(signed.digest))
    await signed.store_bundle(bundle)
    assert await signed.signer(trust) == f"{EMAIL} ({ISSUER})"
    other = await Signed.push(signed.client)
    await other.sign_bundle(key)
    assert await other.signer(trust) == "team-0.pub"


# --- bad signatures -------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], None]


def without_log_entry(bundle: dict[str, Any]) -> None:
    bundle["verificationMaterial"]["tlogEntries"] = []


def without_promise(bundle: dict[str, Any]) -> None:
    del bundle["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"]


def without_proof(bundle: dict[str, Any]) -> None:
    del bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]


def with_another_time(bundle: dict[str, Any]) -> None:
    entry = bundle["verificationMaterial"]["tlogEntries"][0]
    entry["integratedTime"] = str(int(entry["integratedTime"]) + 1)


def with_another_root(bundle: dict[str, Any]) -> None:
    proof = bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
    proof["rootHash"] = b64(bytes(32))


def with_another_path(bundle: dict[str, Any]) -> None:
    proof = bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
    proof["hashes"] = [b64(bytes(32))]


def with_another_signature(bundle: dict[str, Any]) -> None:
    signed = envelope(new_key(), b"{}")
    bundle["dsseEnvelope"]["signatures"] = signed["signatures"]


def without_signature(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"] = []


def without_certificate(bundle: dict[str, Any]) -> None:
    del bundle["verificationMaterial"]["certificate"]


def with_half_a_certificate(bundle: dict[str, Any]) -> None:
    bundle["verificationMaterial"]["certificate"]["rawBytes"] = b64(b"\x30\x82\x01")


def with_unknown_members(bundle: dict[str, Any]) -> None:
    bundle["verificationMaterial"]["extra"] = 1


@pytest.mark.parametrize(
    "change",
    [
        without_log_entry,
        without_promise,
        without_proof,
        with_another_time,
        with_another_root,
        with_another_path,
        with_another_signature,
        without_signature,
        without_certificate,
        with_half_a_certificate,
        with_unknown_members,
    ],
)
async def test_changed_bundles(
    signed: Signed, sigstore: Sigstore, trust: Trust, change: Change
) -> None:
    good = sigstore.statement_bundle(sigstore.signer(), statement(signed.digest))
    bundle = copy.deepcopy(good)
    change(bundle)
    await signed.store_bundle(bundle)
    assert "does not verify: " in await rejection(signed, trust)
    await signed.store_bundle(good)
    assert await signed.signer(trust) == f"{EMAIL} ({ISSUER})"


async def test_a_changed_statement(signed: Signed, sigstore: Sigstore, trust: Trust) -> None:
    bundle = sigstore.statement_bundle(sigstore.signer(), statement(OTHER_DIGEST))
    bundle["dsseEnvelope"]["payload"] = b64(statement(signed.digest))
    await signed.store_bundle(bundle)
    assert "does not verify: DSSE: invalid signature" in await rejection(signed, trust)


async def test_a_statement_on_another_artifact(
    signed: Signed, sigstore: Sigstore, trust: Trust
) -> None:
    bundle = sigstore.statement_bundle(sigstore.signer(), statement(OTHER_DIGEST))
    await signed.store_bundle(bundle)
    assert f"of another artifact: {OTHER_DIGEST}" in await rejection(signed, trust)


async def test_a_signature_of_another_manifest(
    signed: Signed, sigstore: Sigstore, trust: Trust
) -> None:
    await signed.store_bundle(sigstore.message_bundle(sigstore.signer(), b"{}"))
    assert "does not verify: Bundle message digest mismatch" in await rejection(signed, trust)


async def test_the_log_entry_of_another_signature(
    signed: Signed, sigstore: Sigstore, trust: Trust
) -> None:
    signer = sigstore.signer()
    bundle = sigstore.statement_bundle(signer, statement(signed.digest))
    other = sigstore.statement_bundle(signer, statement(OTHER_DIGEST))
    bundle["verificationMaterial"] = other["verificationMaterial"]
    await signed.store_bundle(bundle)
    assert "log entry payload hash does not match" in await rejection(signed, trust)


@pytest.mark.parametrize("minutes_later", [-6, 6])
async def test_an_expired_certificate(
    signed: Signed, sigstore: Sigstore, trust: Trust, minutes_later: int
) -> None:
    payload = statement(signed.digest)
    bundle = sigstore.statement_bundle(sigstore.signer(), payload, minutes_later=minutes_later)
    await signed.store_bundle(bundle)
    assert "cert is not valid at validation time" in await rejection(signed, trust)


async def test_a_certificate_for_another_purpose(
    signed: Signed, sigstore: Sigstore, trust: Trust
) -> None:
    signer = sigstore.signer(usage=ExtendedKeyUsageOID.SERVER_AUTH)
    await signed.store_bundle(sigstore.statement_bundle(signer, statement(signed.digest)))
    assert "does not contain `code signing`" in await rejection(signed, trust)


@pytest.mark.parametrize(
    ("foreign", "reason"),
    [
        ("authority", "does not verify: failed to build"),
        ("certificate_log", "does not verify: failed to verify SCT"),
        ("log", "does not verify: invalid log entry"),
    ],
)
async def test_a_foreign_sigstore(
    signed: Signed, sigstore: Sigstore, trust: Trust, foreign: str, reason: str
) -> None:
    parts = {name: getattr(sigstore, name) for name in ("authority", "certificate_log", "log")}
    other = Sigstore(**{**parts, foreign: new_key()})
    await signed.store_bundle(other.statement_bundle(other.signer(), statement(signed.digest)))
    assert reason in await rejection(signed, trust)


async def test_keys_are_no_identities(signed: Signed, trust: Trust) -> None:
    key = new_key()
    payload = simple_payload(signed.digest)
    await signed.store_simple((payload, b64(sign(key, payload))))
    assert "is in cosign's older format" in await rejection(signed, trust)
    bundle = key_bundle(dsseEnvelope=envelope(key, statement(signed.digest)))
    await signed.store_bundle(bundle)
    assert "made with a key, and not by an identity" in await rejection(signed, trust)


# --- trust roots ----------------------------------------------------------------------------------


async def test_another_trust_root(signed: Signed, sigstore: Sigstore, tmp_path: Path) -> None:
    path = tmp_path / "root.json"
    path.write_bytes(Sigstore().trust_root())
    trust = Trust(identities=(ANNA,), root=TrustRoot.read(path))
    bundle = sigstore.statement_bundle(sigstore.signer(), statement(signed.digest))
    await signed.store_bundle(bundle)
    assert "does not verify" in await rejection(signed, trust)
    path.write_bytes(sigstore.trust_root())
    renewed = Trust(identities=(ANNA,), root=TrustRoot.read(path))
    assert renewed != trust
    assert await signed.signer(renewed) == f"{EMAIL} ({ISSUER})"


@pytest.mark.parametrize("content", [b"", b"{}", b'{"mediaType": "x"}', b"\xff"])
async def test_a_file_that_is_no_trust_root(
    signed: Signed, sigstore: Sigstore, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "root.json"
    path.write_bytes(content)
    bundle = sigstore.statement_bundle(sigstore.signer(), statement(signed.digest))
    await signed.store_bundle(bundle)
    trust = Trust(identities=(ANNA,), root=TrustRoot.read(path))
    assert f"`{path}` is not a Sigstore trust root" in await rejection(signed, trust)


def test_a_missing_trust_root(tmp_path: Path) -> None:
    with pytest.raises(UnusableTrustRoot, match="No such file"):
        TrustRoot.read(tmp_path / "root.json")


async def test_the_public_trust_root_can_not_be_had(
    signed: Signed, sigstore: Sigstore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def offline() -> Verifier:
        raise TUFError("Failed to refresh TUF metadata")

    monkeypatch.setattr(Verifier, "production", offline)
    identities._public.cache_clear()
    key = new_key()
    trust = Trust(
        keys=trust_in(tmp_path, [key]).keys, identities=(ANNA,), root=TrustRoot.read(None)
    )
    bundle = sigstore.statement_bundle(sigstore.signer(), statement(signed.digest))
    await signed.store_bundle(bundle)
    with pytest.raises(SkillUnavailable, match="`signature-trust-root`"):
        await signed.signer(trust)
    await signed.sign_simple(key)
    assert await signed.signer(trust) == "team-0.pub"
