"""The forms of a namespace: each knows how to get the current description."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Protocol

from pharia_kernel.config.namespaces import (
    InPlaceNamespace,
    SkillEntry,
    TeamOwnedNamespace,
    WatchNamespace,
)
from pharia_kernel.config.registries import FileRegistryConfig
from pharia_kernel.config.sources import env_name
from pharia_kernel.errors import NamespaceMisconfigured, NamespaceUnavailable
from pharia_kernel.skills.namespaces.description import Description
from pharia_kernel.skills.namespaces.document import Document, parse
from pharia_kernel.skills.namespaces.fetching import (
    MAX_BYTES,
    AccessRefused,
    Fetched,
    Fetcher,
    FetchFailed,
    Validators,
    public_url,
)
from pharia_kernel.skills.namespaces.interfaces import Config
from pharia_kernel.skills.namespaces.remembering import Memory, Remembered
from pharia_kernel.skills.namespaces.sources import Sources
from pharia_kernel.skills.registry.file import FileRegistry

_FILE_SCHEME = "file://"


class Form(Protocol):
    key: str
    """The key that tells the form."""
    source: str
    """Where the description is, without credentials."""
    remote: bool

    @property
    def place(self) -> Path | None:
        """The file or directory that is the description, if a change can be noticed there."""
        ...

    @property
    def components(self) -> Path | None:
        """The directory of the components, if it is another one."""
        ...

    async def read(self) -> Description:
        """The description as it is now.

        Raises ``NamespaceMisconfigured``, or ``NamespaceUnavailable`` if that says nothing about
        the description.
        """
        ...

    async def recall(self) -> Description | None:
        """The last good description of an earlier life."""
        ...

    async def forget(self) -> None:
        """The namespace is gone."""
        ...


class _Local:
    remote = False

    async def recall(self) -> Description | None:
        return None

    async def forget(self) -> None:
        """Nothing was kept."""


class DirectoryForm(_Local):
    """Every component in a directory is a skill."""

    key = "directory"

    def __init__(self, namespace: str, config: WatchNamespace, sources: Sources) -> None:
        self.source = str(config.directory)
        self.place = config.directory
        self.components = None
        self._namespace = namespace
        self._config = config
        self._sources = sources
        self._directory = FileRegistry(config.directory)

    async def read(self) -> Description:
        try:
            names = await self._directory.names()
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
            reason = _reason(error)
            raise NamespaceMisconfigured(
                f"Namespace `{self._namespace}` is misconfigured: its directory "
                f"`{self.place}` can't be read: {reason}.",
                causes=[reason],
            ) from error
        return Description(
            skills=self._sources.of(SkillEntry(name=name) for name in sorted(names)),
            mcp_servers=self._config.mcp_servers,
            native_tools=list(self._config.native_tools),
            warnings=[],
        )


class ListForm(_Local):
    """The skills are listed in the configuration."""

    key = "skills"
    source = "the kernel's configuration"

    def __init__(self, config: InPlaceNamespace, sources: Sources) -> None:
        self.place = None
        self.components = _folder(config)
        self._config = config
        self._sources = sources

    async def read(self) -> Description:
        return Description(
            skills=self._sources.of(self._config.skills),
            mcp_servers=self._config.mcp_servers,
            native_tools=list(self._config.native_tools),
            warnings=[],
        )


class FileForm(_Local):
    """A TOML file of somebody who can write to the kernel's machine."""

    key = "config-url"

    def __init__(self, namespace: str, config: TeamOwnedNamespace, sources: Sources) -> None:
        # Everything after the scheme, without decoding: `file://namespace.toml` is relative.
        self.place = Path(config.config_url.removeprefix(_FILE_SCHEME))
        self.components = _folder(config)
        self.source = config.config_url
        self._namespace = namespace
        self._documents = _Documents(namespace, sources)

    async def read(self) -> Description:
        try:
            text = await asyncio.to_thread(_read_file, self.place)
        except (OSError, ValueError) as error:
            reason = _reason(error)
            raise NamespaceMisconfigured(
                f"Namespace `{self._namespace}` is misconfigured: the file `{self.place}` of its "
                f"`config-url` can't be read: {reason}.",
                causes=[reason],
            ) from error
        return await self._documents.describe(text)


