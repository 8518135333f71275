"""The stages of making a component ready, as spans of those who wait for it.

Components are made ready in the background, once for everybody who waits. So the stages are noted
with the component, and each waiting request gets spans for the part that it waited for.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from pharia_kernel.telemetry import metrics, names, tracing


class Stage:
    def __init__(self, name: str) -> None:
        self.name = name
        self.begin = time.time_ns()
        self.end: int | None = None
        self.error: BaseException | None = None

    @property
    def ended(self) -> int:
        return time.time_ns() if self.end is None else self.end


class Stages:
    """What was done last for one component."""

    def __init__(self) -> None:
        self._stages: list[Stage] = []

    @contextmanager
    def stage(self, name: str) -> Generator[None, None, None]:
        stage = Stage(name)
        self._stages.append(stage)
        try:
            yield
        except BaseException as error:
            # Without its frames, which hold the component's bytes.
            stage.error = type(error).__new__(type(error))
            raise
        finally:
            stage.end = time.time_ns()

    def record(self, since: int) -> None:
        """Spans beneath the current one, unless all was over at ``since`` (nanoseconds since 1970).

        They cover what was waited for since then, which is nothing of a stage that was over.
        """
        if not self._stages or self._stages[-1].ended <= since:
            return
        for stage in self._stages:
            begin, end = max(stage.begin, since), max(stage.ended, since)
            seconds = (stage.ended - stage.begin) / 1e9
            tracing.record(stage.name, begin, end, stage.error, {names.SECONDS: seconds})


@contextmanager
def compiling() -> Generator[None, None, None]:
    began = time.monotonic()
    try:
        yield
    except Exception:
        metrics.compiled(time.monotonic() - began, ok=False)
        raise
    metrics.compiled(time.monotonic() - began, ok=True)


@contextmanager
def asking_registry(operation: str) -> Generator[None, None, None]:
    """``operation`` is ``check`` or ``read``."""
    try:
        yield
    except Exception as error:
        metrics.registry_asked(operation, metrics.code_of(error))
        raise
    metrics.registry_asked(operation, "ok")
