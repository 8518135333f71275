"""Tries out a kernel that was installed or packed somehow: does it start, serve and stop?

Used where what is checked is the packaging: a wheel in an empty environment, a container image.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from pharia_kernel.config import Address
from tools.build_skills import build
from tools.local_kernel import POLL, Client, Failure

GREETING = "Hello Homer"
SKILLS = ("greet", "sleeper")
DRAIN = "20s"
RUN_SECONDS = 3
"""How long the run takes that is under way when the kernel is told to stop."""
GRACE = 40.0
"""Seconds from the signal to the end of the process; more than the drain timeout."""
_READY_WITHIN = 600.0


def free_address() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return Address("127.0.0.1", listener.getsockname()[1])


def furnish(home: Path, address: Address) -> None:
    """Put a configuration and two skills into the directory, readable for everybody."""
    skills = home / "skills"
    skills.mkdir(parents=True)
    for name, component in build(SKILLS, report=lambda _: None).items():
        shutil.copyfile(component, skills / f"{name}.wasm")
    metrics = free_address()
    (home / "config.toml").write_text(
        f'kernel-address = "{address}"\nmetrics-address = "{metrics}"\nengines = 1\n'
        f'drain-timeout = "{DRAIN}"\n\n[namespaces.dev]\ndirectory = "skills"\n'
    )
    for path in (home, *home.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def until_ready(client: Client, process: subprocess.Popen[bytes]) -> float:
    """Seconds until ``/ready`` said yes and both skills can run. Raises ``Failure``."""
    began = time.monotonic()
    while True:
        if process.poll() is not None:
            raise Failure(f"the kernel ended with status {process.returncode} before it was ready")
        seconds = time.monotonic() - began
        if _is_ready(client):
            return seconds
        if seconds > _READY_WITHIN:
            raise Failure(f"the kernel was not ready within {_READY_WITHIN:.0f} s")
        time.sleep(POLL)


def _is_ready(client: Client) -> bool:
    try:
        return client.request("GET", "/ready")[0] == 200
    except (OSError, HTTPException):
        return False


def try_out(client: Client) -> None:
    """Health, the list of skills, and a run of a built component. Raises ``Failure``."""
    expect(client, "GET", "/health", None, b"ok")
    status, listing = client.request("GET", "/v1/skills")
    if status != 200 or not {f"dev/{name}" for name in SKILLS} <= set(json.loads(listing)):
        raise Failure(f"GET /v1/skills answered {status}: {listing!r}")
    run = "/v1/skills/dev/greet/run"
    expect(client, "POST", run, {"name": "Homer"}, json.dumps(GREETING).encode())


def expect(client: Client, method: str, path: str, body: object, answer: bytes) -> None:
    status, content = client.request(method, path, body)
    if (status, content) != (200, answer):
        raise Failure(f"{method} {path} answered {status} {content[:300]!r} instead of {answer!r}")


def drains(client: Client, process: subprocess.Popen[bytes], stop: Callable[[], None]) -> float:
    """Seconds from ``stop`` to the end of the process, with a run under way that has to end well.

    Raises ``Failure`` if the run does not, or if the process outlives its grace period.
    """
    answers: list[tuple[int, bytes]] = []
    run = ("POST", "/v1/skills/dev/sleeper/run", {"seconds": RUN_SECONDS})
    caller = threading.Thread(target=_call, args=(client, run, answers), daemon=True)
    caller.start()
    _until_running(client)
    began = time.monotonic()
    stop()
    caller.join(GRACE)
    if answers != [(200, b'"slept"')]:
        raise Failure(f"the run that was under way was not answered as it should be: {answers}")
    ends(process, began)
    return time.monotonic() - began


def _call(
    client: Client, request: tuple[str, str, object], answers: list[tuple[int, bytes]]
) -> None:
    with suppress(OSError, HTTPException):  # then there is no answer, which is noticed
        answers.append(client.request(*request))


def ends(process: subprocess.Popen[bytes], began: float) -> None:
    """Wait for the end within the grace period from ``began``."""
    try:
        process.wait(max(0.0, began + GRACE - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise Failure(f"the kernel did not end within {GRACE:.0f} s of SIGTERM") from None


def _until_running(client: Client) -> None:
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        components = json.loads(client.request("GET", "/ready")[1])["components"]
        if any(engine["runs"] for engine in components["engines"]["engines"]):
            return
        time.sleep(POLL / 10)
    raise Failure("the run did not start")
