"""Inputs are checked against schemas in a process of their own (see ``validator_worker``)."""

from __future__ import annotations

import asyncio
import logging
import sys

import msgspec

from pharia_kernel.skills.validator_worker import LENGTH

logger = logging.getLogger(__name__)

TIME_LIMIT = 2.0
"""Seconds for one input. Ordinary schemas take far less than a millisecond."""
_GIVEN_UP_LIMIT = 1000

Violations = list[dict[str, str]]


class InputValidator:
    """Checks one input after the other. A schema that takes too long is not used again."""

    def __init__(self, time_limit: float = TIME_LIMIT) -> None:
        self._time_limit = time_limit
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._given_up: dict[bytes, None] = {}
        self._tasks: set[asyncio.Task[Violations]] = set()

    async def violations(self, schema: bytes, instance: bytes) -> Violations:
        """What is wrong with the instance: ``path`` (a JSON Pointer) and ``message`` each.

        Empty if it fits, and also if the schema can't be used: then the skill has to look for
        itself.
        """
        task = asyncio.create_task(self._check(schema, instance))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A caller that leaves must not leave half of an answer in the pipe.
        return await asyncio.shield(task)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _check(self, schema: bytes, instance: bytes) -> Violations:
        async with self._turn:
            if schema in self._given_up:
                return []
            try:
                found = await self._ask(schema, instance)
            except (asyncio.IncompleteReadError, OSError):
                found = self._process = None  # it ended itself
            if found is None:
                self._give_up(schema)
            return found or []

    async def _ask(self, schema: bytes, instance: bytes) -> Violations | None:
        process = self._process = self._process or await self._start()
        assert process.stdin and process.stdout
        body = msgspec.msgpack.encode([schema, instance])
        process.stdin.write(LENGTH.pack(len(body)) + body)
        await process.stdin.drain()
        (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        answer = await process.stdout.readexactly(length)
        return msgspec.msgpack.decode(answer, type=Violations | None)

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pharia_kernel.skills.validator_worker", str(self._time_limit)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": ":".join(sys.path)},  # no secrets
            start_new_session=True,  # Ctrl-C is the kernel's business
        )

    def _give_up(self, schema: bytes) -> None:
        logger.warning(
            "An input schema takes too long or can't be used; its inputs are not checked"
        )
        if len(self._given_up) >= _GIVEN_UP_LIMIT:
            self._given_up.pop(next(iter(self._given_up)))
        self._given_up[schema] = None
