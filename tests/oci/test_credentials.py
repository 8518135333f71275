from __future__ import annotations

import asyncio
import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pharia_kernel.errors import RegistryUnauthorized
from pharia_kernel.oci.credentials import (
    Credentials,
    DockerConfig,
    default_docker_config,
)
from tests.support.components import PATIENCE, eventually

SECRET = "hunter2"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def write(file: Path, **config: Any) -> None:
    file.write_text(json.dumps(config))


def write_text(file: Path, text: str | None) -> None:
    if text is not None:
        file.write_text(text)


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


async def found(file: Path, host: str, **options: Any) -> Credentials | None:
    return await DockerConfig(file, host, **options).get()


def helper(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, script: str) -> None:
    """Puts a credential helper onto the PATH; it has the server's name in ``$server``."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    program = programs / f"docker-credential-{name}"
    program.write_text(f'#!/bin/sh\n[ "$1" = get ] || exit 9\nserver=$(cat)\n{script}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")


# --- the file itself -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["r.example:5000", "https://r.example:5000", "http://r.example:5000/v2/"]
)
async def test_listed_credentials(file: Path, key: str) -> None:
    write(file, auths={"other": auth("x", "y"), key: auth("me", "with:colon")}, HttpHeaders={})
    assert await found(file, "r.example:5000") == Credentials("me", "with:colon")
    assert await found(file, "r.example") is None


async def test_user_and_password_in_clear(file: Path) -> None:
    write(file, auths={"r": {"username": "me", "password": SECRET}, "empty": {}, "null": None})
    assert await found(file, "r") == Credentials("me", SECRET)
    assert await found(file, "empty") is None
    assert await found(file, "null") is None


async def test_identity_token(file: Path) -> None:
    write(file, auths={"r": {**auth("me", ""), "identitytoken": SECRET}})
    assert await found(file, "r") == Credentials("me", identity_token=SECRET)


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
async def test_docker_hub_has_a_key_of_its_own(file: Path, host: str) -> None:
    write(file, auths={"https://index.docker.io/v1/": auth("me", SECRET)})
    assert await found(file, host) == Credentials("me", SECRET)


async def test_the_file_is_read_each_time(file: Path) -> None:
    source = DockerConfig(file, "r")
    write(file, auths={"r": auth("me", "old")})
    assert await source.get() == Credentials("me", "old")
    write(file, auths={"r": auth("me", "new")})
    assert await source.get() == Credentials("me", "new")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "No such file"),
        ("{", "not a Docker configuration"),
        (f'{{"auths": "{SECRET}"}}', "not a Docker configuration"),
        (f'{{"auths": {{"r": {{"auth": "{SECRET}!"}}}}}}', "not base64"),
        ('{"credsStore": "../evil"}', "can't be a program's name"),
        ('{"credsStore": "is-not-installed"}', "can't be started: No such file"),
    ],
)
async def test_what_is_of_no_use(file: Path, text: str | None, told: str) -> None:
    write_text(file, text)
    with pytest.raises(RegistryUnauthorized, match=told) as caught:
        await found(file, "r")
    assert SECRET not in caught.value.detail
    assert str(file) not in caught.value.detail


def test_where_docker_keeps_it() -> None:
    assert default_docker_config({"DOCKER_CONFIG": "/d"}) == Path("/d/config.json")
    assert default_docker_config({}) == Path("~/.docker/config.json").expanduser()


def test_nothing_shows_secrets() -> None:
    shown = repr(Credentials("me", SECRET, SECRET))
    assert SECRET not in shown
    assert "me" in shown


# --- helper programs -----------------------------------------------------------------------------


async def test_a_helper_comes_first(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = '{"ServerURL":"%s","Username":"from-helper","Secret":"%s"}\' "$server" "$server'
    helper(monkeypatch, tmp_path, "one", f"printf '{answer}\"")
    helper(monkeypatch, tmp_path, "other", 'echo \'{"Username":"common","Secret":"s"}\'')
    write(
        file,
        auths={"r:1": auth("listed", "x"), "q": auth("listed", "x")},
        credHelpers={"r:1": "one"},
        credsStore="other",
    )
    assert await found(file, "r:1") == Credentials("from-helper", "r:1")
    assert await found(file, "q") == Credentials("common", "s")


async def test_a_helper_with_an_identity_token(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(monkeypatch, tmp_path, "one", 'echo \'{"Username":"<token>","Secret":"t"}\'')
    write(file, credHelpers={"r": "one"})
    assert await found(file, "r") == Credentials(identity_token="t")


async def test_a_helper_without_credentials_leaves_it_to_the_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "echo 'credentials not found in native keychain'; exit 1"
    helper(monkeypatch, tmp_path, "store", script)
    write(file, auths={"r": auth("listed", "x"), "q": {}}, credsStore="store")
    assert await found(file, "r") == Credentials("listed", "x")
    assert await found(file, "q") is None


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (f"echo {SECRET}; echo {SECRET} >&2; exit 3", "ended with status 3"),
        (f"echo '{SECRET}'", "printed no credentials in JSON"),
    ],
)
async def test_a_broken_helper(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    helper(monkeypatch, tmp_path, "bad", script)
    write(file, credHelpers={"r": "bad"})
    with pytest.raises(RegistryUnauthorized, match=f"`docker-credential-bad` {told}") as caught:
        await found(file, "r")
    assert SECRET not in caught.value.detail


async def test_a_helper_that_hangs_is_given_up(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(monkeypatch, tmp_path, "slow", "exec sleep 1000")
    write(file, credHelpers={"r": "slow"})
    with pytest.raises(RegistryUnauthorized, match=r"gave no answer in 0\.2 s"):
        await found(file, "r", helper_timeout=0.2)


async def test_a_helper_dies_with_whoever_waits(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = tmp_path / "pid"
    helper(monkeypatch, tmp_path, "slow", f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 99")
    write(file, credHelpers={"r": "slow"})
    asking = asyncio.create_task(found(file, "r", helper_timeout=PATIENCE))
    await eventually(pid.exists)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    assert not is_running(int(pid.read_text()))


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
