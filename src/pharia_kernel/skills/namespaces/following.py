"""One namespace: gets its description again and again, and tells store and tools."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import suppress

from pharia_kernel.errors import NamespaceMisconfigured, NamespaceUnavailable
from pharia_kernel.skills.namespaces.description import Description, Difference
from pharia_kernel.skills.namespaces.forms import Form
from pharia_kernel.skills.namespaces.interfaces import Config, Tools
from pharia_kernel.skills.store import SkillStore
from pharia_kernel.skills.types import NamespaceState, NamespaceStatus

logger = logging.getLogger("pharia_kernel.namespaces")

LONGEST_PAUSE = 300.0
"""Seconds between attempts, however often they failed and whatever the server asks for."""
_IMPATIENCE = 1.0
"""Seconds after which the last good description of an earlier life is used for the time being."""
_START_SPREAD = 0.25
"""Seconds over which the first requests of a starting kernel are spread."""
_JITTER = 0.1
"""Share by which the pauses between requests vary."""


class Follower:
    """The state of one namespace, and the task that keeps it current.

    What is in effect changes only when an attempt has ended, in one step. ``predecessor`` followed
    the same namespace with another configuration: what it had stays in effect until then.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        form: Form,
        store: SkillStore,
        tools: Tools,
        *,
        interval: float,
        unload_broken: bool,
        predecessor: Follower | None = None,
    ) -> None:
        self.config = config
        self.form = form
        self.tried = asyncio.Event()
        """Set when something is known of the namespace, or the first attempt failed."""
        self._name = name
        self._store = store
        self._tools = tools
        self._interval = config.update_interval or interval
        self._unload_broken = unload_broken
        self._wake = asyncio.Event()
        self._recalled: Description | None = None
        self._current: Description | None = None
        self._state = NamespaceState.UNREAD
        self._error: NamespaceMisconfigured | None = None
        self._generation = 0
        self._failures = 0
        self._last_attempt: float | None = None
        self._last_success: float | None = None
        self._next_attempt: float | None = None
        self._inherited = predecessor is not None
        """What is in effect was told under another configuration."""
        if predecessor:
            self._current = predecessor._current
            self._state = predecessor._state
            self._error = predecessor._error
            self._generation = predecessor._generation
            self._last_attempt = predecessor._last_attempt
            self._last_success = predecessor._last_success

    def poll(self) -> None:
        """Try now, or once more if an attempt is under way."""
        self._wake.set()

    def look_at_components(self) -> None:
        """Something happened where they are."""
        if self._current:
            self._store.configure(self._name, self._current.skills)

    def status(self) -> NamespaceStatus:
        return NamespaceStatus(
            name=self._name,
            state=self._state,
            form=self.form.key,
            source=self.form.source,
            generation=self._generation,
            last_attempt=self._last_attempt,
            last_success=self._last_success,
            next_attempt=self._next_attempt,
            error=self._error.problem() if self._error else None,
            warnings=self._current.warnings if self._current else [],
        )

    async def run(self) -> None:
        """Follow until cancelled."""
        if self.form.remote:
            if self._current is None:
                self._recalled = await self._recall()
            await asyncio.sleep(random.uniform(0.0, _START_SPREAD))  # noqa: S311
        while True:
            self._wake.clear()
            await self._attempt()
            self.tried.set()
            await self._rest()

    async def _recall(self) -> Description | None:
        try:
            return await self.form.recall()
        except Exception:
            logger.exception("The last good description of namespace %s is of no use", self._name)
            return None

    # --- attempts ---------------------------------------------------------------------------------

    async def _attempt(self) -> None:
        self._last_attempt = time.time()
        self._next_attempt = None
        timer = asyncio.get_running_loop().call_later(_IMPATIENCE, self._bridge)
        try:
            description = await self.form.read()
        except NamespaceMisconfigured as error:
            self._fail(error)
        except Exception as error:
            self._fail(self._unexpected(error))
        else:
            self._succeed(description)
        finally:
            timer.cancel()

    def _bridge(self) -> None:
        """The first attempt takes long: don't let anybody wait for it who need not."""
        if self._recalled and self._state is NamespaceState.UNREAD:
            self._degrade(
                NamespaceUnavailable(
                    f"The description of namespace `{self._name}` has not arrived since the start "
                    "of the kernel."
                )
            )
            self.tried.set()

    def _unexpected(self, error: Exception) -> NamespaceUnavailable:
        told = NamespaceUnavailable(
            f"The kernel failed to read namespace `{self._name}`; its log has the reason."
        )
        if self._error is None or self._error.detail != told.detail:
            logger.error("Reading namespace %s failed unexpectedly", self._name, exc_info=error)
        return told

    # --- what becomes of them ---------------------------------------------------------------------

    def _succeed(self, description: Description) -> None:
        self._failures = 0
        self._recalled = None
        self._last_success = time.time()
        if self._error:
            logger.info("Namespace %s is in order again", self._name, extra=self._extra())
        self._error = None
        self._state = NamespaceState.OK
        self._bring_into_effect(description)

    def _fail(self, error: NamespaceMisconfigured) -> None:
        self._failures += 1
        if self._unload_broken and not error.retryable:
            self._break(error)
        else:
            self._degrade(error)

    def _degrade(self, error: NamespaceMisconfigured) -> None:
        """Go on with the last good description, if there is one."""
        description = self._current or self._recalled
        if description is None:
            self._break(error)
            return
        self._enter(NamespaceState.STALE, error)
        self._bring_into_effect(description)

    def _break(self, error: NamespaceMisconfigured) -> None:
        self._enter(NamespaceState.BROKEN, error)
        self._recalled = None
        if self._current:
            self._current = None
            self._tools.configure(self._name, (), ())
        self._store.invalidate(self._name, error)

    def _enter(self, state: NamespaceState, error: NamespaceMisconfigured) -> None:
        told = self._error and self._error.detail
        changed = self._state is not state or told != error.detail
        # It is kept, so without its frames, and without causes that may hold the request.
        error.__cause__ = error.__context__ = None
        self._state, self._error = state, error.with_traceback(None)
        if changed:
            effect = (
                "its last good description stays in effect"
                if state is NamespaceState.STALE
                else "it has no skills"
            )
            logger.error(
                "Namespace %s is %s (%s): %s",
                self._name,
                state,
                effect,
                error.detail,
                extra=self._extra(),
            )

    def _bring_into_effect(self, description: Description) -> None:
        """The skills are told to the store even if they are the same: it then looks at the
        registry.
        """
        old, self._current = self._current, description
        if description != old:
            self._generation += 1
            self._tell(old, description)
        if self._inherited or old is None or not description.same_tools(old):
            self._inherited = False
            self._tools.configure(self._name, description.mcp_servers, description.native_tools)
        self._store.configure(self._name, description.skills)

    def _tell(self, old: Description | None, new: Description) -> None:
        difference = Difference.between(old, new)
        logger.info(
            "Namespace %s has a new description: %s",
            self._name,
            difference,
            extra=self._extra(),
        )
        for warning in new.warnings:
            if old is None or warning not in old.warnings:
                logger.warning("Namespace %s: %s", self._name, warning)

    def _extra(self) -> dict[str, object]:
        return {
            "namespace": self._name,
            "state": str(self._state),
            "generation": self._generation,
        }

    # --- in between -------------------------------------------------------------------------------

    async def _rest(self) -> None:
        """Until the next attempt is due or asked for. Meanwhile the skills go on being looked
        at.
        """
        pause = self._pause()
        self._next_attempt = time.time() + pause
        due = time.monotonic() + pause
        while (remaining := due - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(remaining, self._interval)):
                    await self._wake.wait()
                    return
            if time.monotonic() < due:
                self.look_at_components()

    def _pause(self) -> float:
        if not self.form.remote:
            return self._interval
        jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
        if not self._failures:
            return self._interval * jitter
        pause = self._interval * 2.0 ** min(self._failures - 1, 30) * jitter
        asked = self._error.retry_after if self._error else None
        return min(max(pause, asked or 0.0), LONGEST_PAUSE)
