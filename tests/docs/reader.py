"""Does what a page says."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.docs import output
from tests.docs.pages import (
    Command,
    Commands,
    EditFile,
    Excluded,
    Given,
    PageError,
    Place,
    Script,
    Step,
    WriteFile,
    parse,
)
from tests.docs.ports import Ports
from tests.docs.provisions import Machine
from tests.docs.terminal import Stuck, Terminal

_CTRL_C = 130
"""Exit status of commands that a Ctrl-C ends, unless they end by themselves then."""


class Reader:
    """Somebody with a new folder, a terminal, and what the machine offers.

    ``follow`` raises ``PageError`` where the page does not tell the truth. ``times`` has the
    seconds of each section, in order.
    """

    def __init__(self, folder: Path, machine: Machine) -> None:
        self.folder = folder / "reader"
        self.times: defaultdict[str, float] = defaultdict(float)
        self._machine = machine
        self._ports = Ports()
        self._stack = contextlib.ExitStack()
        home = folder / "home"
        home.mkdir()
        (home / ".curlrc").write_text("silent\nshow-error\n")  # at a terminal it is silent, too
        self.folder.mkdir()
        environment = machine.environment | self._ports.environment | {"HOME": str(home)}
        self._first = self._opened(self.folder, environment)
        self._others: dict[str, Terminal] = {}
        self._seen: dict[Terminal, int] = {}
        """How much of the output of a command that stays was compared."""

    def follow(self, page: Path) -> None:
        """All of a page, to the end of what it has left running."""
        steps = parse(page)
        if any("pip install" in command.text for command in _commands(steps)):
            self._machine.offer_packages()
        for step in steps:
            with self._timed(step.place):
                self._do(step)
        for title, terminal in reversed(self._others.items()):  # servers after their clients
            self._interrupt(f"{page.name}, {title}", terminal)

    def close(self) -> None:
        """End whatever still runs."""
        self._stack.close()

    def _do(self, step: Step) -> None:
        match step:
            case WriteFile():
                self._write(step.name, self._ports.in_text(step.content))
            case EditFile():
                self._edit(step)
            case Commands(terminal=None):
                for command in step.commands:
                    self._run(self._first, command)
            case Commands(terminal=str() as title):
                self._run_elsewhere(title, step)
            case Given():
                self._give(step)
            case Script():
                text, status = self._typed(step.place, self._first, self._ports.in_text(step.text))
                if status:
                    raise PageError(f"{step.place}: the setup ended with {status}:\n{text}")
            case Excluded():
                pass

    @contextlib.contextmanager
    def _timed(self, place: Place) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.times[place.section] += time.monotonic() - begin

    # --- files

    def _write(self, name: str, content: str) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}.unfinished")
        unfinished.write_text(content, encoding="utf-8")
        unfinished.replace(file)  # in one step, as editors do: somebody may be watching

    def _edit(self, edit: EditFile) -> None:
        file = self.folder / edit.name
        if not file.is_file():
            raise PageError(f"{edit.place}: there is no file {edit.name}")
        text, before = file.read_text("utf-8"), self._ports.in_text(edit.before)
        if text.count(before) != 1:
            raise PageError(
                f"{edit.place}: {edit.name} has these lines {text.count(before)} times, not once:\n"
                f"{before}\nThe file:\n{text}"
            )
        self._write(edit.name, text.replace(before, self._ports.in_text(edit.after)))

    # --- terminals

    def _run(self, terminal: Terminal, command: Command) -> None:
        """A command that ends."""
        typed = self._ports.in_command(command.text)
        printed, status = self._typed(command.place, terminal, typed)
        if status != command.status:
            raise PageError(
                f"{command.place}: `{typed}` ended with {status}, not {command.status}:\n{printed}"
            )
        expected = [self._ports.in_text(line) for line in command.output]
        if any(expected) and not output.matches(expected, printed):
            raise _differs(command.place, typed, expected, printed)

    def _run_elsewhere(self, title: str, step: Commands) -> None:
        """Commands in another terminal, of which the last may stay."""
        if title not in self._others:
            self._others[title] = self._like_the_first(step.place)
        terminal = self._others[title]
        *ending, last = step.commands
        if step.commands[0].text:
            self._interrupt(str(step.place), terminal)
        for command in ending:
            self._run(terminal, command)
        if last.text:
            terminal.start(self._ports.in_command(last.text))
            self._seen[terminal] = 0
        self._wait_for_output(terminal, last)

    def _wait_for_output(self, terminal: Terminal, command: Command) -> None:
        expected = [self._ports.in_text(line) for line in command.output]

        def shown(printed: str) -> bool:
            begins = not command.text or output.begins_with(expected, printed)
            return begins and output.end_of(expected, printed[self._seen[terminal] :]) is not None

        def decided(printed: str) -> bool:
            wrong = bool(command.text) and output.begins_otherwise(expected, printed)
            return wrong or shown(printed) or terminal.has_ended

        try:
            printed = terminal.wait(decided, "output")
        except Stuck as error:
            wanted = "\n".join(expected)
            raise PageError(f"{command.place}: {error}\nThe page has:\n{wanted}") from None
        new = printed[self._seen[terminal] :]
        end = output.end_of(expected, new)
        if end is None or not shown(printed):  # it may be later in the output
            raise _differs(command.place, command.text, expected, new)
        self._seen[terminal] += end

    def _typed(self, place: Place, terminal: Terminal, text: str) -> tuple[str, int]:
        try:
            return terminal.run(text)
        except Stuck as error:
            raise PageError(f"{place}: `{text}`: {error}") from None

    def _interrupt(self, where: str, terminal: Terminal) -> None:
        try:
            ended = terminal.interrupt()
        except Stuck as error:
            raise PageError(f"{where}: after Ctrl-C, {error}") from None
        if ended and ended[1] not in (0, _CTRL_C):
            raise PageError(f"{where}: it ended with {ended[1]} after Ctrl-C:\n{ended[0]}")

    def _like_the_first(self, place: Place) -> Terminal:
        """A new terminal with the folder and the environment of the first one."""
        note = self.folder.with_name("environment")
        self._typed(place, self._first, f'env -0 > "{note}"')
        pairs = (pair.partition("=") for pair in note.read_text().split("\0") if pair)
        environment = {name: value for name, _, value in pairs}
        return self._opened(Path(environment["PWD"]), environment)

    def _opened(self, folder: Path, environment: dict[str, str]) -> Terminal:
        terminal = Terminal(folder, environment)
        self._stack.callback(terminal.close)
        return terminal

    # --- what a reader has

    def _give(self, given: Given) -> None:
        for name in given.names:
            provide = self._machine.provisions.get(name)
            if provide is None:
                known = ", ".join(self._machine.provisions)
                raise PageError(f"{given.place}: `{name}` is not one of {known}")
            exports = self._stack.enter_context(provide(self._ports))
            for variable, value in exports.items():
                self._typed(given.place, self._first, f'export {variable}="{value}"')


def _commands(steps: list[Step]) -> Iterator[Command]:
    for step in steps:
        if isinstance(step, Commands):
            yield from step.commands


def _differs(place: Place, typed: str, expected: list[str], printed: str) -> PageError:
    shown = output.difference(expected, printed)
    return PageError(f"{place}: `{typed}` prints something else (- page, + output):\n{shown}")
