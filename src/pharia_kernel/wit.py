"""The WIT texts of the package ``pharia:skill`` that this kernel speaks.

There is one folder per line (``0.2``, ``0.3``...). Within a line, components of every patch version
up to that of the text work; so these texts also decide which components are too new.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_PACKAGED = Path(__file__).parent / "wit"
_CHECKOUT = Path(__file__).parents[2] / "wit"
_READING_ORDER = ("skill", "message-stream", "csi")
"""The files that an author reads first; the others follow by name."""

_HEADER = re.compile(r"(?P<docs>(?:^///.*\n)*)^package pharia:skill@(?P<version>[^;]+);\n+", re.M)
_UNSTABLE = re.compile(r"^\s*@unstable\b", re.M)


class UnknownWitVersion(LookupError):
    """There is no text for the version; the message names those that there are."""


def versions() -> tuple[str, ...]:
    """Full version of each line, such as ``0.3.11``, oldest first."""
    return tuple(_texts())


def newest_stable() -> str:
    """The newest full version without unstable items."""
    return [version for version, text in _texts().items() if not _UNSTABLE.search(text)][-1]


def text(version: str) -> str:
    """The text of a line (``0.3``), or of its full version (``0.3.11``), as one WIT document.

    Raises ``UnknownWitVersion``.
    """
    for known, document in _texts().items():
        if version in (known, line_of(known)):
            return document
    raise UnknownWitVersion(
        f"There is no WIT text for version `{version[:40]}`. "
        f"Known versions: {', '.join(versions())}."
    )


def line_of(version: str) -> str:
    """``0.3`` of ``0.3.11``."""
    return version.rpartition(".")[0]


@cache
def _texts() -> dict[str, str]:
    documents = [_merge(folder) for folder in _root().glob("skill@*")]
    return dict(sorted(documents, key=lambda document: [int(n) for n in document[0].split(".")]))


def _root() -> Path:
    """Beside this module in an installed wheel, at the top of a source checkout."""
    return _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


def _merge(folder: Path) -> tuple[str, str]:
    """Version and text of a line: WIT wants one package header per document."""
    version, docs, bodies = "", "", []
    for file in sorted(folder.glob("*.wit"), key=_reading_order):
        content = file.read_text(encoding="utf-8")
        header = _HEADER.match(content)
        if header is None or version not in ("", header["version"]):
            raise ValueError(f"{file} must start with the package header of its folder's version.")
        version, docs = header["version"], docs + header["docs"]
        bodies.append(content[header.end() :])
    return version, f"{docs}package pharia:skill@{version};\n\n" + "\n".join(bodies)


def _reading_order(file: Path) -> tuple[int, str]:
    known = file.stem in _READING_ORDER
    return (_READING_ORDER.index(file.stem) if known else len(_READING_ORDER), file.stem)
