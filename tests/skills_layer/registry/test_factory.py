from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from pharia_kernel.config import FileRegistryConfig, OciRegistryConfig
from pharia_kernel.errors import RegistryUnauthorized
from pharia_kernel.skills.registry.factory import Registries
from pharia_kernel.skills.registry.file import FileRegistry
from pharia_kernel.skills.registry.oci import OciRegistry
from tests.support.registry import (
    PASSWORD,
    USER,
    RegistryProcess,
    given,
    push_component,
    unique,
)


def config(registry: RegistryProcess, **changes: Any) -> OciRegistryConfig:
    ca_file = registry.tls.ca if registry.tls else None
    return OciRegistryConfig(
        registry=registry.host, plain_http=ca_file is None, ca_file=ca_file, **changes
    )


async def test_equal_settings_lead_to_the_same_registry(tmp_path: Path) -> None:
    registries = Registries()

    def artifacts(**changes: Any) -> OciRegistry:
        settings = {"registry": "r", "user": "u", "password": "p", **changes}
        found = registries.get(OciRegistryConfig(**settings))
        assert isinstance(found, OciRegistry)
        return found

    assert artifacts() is artifacts()
    deep = artifacts(base_repository="deep")
    assert deep is not artifacts()
    assert deep.locate("x")[0] is artifacts().locate("x")[0]
    for change in ({"password": "q"}, {"timeout": 5.0}, {"registry": "s"}):
        assert artifacts(**change).locate("x")[0] is not artifacts().locate("x")[0]

    files = registries.get(FileRegistryConfig(path=tmp_path))
    assert isinstance(files, FileRegistry)
    assert files is registries.get(FileRegistryConfig(path=tmp_path))
    assert files is registries.directory(tmp_path)
    await registries.close()


async def test_every_way_to_be_somebody(
    basic_registry: RegistryProcess,
    tls_registry: RegistryProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    file = tmp_path / "config.json"
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    for registry in (basic_registry, tls_registry):
        name = unique()
        pusher = registry.client(given())
        digest = await push_component(pusher, f"base/{name}", "latest", b"wasm")
        await pusher.close()
        file.write_text(json.dumps({"auths": {registry.host: {"auth": pair}}}))
        registries = Registries()
        for way in (
            {"user": USER, "password": PASSWORD},
            {"docker_config": file},
            {"docker_config": "default"},
        ):
            found = registries.get(config(registry, base_repository="base", **way))
            assert (await found.snapshot(name, "latest")).manifest_digest == digest
        with pytest.raises(RegistryUnauthorized, match="set `registry-user`"):
            await registries.get(config(registry)).snapshot(name, "latest")
        await registries.close()