class RemoteForm:
    """A TOML file at an HTTP URL."""

    key = "config-url"
    remote = True
    place = None

    def __init__(
        self,
        namespace: str,
        config: TeamOwnedNamespace,
        sources: Sources,
        fetcher: Fetcher,
        memory: Memory,
    ) -> None:
        token = config.config_access_token
        self.components = _folder(config)
        self.source = public_url(config.config_url)
        self._namespace = namespace
        self._url = config.config_url
        self._token = token.get_secret_value() if token else None
        self._documents = _Documents(namespace, sources)
        self._fetcher = fetcher
        self._memory = memory
        self._good: Remembered | None = None
        """The newest description without a mistake."""

    async def recall(self) -> Description | None:
        remembered = await self._memory.recall(self._namespace, self._url)
        if remembered is None:
            return None
        try:
            description = await self._documents.describe(remembered.text)
        except NamespaceMisconfigured:
            return None
        self._good = remembered
        return description

    async def read(self) -> Description:
        good = self._good
        try:
            fetched = await self._fetcher.fetch(
                self._url, self._token, good.validators if good else Validators()
            )
        except FetchFailed as error:
            raise self._unavailable(error) from error
        if fetched is None:
            assert good is not None  # or the request was not conditional
            return await self._documents.describe(good.text)
        description = await self._describe(fetched)
        newest = Remembered(fetched.text, fetched.validators)
        if newest != good:
            self._good = newest
            await self._memory.keep(self._namespace, self._url, newest)
        return description

    async def forget(self) -> None:
        await self._memory.forget(self._namespace, self._url)

    async def _describe(self, fetched: Fetched) -> Description:
        try:
            return await self._documents.describe(fetched.text)
        except NamespaceMisconfigured:
            if not fetched.html:
                raise
            reason = "the server sent a web page instead of TOML"
            raise NamespaceMisconfigured(
                f"The description of namespace `{self._namespace}` can't be had: {reason}, perhaps "
                f"to log in at. {self._token_hint()}",
                causes=[reason],
            ) from None

    def _unavailable(self, error: FetchFailed) -> NamespaceMisconfigured:
        detail = f"The description of namespace `{self._namespace}` {error.reason}."
        if isinstance(error, AccessRefused):
            detail += f" {self._token_hint()}"
        kind = NamespaceUnavailable if error.temporary else NamespaceMisconfigured
        causes = list(error.causes) or [error.reason]
        return kind(detail, retry_after=error.retry_after, causes=causes)

    def _token_hint(self) -> str:
        path = ("namespaces", self._namespace, "config-access-token")
        verb = "Check" if self._token else "Set"
        return f"{verb} `{'.'.join(path)}` or the variable {env_name(path)}."


class _Documents:
    """Makes descriptions of texts, off the event loop; what did not change is not parsed again."""

    def __init__(self, namespace: str, sources: Sources) -> None:
        self._namespace = namespace
        self._sources = sources
        self._last: tuple[str, Document] | None = None

    async def describe(self, text: str) -> Description:
        """Raises ``NamespaceMisconfigured``."""
        if self._last is None or self._last[0] != text:
            self._last = (text, await asyncio.to_thread(parse, self._namespace, text))
        document = self._last[1]
        return Description(
            skills=self._sources.of(document.skills),
            mcp_servers=document.mcp_servers,
            native_tools=document.native_tools,
            warnings=document.warnings,
        )


def form_of(
    namespace: str, config: Config, sources: Sources, fetcher: Fetcher, memory: Memory
) -> Form:
    match config:
        case WatchNamespace():
            return DirectoryForm(namespace, config, sources)
        case InPlaceNamespace():
            return ListForm(config, sources)
        case TeamOwnedNamespace() if config.config_url.startswith(_FILE_SCHEME):
            return FileForm(namespace, config, sources)
        case TeamOwnedNamespace():
            return RemoteForm(namespace, config, sources, fetcher, memory)


def _folder(config: InPlaceNamespace | TeamOwnedNamespace) -> Path | None:
    registry = config.registry
    return registry.path if isinstance(registry, FileRegistryConfig) else None


def _read_file(path: Path) -> str:
    """Raises ``OSError``, or ``ValueError`` with a reason."""
    # O_NONBLOCK: opening a named pipe must not wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text (byte {error.start + 1} is wrong)") from None


def _reason(error: Exception) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else str(error)
