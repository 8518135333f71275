"""From settings to verifiers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pharia_kernel.config.namespaces import InPlaceNamespace, TeamOwnedNamespace, WatchNamespace
from pharia_kernel.config.registries import FileRegistryConfig, OciRegistryConfig
from pharia_kernel.config.signatures import SignatureIdentity
from pharia_kernel.errors import SignatureRejected
from pharia_kernel.skills.registry.file import FileRegistry
from pharia_kernel.skills.registry.oci import OciRegistry
from pharia_kernel.skills.signatures import SignatureVerifier, Verifiers
from tests.skills_layer.signatures.sigstore import EMAIL, ISSUER, Sigstore
from tests.skills_layer.signatures.support import Signed, public_pem, statement
from tests.support.registry import RegistryProcess

KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


@pytest.fixture
def registry(registry_server: RegistryProcess) -> OciRegistry:
    return OciRegistry(registry_server.client())


def namespace(**settings: Any) -> TeamOwnedNamespace:
    return TeamOwnedNamespace(
        config_url="https://git.example.com/skills.toml",
        registry=OciRegistryConfig(registry="registry.example.com"),
        **settings,
    )


def test_no_signatures_are_demanded(registry: OciRegistry, tmp_path: Path) -> None:
    verifiers = Verifiers()
    assert verifiers.get(namespace(), registry) is None
    files = FileRegistry(tmp_path)
    assert verifiers.get(WatchNamespace(directory=tmp_path), files) is None
    in_place = InPlaceNamespace(skills=[], registry=FileRegistryConfig(path=tmp_path))
    assert verifiers.get(in_place, files) is None


def test_equal_as_long_as_the_files_are(registry: OciRegistry, tmp_path: Path) -> None:
    verifiers, path, root = Verifiers(), tmp_path / "team.pub", tmp_path / "root.json"
    path.write_bytes(public_pem(KEY))
    root.write_bytes(Sigstore().trust_root())
    config = namespace(
        signature_keys=[path],
        signature_identities=[SignatureIdentity(issuer=ISSUER, subject_regex=".*")],
        signature_trust_root=root,
    )
    before = verifiers.get(config, registry)
    assert before == verifiers.get(config, registry)
    assert hash(before) == hash(verifiers.get(config, registry))
    assert before != verifiers.get(namespace(signature_keys=[path]), registry)
    assert before != verifiers.get(config, OciRegistry(registry.locate("a")[0]))
    path.write_bytes(public_pem(OTHER))
    after = verifiers.get(config, registry)
    assert after != before
    root.write_bytes(Sigstore().trust_root())
    assert verifiers.get(config, registry) != after


async def test_keys_and_identities_verify(registry: OciRegistry, tmp_path: Path) -> None:
    client, _ = registry.locate("any")
    sigstore = Sigstore()
    (tmp_path / "team.pub").write_bytes(public_pem(KEY))
    (tmp_path / "root.json").write_bytes(sigstore.trust_root())
    verifier = Verifiers().get(
        namespace(
            signature_keys=[tmp_path / "team.pub"],
            signature_identities=[SignatureIdentity(issuer=ISSUER, subject_regex="anna@.*")],
            signature_trust_root=tmp_path / "root.json",
        ),
        registry,
    )
    assert verifier is not None
    by_key, by_anna, by_nobody = [await Signed.push(client) for _ in range(3)]
    await by_key.sign_simple(KEY)
    bundle = sigstore.statement_bundle(sigstore.signer(), statement(by_anna.digest))
    await by_anna.store_bundle(bundle)
    assert await verifier.verify(by_key.name, by_key.snapshot) == "team.pub"
    assert await verifier.verify(by_anna.name, by_anna.snapshot) == f"{EMAIL} ({ISSUER})"
    with pytest.raises(SignatureRejected):
        await verifier.verify(by_nobody.name, by_nobody.snapshot)
    await client.close()


async def test_files_that_can_not_be_used(
    registry: OciRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client, _ = registry.locate("any")
    (tmp_path / "team.pub").write_bytes(public_pem(KEY))
    config = namespace(
        signature_keys=[tmp_path / "gone.pub", tmp_path / "team.pub"],
        signature_identities=[SignatureIdentity(issuer=ISSUER, subject=EMAIL)],
        signature_trust_root=tmp_path / "gone.json",
    )
    verifiers = Verifiers()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            verifier = verifiers.get(config, registry)
    told = [r.message for r in caplog.records if "signatures can't be checked" in r.message]
    assert len(told) == 2
    assert isinstance(verifier, SignatureVerifier)

    signed = await Signed.push(client)
    with pytest.raises(SignatureRejected) as rejected:
        await verifier.verify(signed.name, signed.snapshot)
    assert f"`signature-keys`: `{tmp_path}/gone.pub` can't be read" in rejected.value.detail
    assert f"`signature-trust-root`: `{tmp_path}/gone.json` can't be" in rejected.value.detail
    await signed.sign_simple(KEY)
    assert await verifier.verify(signed.name, signed.snapshot) == "team.pub"
    await client.close()


async def test_no_key_can_be_used(registry: OciRegistry, tmp_path: Path) -> None:
    client, _ = registry.locate("any")
    verifier = Verifiers().get(namespace(signature_keys=[tmp_path / "gone.pub"]), registry)
    assert verifier is not None
    signed = await Signed.push(client)
    await signed.sign_simple(KEY)
    with pytest.raises(SignatureRejected, match="No such file"):
        await verifier.verify(signed.name, signed.snapshot)
    await client.close()


def test_a_registry_without_manifests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Verifiers().get(namespace(signature_keys=[tmp_path / "a.pub"]), FileRegistry(tmp_path))
