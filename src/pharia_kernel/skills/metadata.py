"""What skills say of themselves: asked once per version, checked, and kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from weakref import WeakKeyDictionary

import jsonschema_rs
import msgspec
from msgspec import Raw

from pharia_kernel.engine.api import (
    Artifact,
    ComponentInfo,
    ComponentKind,
    EmbeddedMetadata,
    EnginePool,
    GuestMetadata,
    Host,
)
from pharia_kernel.errors import InvalidMetadata, InvalidOutput, KernelError, SkillBug
from pharia_kernel.skills.events import json_of
from pharia_kernel.skills.failures import fresh
from pharia_kernel.skills.nesting import MAX_DEPTH, is_too_deep
from pharia_kernel.skills.types import SkillKind, SkillMetadata
from pharia_kernel.skills.versions import Loan, Version

log = logging.getLogger(__name__)

MAX_SCHEMA_SIZE = 1 << 20
"""Bytes. Checking a schema costs the kernel time, and a skill's author chooses the schema."""

DIALECTS = frozenset(
    {
        "https://json-schema.org/draft/2020-12/schema",
        "https://json-schema.org/draft/2019-09/schema",
        "http://json-schema.org/draft-07/schema",
        "http://json-schema.org/draft-06/schema",
        "http://json-schema.org/draft-04/schema",
    }
)
"""Known values of ``$schema``. The library would go and fetch others, wherever they point."""
_BRIEF = 1000
"""Characters of a description in lists."""

HostContext = AbstractAsyncContextManager[Host]


class _Entry:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.known: SkillMetadata | KernelError | None = None


class MetadataCache:
    """Metadata per version. Bugs of the skill are remembered as well; what may pass is asked
    again.
    """

    def __init__(self, pool: EnginePool) -> None:
        self._pool = pool
        self._entries: WeakKeyDictionary[Version, _Entry] = WeakKeyDictionary()

    async def of(
        self, loan: Loan, host: Callable[[], HostContext], *, deadline: float
    ) -> SkillMetadata:
        """The metadata of a version that is lent to the caller.

        ``host`` opens the kernel's side of the run, if one is needed. Raises ``InvalidMetadata``,
        ``CsiUseFromMetadata``, or what the engines raise.
        """
        entry = self._entries.setdefault(loan.version, _Entry())
        async with entry.lock:
            if entry.known is None:
                try:
                    entry.known = await self._ask(loan.artifact, host, deadline)
                except SkillBug as error:
                    entry.known = fresh(error)
                    raise
        if isinstance(entry.known, KernelError):
            raise fresh(entry.known)
        return entry.known

    async def _ask(
        self, artifact: Artifact, host: Callable[[], HostContext], deadline: float
    ) -> SkillMetadata:
        info = artifact.info
        metadata = _bare(info)
        if info.kind is ComponentKind.FUNCTION and metadata.version is not None:
            async with host() as opened:
                answer = await self._pool.metadata(artifact, opened, deadline=deadline)
            _fill(metadata, answer)
        elif info.embedded:
            _fill_from_section(metadata, info.embedded, artifact.digest)
        return metadata


def brief(description: str | None) -> str | None:
    """As much of it as lists show."""
    if description is None or len(description) <= _BRIEF:
        return description
    return description[: _BRIEF - 1] + "…"


def _bare(info: ComponentInfo) -> SkillMetadata:
    """What the component's type tells. Line 0.2 and streams have no export for metadata."""
    line = None if info.line == "0.2" else info.line
    return SkillMetadata(None, line, SkillKind(info.kind), None, None)


def _fill(metadata: SkillMetadata, answer: GuestMetadata) -> None:
    metadata.description = answer.description
    metadata.input_schema = check_schema(answer.input_schema, "input schema")
    metadata.output_schema = check_schema(answer.output_schema, "output schema")


def _fill_from_section(metadata: SkillMetadata, embedded: EmbeddedMetadata, digest: str) -> None:
    metadata.description = embedded.description
    metadata.input_schema = _embedded_schema(embedded.input_schema, "input schema", digest)
    metadata.output_schema = _embedded_schema(embedded.output_schema, "output schema", digest)


def _embedded_schema(schema: Raw, what: str, digest: str) -> Raw | None:
    """Not worth an error: the section is no part of what a skill has to be."""
    if bytes(schema) == b"null":
        return None
    try:
        return check_schema(bytes(schema), what)
    except InvalidMetadata as error:
        log.warning("Metadata embedded in %s are ignored in part: %s", digest, error.detail)
        return None


def check_schema(data: bytes, what: str) -> Raw:
    """The JSON Schema in compact form; raises ``InvalidMetadata`` that says what is wrong with
    it.
    """
    if len(data) > MAX_SCHEMA_SIZE:
        raise InvalidMetadata(f"The {what} has {len(data)} bytes; {MAX_SCHEMA_SIZE} are allowed.")
    try:
        compact = json_of(data, f"The {what}")
    except InvalidOutput as error:
        raise InvalidMetadata(error.detail) from None
    try:
        schema = msgspec.json.decode(compact)
    except (msgspec.ValidationError, RecursionError) as error:  # or a number beyond Python's
        raise InvalidMetadata(f"The {what} can't be read: {error}.") from None
    if is_too_deep(schema):
        raise InvalidMetadata(f"The {what} is nested too deeply; {MAX_DEPTH} levels are allowed.")
    dialect = schema.get("$schema") if isinstance(schema, dict) else None
    if isinstance(dialect, str) and dialect.removesuffix("#") not in DIALECTS:
        raise InvalidMetadata(f"The {what} uses an unknown dialect, `$schema`: `{dialect[:200]}`.")
    try:
        jsonschema_rs.meta.validate(schema)
    except jsonschema_rs.ValidationError as error:
        at = "/".join(str(part) for part in error.instance_path)
        raise InvalidMetadata(
            f"The {what} is not a JSON Schema: at `/{at[:200]}`: {error.message[:500]}."
        ) from None
    except ValueError as error:
        raise InvalidMetadata(f"The {what} is not a JSON Schema: {error}.") from None
    return Raw(compact)
