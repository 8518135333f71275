"""Where settings come from: ``config.toml``, ``.env``, the environment, options of the command.

Each source becomes a layer: a flat map from the path of a key to what was given for it. Merging
layers is then one ``dict`` update, so that a later source wins key by key, also inside a table.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values

from pharia_kernel.config.problems import Problem
from pharia_kernel.config.values import EnvText, kebab

KeyPath = tuple[str, ...]

CONFIG_FILE = "config.toml"
DOTENV_FILE = ".env"
TABLES = {
    "openai-inference": 2,
    "inference-providers": 3,
    "inference-models": 2,
    "tokenizers": 2,
    "document-index": 2,
    "api-keys": 3,
    "oidc": 2,
    "outbound": 2,
    "namespaces": 3,
}
"""Length of a key's path inside the tables; everything else is a key on the top level."""
_SECRETS = {
    ("openai-inference", "token"),
    ("inference-providers", "token"),
    ("document-index", "qdrant-api-key"),
    ("namespaces", "registry-password"),
    ("namespaces", "config-access-token"),
}
_FILE_SUFFIX = "-file"


def is_secret(path: KeyPath) -> bool:
    return len(path) > 1 and (path[0], path[-1]) in _SECRETS


def env_name(path: KeyPath) -> str:
    return "__".join(part.upper().replace("-", "_") for part in path)


def find_dotenv(directory: Path) -> Path | None:
    """The nearest ``.env`` in the directory or above it."""
    files = (parent / DOTENV_FILE for parent in (directory, *directory.parents))
    return next((file for file in files if file.is_file()), None)


def parse_dotenv(text: str) -> dict[str, str]:
    """Values are literal: a ``$`` in a password must not be taken for a reference."""
    found = dotenv_values(stream=StringIO(text), interpolate=False)
    return {name: value for name, value in found.items() if value is not None}


