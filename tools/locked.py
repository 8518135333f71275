"""Prints the part of ``requirements.lock`` that somebody needs, hashes included.

    python tools/locked.py                    # what the kernel needs to run
    python tools/locked.py --extra local      # and an extra
    python tools/locked.py --only hatchling   # what a development tool needs

The lock holds everything, for users and for developers. An image or an environment that only runs
the kernel gets the same versions with the same hashes, and nothing else. Standard library only: it
runs before anything is installed.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class NotLocked(Exception):
    """The lock lacks what was asked for; the message says what to do."""


@dataclass(frozen=True)
class Entry:
    """One version of one package; a package has several where they depend on the environment."""

    name: str
    text: str
    """The lines of the lock, without the note on who wants it."""
    wanted_by: frozenset[str]


def parse(lock: str) -> list[Entry]:
    """The entries of a lock as ``uv pip compile --generate-hashes`` writes it."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return [_entry(block) for block in blocks if block[:1] not in ("#", "")]


def needed(entries: list[Entry], roots: Iterable[str]) -> list[Entry]:
    """The entries for ``roots`` and all that they depend on. Raises ``NotLocked``."""
    wanted = {normalized(root) for root in roots}
    if missing := sorted(wanted - {entry.name for entry in entries}):
        raise NotLocked(f"not in the lock: {', '.join(missing)}; `make lock` resolves it again")
    while True:
        more = {entry.name for entry in entries if entry.wanted_by & wanted} - wanted
        if not more:
            return [entry for entry in entries if entry.name in wanted]
        wanted |= more


def runtime_roots(pyproject: str, extras: Collection[str] = ()) -> list[str]:
    """Names of the kernel's own dependencies, and of those of its ``extras``.

    Raises ``NotLocked`` if there is no such extra.
    """
    project = tomllib.loads(pyproject)["project"]
    optional = project.get("optional-dependencies", {})
    if unknown := sorted(set(extras) - optional.keys()):
        raise NotLocked(f"no extra: {', '.join(unknown)}; there are {', '.join(optional)}")
    requirements = [*project["dependencies"], *(r for extra in extras for r in optional[extra])]
    return [_name(requirement) for requirement in requirements]


def normalized(name: str) -> str:
    """The form in which names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _entry(block: str) -> Entry:
    head, _, note = block.partition("    # via")
    wanted_by = frozenset(
        normalized(line.lstrip(" #").split()[0]) for line in note.splitlines() if line.lstrip(" #")
    )
    return Entry(_name(block), head.rstrip() + "\n", wanted_by)


def _name(requirement: str) -> str:
    found = _NAME.match(requirement)
    if found is None:
        raise ValueError(f"not a requirement: {requirement!r}")
    return normalized(found[0])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Print a part of requirements.lock.")
    parser.add_argument("--extra", action="append", default=[], help="an extra of the kernel")
    parser.add_argument("--only", action="append", help="a package instead of the kernel")
    options = parser.parse_args(arguments)
    try:
        project = (ROOT / "pyproject.toml").read_text()
        roots = options.only or runtime_roots(project, options.extra)
        entries = needed(parse((ROOT / "requirements.lock").read_text()), roots)
    except NotLocked as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("".join(entry.text for entry in entries), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
