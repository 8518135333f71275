from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tools import rust_tools
from tools.rust_tools import TargetUnavailable
from tools.tool_cache import ToolUnavailable, built_once


def test_a_tool_is_built_once_for_all_who_ask_at_the_same_time(tmp_path: Path) -> None:
    executable = tmp_path / "home" / "tool-1.0"
    callers = 4
    everybody = threading.Barrier(callers, timeout=30)
    builds: list[Path] = []

    def build(folder: Path) -> Path:
        builds.append(folder)
        (folder / "tool").write_text("program")
        return folder / "tool"

    def ask() -> Path:
        everybody.wait()
        return built_once(executable, build)

    with ThreadPoolExecutor(callers) as pool:
        answers = [work.result() for work in [pool.submit(ask) for _ in range(callers)]]
    assert answers == [executable] * callers
    assert executable.read_text() == "program"
    assert len(builds) == 1
    assert not builds[0].exists()


def test_a_build_that_failed_is_tried_again(tmp_path: Path) -> None:
    executable = tmp_path / "tool-1.0"

    def fails(folder: Path) -> Path:
        (folder / "half").write_text("half a program")
        raise ToolUnavailable("no compiler")

    with pytest.raises(ToolUnavailable, match="no compiler"):
        built_once(executable, fails)
    assert not executable.exists()

    def works(folder: Path) -> Path:
        (folder / "tool").write_text("program")
        return folder / "tool"

    assert built_once(executable, works).read_text() == "program"


# --- Rust


def rustc(folder: Path, libraries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rustc, and nothing else, that looks for the target's libraries in a folder."""
    program = folder / "rustc"
    program.write_text(f'#!/bin/sh\n[ "$1 $2" = "--print target-libdir" ] && echo {libraries}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_without_rust_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(rust_tools, "WIT_BINDGEN_HOME", tmp_path / "home")
    for use in (rust_tools.check_target, rust_tools.wit_bindgen):
        with pytest.raises(ToolUnavailable, match=r"is missing: install Rust \(https") as caught:
            use()
        assert not isinstance(caught.value, TargetUnavailable)


def test_a_missing_target_is_told_from_a_missing_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rustc(tmp_path, tmp_path / "libraries", monkeypatch)
    with pytest.raises(TargetUnavailable, match="`rustup target add wasm32-wasip2`"):
        rust_tools.check_target()
    (tmp_path / "libraries").mkdir()
    rust_tools.check_target()


def test_continuous_integration_goes_on_without_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rustc(tmp_path, tmp_path / "libraries", monkeypatch)  # there is no rustup to add it
    monkeypatch.setattr(rust_tools, "wit_bindgen", lambda: tmp_path / "wit-bindgen")
    assert rust_tools.main() == 0
    warning = capsys.readouterr().err
    assert "warning: components in Rust can't be built" in warning
    assert "rustup" in warning