def dotted(path: Sequence[str | int]) -> str:
    """``namespaces.dev.skills[0].name``, as TOML writes it."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            text += ("." if text else "") + (part if bare else json.dumps(part, ensure_ascii=False))
    return text


@dataclass(frozen=True)
class Origin:
    """Where a key was written."""

    kind: Literal["toml", "dotenv", "environment", "option"]
    name: str
    """The key as it was written there."""
    file: Path | None = None

    def source(self) -> str:
        return str(self.file) if self.file else self.kind

    def comment(self) -> str:
        """For the listing of the effective configuration."""
        match self.kind:
            case "toml":
                return CONFIG_FILE
            case "dotenv":
                return f"{DOTENV_FILE} {self.name}"
            case "environment":
                return f"env {self.name}"
            case "option":
                return f"option {self.name}"

    def problem(self, message: str, value: str | None = None) -> Problem:
        return Problem(self.name, self.source(), message, value)


@dataclass(frozen=True)
class SecretFile:
    """Stands for the secret in a file until it is known that no other source overrides it."""

    path: Path


@dataclass(frozen=True)
class Given:
    value: Any
    origin: Origin


Layer = dict[KeyPath, Given]


class Sources:
    """Reads the layers of one directory and collects what is wrong with them."""

    def __init__(self, directory: Path, known: Collection[str]) -> None:
        """``known`` are the keys on the top level; no other environment variable is looked at."""
        self._directory = directory
        self._known = known
        self.problems: list[Problem] = []

    def merge(self, environ: Mapping[str, str], options: Mapping[str, tuple[str, str]]) -> Layer:
        """What was given for each key by the source that wins.

        ``options`` map a top-level key to the option's name and its value.
        """
        merged = self._toml()
        dotenv_file, dotenv = self._dotenv()
        merged |= self._env(dotenv, "dotenv", dotenv_file)
        merged |= self._env(environ, "environment", None)
        for key, (name, value) in options.items():
            merged[(key,)] = Given(EnvText(value), Origin("option", name))
        return dict(self._with_secrets(merged))

    def _read(self, file: Path) -> str | None:
        try:
            return file.read_text("utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            self.problems.append(Problem(file.name, str(file), f"cannot be read: {error.strerror}"))
        except UnicodeDecodeError:
            self.problems.append(Problem(file.name, str(file), "is not UTF-8 text"))
        return None

    # --- config.toml ---

    def _toml(self) -> Layer:
        file = self._directory / CONFIG_FILE
        try:
            document = tomllib.loads(self._read(file) or "")
        except tomllib.TOMLDecodeError as error:
            self.problems.append(Problem(CONFIG_FILE, str(file), f"is not valid TOML: {error}"))
            return {}
        layer: Layer = {}
        for path, value in self._flatten(document):
            origin = Origin("toml", dotted(path), file)
            if len(path) < TABLES.get(path[0], 1) and not isinstance(value, dict):
                self.problems.append(origin.problem("expected a table"))
            else:
                self._put(layer, path, Given(value, origin))
        return layer

    def _flatten(
        self, document: dict[str, Any], parent: KeyPath = ()
    ) -> Iterator[tuple[KeyPath, Any]]:
        for key, value in document.items():
            path = (*parent, key)
            if isinstance(value, dict) and value and len(path) < TABLES.get(path[0], 1):
                yield from self._flatten(value, path)
            else:
                yield path, value

    # --- environment ---

    def _dotenv(self) -> tuple[Path | None, dict[str, str]]:
        file = find_dotenv(self._directory)
        return file, parse_dotenv(self._read(file) or "") if file else {}

    def _env(
        self,
        environ: Mapping[str, str],
        kind: Literal["dotenv", "environment"],
        file: Path | None,
    ) -> Layer:
        layer: Layer = {}
        for name, value in sorted(environ.items()):
            path = tuple(kebab(part.lower()) for part in name.split("__"))
            if path[0] not in self._known:
                continue
            origin = Origin(kind, name, file)
            if len(path) == TABLES.get(path[0], 1):
                self._put(layer, path, Given(EnvText(value), origin))
            elif value:
                self.problems.append(origin.problem(_wrong_depth(path[0])))
        return layer

    # --- both ---

    def _put(self, layer: Layer, path: KeyPath, given: Given) -> None:
        target = (*path[:-1], path[-1].removesuffix(_FILE_SUFFIX))
        if target != path and is_secret(target) and isinstance(given.value, str):
            if not given.value:
                return
            path, given = target, Given(SecretFile(Path(given.value)), given.origin)
        other = layer.get(path)
        if other is not None and other.value != "" and given.value not in ("", other.value):
            names = f"contradicts {other.origin.name}, which sets the same key: keep one"
            self.problems.append(given.origin.problem(names))
        if other is None or given.value != "":
            layer[path] = given

    def _with_secrets(self, merged: Layer) -> Iterator[tuple[KeyPath, Given]]:
        for path, given in merged.items():
            if not isinstance(given.value, SecretFile):
                yield path, given
                continue
            text = self._read_secret(given.value.path, given.origin)
            if text is not None:
                yield path, Given(text, given.origin)

    def _read_secret(self, path: Path, origin: Origin) -> str | None:
        file = self._directory / path.expanduser()
        try:
            text = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            self.problems.append(
                origin.problem(f"expected a readable file ({reason})", f'"{path}"')
            )
            return None
        if not text:
            self.problems.append(origin.problem("expected a file that is not empty", f'"{path}"'))
            return None
        return text


def _wrong_depth(table: str) -> str:
    match table:
        case "namespaces":
            return "expected a name of the form NAMESPACES__<NAME>__<KEY>"
        case "openai-inference":
            return "expected OPENAI_INFERENCE__URL or OPENAI_INFERENCE__TOKEN"
        case _:
            return f"unknown key; {env_name((table,))} has no keys beneath it"
