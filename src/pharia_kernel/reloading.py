"""Acts on changes of the configuration while the kernel runs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from pharia_kernel.config.problems import ConfigError
from pharia_kernel.config.settings import Settings
from pharia_kernel.skills.watching import Watcher

logger = logging.getLogger("pharia_kernel.config")

RELOADABLE = frozenset(
    {
        "namespaces",
        "api_keys",
        "oidc",
        "authorization_url",
        "authorization_cache",
        "authorization_grace",
    }
)
"""Settings that take effect without a restart."""


_QUIET = 0.25
"""Seconds. Nobody waits for a configuration as they wait for a skill that they have just built."""


class Configuration(Struct, frozen=True):
    """How to read the configuration again."""

    load: Callable[[], Settings]
    """Raises ``ConfigError``."""
    files: Mapping[str, Path]
    """Files that it comes from, under any names."""


class Reloader:
    """Loads the configuration again when one of its files changes or ``reload`` is called.

    Mistakes in it change nothing: they are logged, and ``health`` tells of them.
    """

    def __init__(
        self,
        settings: Settings,
        configuration: Configuration,
        apply: Callable[[Settings], Awaitable[None]],
    ) -> None:
        """``apply`` gets the settings that are in effect now, if some of ``RELOADABLE`` changed."""
        self._settings = settings
        self._load = configuration.load
        self._apply = apply
        self._wake = asyncio.Event()
        self._watcher = Watcher(lambda: configuration.files, lambda _: self.reload(), _QUIET)
        self._problems: list[str] = []
        self._restart_for: list[str] = []

    def reload(self) -> None:
        """Look at the configuration soon; the answer is in ``health``."""
        self._wake.set()

    def health(self) -> dict[str, Any]:
        """A mistake in a changed configuration does not make the running kernel unready."""
        return {
            "ready": True,
            "errors": self._problems,
            "restart_needed_for": self._restart_for,
        }

    async def run(self) -> None:
        """Until cancelled."""
        watching = asyncio.create_task(self._watcher.run(), name="configuration watcher")
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._look()
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    async def _look(self) -> None:
        try:
            settings = await asyncio.to_thread(self._load)
        except ConfigError as error:
            self._complain([str(problem) for problem in error.problems])
            return
        except Exception:
            logger.exception("Reading the changed configuration failed; the old one stays")
            return
        if self._problems:
            logger.info("The configuration is in order again")
        self._problems = []
        await self._compare(settings)

    def _complain(self, problems: list[str]) -> None:
        if problems != self._problems:
            logger.error(
                "The changed configuration has mistakes, so the old one stays in effect: %s",
                "; ".join(problems),
            )
        self._problems = problems

    async def _compare(self, settings: Settings) -> None:
        changed = set(_differences(self._settings, settings))
        if applicable := changed & RELOADABLE:
            wanted = self._settings.model_copy(
                update={name: getattr(settings, name) for name in applicable}
            )
            logger.info("The configuration changed: %s", _keys(applicable))
            try:
                await self._apply(wanted)
            except Exception:
                logger.exception("The changed configuration could not be applied as a whole")
                self._problems = ["it could not be applied as a whole; the log has the reason"]
                return
            self._settings = wanted
        restart_for = _keys(changed - RELOADABLE)
        if restart_for and restart_for != self._restart_for:
            logger.warning(
                "These settings changed, and take effect at the next start: %s", restart_for
            )
        self._restart_for = restart_for


def _differences(one: Settings, other: Settings) -> Iterator[str]:
    return (name for name in Settings.model_fields if getattr(one, name) != getattr(other, name))


def _keys(names: Iterable[str]) -> list[str]:
    return sorted(str(Settings.model_fields[name].alias) for name in names)


@contextmanager
def on_hangup(reload: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    """SIGHUP means: read the configuration again; but when the terminal was closed: stop."""
    loop = asyncio.get_running_loop()
    began_on_terminal = _on_terminal()

    def act() -> None:
        (stop if began_on_terminal and not _on_terminal() else reload)()

    try:
        loop.add_signal_handler(signal.SIGHUP, act)
    except (ValueError, RuntimeError):  # not the main thread
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _on_terminal() -> bool:
    """Whether standard input is a terminal that is still open."""
    try:
        return os.isatty(0)
    except OSError:
        return False
