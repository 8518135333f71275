"""From the sources to checked settings, or to the list of everything that is wrong."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from pharia_kernel.config.authorization import ApiKey, Oidc, OidcRole
from pharia_kernel.config.describe import toml_value
from pharia_kernel.config.inference import InferenceProvider, ModelRoute
from pharia_kernel.config.namespaces import CHAT_KEYS, NAMESPACE_KEYS, SKILL_KEYS
from pharia_kernel.config.outbound import Outbound
from pharia_kernel.config.problems import ConfigError, Location, Problem, expectation, visible
from pharia_kernel.config.retrieval import DocumentIndex
from pharia_kernel.config.settings import OpenAiInference, Settings, default_cache_dir
from pharia_kernel.config.signatures import IDENTITY_KEYS
from pharia_kernel.config.sources import (
    Given,
    KeyPath,
    Layer,
    Sources,
    dotted,
    env_name,
    is_secret,
)
from pharia_kernel.config.values import MASK, EnvText, Table, without_credentials

_TOP_LEVEL_KEYS = [str(field.alias) for field in Settings.model_fields.values()]
_TABLE_MODELS: dict[str | int, type[Table]] = {
    "openai-inference": OpenAiInference,
    "inference-providers": InferenceProvider,
    "inference-models": ModelRoute,
    "document-index": DocumentIndex,
    "api-keys": ApiKey,
    "oidc": Oidc,
    "outbound": Outbound,
}
_CACHE_DIR = ("wasmtime-cache-dir",)
_LONGEST_VALUE = 200


def load(
    directory: Path | None = None,
    environ: Mapping[str, str] | None = None,
    options: Mapping[str, tuple[str, str]] | None = None,
) -> Settings:
    """The settings for a kernel that is started in ``directory`` (default: the working directory).

    ``options`` override everything else: a top-level key leads to the option's name and its text.
    Raises ``ConfigError`` with all mistakes at once.
    """
    environ = os.environ if environ is None else environ
    sources = Sources((directory or Path.cwd()).absolute(), _TOP_LEVEL_KEYS)
    layer = sources.merge(environ, options or {})
    problems = sources.problems
    tree = _tree(layer)
    if not tree.get(_CACHE_DIR[0]):
        try:
            tree[_CACHE_DIR[0]] = default_cache_dir(environ)
        except PydanticCustomError as error:
            problems.append(Problem(env_name(_CACHE_DIR), "default", str(error)))
            tree[_CACHE_DIR[0]] = "."
    try:
        settings = Settings.model_validate(tree, by_alias=True, by_name=False, context="sources")
    except ValidationError as error:
        problems += [_problem(details, layer) for details in error.errors(include_url=False)]
    if problems:
        raise ConfigError(problems)
    return settings.with_origins({path: given.origin for path, given in layer.items()})


def _tree(layer: Layer) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(layer, key=len):
        table = tree
        for part in path[:-1]:
            inner = table.get(part)
            if not isinstance(inner, dict):
                inner = table[part] = {}
            table = inner
        table[path[-1]] = layer[path].value
    inference = tree.get("openai-inference")
    if isinstance(inference, dict) and all(value == "" for value in inference.values()):
        del tree["openai-inference"]
    return tree


# --- saying what is wrong ------------------------------------------------------------------------


def _problem(error: ErrorDetails, layer: Layer) -> Problem:
    context = error.get("ctx", {})
    at: Location = context.get("at", ())
    location = (*visible(error["loc"]), *at)
    key, source, given = _where(location, layer)
    match error["type"]:
        case "missing":
            return Problem(key, source, "is missing")
        case "extra_forbidden" | "unknown_key":
            return _unknown_key(location, key, source, given)
        case "refused":
            return Problem(key, source, str(context["why"]))
    return Problem(key, source, expectation(error), _shown(location, error["input"], at))


def _where(location: Location, layer: Layer) -> tuple[str, str, Given | None]:
    """The key as it was written, its source, and what was given for it."""
    for end in range(len(location), 0, -1):
        given = layer.get(_texts(location[:end]))
        if given is not None and end == len(_texts(location[:end])):
            rest = dotted(location[end:])
            separator = "." if rest and not rest.startswith("[") else ""
            return given.origin.name + separator + rest, given.origin.source(), given
    path = _texts(location)
    # Nobody wrote this key, so name it in the way of its nearest neighbour.
    neighbours = [given for other, given in layer.items() if other[: len(path) - 1] == path[:-1]]
    inside = [given for other, given in layer.items() if other[: len(path)] == path]
    origins = [given.origin for given in inside or neighbours]
    in_toml = not origins or any(origin.kind == "toml" for origin in origins)
    sources = dict.fromkeys(origin.source() for origin in origins)
    return dotted(path) if in_toml else env_name(path), ", ".join(sources), None


def _texts(location: Location) -> KeyPath:
    return tuple(part for part in location if isinstance(part, str))


def _unknown_key(location: Location, key: str, source: str, given: Given | None) -> Problem:
    known = _known_keys(location)
    name = str(location[-1])
    if name in known:  # of a skill entry, the only table where a key can belong to another form
        chat_only = name in CHAT_KEYS
        why = 'only for skills of type = "chat"' if chat_only else 'not for skills of type = "chat"'
        return Problem(key, source, f"is {why}")
    close = difflib.get_close_matches(name.lower().replace("_", "-"), known, n=1)
    if not close:
        return Problem(key, source, f"unknown key; known here are {', '.join(known)}")
    path = (*location[:-1], close[0])
    as_env = given is not None and given.origin.kind != "toml" and len(_texts(path)) == len(path)
    return Problem(
        key, source, "unknown key", suggestion=env_name(_texts(path)) if as_env else dotted(path)
    )


def _known_keys(location: Location) -> list[str]:
    if len(location) == 1:
        return _TOP_LEVEL_KEYS
    if location[:2] == ("oidc", "roles"):
        keys = [str(field.alias) for field in OidcRole.model_fields.values()]
    elif location[0] in _TABLE_MODELS:
        keys = [str(field.alias) for field in _TABLE_MODELS[location[0]].model_fields.values()]
    elif len(location) == 3:
        keys = list(NAMESPACE_KEYS)
    elif location[2] == "signature-identities":
        return list(IDENTITY_KEYS)
    else:
        return list(dict.fromkeys((*SKILL_KEYS, *CHAT_KEYS)))
    parent = _texts(location[:-1])
    return [*keys, *(f"{key}-file" for key in keys if is_secret((*parent, key)))]


def _shown(location: Location, value: Any, at: Location) -> str | None:
    for part in at:
        value = value[part]
    if is_secret(_texts(location)):
        return MASK
    if not isinstance(value, str | int | float | bool):
        return None
    if isinstance(value, EnvText):
        value = str(value)
    shown = toml_value(without_credentials(value) if isinstance(value, str) else value)
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}..."
