"""One run from start to outcome."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, Literal, Protocol, Self
from urllib.parse import quote

from msgspec import structs

from pharia_kernel.csi.api import Csi, ToolEvent
from pharia_kernel.csi.types import CallContext
from pharia_kernel.engine.api import EnginePool, Refused, Returned, StreamItem
from pharia_kernel.errors import (
    InputSchemaViolation,
    InvalidInput,
    KernelError,
    RunTimedOut,
    SkillBug,
    SkillFailed,
    SkillNotReady,
    StreamOrderViolation,
    WrongSkillKind,
)
from pharia_kernel.skills.deployment import Deployment
from pharia_kernel.skills.events import EventBuffer, MessageOrder, check_json, tool_event
from pharia_kernel.skills.hosted import HostedRun, HostedSkill
from pharia_kernel.skills.metadata import MetadataCache
from pharia_kernel.skills.output import GuestLog
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.runs import Run, Runs
from pharia_kernel.skills.store import SkillStore
from pharia_kernel.skills.types import (
    Caller,
    MessageBegin,
    NamespaceDetail,
    NamespaceStatus,
    NamespaceSummary,
    SkillInfo,
    SkillKind,
    SkillMetadata,
    StreamEvent,
)
from pharia_kernel.skills.validation import InputValidator
from pharia_kernel.skills.versions import Loan
from pharia_kernel.telemetry import runs as telemetry
from pharia_kernel.telemetry import scope

_TIMED_OUT = "The run did not end within its time limit (`run-timeout`)."


# --- what the runtime needs of others -------------------------------------------------------------


class RuntimeSettings(Protocol):
    @property
    def run_timeout(self) -> float: ...
    @property
    def max_runs_per_skill(self) -> int: ...
    @property
    def validate_input(self) -> bool: ...


class SystemCalls(Protocol):
    """The calls of one guest (``csi.guest.GuestCalls``)."""

    async def call(self, function: str, args: bytes) -> bytes: ...

    async def close(self) -> None: ...


class SystemCallsFactory(Protocol):
    def __call__(
        self,
        csi: Csi,
        context: CallContext,
        *,
        on_tool_event: Callable[[ToolEvent], None] | None,
        metadata: bool = False,
    ) -> SystemCalls: ...


# --- the kernel's side of a guest -----------------------------------------------------------------


class FunctionHost:
    """Nobody listens to the tool events of a function. A context: leaving it closes what the guest
    left open.
    """

    def __init__(self, calls: SystemCalls, log: GuestLog) -> None:
        self._calls = calls
        self._log = log
        self._scope = scope.current()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._log.close()
        await self._calls.close()

    async def call(self, function: str, args: bytes) -> bytes:
        scope.enter(self._scope)  # in a task of its own, which the engine's frame began
        return await self._calls.call(function, args)

    def emit(self, item: StreamItem, consumed: Callable[[], None]) -> None:
        raise StreamOrderViolation("The skill is a function, but wrote to a stream.")

    def output(self, channel: Literal["stdout", "stderr"], data: bytes) -> None:
        self._log.write(channel, data)


class StreamHost(FunctionHost):
    """Puts the guest's items into the buffer, among its tool events."""

    def __init__(self, calls: SystemCalls, log: GuestLog, events: EventBuffer) -> None:
        super().__init__(calls, log)
        self._events = events
        self._order = MessageOrder()

    async def call(self, function: str, args: bytes) -> bytes:
        answer = await super().call(function, args)
        await self._events.room()  # a guest that only calls tools has no other back-pressure
        return answer

    def emit(self, item: StreamItem, consumed: Callable[[], None]) -> None:
        self._events.put(self._order.accept(item), consumed)


class _Stream:
    """A message stream between its producer and its consumer."""

    def __init__(self) -> None:
        self.events = EventBuffer()
        self.admitted = False
        self.decided = asyncio.Event()
        """Admitted, or failed before that."""

    def admit(self) -> None:
        self.admitted = True
        self.decided.set()

    def end(self, error: KernelError | None) -> None:
        self.events.end(error)
        self.decided.set()


