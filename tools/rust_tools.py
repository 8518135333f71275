"""What skills in Rust, Go and C are built with, besides cargo: a target of rustc, and wit-bindgen.

    python -m tools.rust_tools

wit-bindgen is built once for the pinned version and kept in ``.toolchains/rust/``. The target comes
from rustup's own server, which is not everywhere within reach: without it that is a warning.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tools.tool_cache import TOOLCHAINS, ToolUnavailable, built_once

TARGET = "wasm32-wasip2"
WIT_BINDGEN = "0.63.0"
_LANGUAGES = ("c", "go")
WIT_BINDGEN_HOME = TOOLCHAINS / "rust" / "-".join(("wit-bindgen", WIT_BINDGEN, *_LANGUAGES))
"""The folder of the program, which is named ``wit-bindgen``."""

_HOW_TO_GET_RUST = "install Rust (https://rustup.rs)"


class TargetUnavailable(ToolUnavailable):
    """rustc can't compile to components."""


def wit_bindgen(report: Callable[[str], None] = print) -> Path:
    """The executable, built if need be. Raises ``ToolUnavailable``."""

    def build(folder: Path) -> Path:
        cargo = _program("cargo")
        report(f"Building wit-bindgen {WIT_BINDGEN}; this can take some minutes ...")
        # It runs for moments: to optimize it takes longer than that could ever save.
        profile = ["--debug", "--config", "profile.dev.debug=false"]
        features = ["--no-default-features", "--features", ",".join(_LANGUAGES)]
        package = ["--locked", "--version", WIT_BINDGEN, "wit-bindgen-cli"]
        target = ["--quiet", "--root", str(folder)]
        _run([cargo, "install", *target, *profile, *features, *package])
        return folder / "bin" / "wit-bindgen"

    return built_once(WIT_BINDGEN_HOME / "wit-bindgen", build)


def check_target() -> None:
    """Raises ``TargetUnavailable`` unless rustc has it, and ``ToolUnavailable`` without rustc."""
    library = _run([_program("rustc"), "--print", "target-libdir", "--target", TARGET]).strip()
    if not Path(library).is_dir():
        raise TargetUnavailable(f"Rust's {TARGET} is missing: `rustup target add {TARGET}`")


def add_target() -> None:
    """Installs the target unless it is there. Raises ``ToolUnavailable``."""
    try:
        check_target()
    except TargetUnavailable:
        _run([_program("rustup"), "target", "add", TARGET])
        check_target()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ToolUnavailable(f"the program {name} is missing: {_HOW_TO_GET_RUST}")
    return found


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        shown = " ".join([Path(command[0]).name, *command[1:]])
        raise ToolUnavailable(f"`{shown}` failed:\n{done.stderr[-2000:]}")
    return done.stdout


def main() -> int:
    try:
        add_target()
    except ToolUnavailable as error:
        print(f"warning: components in Rust can't be built: {error}", file=sys.stderr)
    try:
        print(wit_bindgen())
    except ToolUnavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
