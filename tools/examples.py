"""The example skills, built by the SDK of this repository."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pharia_kernel_sdk.build.component import build
from pharia_kernel_sdk.build.errors import BuildError
from pharia_kernel_sdk.build.project import find

from tools.local_kernel import Failure, say

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def build_examples(sources: Iterable[Path], target: Path) -> None:
    """Puts the components of the skills that are not in ``target``, or older than their source,
    there. Raises ``Failure``."""
    for source in sources:
        component = target / f"{source.stem}.wasm"
        if not component.exists() or component.stat().st_mtime_ns < source.stat().st_mtime_ns:
            _build(source, component)


def _build(source: Path, component: Path) -> None:
    say(f"Building the example skill {source.stem} ...")
    try:
        built = build(find(str(source)), component, say)
    except BuildError as error:
        raise Failure(f"the example skill {source.stem} could not be built. {error}") from None
    say(f"Built {component}: {built.size / 1e6:.1f} MB in {built.seconds:.1f} s")
