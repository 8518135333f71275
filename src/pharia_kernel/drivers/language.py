"""Finds out in which of some languages a text is written."""

from __future__ import annotations

import difflib

import msgspec

from pharia_kernel.csi.types import CallContext, SelectLanguageRequest
from pharia_kernel.drivers.language_worker import LANGUAGES, Detect
from pharia_kernel.drivers.workers.pool import WorkerPool, WorkerSettings
from pharia_kernel.drivers.workers.process import WorkerProcess, encode
from pharia_kernel.errors import InvalidCsiRequest

CODES = frozenset(LANGUAGES)
"""ISO 639-3 codes of the languages that can be told apart."""

_LONGEST_CODE = 50
_OTHER_NAMES = {
    name.lower(): code
    for code, language in LANGUAGES.items()
    for name in (language.iso_code_639_1.name, language.name)
} | dict.fromkeys(("no", "nor", "norwegian"), "nob")
"""What people write instead: ISO 639-1 codes, English names, and Norwegian without its form."""

_CODE: msgspec.msgpack.Decoder[str | None] = msgspec.msgpack.Decoder(str | None)
_ANYBODY = CallContext()


class LanguageSelector:
    """Implements the system call ``select_language``."""

    def __init__(
        self, processes: int = 1, *, time_limit: float = 600.0, memory_limit: int = 4 << 30
    ) -> None:
        """A process keeps the models of all languages that it was asked for: about 12 MB each.

        ``time_limit`` in seconds is for one text, ``memory_limit`` in bytes for one process.
        """
        self.pool = WorkerPool(
            WorkerSettings(
                module="pharia_kernel.drivers.language_worker",
                purpose="find out the language",
                processes=processes,
                time_limit=time_limit,
                memory_limit=memory_limit,
                # Models take seconds to load, and no text takes more than linear time.
                finish_abandoned=True,
            )
        )

    async def select(
        self, request: SelectLanguageRequest, context: CallContext = _ANYBODY
    ) -> str | None:
        """The language's code; none if no language stands out.

        With a single language it tells whether the text could be in it, by the characters used.
        Raises ``CsiError``.
        """
        codes = _checked(request.languages)
        encoded = await encode(request.text)

        async def work(process: WorkerProcess, seconds: float) -> str | None:
            await process.send(Detect(codes, sum(map(len, encoded))))
            await process.send_text(encoded)
            return await process.receive(_CODE)

        return await self.pool.run(work, context)

    async def close(self) -> None:
        """Ends all processes; calls in flight fail."""
        await self.pool.close()


def _checked(languages: list[str]) -> list[str]:
    if not languages:
        raise InvalidCsiRequest("`languages` is empty: it must name at least one language.")
    for code in languages:
        if code not in CODES:
            raise InvalidCsiRequest(
                f"`{code[:_LONGEST_CODE]}` in `languages` is not supported: {_hint(code)}"
            )
    return sorted(set(languages))


def _hint(code: str) -> str:
    name = code[:_LONGEST_CODE].strip().lower()
    meant = _OTHER_NAMES.get(name) or next(
        iter(difflib.get_close_matches(name, sorted(CODES), n=1)), None
    )
    if meant:
        return f"did you mean `{meant}`?"
    return f"it must be one of the ISO 639-3 codes {', '.join(sorted(CODES))}."
