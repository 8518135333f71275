"""The page of problem types, from the error tree."""

from __future__ import annotations

import inspect
import json
import re

from pharia_kernel import errors
from pharia_kernel.errors import KernelError
from tools.reference import markdown as md

_SECTION_OR_CLASS = re.compile(r"^# --- (?P<section>.+?) -+$|^class (?P<name>\w+)\(", re.M)
_INTRODUCTION = """
Every failure that a caller gets to see is a problem object (RFC 9457), with the media type
`application/problem+json`. In streams, the event `error` has the same members, and `message`
beside them.
"""
_MEMBERS = """
Programs should look at `code`; `detail` is for people. With `retryable`, the same request may
succeed later; the header `Retry-After` says when, if that is known. `trace_id` is there if the
request had a trace. Some problems have more members, such as `errors`, which lists the places of a
body that are wrong.
"""


def page() -> str:
    """``errors.md``."""
    sections = [
        md.joined(md.heading(2, title.capitalize()), md.table(_HEADER, map(_row, kinds)))
        for title, kinds in _sections().items()
    ]
    example = errors.SkillNotFound("There is no skill `dev/greet`.").problem()
    return md.page(
        md.heading(1, "Errors"),
        md.line(_INTRODUCTION),
        md.code(json.dumps(example, indent=2), "json"),
        md.line(_MEMBERS),
        *sections,
    )


_HEADER = ("`code`", "Status", "Title", "Who can fix it", "Retry", "More")


def _row(kind: type[KernelError]) -> tuple[str, ...]:
    return (
        f"`{kind.code}`",
        str(kind.status),
        kind.title,
        kind.fixer.replace("-", " "),
        "yes" if kind.retryable else "",
        "" if kind is KernelError else md.prose(kind.__dict__.get("__doc__") or ""),
    )


def _sections() -> dict[str, list[type[KernelError]]]:
    """The kinds of errors below the comments that part them in the module."""
    sections: dict[str, list[type[KernelError]]] = {}
    title = ""
    for match in _SECTION_OR_CLASS.finditer(inspect.getsource(errors)):
        title = match["section"] or title
        kind = getattr(errors, match["name"] or "", None)
        if isinstance(kind, type) and issubclass(kind, KernelError):
            sections.setdefault(title or "Of the kernel", []).append(kind)
    return sections
