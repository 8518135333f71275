"""What is pushed to a real registry, what is refused, and what is left alone."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from oras.client import OrasClient
from pharia_kernel.skills.registry.oci import OciRegistry
from publishing_support import METADATA, component, published, sdk, written
from sdk_components import component as built_component
from tests.support.registry import (
    PASSWORD,
    USER,
    RegistryProcess,
    basic_registry,
    given,
    registry_server,
    running_token_registry,
    sha256,
    tls_registry,
    unique,
)

from pharia_kernel_sdk.cli.main import app
from pharia_kernel_sdk.publishing import artifact as layout
from pharia_kernel_sdk.publishing.errors import PublishError
from pharia_kernel_sdk.publishing.reference import Defaults, Reference, parse
from pharia_kernel_sdk.publishing.registry import Registry
from pharia_kernel_sdk.publishing.revision import revision_of
from pharia_kernel_sdk.publishing.surface import surface_of

__all__ = ["basic_registry", "registry_server", "tls_registry"]

ENVIRONMENT = ("SKILL_REGISTRY", "SKILL_REPOSITORY", "SKILL_REGISTRY_USER", "SKILL_REGISTRY_TOKEN")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current one; nothing of the machine's own settings counts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def target(registry_server: RegistryProcess) -> str:
    return f"{registry_server.host}/team/{unique()}"


@pytest.fixture
def plain(target: str) -> Iterator[Registry]:
    with Registry(parse(target, Defaults(), name="")) as registry:
        yield registry


def manifest_of(registry: Registry, tag: str = "latest") -> dict[str, Any]:
    found = registry.get(tag)
    assert found
    manifest: dict[str, Any] = json.loads(found[0])
    return manifest


# --- what is pushed -------------------------------------------------------------------------------


async def test_the_kernel_finds_what_was_published(
    registry_server: RegistryProcess, folder: Path, target: str
) -> None:
    content = component('"hello"')
    done = published(written(folder, content), f"{target}:v1")
    client = registry_server.client()
    found = OciRegistry(client, "team")
    name = target.rpartition("/")[2]
    snapshot = await found.snapshot(name, "v1")
    assert snapshot.manifest_digest == done["digest"]
    assert snapshot.digest == done["component"] == sha256(content)
    assert (await found.read(name, "v1")).wasm == content
    await client.close()


def test_layout_and_annotations(folder: Path, target: str, plain: Registry) -> None:
    """As the published ``pharia-skill`` pushes it, and with annotations, which that has not."""
    content = component('"hello"')
    published(written(folder, content), f"{target}:1.2.0")
    manifest = manifest_of(plain, "1.2.0")
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.wasm.config.v0+json"
    (layer,) = manifest["layers"]
    assert layer == {
        "mediaType": "application/wasm",
        "digest": sha256(content),
        "size": len(content),
    }
    config = json.loads(plain.pull(manifest["config"]["digest"]))
    assert (config["architecture"], config["os"]) == ("wasm", "wasip2")
    assert config["layerDigests"] == [sha256(content)]
    assert any(n.startswith("pharia:skill/skill-handler@") for n in config["component"]["exports"])
    said = manifest["annotations"]
    assert said[layout.TITLE] == target.rpartition("/")[2]
    assert said[layout.DESCRIPTION] == "Grüßt."
    assert said[layout.VERSION] == "1.2.0"
    assert said[layout.CREATED] == config["created"]
    assert said[layout.SDK] == "pharia-kernel-sdk 0.1.0"
    assert json.loads(said[layout.INPUT_SCHEMA]) == METADATA["input_schema"]
    assert json.loads(said[layout.OUTPUT_SCHEMA]) == METADATA["output_schema"]
    assert layout.PREVIOUS not in said


def test_oras_pulls_it(
    registry_server: RegistryProcess, folder: Path, target: str, plain: Registry
) -> None:
    content = component('"for oras"')
    published(written(folder, content), target)
    client = OrasClient(hostname=registry_server.host, insecure=True)
    (file,) = client.pull(target=f"{target}:latest", outdir=str(folder / "pulled"))
    assert Path(file).read_bytes() == content


def test_a_skill_of_ours(folder: Path, target: str, plain: Registry) -> None:
    """Built by this SDK, which notes what the annotations say."""
    done = published(built_component("greet"), target)
    assert done["size"] == built_component("greet").stat().st_size
    said = manifest_of(plain)["annotations"]
    assert (said[layout.KIND], said[layout.WIT]) == ("function", "0.4.0")
    assert json.loads(said[layout.INPUT_SCHEMA])


def test_a_component_of_others_has_no_schemas(folder: Path, target: str, plain: Registry) -> None:
    published(written(folder, component('"x"', metadata=None)), target)
    said = manifest_of(plain)["annotations"]
    assert said[layout.KIND] == "function"
    assert not {layout.SDK, layout.INPUT_SCHEMA, layout.DESCRIPTION} & said.keys()


def test_source_date_epoch(
    folder: Path, target: str, plain: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    published(written(folder, component('"x"')), target)
    assert manifest_of(plain)["annotations"][layout.CREATED] == "2023-11-14T22:13:20Z"


# --- what is not pushed ---------------------------------------------------------------------------


def test_publishing_again_changes_nothing(folder: Path, target: str) -> None:
    file = written(folder, component('"same"'))
    first = published(file, target)
    again = published(file, target)
    assert first["pushed"] > len(file.read_bytes())
    assert (again["digest"], again["pushed"]) == (first["digest"], 0)
    assert again["skipped"] == ["component", "config", "manifest"]


def test_blobs_are_skipped(folder: Path, target: str) -> None:
    """Another tag of the same component: only the small parts are new."""
    file = written(folder, component('"same"'))
    published(file, f"{target}:v1")
    other = published(file, f"{target}:v2")
    assert "component" in other["skipped"]
    assert other["pushed"] < 2000


def test_a_dry_run_changes_nothing(folder: Path, target: str, plain: Registry) -> None:
    file = written(folder, component('"1"'))
    first = published(file, f"{target}:v1", "--dry-run")
    assert (first["rehearsed"], first["skipped"], plain.tags()) == (True, [], [])
    assert first["pushed"] > first["size"]
    published(file, f"{target}:v1")
    assert published(file, f"{target}:v1", "--dry-run")["pushed"] == 0
    other = sdk("publish", file, f"{target}:v2", "--dry-run")
    assert other.exit_code == 0, other.output
    assert "there already: component" in other.stdout
    taken = sdk("publish", written(folder, component('"2"')), f"{target}:v1", "--dry-run")
    assert taken.exit_code == 1
    assert "--force" in taken.output
    assert plain.tags() == ["v1"]


def test_latest_moves_and_remembers(folder: Path, target: str, plain: Registry) -> None:
    first = published(written(folder, component('"1"')), target)
    second = published(written(folder, component('"2"')), target)
    assert second["previous"] == first["digest"] != second["digest"]
    assert manifest_of(plain)["annotations"][layout.PREVIOUS] == first["digest"]
    assert plain.digest("latest") == second["digest"]


def test_versions_stay(folder: Path, target: str, plain: Registry) -> None:
    first = published(written(folder, component('"1"')), f"{target}:v1")
    file = written(folder, component('"2"'))
    refused = sdk("publish", file, f"{target}:v1")
    assert refused.exit_code == 1
    assert first["digest"] in refused.output
    assert "--force" in refused.output
    assert plain.digest("v1") == first["digest"]
    forced = published(file, f"{target}:v1", "--force")
    assert plain.digest("v1") == forced["digest"] != first["digest"]


@pytest.mark.parametrize(
    ("tag", "immutable"),
    [
        ("latest", False),
        ("main", False),
        ("staging", False),
        ("v1", True),
        ("1.2.3-rc.1", True),
        ("2026-11-22", True),
        ("0c5ffb1", True),
    ],
)
def test_tags_that_look_immutable(tag: str, immutable: bool) -> None:
    assert Reference("localhost", "greet", tag).looks_immutable is immutable


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "neither a core module nor a component"),
        (b"#!/bin/sh\n", "neither a core module nor a component"),
        (b"\0asm\x01\0\0\0", "core module"),
        (b"\0asm\x0d\0\x01\0", "not a skill"),
        (b"\0asm\x0d\0\x01\0\x0b\x7f", "ends in the middle"),
    ],
)
def test_refuses_what_is_no_skill(
    folder: Path, target: str, plain: Registry, content: bytes, reason: str
) -> None:
    refused = sdk("publish", written(folder, content), target)
    assert refused.exit_code == 1
    assert reason in refused.output
    assert "greet.wasm" in refused.output
    assert plain.tags() == []


def test_names_of_large_components() -> None:
    """Of one that componentize-py made, with all sorts of imports."""
    surface = surface_of(built_component("story").read_bytes(), "story.wasm")
    assert (surface.kind, surface.wit_version) == ("message-stream", "0.4.0")
    assert "pharia:skill/tool@0.4.0" in surface.imports


# --- where to, and who we are ---------------------------------------------------------------------


def test_settings_of_the_published_command(basic_registry: RegistryProcess, folder: Path) -> None:
    """The same four variables."""
    name = unique()
    file = written(folder, component('"x"'), f"{name}.wasm")
    env: dict[str, str | None] = {
        "SKILL_REGISTRY": basic_registry.host,
        "SKILL_REPOSITORY": "team/skills",
        "SKILL_REGISTRY_USER": USER,
        "SKILL_REGISTRY_TOKEN": PASSWORD,
    }
    done = published(file.with_suffix(""), "--tag", "v2", env=env)
    assert done["reference"] == f"{basic_registry.host}/team/skills/{name}:v2"


def test_dotenv(basic_registry: RegistryProcess, folder: Path) -> None:
    (folder / ".env").write_text(
        f"SKILL_REGISTRY={basic_registry.host}\nSKILL_REPOSITORY=team\n"
        f"SKILL_REGISTRY_USER={USER}\nSKILL_REGISTRY_TOKEN={PASSWORD}\n"
    )
    file = written(folder, component('"x"'), f"{unique()}.wasm")
    result = sdk("publish", file)
    assert result.exit_code == 0, result.output
    assert "Settings from .env" in result.stderr


def test_docker_credentials(basic_registry: RegistryProcess, folder: Path) -> None:
    auth = given().credentials.basic().removeprefix("Basic ")
    (folder / "docker").mkdir()
    config = {"auths": {basic_registry.host: {"auth": auth}}}
    (folder / "docker" / "config.json").write_text(json.dumps(config))
    published(written(folder, component('"x"')), f"{basic_registry.host}/team/{unique()}")


def test_password_from_stdin(basic_registry: RegistryProcess, folder: Path) -> None:
    where = f"{basic_registry.host}/team/{unique()}"
    file = written(folder, component('"x"'))
    published(file, where, "--user", USER, "--password-stdin", input=f"{PASSWORD}\n")


def test_wrong_password(basic_registry: RegistryProcess, folder: Path) -> None:
    where = f"{basic_registry.host}/team/{unique()}"
    file = written(folder, component('"x"'))
    refused = sdk("publish", file, where, "--user", USER, "--password", "wrong-secret")
    assert refused.exit_code == 1
    assert "refuses the user and password" in refused.output
    assert "wrong-secret" not in refused.output
    missing = sdk("publish", file, where)
    assert missing.exit_code == 1
    assert "wants a user and a password" in missing.output


def test_certificates(tls_registry: RegistryProcess, folder: Path) -> None:
    assert tls_registry.tls
    where = f"{tls_registry.host}/team/{unique()}"
    file = written(folder, component('"x"'))
    user = ("--user", USER, "--password", PASSWORD)
    untrusted = sdk("publish", file, where, *user)
    assert untrusted.exit_code == 1
    assert "CERTIFICATE_VERIFY_FAILED" in untrusted.output
    published(file, where, *user, "--ca-file", tls_registry.tls.ca)


async def test_access_tokens(folder: Path) -> None:
    """First for reading, and another for pushing."""
    import asyncio

    async with running_token_registry() as (registry, _):
        where = f"{registry.host}/team/{unique()}"
        file = written(folder, component('"x"'))
        user = ("--user", USER, "--password", PASSWORD)
        done = await asyncio.to_thread(published, file, where, *user)
        assert done["pushed"] > 0
        refused = await asyncio.to_thread(
            sdk, "publish", file, where, "--user", USER, "--password", "wrong-secret"
        )
        assert refused.exit_code == 1
        assert "wrong-secret" not in refused.output


def test_no_registry_there(folder: Path) -> None:
    refused = sdk("publish", written(folder, component('"x"')), "127.0.0.1:1/team/greet")
    assert refused.exit_code == 1
    assert "No answer from the registry 127.0.0.1:1" in refused.output


def test_references() -> None:
    known = Defaults("registry.example.com", "team/skills")
    assert str(parse(None, known, name="greet")) == "registry.example.com/team/skills/greet:latest"
    assert str(parse("a:v1", known, name="x")) == "registry.example.com/team/skills/a:v1"
    assert str(parse("localhost:5000/a/b:v1", known, name="x")) == "localhost:5000/a/b:v1"
    assert str(parse("ghcr.io/a/b", known, name="x", tag="v2")) == "ghcr.io/a/b:v2"
    assert parse("ghcr.io/a/b", known, name="x").name == "b"


@pytest.mark.parametrize(
    ("text", "tag", "reason"),
    [
        ("greet", None, "Which registry?"),
        ("ghcr.io/Team/greet", None, "can't be a repository"),
        ("ghcr.io/team/greet:-x", None, "can't be a tag"),
        ("https://ghcr.io/team/greet", None, "can't be a"),
        ("ghcr.io/team/greet:v1", "v2", "the option says v2"),
        ("ghcr.io/team/greet@sha256:00", None, "name a tag"),
    ],
)
def test_references_that_make_no_sense(text: str, tag: str | None, reason: str) -> None:
    with pytest.raises(PublishError, match=reason.replace("?", r"\?")):
        parse(text, Defaults(), name="greet", tag=tag)


# --- revisions ------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_revision(folder: Path) -> None:
    work = folder / "work"
    work.mkdir()
    assert revision_of(work) is None
    git(work, "init", "--quiet")
    assert revision_of(work) is None
    (work / "greet.py").write_text("1")
    git(work, "add", "greet.py")
    git(work, "commit", "--quiet", "--message", "x")
    commit = git(work, "rev-parse", "HEAD")
    clean = revision_of(work)
    assert clean
    assert (clean.commit, clean.source) == (commit, None)
    git(work, "remote", "add", "origin", "https://anna:secret@git.example.com/team/skills.git")
    (work / "greet.py").write_text("2")
    (work / "greet.wasm").write_text("not known to git")
    changed = revision_of(work)
    assert changed
    assert changed.commit == f"{commit}-dirty"
    assert changed.source == "https://git.example.com/team/skills.git"
    git(work, "remote", "set-url", "origin", "git@git.example.com:team/skills.git")
    moved = revision_of(work)
    assert moved
    assert moved.source == "https://git.example.com/team/skills.git"


# --- documentation --------------------------------------------------------------------------------

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "publish.md"
COMMANDS = ("publish", "deploy", "rollback", "list", "logs")
_OF_COSIGN = {"--key", "--insecure-ignore-tlog"}


def test_guide_names_what_is_there() -> None:
    """Options, commands, annotations and variables."""
    text = GUIDE.read_text()
    commands = typer.main.get_group(app).commands
    options = {
        option
        for name in COMMANDS
        for parameter in commands[name].params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - _OF_COSIGN
    assert named <= options
    assert {f"`{name}" in text for name in COMMANDS} == {True}
    annotations = {
        value
        for value in vars(layout).values()
        if isinstance(value, str) and value.startswith(("org.opencontainers", "pharia.skill."))
    }
    assert {name for name in annotations if f"`{name}`" not in text} == set()
    assert {name for name in ENVIRONMENT if f"`{name}`" not in text} == set()
