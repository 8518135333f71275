"""Who we are to a registry: as told, or as ``docker login`` noted."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pharia_kernel_sdk.publishing.errors import PublishError

_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HELPER_TIMEOUT = 60.0
"""Seconds; helpers may ask their user."""
_IDENTITY_USER = "<token>"


@dataclass(frozen=True)
class Credentials:
    """A user and a password, or a token to get access tokens with."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """An OAuth 2.0 refresh token; none if empty."""

    def basic(self) -> str:
        """The value of the header ``Authorization`` (RFC 7617)."""
        pair = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


def docker_credentials(host: str, environ: Mapping[str, str] = os.environ) -> Credentials | None:
    """What Docker's ``config.json`` has for a registry: its helper's, that of the common helper, or
    those in the file itself. Raises ``PublishError`` if the file or a helper is broken."""
    folder = environ.get("DOCKER_CONFIG")
    file = (Path(folder) if folder else Path("~/.docker").expanduser()) / "config.json"
    config = _read(file)
    server = _DOCKER_HUB_KEY if host in _DOCKER_HUB else host
    helper = _table(config, "credHelpers").get(server)
    if helper:
        return _ask(str(helper), server)
    store = config.get("credsStore")
    return (_ask(str(store), server) if store else None) or _listed(config, server)


def _read(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PublishError(f"{file} can't be read: {error.strerror}.") from None
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise PublishError(f"{file} is not a Docker configuration in JSON.")
    return config


def _table(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _listed(config: Mapping[str, Any], server: str) -> Credentials | None:
    for key, entry in _table(config, "auths").items():
        if _server(key) == _server(server) and isinstance(entry, dict):
            user, password = _pair(entry)
            token = str(entry.get("identitytoken") or "")
            if user or password or token:
                return Credentials(user, password, token)
    return None


def _server(key: str) -> str:
    """Old versions of Docker wrote URLs."""
    host = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return "docker.io" if host in _DOCKER_HUB else host


def _pair(entry: Mapping[str, Any]) -> tuple[str, str]:
    if not entry.get("auth"):
        return str(entry.get("username") or ""), str(entry.get("password") or "")
    try:
        decoded = base64.b64decode(str(entry["auth"]), validate=True).decode()
    except (binascii.Error, ValueError):
        raise PublishError(
            "Docker's config.json has an `auth` for this registry that is not base64: "
            "`docker login` writes it anew."
        ) from None
    user, _, password = decoded.partition(":")
    return user, password.rstrip("\0")


def _ask(helper: str, server: str) -> Credentials | None:
    """The protocol of ``docker-credential-helpers``: the server's name in, JSON out."""
    program = f"docker-credential-{helper}"
    if not _HELPER_NAME.fullmatch(helper):
        raise PublishError("Docker's config.json names a credential helper that is no program.")
    try:
        done = subprocess.run(
            [program, "get"], input=server.encode(), capture_output=True, timeout=_HELPER_TIMEOUT
        )
    except OSError as error:
        raise PublishError(f"{program} can't be started: {error.strerror}.") from None
    except subprocess.TimeoutExpired:
        raise PublishError(f"{program} gave no answer in {_HELPER_TIMEOUT:.0f} s.") from None
    if done.returncode:
        if b"credentials not found" in done.stdout:
            return None
        raise PublishError(f"{program} ended with status {done.returncode}.")
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, LookupError, TypeError):
        raise PublishError(f"{program} printed no credentials in JSON.") from None
    return (
        Credentials(identity_token=secret) if user == _IDENTITY_USER else Credentials(user, secret)
    )
