"""Processes for what must not run beside the printing of the table: bare runs and load."""

from __future__ import annotations

import atexit
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Worker:
    """One process, idle until it is asked."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def __call__(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Result of ``work``, which must be a function of a module."""
        return self.begin(work, *args, **kwargs).result()

    def begin(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._pool.submit(work, *args, **kwargs)


def _leave_at_once() -> None:
    # A thread of wasmtime that ends while the interpreter is being torn down aborts the process.
    atexit.register(os._exit, 0)


@contextmanager
def worker() -> Iterator[Worker]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_leave_at_once) as pool:
        yield Worker(pool)
