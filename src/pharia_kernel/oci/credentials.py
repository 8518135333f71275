"""Who we are to a registry: a user and a password from the settings, or from Docker's file."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from pharia_kernel.errors import RegistryUnauthorized

HELPER_TIMEOUT = 20.0
"""Seconds for a credential helper; those of cloud providers ask a service themselves."""
_MAX_FILE_SIZE = 1 << 20
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_IDENTITY_USER = "<token>"
"""The user name under which credential helpers hand out an identity token."""


@dataclass(frozen=True)
class Credentials:
    """Either a user name and a password, or a token to get access tokens with."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """An OAuth 2.0 refresh token; none if empty."""

    def basic(self) -> str:
        """The value of the header ``Authorization`` (RFC 7617)."""
        pair = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


class CredentialSource(Protocol):
    @property
    def hint(self) -> str:
        """What to check if a registry refuses the credentials, or has got none."""
        ...

    async def get(self) -> Credentials | None:
        """None: be anonymous. Raises ``RegistryUnauthorized`` if the source itself is broken."""
        ...


class Anonymous:
    hint = "set `registry-user` and `registry-password`, or `registry-docker-config`"

    async def get(self) -> None:
        return None


@dataclass(frozen=True)
class Given:
    """Credentials from the settings."""

    credentials: Credentials
    hint: str = "check `registry-user` and `registry-password`"

    async def get(self) -> Credentials:
        return self.credentials


# --- Docker's file -------------------------------------------------------------------------------


class _Auth(Struct):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class _ConfigFile(Struct):
    auths: dict[str, _Auth | None] = {}
    cred_helpers: dict[str, str] = msgspec.field(default_factory=dict, name="credHelpers")
    creds_store: str = msgspec.field(default="", name="credsStore")


class _HelperAnswer(Struct):
    username: str = msgspec.field(default="", name="Username")
    secret: str = msgspec.field(default="", name="Secret")


def default_docker_config(environ: Mapping[str, str] = os.environ) -> Path:
    """Where ``docker login`` writes."""
    directory = environ.get("DOCKER_CONFIG")
    return (Path(directory) if directory else Path("~/.docker").expanduser()) / "config.json"


class DockerConfig:
    """Docker's ``config.json``, read each time credentials are needed, because others rotate them.

    As in Docker, a helper for the registry comes first (``credHelpers``), then the common one
    (``credsStore``), then the file itself (``auths``). Entries for parts of a registry, as Podman
    knows them, are not looked at.
    """

    hint = "check what the file of `registry-docker-config` has for this registry"

    def __init__(self, file: Path, host: str, *, helper_timeout: float = HELPER_TIMEOUT) -> None:
        """``host`` as the settings name the registry, with its port if it has one."""
        self._file = file
        self._server = _DOCKER_HUB_KEY if host in _DOCKER_HUB else host
        self._helper_timeout = helper_timeout

    async def get(self) -> Credentials | None:
        config = await asyncio.to_thread(self._read)
        helper = config.cred_helpers.get(self._server)
        if helper:
            return await self._ask(helper)
        stored = await self._ask(config.creds_store) if config.creds_store else None
        return stored or self._listed(config.auths)

    def _read(self) -> _ConfigFile:
        try:
            with self._file.open("rb") as file:
                return msgspec.json.decode(file.read(_MAX_FILE_SIZE), type=_ConfigFile)
        except OSError as error:
            reason = error.strerror or "not readable"
        except (msgspec.MsgspecError, UnicodeDecodeError):
            reason = "not a Docker configuration in JSON"  # its text could quote a secret
        raise RegistryUnauthorized(f"The file of `registry-docker-config` is of no use: {reason}.")

    def _listed(self, auths: Mapping[str, _Auth | None]) -> Credentials | None:
        found = next((auth for key, auth in auths.items() if self._is_meant(key) and auth), None)
        if found is None:
            return None
        user, password = _pair(found)
        if found.identitytoken:
            return Credentials(user, identity_token=found.identitytoken)
        return Credentials(user, password) if user or password else None

    def _is_meant(self, key: str) -> bool:
        """Old versions of Docker wrote URLs."""
        if self._server == _DOCKER_HUB_KEY:
            return key == _DOCKER_HUB_KEY or _host(key) in _DOCKER_HUB
        return _host(key) == self._server

    # --- helper programs ---

    async def _ask(self, helper: str) -> Credentials | None:
        """The protocol of ``docker-credential-helpers``: the server's name in, JSON out."""
        if not _HELPER_NAME.fullmatch(helper):
            raise RegistryUnauthorized(
                "The file of `registry-docker-config` names a credential helper that can't be a "
                "program's name."
            )
        program = f"docker-credential-{helper}"
        try:
            process = await asyncio.create_subprocess_exec(
                program, "get", stdin=PIPE, stdout=PIPE, stderr=DEVNULL
            )
        except OSError as error:
            raise _helper_failed(program, f"can't be started: {error.strerror}") from None
        output = await self._run(process, program)
        if process.returncode:
            if b"credentials not found" in output:
                return None
            raise _helper_failed(program, f"ended with status {process.returncode}")
        return _answered(program, output)

    async def _run(self, process: Process, program: str) -> bytes:
        try:
            async with asyncio.timeout(self._helper_timeout):
                return (await process.communicate(self._server.encode()))[0]
        except TimeoutError:
            raise _helper_failed(program, f"gave no answer in {self._helper_timeout:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


def _host(key: str) -> str:
    return key.removeprefix("https://").removeprefix("http://").split("/", 1)[0]


def _pair(auth: _Auth) -> tuple[str, str]:
    if not auth.auth:
        return auth.username, auth.password
    try:
        user, _, password = base64.b64decode(auth.auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise RegistryUnauthorized(
            "The file of `registry-docker-config` has an `auth` for this registry that is not "
            "base64."
        ) from None
    return user, password.rstrip("\0")


def _answered(program: str, output: bytes) -> Credentials:
    try:
        answer = msgspec.json.decode(output, type=_HelperAnswer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _helper_failed(program, "printed no credentials in JSON") from None
    if answer.username == _IDENTITY_USER:
        return Credentials(identity_token=answer.secret)
    return Credentials(answer.username, answer.secret)


def _helper_failed(program: str, why: str) -> RegistryUnauthorized:
    return RegistryUnauthorized(f"The credential helper `{program}` {why}.")
