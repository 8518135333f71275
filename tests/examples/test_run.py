"""``make run``: the examples are built, one runs, and the kernel serves until Ctrl-C."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from tests.examples.attended import attended
from tests.support.kernel import ARTIFACTS, parse_events
from tests.support.llm import Llm, llm
from tools.examples import EXAMPLES, build_examples
from tools.local_kernel import Failure

__all__ = ["llm"]

ROOT = Path(__file__).parents[2]


def environment(**variables: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if "NAMESPACES" not in name}
    return clean | {"PYTHONPATH": str(ROOT), **variables}


def run(directory: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.run"],
        cwd=directory,
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=60,
    )


def serving(directory: Path, **environ: str) -> AbstractContextManager[str]:
    addresses = {"KERNEL_ADDRESS": "127.0.0.1:0", "METRICS_ADDRESS": "127.0.0.1:0"}
    own = {"WASMTIME_CACHE_DIR": str(ARTIFACTS), **addresses, **environ}
    return attended("tools.run", directory, environment(**own), "docs/tutorial.md")


@pytest.mark.timeout(600)
def test_the_examples_run(tmp_path: Path, llm: Llm) -> None:
    with serving(tmp_path) as printed:
        assert re.search(r"Built skills/greet\.wasm: \d\d\.\d MB", printed), printed
        assert "Ready. Skills: dev/chat, dev/greet" in printed
        assert re.search(r'^"Hello Homer"    \(200, \d+ ms\)$', printed, re.M), printed
    provider = {"OPENAI_INFERENCE__URL": llm.url, "OPENAI_INFERENCE__TOKEN": llm.token}
    with serving(tmp_path, **provider) as printed:
        assert "Building" not in printed
        _check_chat(str(re.findall(r"Starting the kernel on (\S+)", printed)[0]), llm.model)


def _check_chat(url: str, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        answer = client.post("/v1/skills/dev/chat/message-stream", json=body)
        assert answer.status_code == 200, answer.text
        (_, begin), *appends, (_, end) = parse_events(answer.text)
        assert (begin["type"], end["type"]) == ("begin", "end")
        assert {data["type"] for _, data in appends} == {"append"}
        assert end["payload"] == {"finish_reason": "length"}
        metadata = client.get("/v1/skills/dev/chat/metadata").json()
        assert metadata["description"] == "Answers a conversation."
        refused = client.post("/v1/skills/dev/chat/message-stream", json={"model": model})
        assert "$.messages: expected a list, got nothing" in refused.text


def test_what_changed_is_built_again(tmp_path: Path) -> None:
    source, built = tmp_path / "greet.py", tmp_path / "skills" / "greet.wasm"
    source.write_text((EXAMPLES / "skills" / "greet.py").read_text("utf-8"), "utf-8")
    build_examples([source], built.parent)
    first, before = built.read_bytes(), built.stat()
    build_examples([source], built.parent)
    assert built.stat() == before

    source.write_text(source.read_text("utf-8").replace("Hello", "Good morning,"), "utf-8")
    os.utime(source, ns=(before.st_mtime_ns + 1, before.st_mtime_ns + 1))
    build_examples([source], built.parent)
    assert built.read_bytes() != first


def test_a_mistake_in_an_example_is_told(tmp_path: Path) -> None:
    source = tmp_path / "broken.py"
    source.write_text("import nothing_like_that\n")
    with pytest.raises(Failure, match=r"(?s)^the example skill broken could not.*broken\.py:1: "):
        build_examples([source], tmp_path / "skills")
    assert not (tmp_path / "skills").exists()


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
