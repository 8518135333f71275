"""(r) the build of greet: time and size, with the published SDK and with ours."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.authors import OWN, PUBLISHED, SDKS, Author, author
from benchmarks.bench import Bench
from benchmarks.figures import median
from benchmarks.processes import MB
from benchmarks.table import Row

_AIMS = {"seconds": 8.0, "MB": 25.0}


def measure(bench: Bench) -> list[Row]:
    """The SDKs take turns, so that other users of the machine disturb all of them alike."""
    first: dict[str, float] = {}
    for sdk in SDKS:
        bench.say(f"r: the first build with {sdk}")
        with author(sdk, fresh=True) as beginner:
            first[sdk] = beginner.build()
    usual: dict[str, list[float]] = {sdk: [] for sdk in SDKS}
    with ExitStack() as stack:
        authors = {sdk: stack.enter_context(author(sdk)) for sdk in SDKS}
        authors[OWN].build()  # not measured: the image may have to be made
        authors[PUBLISHED].build()
        for turn in range(rounds := bench.times(5, 1)):
            bench.say(f"r: build {turn + 1} of {rounds}")
            for sdk, each in authors.items():
                each.write(f"Hello {turn}")
                usual[sdk].append(each.build())
        sizes = {sdk: _size(each) for sdk, each in authors.items()}
    return [_row(sdk, first, usual, sizes) for sdk in SDKS]


def _size(author: Author) -> float:
    return author.component.stat().st_size / MB


def _row(
    sdk: str, first: dict[str, float], usual: dict[str, list[float]], sizes: dict[str, float]
) -> Row:
    seconds, size = median(usual[sdk]), sizes[sdk]
    published = sdk == PUBLISHED
    return Row(
        key="r",
        what=f"build of greet with {sdk}",
        result=f"{seconds:.1f} s, the first time {first[sdk]:.1f} s; {size:.1f} MB",
        ratio=""
        if published
        else f"{median(usual[PUBLISHED]) / seconds:.1f} times as fast, "
        f"{size / sizes[PUBLISHED]:.2f} of the size",
        aim=f"< {_AIMS['seconds']:.0f} s, < {_AIMS['MB']:.0f} MB" if sdk == OWN else "",
        met=seconds < _AIMS["seconds"] and size < _AIMS["MB"] if sdk == OWN else None,
        values={"first_s": first[sdk], "usual_s": seconds, "size_mb": size},
    )
