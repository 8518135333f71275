"""Writes the effective configuration as TOML."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pharia_kernel.config.namespaces import REGISTRY
from pharia_kernel.config.sources import TABLES, KeyPath, Origin, dotted


def toml_value(value: Any) -> str:
    """A value as TOML writes it in one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list():
            return f"[{', '.join(toml_value(item) for item in value)}]"
        case dict():
            items = ", ".join(
                f"{dotted((key,))} = {toml_value(item)}"
                for key, item in value.items()
                if item is not None
            )
            return f"{{ {items} }}"
        case _:
            # What is not Unicode, in a path for example, can't be written: escape it.
            text = str(value).encode("utf-8", "backslashreplace").decode()
            # TOML's strings are JSON's, except that it wants DEL escaped.
            return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def describe(values: Mapping[str, Any], origins: Mapping[KeyPath, Origin]) -> str:
    """One line per key with a comment that tells its source; unset keys are comments as a whole."""
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    lines = [_line((key,), value, origins) for key, value in values.items() if key not in tables]
    for path, table in _tables(tables):
        lines += ["", f"[{dotted(path)}]"]
        lines += [_line((*path, key), value, origins) for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _tables(tables: Mapping[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    for key, table in tables.items():
        if TABLES.get(key) != 3:
            yield (key,), table
            continue
        for name, namespace in table.items():
            rest = {key: value for key, value in namespace.items() if key != REGISTRY}
            yield (key, name), rest | namespace.get(REGISTRY, {})


def _line(path: KeyPath, value: Any, origins: Mapping[KeyPath, Origin]) -> str:
    origin = origins.get(path)
    comment = origin.comment() if origin else "default"
    if value is None:
        return f"# {path[-1]} is not set  # {comment}"
    return f"{dotted(path[-1:])} = {toml_value(value)}  # {comment}"
