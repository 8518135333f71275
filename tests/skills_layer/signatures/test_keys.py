"""Signatures made with keys, in a real registry."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from nacl.bindings import (
    crypto_sign_ed25519ph_final_create,
    crypto_sign_ed25519ph_state,
    crypto_sign_ed25519ph_update,
)

from pharia_kernel.errors import RegistryUnavailable, SignatureRejected
from pharia_kernel.oci.client import OciClient
from pharia_kernel.oci.types import OCI_MANIFEST
from pharia_kernel.skills.registry.base import Snapshot
from pharia_kernel.skills.signatures.finding import MAX_BUNDLE, MAX_PAYLOAD, MAX_SIGNATURES
from pharia_kernel.skills.signatures.keys import TrustedKey, UnusableKey
from pharia_kernel.skills.signatures.statements import PREDICATES
from pharia_kernel.skills.signatures.verifier import Trust
from tests.skills_layer.signatures.support import (
    EMPTY,
    OTHER_DIGEST,
    PrivateKey,
    Signed,
    b64,
    envelope,
    key_bundle,
    public_pem,
    sign,
    simple_payload,
    statement,
    trust_in,
)
from tests.support.registry import RegistryProcess, unique
from tests.support.registry_proxy import body, cut_short, reset, running_proxy, status

COSIGN = Path(__file__).parent / "cosign"
KEY = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())
KINDS: dict[str, PrivateKey] = {
    "P-256": KEY,
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "RSA": rsa.generate_private_key(65537, 2048),
}


@pytest.fixture
async def client(registry_server: RegistryProcess) -> AsyncGenerator[OciClient, None]:
    client = registry_server.client()
    yield client
    await client.close()


@pytest.fixture
async def signed(client: OciClient) -> Signed:
    return await Signed.push(client)


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    return trust_in(tmp_path, [KEY])


async def rejection(signed: Signed, trust: Trust, client: OciClient | None = None) -> str:
    with pytest.raises(SignatureRejected) as rejected:
        await signed.signer(trust, client)
    assert signed.name in rejected.value.detail
    assert signed.digest in rejected.value.detail
    return rejected.value.detail


# --- what cosign itself made ----------------------------------------------------------------------


async def cosigned(client: OciClient, style: str) -> Signed:
    """What cosign 3.1.3 stored for an artifact; the empty blob is all that its layer was."""
    name = unique("cosigned")
    for content in (
        b"\0asm-not",
        b"{}",
        *((COSIGN / f"{part}.json").read_bytes() for part in ("bundle", "simple-payload")),
        (COSIGN / "simple-config.json").read_bytes(),
    ):
        await client.put_blob(name, content)
    artifact = (COSIGN / "artifact.json").read_bytes()
    digest = await client.put_manifest(name, "latest", artifact, OCI_MANIFEST)
    tag = f"{digest.replace(':', '-')}.sig" if style == "simple" else "bundle"
    manifest = (COSIGN / f"{style}-manifest.json").read_bytes()
    await client.put_manifest(name, tag, manifest, OCI_MANIFEST)
    return Signed(client, name, digest)


@pytest.mark.parametrize("style", ["simple", "bundle"])
async def test_what_cosign_signed(client: OciClient, trust: Trust, style: str) -> None:
    signed = await cosigned(client, style)
    key = TrustedKey.read(COSIGN / "key.pub")
    assert await signed.signer(Trust(keys=(*trust.keys, key))) == "key.pub"
    assert "not made with" in await rejection(signed, trust)


# --- good signatures ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_kinds_of_keys(signed: Signed, tmp_path: Path, kind: str) -> None:
    key = KINDS[kind]
    trust = trust_in(tmp_path, [key])
    assert "there is no signature" in await rejection(signed, trust)
    await signed.sign_simple(key)
    assert await signed.signer(trust) == "team-0.pub"

    other = await Signed.push(signed.client)
    await other.sign_bundle(key)
    assert await other.signer(trust) == "team-0.pub"

    third = await Signed.push(signed.client)
    message = {"messageSignature": {"signature": b64(sign(key, await third.manifest()))}}
    await third.store_bundle(key_bundle(**message))
    assert await third.signer(trust) == "team-0.pub"


async def test_a_large_curve_with_a_small_hash(signed: Signed, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    payload = simple_payload(signed.digest)
    signature = key.sign(payload, ec.ECDSA(hashes.SHA256()))
    await signed.store_simple((payload, b64(signature)))
    assert await signed.signer(trust_in(tmp_path, [key])) == "team-0.pub"


async def test_prehashed_ed25519(signed: Signed, tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    payload = simple_payload(signed.digest)
    state = crypto_sign_ed25519ph_state()
    crypto_sign_ed25519ph_update(state, payload)
    secret = key.private_bytes_raw() + key.public_key().public_bytes_raw()
    signature = crypto_sign_ed25519ph_final_create(state, secret)
    await signed.store_simple((payload, b64(signature)))
    assert await signed.signer(trust_in(tmp_path, [key])) == "team-0.pub"
    await signed.store_simple((payload, b64(signature[:-1])))
    assert "not made with" in await rejection(signed, trust_in(tmp_path, [key]))


async def test_any_key_suffices(signed: Signed, tmp_path: Path) -> None:
    await signed.sign_simple(STRANGER, KEY)
    trust = trust_in(tmp_path, [*KINDS.values(), STRANGER])
    assert await signed.signer(trust) == "team-4.pub"  # the first signature that is good
    assert await signed.signer(Trust(keys=trust.keys[:4])) == "team-0.pub"


@pytest.mark.parametrize("predicate", PREDICATES)
async def test_statements_that_vouch(signed: Signed, trust: Trust, predicate: str) -> None:
    payload = statement(signed.digest, predicate)
    await signed.store_bundle(key_bundle(dsseEnvelope=envelope(KEY, payload)))
    assert await signed.signer(trust) == "team-0.pub"


async def test_a_good_signature_among_bad_ones(signed: Signed, trust: Trust) -> None:
    await signed.store_bundle(b"nonsense")
    await signed.sign_bundle(STRANGER)
    payload = simple_payload(signed.digest)
    bad = (simple_payload(OTHER_DIGEST), b64(sign(KEY, simple_payload(OTHER_DIGEST))))
    await signed.store_simple(bad, (b"{", "!"), (payload, None), (payload, b64(sign(KEY, payload))))
    assert await signed.signer(trust) == "team-0.pub"


async def test_a_statement_with_two_signers(signed: Signed, trust: Trust) -> None:
    payload = statement(signed.digest)
    both = envelope(STRANGER, payload)
    both["signatures"] += envelope(KEY, payload)["signatures"]
    await signed.store_bundle(key_bundle(dsseEnvelope=both))
    assert await signed.signer(trust) == "team-0.pub"


async def test_a_referrer_without_a_type(signed: Signed, trust: Trust) -> None:
    bundle = key_bundle(dsseEnvelope=envelope(KEY, statement(signed.digest)))
    await signed.store_bundle(bundle, artifact_type=EMPTY)
    assert await signed.signer(trust) == "team-0.pub"


async def test_a_referrer_that_is_something_else(signed: Signed, trust: Trust) -> None:
    bundle = key_bundle(dsseEnvelope=envelope(KEY, statement(signed.digest)))
    await signed.store_bundle(bundle, artifact_type="application/spdx+json")
    assert "there is no signature" in await rejection(signed, trust)


# --- bad signatures -------------------------------------------------------------------------------


async def test_unsigned(signed: Signed, trust: Trust) -> None:
    assert "there is no signature" in await rejection(signed, trust)


async def test_no_manifest(signed: Signed, trust: Trust) -> None:
    signed.snapshot = Snapshot(f"sha256:{'0' * 64}", 4, None)
    with pytest.raises(SignatureRejected, match="no manifest"):
        await signed.signer(trust)


async def test_signed_by_a_stranger(signed: Signed, trust: Trust) -> None:
    await signed.sign_simple(STRANGER)
    await signed.sign_bundle(STRANGER)
    assert "not made with the key team-0.pub" in await rejection(signed, trust)


async def test_simple_signature_of_another_artifact(signed: Signed, trust: Trust) -> None:
    payload = simple_payload(OTHER_DIGEST)
    await signed.store_simple((payload, b64(sign(KEY, payload))))
    assert f"of another artifact: {OTHER_DIGEST}" in await rejection(signed, trust)


async def test_statement_on_another_artifact(signed: Signed, trust: Trust) -> None:
    await signed.store_bundle(key_bundle(dsseEnvelope=envelope(KEY, statement(OTHER_DIGEST))))
    assert f"of another artifact: {OTHER_DIGEST}" in await rejection(signed, trust)


async def test_signature_of_another_manifest(signed: Signed, trust: Trust) -> None:
    other = await Signed.push(signed.client)
    message = {"messageSignature": {"signature": b64(sign(KEY, await other.manifest()))}}
    await signed.store_bundle(key_bundle(**message))
    assert "not made with" in await rejection(signed, trust)


async def test_changed_payload(signed: Signed, trust: Trust) -> None:
    payload = simple_payload(signed.digest)
    signature = b64(sign(KEY, simple_payload(OTHER_DIGEST)))
    await signed.store_simple((payload, signature))
    bundle = envelope(KEY, statement(OTHER_DIGEST)) | {"payload": b64(statement(signed.digest))}
    await signed.store_bundle(key_bundle(dsseEnvelope=bundle))
    assert "not made with" in await rejection(signed, trust)


async def test_a_statement_that_vouches_for_nothing(signed: Signed, trust: Trust) -> None:
    payload = statement(signed.digest, "https://cosign.sigstore.dev/attestation/vuln/v1")
    await signed.store_bundle(key_bundle(dsseEnvelope=envelope(KEY, payload)))
    assert "attestation/vuln/v1`, which vouches for nothing" in await rejection(signed, trust)


async def test_a_signature_for_another_purpose(signed: Signed, trust: Trust) -> None:
    payload = simple_payload(signed.digest, kind="atomic container signature")
    await signed.store_simple((payload, b64(sign(KEY, payload))))
    assert "`atomic container signature`" in await rejection(signed, trust)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "its payload can't be read"),
        (b"{}", "its payload can't be read"),
        (b'{"critical": {"image": {}, "type": "x"}}', "its payload can't be read"),
        (b"\xff" * 9, "its payload can't be read"),
        (simple_payload(OTHER_DIGEST)[:-9], "its payload can't be read"),
        (b"[" * 60_000, "its payload can't be read"),
        (b" " * (MAX_PAYLOAD + 1), f"{MAX_PAYLOAD} are allowed"),
    ],
)
async def test_malformed_payloads(
    signed: Signed, trust: Trust, payload: bytes, reason: str
) -> None:
    await signed.store_simple((payload, b64(sign(KEY, payload))))
    assert reason in await rejection(signed, trust)


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (None, "annotation"),
        ("no base64", "not Base64"),
        ("", "not made with"),
        (b64(b"no DER"), "not made with"),
    ],
)
async def test_malformed_simple_signatures(
    signed: Signed, trust: Trust, signature: str | None, reason: str
) -> None:
    await signed.store_simple((simple_payload(signed.digest), signature))
    assert reason in await rejection(signed, trust)


GOOD: dict[str, Any] = {"payload": "e30=", "payloadType": "x", "signatures": [{"sig": "AA=="}]}


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [
        (b"", "the bundle can't be read"),
        (b'{"mediaType": ', "the bundle can't be read"),
        (b"{}", "the bundle can't be read"),
        (b'{"a":' * 100_000, "the bundle can't be read"),
        (b" " * (MAX_BUNDLE + 1), f"{MAX_BUNDLE} are allowed"),
        (key_bundle(mediaType="text/plain", dsseEnvelope=GOOD), "no Sigstore bundle"),
        (key_bundle(), "one kind of signature"),
        (
            key_bundle(dsseEnvelope=GOOD, messageSignature={"signature": "AA=="}),
            "one kind of signature",
        ),
        (key_bundle(dsseEnvelope=GOOD | {"payload": "%"}), "not Base64"),
        (key_bundle(dsseEnvelope=GOOD | {"signatures": []}), "not made with"),
        (key_bundle(dsseEnvelope=GOOD | {"signatures": [{"sig": ""}] * 11}), "more than 10"),
        (key_bundle(messageSignature={"signature": "AA=="}), "not made with"),
        (key_bundle(dsseEnvelope=envelope(KEY, b"{}", "text/plain")), "not on an in-toto"),
        (key_bundle(dsseEnvelope=envelope(KEY, b"{}")), "its statement can't be read"),
        (
            key_bundle(dsseEnvelope=envelope(KEY, b'{"_type": "https://example.com"}')),
            "not on an in-toto",
        ),
    ],
)
async def test_malformed_bundles(
    signed: Signed, trust: Trust, bundle: dict[str, Any] | bytes, reason: str
) -> None:
    await signed.store_bundle(bundle)
    assert reason in await rejection(signed, trust)


async def test_two_bundles_in_one_manifest(signed: Signed, trust: Trust) -> None:
    bundle = key_bundle(dsseEnvelope=envelope(KEY, statement(signed.digest)))
    await signed.store_bundle(bundle, layers=2)
    assert "has 2 bundles and not one" in await rejection(signed, trust)


async def test_a_simple_signature_under_the_tag_of_another(signed: Signed, trust: Trust) -> None:
    payload = simple_payload(signed.digest)
    await signed.store_simple((payload, b64(sign(KEY, payload))), digest=OTHER_DIGEST)
    assert "there is no signature" in await rejection(signed, trust)


async def test_many_signatures(signed: Signed, trust: Trust) -> None:
    payload = simple_payload(signed.digest)
    bad = [(payload, b64(sign(STRANGER, payload + bytes([n])))) for n in range(MAX_SIGNATURES)]
    await signed.store_simple(*bad, (payload, b64(sign(KEY, payload))))
    assert "not made with" in await rejection(signed, trust)
    await signed.store_simple(*bad[1:], (payload, b64(sign(KEY, payload))))
    assert await signed.signer(trust) == "team-0.pub"


async def test_many_reasons_are_cut(signed: Signed, trust: Trust) -> None:
    payloads = [simple_payload(signed.digest, kind=f"kind {n}\n") for n in range(9)]
    await signed.store_simple(*((p, b64(sign(KEY, p))) for p in payloads))
    detail = await rejection(signed, trust)
    assert "and 4 more reasons" in detail
    assert detail.isprintable()


async def test_a_signature_that_is_replaced(signed: Signed, trust: Trust) -> None:
    await signed.sign_simple(KEY)
    assert await signed.signer(trust) == "team-0.pub"
    await signed.sign_simple(STRANGER)
    assert "not made with" in await rejection(signed, trust)


# --- a registry in trouble ------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/referrers/", ".sig"])
async def test_a_registry_that_can_not_be_asked(
    signed: Signed, trust: Trust, registry_server: RegistryProcess, place: str
) -> None:
    async with running_proxy(registry_server.host) as proxy:
        client = proxy.client(timeout=1)
        for method in ("GET", "HEAD"):
            proxy.on(method, place, reset())
        with pytest.raises(RegistryUnavailable):
            await signed.signer(trust, client)
        # What can be seen is good enough.
        await signed.sign_bundle(KEY) if place == ".sig" else await signed.sign_simple(KEY)
        assert await signed.signer(trust, client) == "team-0.pub"
        await client.close()


async def test_wrong_bytes_from_the_registry(
    signed: Signed, trust: Trust, registry_server: RegistryProcess
) -> None:
    await signed.sign_simple(KEY)
    async with running_proxy(registry_server.host) as proxy:
        client = proxy.client(timeout=1)
        proxy.on("GET", "/blobs/", body(lambda content: content.replace(b"greet", b"great")))
        assert "can't be read: The registry sent other bytes" in await rejection(
            signed, trust, client
        )
        proxy.heal()
        proxy.on("GET", "/blobs/", status(404, "BLOB_UNKNOWN"))
        assert "can't be read" in await rejection(signed, trust, client)
        proxy.heal()
        proxy.on("GET", "/blobs/", cut_short(10))
        with pytest.raises(RegistryUnavailable):
            await signed.signer(trust, client)
        proxy.heal()
        assert await signed.signer(trust, client) == "team-0.pub"
        await client.close()


# --- key files ------------------------------------------------------------------------------------


def private_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not a PEM file with one public key"),
        (b"\xff\xfe", "not a PEM file with one public key"),
        (public_pem(KEY) * 2, "not a PEM file with one public key"),
        (private_pem(KEY), "not a PEM file with a public key"),
        (public_pem(KEY).replace(b"M", b"N", 1), "not a PEM file with a public key"),
        (public_pem(rsa.generate_private_key(65537, 1024)), "not accepted"),
        (public_pem(ec.generate_private_key(ec.SECP521R1())), "not accepted"),
        (public_pem(ec.generate_private_key(ec.SECP256K1())), "not accepted"),
    ],
)
def test_files_that_are_no_keys(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "a.pub"
    path.write_bytes(content)
    with pytest.raises(UnusableKey, match=why) as error:
        TrustedKey.read(path)
    assert str(path) in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnusableKey, match="No such file"):
        TrustedKey.read(tmp_path / "a.pub")


def test_keys_are_equal_by_name_and_content(tmp_path: Path) -> None:
    one, other = trust_in(tmp_path, [KEY]), trust_in(tmp_path, [KEY])
    assert one == other
    assert hash(one) == hash(other)
    assert trust_in(tmp_path, [STRANGER]) != one
    assert trust_in(tmp_path, [KEY], stem="other") != one
