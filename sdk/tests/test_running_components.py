"""Components in this process: how they are ended, and what is kept of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sdk_components  # noqa: F401 - chooses the cache
import wasmtime

from pharia_kernel_sdk.build import project
from pharia_kernel_sdk.build.component import build
from pharia_kernel_sdk.build.preload import fast_engine
from pharia_kernel_sdk.running import component as running

ENDLESS = """
from pharia_kernel_sdk import Csi, skill

@skill
def endless(csi: Csi, input: str) -> str:
    print("It begins.", flush=True)
    while True:
        pass
"""


@pytest.mark.timeout(300, func_only=True)
@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is not sent in this way on Windows")
def test_an_endless_component_can_be_interrupted(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    build(project.find("endless.py", tmp_path), tmp_path / "endless.wasm")
    command = [sys.executable, "-m", "pharia_kernel_sdk", "run", "endless.wasm", '"x"']
    # What runs the tests may ignore the signal, which processes inherit.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            assert process.stderr is not None
            assert any("It begins." in line for line in process.stderr)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == -signal.SIGINT
        finally:
            process.kill()


def test_machine_code_that_was_not_used_for_long_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_CACHE_SIZE", 150)
    folder = tmp_path / "components"
    folder.mkdir()
    for age in range(4):
        file = folder / f"{age}.bin"
        file.write_bytes(bytes(50))
        os.utime(file, (10_000 - age, 10_000 - age))
    new = folder / "new.bin"
    new.write_bytes(bytes(50))
    running._trim(folder)
    assert sorted(file.name for file in folder.iterdir()) == ["0.bin", "1.bin", "new.bin"]


def test_machine_code_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHARIA_SDK_CACHE", str(tmp_path))
    engine = fast_engine()
    empty = wasmtime.wat2wasm("(component)")
    running._compiled(bytes(empty), engine)
    (file,) = (tmp_path / "components").iterdir()
    os.utime(file, (10_000, 10_000))
    running._compiled(bytes(empty), engine)
    assert [*(tmp_path / "components").iterdir()] == [file]
    assert file.stat().st_mtime > 10_000
