"""``tools/run.py`` where it has to give up; that it works is seen in the end-to-end tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(directory: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if "NAMESPACES" not in name}
    return subprocess.run(
        [sys.executable, "-m", "tools.run"],
        cwd=directory,
        env=clean | {"PYTHONPATH": str(ROOT)} | environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_port_in_use(tmp_path: Path, family: socket.AddressFamily) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    try:
        taken = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"no {family.name} here")
    with taken:
        port = taken.getsockname()[1]
        address = f"{host}:{port}" if family == socket.AF_INET else f"[{host}]:{port}"
        result = run(tmp_path, KERNEL_ADDRESS=address)
    assert result.returncode == 1
    assert result.stderr.startswith(
        f"error: cannot listen on {address}: Address already in use. Stop what runs there"
    )
    assert result.stdout == ""


def test_bad_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("engins = 1")
    result = run(tmp_path)
    assert result.returncode == 2
    assert "engins" in result.stderr
    assert "did you mean engines?" in result.stderr
