from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.dashboards import operators, skill_owners
from tools.dashboards.grafana import text

FOLDER = Path(__file__).resolve().parents[2] / "charts" / "pharia-kernel" / "dashboards"
BOARDS = (operators.BOARD, skill_owners.BOARD)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the Grafana dashboards of the chart.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if they are stale")
    check = parser.parse_args(arguments).check
    stale = []
    for description in BOARDS:
        path = FOLDER / description.file
        if path.exists() and path.read_text() == text(description):
            continue
        stale.append(path.name)
        if not check:
            path.write_text(text(description))
    if check and stale:
        print(f"error: stale: {', '.join(stale)}; run `make dashboards`", file=sys.stderr)
        return 1
    print(f"{len(BOARDS)} dashboards, {len(stale)} {'stale' if check else 'written'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
