"""What other people's programs push to a real registry is found and read."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from oras.client import OrasClient

from pharia_kernel.skills.registry.oci import OciRegistry
from tests.support.components import skill
from tests.support.registry import PASSWORD, USER, RegistryProcess, given, sha256, unique
from tools.build_skills import ENVIRONMENTS, prepare

SKILL = "empty_output"
"""A component of a few hundred bytes."""


@pytest.fixture
async def registry(tls_registry: RegistryProcess) -> AsyncIterator[OciRegistry]:
    client = tls_registry.client(given())
    yield OciRegistry(client, "team/skills")
    await client.close()


@pytest.fixture
def component() -> bytes:
    return skill(SKILL)


async def assert_found(registry: OciRegistry, name: str, tag: str, component: bytes) -> None:
    snapshot = await registry.snapshot(name, tag)
    assert (snapshot.digest, snapshot.size) == (sha256(component), len(component))
    assert (await registry.read(name, tag)).wasm == component
    pinned = f"{tag}@{snapshot.manifest_digest}"
    assert (await registry.snapshot(name, pinned)).digest == snapshot.digest


async def test_pharia_skill(
    registry: OciRegistry, tls_registry: RegistryProcess, component: bytes, tmp_path: Path
) -> None:
    """The published command, with its settings in the environment."""
    name = unique()
    (tmp_path / f"{name}.wasm").write_bytes(component)
    publish(tls_registry, tmp_path, f"{name}.wasm")
    await assert_found(registry, name, "latest", component)
    publish(tls_registry, tmp_path, name, "--tag", "v2", "--name", f"{name}.renamed")
    await assert_found(registry, f"{name}.renamed", "v2", component)


def publish(registry: RegistryProcess, folder: Path, *arguments: str) -> None:
    prepare("pharia-skill", report=lambda _: None)
    environment = ENVIRONMENTS / "pharia-skill"
    assert registry.tls
    done = subprocess.run(
        [environment / "bin" / "pharia-skill", "publish", *arguments],
        cwd=folder,
        env={
            **os.environ,
            "VIRTUAL_ENV": str(environment),
            "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "SKILL_REGISTRY": registry.host,
            "SKILL_REPOSITORY": "team/skills",
            "SKILL_REGISTRY_USER": USER,
            "SKILL_REGISTRY_TOKEN": PASSWORD,
            "SSL_CERT_FILE": str(registry.tls.ca),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("media_type", ["", ":application/wasm", ":application/octet-stream"])
async def test_oras(
    registry: OciRegistry,
    tls_registry: RegistryProcess,
    component: bytes,
    media_type: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = unique()
    (tmp_path / "skill.wasm").write_bytes(component)
    assert tls_registry.tls
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls_registry.tls.ca))
    monkeypatch.chdir(tmp_path)
    client = OrasClient(hostname=tls_registry.host, auth_backend="basic")
    client.login(username=USER, password=PASSWORD, config_path=str(tmp_path / "config.json"))
    target = f"{tls_registry.host}/team/skills/{name}:v1"
    client.push(target=target, files=[f"skill.wasm{media_type}"])
    await assert_found(registry, name, "v1", component)
