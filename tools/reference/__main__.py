"""``python -m tools.reference``: writes the pages, or tells which are not what the code says."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tools.reference import cli, errors, http_api, pytest_plugin, sdk, wit
from tools.reference import markdown as md

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"
_PAGES: dict[str, tuple[str, Callable[[], str]]] = {
    "sdk.md": ("what skills in Python are written with", sdk.page),
    "pytest.md": ("options and fixtures for testing skills", pytest_plugin.page),
    "cli.md": ("the commands and their options", cli.page),
    "http.md": ("the routes of a kernel, who may call them, and their bodies", http_api.page),
    "errors.md": ("all problem types, and who can fix them", errors.page),
    "wit.md": ("what components of any language import and export", wit.page),
}
_ELSEWHERE = {
    "../configuration.md": "all settings",
    "../observability.md": "metrics, spans and log lines",
    "../how-to/publish.md": "the annotations of a published skill",
}


def pages() -> dict[str, str]:
    """The text of each page by its file name. Raises ``UndocumentedError`` if something public
    says nothing of itself."""
    return {"README.md": _index()} | {name: page() for name, (_, page) in _PAGES.items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write docs/reference from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page is stale")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to write to")
    options = parser.parse_args(arguments)
    written = pages()
    stale = [name for name, text in written.items() if _text(options.output / name) != text]
    if options.check:
        if stale:
            print(f"error: stale: {', '.join(stale)}; run `make reference`", file=sys.stderr)
        return 1 if stale else 0
    options.output.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (options.output / name).write_text(written[name], "utf-8")
    print(f"{len(written)} pages, {len(stale)} written")
    return 0


def _text(file: Path) -> str | None:
    return file.read_text("utf-8") if file.is_file() else None


def _index() -> str:
    """Here, and what is written by hand elsewhere."""
    return md.page(
        md.heading(1, "Reference"),
        "Written from the code, so it is what the code does.",
        md.items(f"[{_name(page)}]({page}): {what}" for page, (what, _) in _PAGES.items()),
        "Written by hand:",
        md.items(f"[{_name(page)}]({page}): {what}" for page, what in _ELSEWHERE.items()),
    )


def _name(page: str) -> str:
    return Path(page).stem


if __name__ == "__main__":
    sys.exit(main())
