"""Starts a kernel to try out: builds the example skills if need be, runs one, and keeps serving.

    python tools/run.py

What ``config.toml``, ``.env`` and the environment say is kept. Where they say nothing, the kernel
listens on 127.0.0.1:8081 and serves the folder ``skills`` as the namespace ``dev``.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pharia_kernel.config import Address, ConfigError, Settings, WatchNamespace, load

SKILLS = Path("skills")
EXAMPLE = "greet"
EXAMPLE_INPUT = {"name": "Homer"}
READY_WITHIN = 180.0
POLL = 0.2
OTHER_STOPS = (signal.SIGTERM, signal.SIGHUP)
STOP_MARGIN = 10.0
"""Seconds beyond the drain timeout that the kernel gets before it is killed."""


class Failure(Exception):
    """What the user reads instead of a traceback."""


@dataclass(frozen=True)
class Client:
    """Requests to the kernel that was started, past any proxy."""

    address: Address
    token: str | None

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body; raises ``OSError`` or ``HTTPException`` if nobody answers."""
        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=120)
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def main() -> int:
    for number in OTHER_STOPS:
        signal.signal(number, _interrupt)
    try:
        return _run()
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _run() -> int:
    settings, environ = _settings()
    address = _free(_reachable(settings.kernel_address))
    environ["KERNEL_ADDRESS"] = str(Address(settings.kernel_address.host, address.port))
    if _serves_examples(settings):
        _build_examples()
    client = Client(address, environ.get("PHARIA_AI_TOKEN"))
    with _kernel(environ, settings) as kernel:
        _say(f"Starting the kernel on {client.url} (Ctrl-C stops it) ...")
        _wait_until_ready(client, kernel)
        _try_out(client, settings)
        with suppress(KeyboardInterrupt):
            return kernel.wait()
    return 0


def _settings() -> tuple[Settings, dict[str, str]]:
    """What the user configured, completed to something that can be tried out."""
    environ = dict(os.environ)
    given = load(environ=environ)
    if not given.namespaces:
        environ["NAMESPACES__DEV__DIRECTORY"] = str(SKILLS)
    if "kernel_address" not in given.model_fields_set:
        environ["KERNEL_ADDRESS"] = "127.0.0.1:8081"
    return load(environ=environ), environ


def _serves_examples(settings: Settings) -> bool:
    return any(
        isinstance(namespace, WatchNamespace) and namespace.directory == SKILLS
        for namespace in settings.namespaces.values()
    )


def _reachable(address: Address) -> Address:
    """Where a client on this machine finds a server that listens there."""
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    return Address(loopback.get(address.host, address.host), address.port)


def _free(address: Address) -> Address:
    """The same with port 0 replaced; raises ``Failure`` if a server can't be started there."""
    try:
        ((family, kind, _, _, where), *_) = socket.getaddrinfo(
            *_pair(address), type=socket.SOCK_STREAM
        )
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            return Address(address.host, probe.getsockname()[1])
    except OSError as error:
        raise Failure(
            f"cannot listen on {address}: {error.strerror}. Stop what runs there, "
            "or choose another address: KERNEL_ADDRESS=127.0.0.1:8082 make run"
        ) from None


def _pair(address: Address) -> tuple[str, int]:
    return address.host, address.port


def _build_examples() -> None:
    if (SKILLS / f"{EXAMPLE}.wasm").exists():
        return
    _say("Building the example skills (once; the toolchain is installed first) ...")
    builder = Path(__file__).with_name("build_skills.py")
    command: list[str | Path] = [sys.executable, builder, "--examples", "--out", SKILLS]
    if subprocess.run(command, check=False).returncode:
        raise Failure("the example skills could not be built; the reason is above")


# --- the kernel's process ------------------------------------------------------------------------


