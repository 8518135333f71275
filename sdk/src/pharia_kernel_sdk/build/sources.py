"""Finds the sources of what a skill imports, as the component is initialized."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NATIVE = (".so", ".pyd", ".dylib")


@dataclass
class Sources:
    """Looks in the author's folder, then in Python's library, then in the installed packages."""

    app: Path
    standard: Path
    packages: list[Path]
    known: dict[str, str] = field(default_factory=dict)
    """Files of modules that plain Python found in ways of its own."""
    served: list[str] = field(default_factory=list)
    """Modules that were handed out, in order."""
    native: dict[str, Path] = field(default_factory=dict)
    """Compiled modules that were asked for; none of them can be had."""
    missing: list[str] = field(default_factory=list)

    def find(self, name: str) -> dict[str, Any] | None:
        """File (as it is called in the component), source, and whether it is a package."""
        parts = name.split(".")
        for place, root in self._roots():
            found = self._in(place, root, parts)
            if found is not None:
                self.served.append(name)
                return found
        file = self.known.get(name)
        if file and file.endswith(".py"):
            self.served.append(name)
            return _found(f"/known/{'/'.join(parts)}.py", Path(file))
        self.missing.append(name)
        return None

    def _roots(self) -> list[tuple[str, Path]]:
        packages = [(f"/packages/{i}", root) for i, root in enumerate(self.packages)]
        return [("/app", self.app), ("/python", self.standard), *packages]

    def _in(self, place: str, root: Path, parts: list[str]) -> dict[str, Any] | None:
        path = root.joinpath(*parts)
        inside = "/".join([place, *parts])
        if (file := path / "__init__.py").is_file():
            return _found(f"{inside}/__init__.py", file, package=True)
        if (file := path.with_name(path.name + ".py")).is_file():
            return _found(f"{inside}.py", file)
        if path.parent.is_dir() and (library := _library(path)):
            self.native.setdefault(".".join(parts), library)
        elif path.is_dir() and place != "/python" and _holds_python(path):
            return {"file": f"{inside}/__init__.py", "package": True, "source": ""}
        return None


def _found(inside: str, file: Path, *, package: bool = False) -> dict[str, Any]:
    import tokenize

    with tokenize.open(file) as source:  # heeds the encoding that the file declares
        return {"file": inside, "package": package, "source": source.read()}


def _library(path: Path) -> Path | None:
    candidates = path.parent.glob(f"{path.name}.*")
    return next((file for file in candidates if file.suffix in _NATIVE), None)


def _holds_python(folder: Path) -> bool:
    """A folder without ``__init__.py`` is a package if there is Python in it."""
    return any(folder.glob("*.py")) or any(folder.glob("*/__init__.py"))