# --- the runtime ----------------------------------------------------------------------------------


class SkillRuntime:
    """Implements ``skills.api.Skills``.

    ``tools`` and ``mcp_servers`` answer for a namespace; ``components`` are further parts of the
    kernel that report their readiness by name. ``namespace_statuses`` tells of every configured
    namespace how its description is doing, and ``refresh_namespace`` has one read again now.
    """

    def __init__(
        self,
        store: SkillStore,
        pool: EnginePool,
        csi: Csi,
        settings: RuntimeSettings,
        *,
        system_calls: SystemCallsFactory,
        tools: Callable[[str], builtins.list[dict[str, Any]] | None],
        mcp_servers: Callable[[str], builtins.list[str] | None],
        components: Mapping[str, Callable[[], dict[str, Any]]] | None = None,
        namespace_statuses: Callable[[], builtins.list[NamespaceStatus]] = builtins.list,
        refresh_namespace: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._pool = pool
        self._csi = csi
        self._system_calls = system_calls
        self._runs = Runs(timeout=settings.run_timeout, per_skill=settings.max_runs_per_skill)
        self._validator = InputValidator() if settings.validate_input else None
        self._metadata = MetadataCache(pool)
        self._producers: set[asyncio.Task[None]] = set()
        self._components = dict(components or {})
        self._tools = tools
        self._mcp_servers = mcp_servers
        self._namespace_statuses = namespace_statuses
        self._refresh_namespace = refresh_namespace

    async def close(self, drain: float = 0.0) -> None:
        """Refuse new runs, let those in flight end for ``drain`` seconds, then cancel them."""
        await self._runs.close(drain)
        if self._validator:
            await self._validator.close()

    # --- functions --------------------------------------------------------------------------------

    async def run(self, path: SkillPath, body: bytes, caller: Caller) -> bytes:
        with self._runs.scope(path, caller, self._store.settings(path)) as run:
            skill = self._store.find(path)
            if not isinstance(skill, Deployment):
                skill.refuse_run()
                raise _wrong_kind(path, SkillKind.MESSAGE_STREAM)
            with await self._lend(run, skill, SkillKind.FUNCTION) as loan:
                await self._check_input(run, loan, body)
                with _execution(run):
                    async with FunctionHost(self._calls(run), _guest_log(run)) as host:
                        outcome = await self._execute(run, loan, body, host)
                    output = _returned(outcome)
                    check_json(output, "The output")
                    return output

    # --- streams ----------------------------------------------------------------------------------

    async def message_stream(
        self, path: SkillPath, body: bytes, caller: Caller
    ) -> AsyncGenerator[StreamEvent, None]:
        stream = _Stream()
        clock = telemetry.StreamClock(path.namespace, path.name)
        producer = self._spawn(self._produce(stream, path, body, caller))
        try:
            await stream.decided.wait()
        except asyncio.CancelledError:
            await _cancel(producer)
            raise
        if not stream.admitted and stream.events.error and stream.events.empty:
            raise stream.events.error
        events = self._consume(stream, producer, clock)
        await anext(events)
        return events

    async def _consume(
        self, stream: _Stream, producer: asyncio.Task[None], clock: telemetry.StreamClock
    ) -> AsyncGenerator[StreamEvent, None]:
        try:
            # Swallowed by message_stream: closing a generator that never ran would not reach
            # `finally`.
            yield MessageBegin()
            async with aclosing(stream.events.drain()) as events:
                async for event in events:
                    clock.event()
                    yield event
        finally:
            clock.end()
            await _cancel(producer)

    async def _produce(self, stream: _Stream, path: SkillPath, body: bytes, caller: Caller) -> None:
        error: KernelError | None = None
        try:
            with self._runs.scope(path, caller, self._store.settings(path)) as run:
                skill = self._store.find(path)
                if isinstance(skill, Deployment):
                    await self._produce_by_guest(stream, run, skill, body)
                else:
                    await self._produce_by_host(stream, run, skill, body)
        except KernelError as failure:
            error = failure
        finally:
            stream.end(error)

    async def _produce_by_guest(
        self, stream: _Stream, run: Run, skill: Deployment, body: bytes
    ) -> None:
        def on_tool_event(event: ToolEvent) -> None:
            stream.events.put(tool_event(event))

        with await self._lend(run, skill, SkillKind.MESSAGE_STREAM) as loan:
            await self._check_input(run, loan, body)
            with _execution(run):
                calls = self._calls(run, on_tool_event)
                async with StreamHost(calls, _guest_log(run), stream.events) as host:
                    # The engines refuse a run, if they do, before they wait for anything.
                    admission = asyncio.get_running_loop().call_soon(stream.admit)
                    try:
                        outcome = await self._execute(run, loan, body, host)
                    finally:
                        admission.cancel()
                stream.admit()
                _returned(outcome)

    async def _produce_by_host(
        self, stream: _Stream, run: Run, skill: HostedSkill, body: bytes
    ) -> None:
        def on_tool_event(event: ToolEvent) -> None:
            stream.events.put(tool_event(event))

        stream.admit()
        hosted = HostedRun(body, self._csi, run.context, on_tool_event)
        with _execution(run):
            await self._hosted(stream, run, skill.stream(hosted))

    async def _hosted(
        self, stream: _Stream, run: Run, source: AsyncGenerator[StreamEvent, None]
    ) -> None:
        async with run.within_deadline(RunTimedOut(_TIMED_OUT)), aclosing(source) as events:
            async for event in events:
                stream.events.put(event)
                await stream.events.room()

    # --- metadata and input -----------------------------------------------------------------------

    async def metadata(self, path: SkillPath, caller: Caller) -> SkillMetadata:
        settings = self._store.settings(path)
        with self._runs.scope(path, caller, settings, action="described") as run:
            skill = self._store.find(path)
            if not isinstance(skill, Deployment):
                return skill.metadata()
            with await self._lend(run, skill) as loan:
                return await self._metadata_of(run, loan)

    async def _metadata_of(self, run: Run, loan: Loan) -> SkillMetadata:
        def host() -> FunctionHost:
            return FunctionHost(self._calls(run, metadata=True), _guest_log(run))

        async with run.within_deadline(RunTimedOut(_TIMED_OUT)):
            return await self._metadata.of(loan, host, deadline=run.deadline)

    async def _check_input(self, run: Run, loan: Loan, body: bytes) -> None:
        """Raise ``InputSchemaViolation`` if the input does not fit the skill's own schema."""
        if self._validator is None:
            return
        try:
            schema = (await self._metadata_of(run, loan)).input_schema
        except SkillBug:
            return  # its metadata is broken; that does not mean that it can't run
        if schema is None:
            return
        async with run.within_deadline(RunTimedOut(_TIMED_OUT)):
            errors = await self._validator.violations(bytes(schema), body)
        if errors:
            first = errors[0]
            where = f"at `{first['path']}`" if first["path"] else "at its root"
            raise InputSchemaViolation(
                f"The input does not match the skill's input schema {where}: {first['message']}.",
                errors=errors,
            )

    # --- parts of every run -----------------------------------------------------------------------

    async def _lend(self, run: Run, skill: Deployment, kind: SkillKind | None = None) -> Loan:
        """A version that is loaded, and of that kind if one is given."""
        path = run.path
        with telemetry.Fetch(path.namespace, path.name, cold=not skill.loaded) as fetch:
            if skill.loaded:
                loan = await skill.lend()
            else:
                async with run.within_deadline(_not_ready(run)):
                    loan = await skill.lend()
            fetch.of(loan.version.stages)
        run.digest = loan.version.digest
        actual = SkillKind(loan.artifact.info.kind)
        if kind not in (None, actual):
            with loan:
                raise _wrong_kind(run.path, actual)
        return loan

    async def _execute(
        self, run: Run, loan: Loan, body: bytes, host: FunctionHost
    ) -> Returned | Refused:
        return await self._pool.run(
            loan.artifact,
            body,
            host,
            deadline=run.deadline,
            memory_limit=run.settings.memory_limit,
        )

    def _calls(
        self,
        run: Run,
        on_tool_event: Callable[[ToolEvent], None] | None = None,
        *,
        metadata: bool = False,
    ) -> SystemCalls:
        return self._system_calls(
            self._csi, run.context, on_tool_event=on_tool_event, metadata=metadata
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._producers.add(task)
        task.add_done_callback(self._producers.discard)
        return task

    # --- what there is ----------------------------------------------------------------------------

    def list(self) -> list[SkillInfo]:
        return self._store.list()

    def cached(self) -> builtins.list[SkillPath]:
        return self._store.cached()

    async def evict(self, path: SkillPath) -> bool:
        return self._store.evict(path)

    def tools(self, namespace: str) -> builtins.list[dict[str, Any]] | None:
        return self._tools(namespace)

    def mcp_servers(self, namespace: str) -> builtins.list[str] | None:
        return self._mcp_servers(namespace)

    def namespaces(self) -> builtins.list[NamespaceSummary]:
        statuses = sorted(self._namespace_statuses(), key=lambda status: status.name)
        return [self._summary(status) for status in statuses]

    def namespace(self, name: str) -> NamespaceDetail | None:
        status = self._status_of(name)
        if status is None:
            return None
        return NamespaceDetail(
            **structs.asdict(self._summary(status)),
            skills=self._store.details(name),
            tools=self._tools(name) or [],
            mcp_servers=self._mcp_servers(name) or [],
        )

    def refresh(self, namespace: str) -> bool:
        if self._status_of(namespace) is None:
            return False
        self._refresh_namespace(namespace)
        self._store.check(namespace)
        return True

    def _status_of(self, name: str) -> NamespaceStatus | None:
        return next((s for s in self._namespace_statuses() if s.name == name), None)

    def _summary(self, status: NamespaceStatus) -> NamespaceSummary:
        states = self._store.states(status.name)
        return NamespaceSummary(**structs.asdict(status), skill_states=states)

    def readiness(self) -> dict[str, dict[str, Any]]:
        others = {name: report() for name, report in self._components.items()}
        report = {**self._store.readiness(), **others}
        states = {status.name: status.state for status in self._namespace_statuses()}
        report["namespaces"] = {**report["namespaces"], "states": states}
        return report


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _execution(run: Run) -> telemetry.Execution:
    return telemetry.Execution(run.path.namespace, run.path.name, run.id, run.digest)


def _guest_log(run: Run) -> GuestLog:
    return GuestLog(str(run.path), run.id)


def _not_ready(run: Run) -> SkillNotReady:
    return SkillNotReady(
        f"Skill `{run.path}` was not ready within the run's time limit.", retry_after=5.0
    )


def _returned(outcome: Returned | Refused) -> bytes:
    if isinstance(outcome, Returned):
        return outcome.value
    if outcome.kind == "invalid-input":
        raise InvalidInput(f"The skill could not interpret its input: {outcome.message}")
    raise SkillFailed(outcome.message)


def _wrong_kind(path: SkillPath, kind: SkillKind) -> WrongSkillKind:
    what, endpoint = {
        SkillKind.FUNCTION: ("a function", "run"),
        SkillKind.MESSAGE_STREAM: ("a message stream", "message-stream"),
    }[kind]
    url = f"/v1/skills/{path.namespace}/{quote(path.name, safe='')}/{endpoint}"
    return WrongSkillKind(f"Skill `{path}` is {what}: use `{url}`.")