@contextmanager
def _kernel(environ: dict[str, str], settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A running kernel that is stopped in the end, gently first."""
    command = Path(sysconfig.get_path("scripts")) / "pharia-kernel"
    # A group of its own: Ctrl-C shall reach the kernel once, from here.
    kernel = subprocess.Popen([command, "serve"], env=environ, process_group=0)
    try:
        yield kernel
    finally:
        for number in (signal.SIGINT, *OTHER_STOPS):
            signal.signal(number, lambda *_: kernel.kill())
        if kernel.poll() is None:
            _say("Stopping the kernel (Ctrl-C again kills it) ...")
            kernel.terminate()
            try:
                kernel.wait(settings.drain_timeout + STOP_MARGIN)
            except subprocess.TimeoutExpired:
                kernel.kill()
                kernel.wait()


def _wait_until_ready(client: Client, kernel: subprocess.Popen[bytes]) -> None:
    deadline, waiting_for = time.monotonic() + READY_WITHIN, ""
    while time.monotonic() < deadline:
        if kernel.poll() is not None:
            raise Failure(
                f"the kernel ended with exit code {kernel.returncode}; the reason is above"
            )
        try:
            status, body = client.request("GET", "/ready")
        except (OSError, http.client.HTTPException):
            time.sleep(POLL)
            continue
        if status == http.HTTPStatus.OK:
            return
        if (missing := _not_ready(body)) != waiting_for:
            waiting_for = missing
            _say(f"Waiting for: {waiting_for} ...")
        time.sleep(POLL)
    raise Failure(f"the kernel is not ready after {READY_WITHIN:.0f} s; see {client.url}/ready")


def _not_ready(body: bytes) -> str:
    try:
        components = json.loads(body)["components"]
        return ", ".join(name for name, state in components.items() if not state["ready"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return "the kernel"


# --- trying it out -------------------------------------------------------------------------------


def _try_out(client: Client, settings: Settings) -> None:
    if settings.authorization_url and not client.token:
        _say("Ready. Requests need a token; set PHARIA_AI_TOKEN to have a skill run from here.")
        return
    status, body = client.request("GET", "/v1/skills")
    if status != http.HTTPStatus.OK:
        raise Failure(f"GET /v1/skills answered {status}: {_text(body)}")
    skills: list[str] = json.loads(body)
    example = next((skill for skill in skills if skill.endswith(f"/{EXAMPLE}")), None)
    _say(f"Ready. Skills: {', '.join(skills) or 'none'}")
    if example:
        _run_example(client, example)
    _suggest(client, skills)


def _run_example(client: Client, skill: str) -> None:
    path = f"/v1/skills/{skill}/run"
    print(f"\n$ {_curl(client, path, EXAMPLE_INPUT)}", flush=True)
    started = time.perf_counter()
    status, body = client.request("POST", path, EXAMPLE_INPUT)
    took = (time.perf_counter() - started) * 1000
    print(f"{_text(body)}    ({status}, {took:.0f} ms)", flush=True)


def _suggest(client: Client, skills: list[str]) -> None:
    chat = next((skill for skill in skills if skill.endswith("/chat")), None)
    print(
        "\nTry next, in another terminal:\n"
        f"  curl '{client.url}/v1/skills?detail=true'\n"
        f"  curl -N -X POST {client.url}/v1/skills/test-beta/hello/message-stream "
        "-H 'Content-Type: application/json' -d '{}'"
    )
    if chat:
        message = {"model": "MODEL", "messages": [{"role": "user", "content": "Hi"}]}
        stream = _curl(client, f"/v1/skills/{chat}/message-stream", message).replace(
            "curl", "curl -N"
        )
        print(
            f"  {stream}\n"
            "    (needs a model: set OPENAI_INFERENCE__URL and OPENAI_INFERENCE__TOKEN)"
        )
    print(f"  open {client.url}/api-docs\n", flush=True)


def _curl(client: Client, path: str, body: Any) -> str:
    token = ' -H "Authorization: Bearer $PHARIA_AI_TOKEN"' if client.token else ""
    return (
        f"curl -X POST {client.url}{path}{token} "
        f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'"
    )


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")[:2000]


def _say(text: str) -> None:
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
