"""``pharia-sdk run``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from pharia_kernel_sdk.cli.options import (
    DEVELOPMENT,
    CallableArgument,
    KernelOption,
    TokenOption,
    ToolsOption,
)

if TYPE_CHECKING:
    from pharia_kernel_sdk.running.skill import Item


def run_command(
    skill: CallableArgument,
    input_: Annotated[
        str | None,
        typer.Argument(
            metavar="INPUT",
            help="JSON, or @FILE with JSON; by default standard input.",
            show_default=False,
        ),
    ] = None,
    namespace: ToolsOption = DEVELOPMENT,
    as_json: Annotated[
        bool, typer.Option("--json", help="Of a message stream, a JSON object per item.")
    ] = False,
    kernel: KernelOption = None,
    token: TokenOption = None,
) -> None:
    """Call a skill: a source or component in this process, or one that a kernel serves."""
    from pharia_kernel_sdk.cli.calling import Surroundings, failures, opened
    from pharia_kernel_sdk.running.results import Streamed

    data = _input(input_)
    listener = JsonLines(sys.stdout) if as_json else Reader(sys.stdout, sys.stderr)
    out = sys.stdout  # elsewhere while the skill may print
    with failures():
        where = Surroundings.read(kernel, token, namespace)
        try:
            with opened(skill, where, listener) as runnable:
                output = runnable.run(data, listener)
        finally:
            listener.close()
    if not isinstance(output, Streamed):
        indent = 2 if out.isatty() and not as_json else None
        typer.echo(json.dumps(output, ensure_ascii=False, indent=indent), file=out)


def _input(given: str | None) -> bytes:
    """JSON; of nothing at all, ``null``."""
    where = "The input"
    if given is None or given == "-":
        text = "" if sys.stdin.isatty() else sys.stdin.read()
        text, where = text if text.strip() else "null", "Standard input"
    elif given.startswith("@"):
        text, where = _file(Path(given[1:])), given[1:]
    else:
        text = given
    try:
        data = text.encode()
        json.loads(data)
    except ValueError as error:
        hint = f""" A text has quotes: '"{given}"'.""" if text == given else ""
        typer.echo(f"Error: {where} is no JSON: {error}.{hint}", err=True)
        raise typer.Exit(1) from None
    return data


def _file(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        typer.echo(f"Error: {file} can't be read: {error}.", err=True)
        raise typer.Exit(1) from None


class Reader:
    """Shows items to people as they come: text on one stream, all the rest on the other."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err
        self._one_terminal = out.isatty() and err.isatty()
        self._unfinished: TextIO | None = None
        """Where a line has begun."""

    def __call__(self, item: Item) -> None:
        from pharia_kernel_sdk.csi.inference import Reasoning
        from pharia_kernel_sdk.running.skill import ToolNotice
        from pharia_kernel_sdk.streaming import MessageAppend, MessageEnd

        if isinstance(item, MessageAppend):
            self._write(self._out, item.text)
        elif isinstance(item, Reasoning):
            self._write(self._err, item.content)
        elif isinstance(item, ToolNotice):
            self._line(_tool(item))
        elif isinstance(item, MessageEnd):
            self._end(self._out)
            if item.payload is not None:
                self._line(f"payload: {json.dumps(item.payload, ensure_ascii=False)}")

    def close(self) -> None:
        """Ends the line that has begun."""
        if self._unfinished is not None:
            self._end(self._unfinished)

    def _write(self, stream: TextIO, text: str) -> None:
        if self._unfinished is not stream:
            self._interrupt()
        stream.write(text)
        stream.flush()
        self._unfinished = None if text.endswith("\n") else stream

    def _line(self, text: str) -> None:
        self._interrupt()
        typer.echo(text, file=self._err)

    def _interrupt(self) -> None:
        """Text that goes to a file is left as it is, whatever is said between its pieces."""
        if self._unfinished is self._err or self._one_terminal:
            self.close()

    def _end(self, stream: TextIO) -> None:
        if self._unfinished is stream:
            stream.write("\n")
            stream.flush()
            self._unfinished = None


def _tool(notice: Any) -> str:
    if notice.state == "error":
        return f"tool {notice.name}: {notice.message}"
    return f"tool {notice.name}{'' if notice.state == 'begin' else ': ok'}"


class JsonLines:
    """Shows items to programs as they come: an object per line, named as the kernel's events."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, item: Item) -> None:
        typer.echo(json.dumps(_members(item), ensure_ascii=False), file=self._out)

    def close(self) -> None:
        """Lines are whole."""


def _members(item: Item) -> dict[str, Any]:
    from pharia_kernel_sdk.csi.inference import Reasoning
    from pharia_kernel_sdk.running.skill import ToolNotice
    from pharia_kernel_sdk.streaming import MessageAppend, MessageBegin

    if isinstance(item, MessageBegin):
        return {"event": "message", "type": "begin", "role": item.role}
    if isinstance(item, MessageAppend):
        return {"event": "message", "type": "append", "text": item.text}
    if isinstance(item, Reasoning):
        return {"event": "reasoning", "type": "reasoning", "text": item.content}
    if isinstance(item, ToolNotice):
        error = {"message": item.message} if item.state == "error" else {}
        return {"event": "tool", "type": item.state, "name": item.name, **error}
    return {"event": "message", "type": "end", "payload": item.payload}
