"""``pharia-kernel health``, which container platforms call, and the start of the command."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pharia_kernel import __main__, cli

STATUSES = {"/health": 200, "/ready": 503}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(STATUSES[self.path])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").touch()
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that is alive and not ready."""
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def health(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(cli.app, ["health", *arguments], env=environ)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_alive(port: int, host: str) -> None:
    result = health(KERNEL_ADDRESS=f"{host}:{port}")
    assert (result.exit_code, result.stdout) == (0, "ok\n")


def test_the_address_of_config_toml(port: int, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'kernel-address = "0.0.0.0:{port}"')
    assert health().exit_code == 0


def test_not_ready(port: int) -> None:
    result = health("--ready", "--address", f"127.0.0.1:{port}")
    assert result.exit_code == 1
    assert result.stderr == f"error: the kernel at 127.0.0.1:{port} answers 503\n"


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = health("--address", f"127.0.0.1:{port}")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: no answer at 127.0.0.1:{port}: ")


def test_bad_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("engins = 1")
    result = health()
    assert result.exit_code == 2
    assert "engins" in result.stderr


def test_sigterm_ends_the_command_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first process of a container, too, where a signal without a handler is ignored."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli, "main", lambda: signal.raise_signal(signal.SIGTERM))
    try:
        with pytest.raises(SystemExit) as ended:
            __main__.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 128 + signal.SIGTERM
