"""A description as a team writes it: a TOML document with ``skills``, ``mcp-servers`` and
``native-tools``.

What the original ignored (unknown keys, repetitions) is without effect here too, and becomes a
warning. What it failed at, or made something unexpected of, is a mistake: wrong types, malformed
chats, two skills of one name, and keys that are nearly those of a setting.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Hashable, Iterable, Iterator
from typing import Annotated, Any, TypeVar

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from pharia_kernel.config.namespaces import (
    CHAT_KEYS,
    SKILL_KEYS,
    AnySkillEntry,
    ChatSkillEntry,
    NativeTool,
    SkillEntry,
)
from pharia_kernel.config.problems import Location, expectation, visible
from pharia_kernel.config.sources import dotted
from pharia_kernel.config.tools import McpServer, McpServerEntry
from pharia_kernel.config.values import kebab
from pharia_kernel.errors import NamespaceMisconfigured
from pharia_kernel.skills.failures import printable
from pharia_kernel.skills.namespaces.positions import (
    MAX_KEY_PARTS,
    Position,
    Positions,
    overlong_key,
    position_of,
)

MAX_SKILLS = 1000
MAX_MCP_SERVERS = 100
_MAX_TOLD = 20
"""Mistakes and warnings that are told of one document."""
_SAME_KEY = 0.75
"""Similarity from which on an unknown key is taken for a misspelt one."""
_SYNTAX_ERROR = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|.*)\)")

_T = TypeVar("_T")


class Document(Struct, frozen=True, kw_only=True):
    skills: list[SkillEntry | ChatSkillEntry]
    mcp_servers: list[McpServer]
    native_tools: list[str]
    warnings: list[str]
    """Each with its place."""


class _Schema(BaseModel):
    model_config = ConfigDict(alias_generator=kebab, hide_input_in_errors=True)

    skills: Annotated[list[AnySkillEntry], Field(max_length=MAX_SKILLS)]
    mcp_servers: Annotated[list[McpServerEntry], Field(max_length=MAX_MCP_SERVERS)] = Field(
        default_factory=list
    )
    native_tools: list[NativeTool] = Field(default_factory=list)


_KEYS = [str(field.alias) for field in _Schema.model_fields.values()]


class _Note(Struct, frozen=True):
    """A mistake or a warning."""

    location: Location
    message: str


class _Mistakes(Exception):
    def __init__(self, notes: list[tuple[Position, str]], total: int) -> None:
        super().__init__()
        self.notes = notes
        self.total = total


def parse(namespace: str, text: str) -> Document:
    """Raises ``NamespaceMisconfigured`` with the members ``line``, ``column`` (of the first
    mistake) and ``causes`` (all of them, each with its place).
    """
    try:
        return _parse(text.replace("\r\n", "\n"))
    except _Mistakes as mistakes:
        position, first = mistakes.notes[0]
        more = {1: "", 2: " There is 1 more mistake."}.get(
            mistakes.total, f" There are {mistakes.total - 1} more mistakes."
        )
        raise NamespaceMisconfigured(
            f"The description of namespace `{namespace}` is wrong at {position}: {first}.{more}",
            line=position.line,
            column=position.column,
            causes=[f"{where}: {what}" for where, what in mistakes.notes],
        ) from None


def _parse(text: str) -> Document:
    raw = _read_toml(text)
    ignored = list(_drop_ignored(raw))
    try:
        checked = _Schema.model_validate(raw, by_alias=True, by_name=False, context="description")
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=True)
        raise _mistakes(text, [_mistake(each) for each in details]) from None
    if conflicts := list(_conflicts(checked)):
        raise _mistakes(text, conflicts)
    ignored += _repetitions("skills", checked.skills)
    ignored += _repetitions("mcp-servers", checked.mcp_servers)
    ignored += _repetitions("native-tools", checked.native_tools)
    return Document(
        skills=_unique(checked.skills),
        mcp_servers=_unique(checked.mcp_servers),
        native_tools=_unique(list(map(str, checked.native_tools))),
        warnings=[f"{where}: {what}" for where, what in _placed(text, ignored)],
    )


# --- syntax ---------------------------------------------------------------------------------------


def _read_toml(text: str) -> dict[str, Any]:
    if position := overlong_key(text):
        raise _Mistakes([(position, f"a key has at most {MAX_KEY_PARTS} parts")], 1)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _Mistakes([_syntax_error(text, str(error))], 1) from None
    except RecursionError:
        raise _Mistakes([(Position(1, 1), "values are nested too deeply")], 1) from None
    except ValueError:  # of the conversion of numbers
        raise _Mistakes([(Position(1, 1), "a number has too many digits")], 1) from None


def _syntax_error(text: str, message: str) -> tuple[Position, str]:
    """The parser tells the place in its message only."""
    parts = _SYNTAX_ERROR.fullmatch(message)
    if parts is None:
        return Position(1, 1), f"not TOML: {message}"
    if parts["line"] is None:
        return position_of(text, len(text)), f"not TOML: {parts['what']} at the end"
    return Position(int(parts["line"]), int(parts["column"])), f"not TOML: {parts['what']}"


# --- what is ignored ------------------------------------------------------------------------------


def _drop_ignored(raw: dict[str, Any]) -> Iterator[_Note]:
    """Take keys out that are without effect."""
    for key in [key for key in raw if key not in _KEYS]:
        del raw[key]
        close = difflib.get_close_matches(kebab(key.lower()), _KEYS, 1, _SAME_KEY)
        hint = f" (did you mean `{close[0]}`?)" if close else ""
        yield _Note((key,), f"unknown key{hint}, ignored")
    skills = raw.get("skills")
    for index, entry in enumerate(skills if isinstance(skills, list) else []):
        if isinstance(entry, dict):
            for key in [key for key in entry if _is_ignored(key, entry)]:
                del entry[key]
                yield _Note(("skills", index, key), _why_ignored(key))


def _is_ignored(key: str, entry: dict[str, Any]) -> bool:
    if "type" in entry:
        return key == "tag" or _resembled(key) is None
    return key == "version" or _resembled(key) is None


def _why_ignored(key: str) -> str:
    match key:
        case "tag":
            return "ignored: a chat has no component, so no tag"
        case "version":
            return "ignored: for people, and only chats have it; a component's version is its `tag`"
        case _:
            return "unknown key, ignored"


def _resembled(key: str) -> str | None:
    """The known key that the key is, or is probably meant to be."""
    known = (*SKILL_KEYS, *CHAT_KEYS)
    if key in known:
        return key
    candidates = {kebab(name): name for name in known}
    close = difflib.get_close_matches(kebab(key.lower()), candidates, 1, _SAME_KEY)
    return candidates[close[0]] if close else None


def _repetitions(key: str, items: Iterable[Any]) -> Iterator[_Note]:
    seen: set[Hashable] = set()
    for index, item in enumerate(items):
        if _identity(item) in seen:
            yield _Note((key, index), "listed before, ignored")
        seen.add(_identity(item))


def _unique(items: Iterable[_T]) -> list[_T]:
    return list({_identity(item): item for item in items}.values())


def _identity(item: Any) -> Hashable:
    match item:
        case SkillEntry() | ChatSkillEntry():
            return item.name
        case McpServer():
            return item.url
        case _:
            return str(item)


# --- mistakes -------------------------------------------------------------------------------------


def _conflicts(checked: _Schema) -> Iterator[_Note]:
    """Entries that contradict one before them."""
    for key, items in (("skills", checked.skills), ("mcp-servers", checked.mcp_servers)):
        first: dict[Hashable, Any] = {}
        for index, item in enumerate(items):
            if first.setdefault(_identity(item), item) != item:
                name = "URL" if key == "mcp-servers" else "name"
                yield _Note((key, index), f"an entry with this {name} stands before, and differs")


def _mistake(error: ErrorDetails) -> _Note:
    at: Location = error.get("ctx", {}).get("at", ())
    location = (*visible(error["loc"]), *at)
    match error["type"]:
        case "missing":
            return _Note(location, "is missing")
        case "extra_forbidden":
            return _Note(location, _unknown_key(location))
        case "refused":
            return _Note(location, str(error["ctx"]["why"]))
        case "too_long":
            return _Note(location, f"more than {error['ctx']['max_length']} items")
    return _Note(location, expectation(error) + _shown(location, error["input"], at))


def _unknown_key(location: Location) -> str:
    key = str(location[-1])
    if location[0] != "skills":
        return "unknown key"
    if key in CHAT_KEYS:
        return 'only for skills of type = "chat"'
    if key in SKILL_KEYS:
        return 'not for skills of type = "chat"'
    return f"unknown key (did you mean `{_resembled(key)}`?)"


def _shown(location: Location, value: Any, at: Location) -> str:
    """What was found, unless it may be a secret: servers have tokens."""
    for part in at:
        value = value[part]
    if location[:1] == ("mcp-servers",) or not isinstance(value, str | int | float):
        return ""
    return f", got `{printable(str(value), 60)}`"


def _mistakes(text: str, notes: list[_Note]) -> _Mistakes:
    return _Mistakes(_placed(text, notes), len(notes))


def _placed(text: str, notes: list[_Note]) -> list[tuple[Position, str]]:
    if not notes:
        return []
    positions = Positions(text)
    placed = [
        (positions[note.location], f"`{printable(dotted(note.location))}`: {note.message}")
        for note in notes
    ]
    return sorted(placed)[:_MAX_TOLD]
