"""A kernel on this machine, for the tools that have one to show something."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pharia_kernel.config import Address, ConfigError, Settings
from pharia_kernel.drivers.inference.sse import ServerSentEvent, SseParser

ADDRESS = "127.0.0.1:8081"
"""Where it listens if nothing else is configured."""
READY_WITHIN = 180.0
POLL = 0.2
OTHER_STOPS = (signal.SIGTERM, signal.SIGHUP)
STOP_MARGIN = 10.0
"""Seconds beyond the drain timeout that the kernel gets before it is killed."""


class Failure(Exception):
    """What the user reads instead of a traceback."""


def run_tool(work: Callable[[], int]) -> int:
    """The exit status of ``work``, with failures told to the user."""
    for number in OTHER_STOPS:
        signal.signal(number, _interrupt)
    try:
        return work()
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


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


# --- requests ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Client:
    """Requests to the kernel that was started, past any proxy.

    They raise ``OSError`` or ``HTTPException`` if nobody answers.
    """

    address: Address
    token: str | None

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body."""
        with self._response(method, path, body) as response:
            return response.status, response.read()

    def get(self, path: str) -> Any:
        """The JSON that is there; raises ``Failure`` for any status but 200."""
        status, body = self.request("GET", path)
        if status != http.HTTPStatus.OK:
            raise Failure(f"GET {path} answered {status}: {reason_of(body)}")
        return json.loads(body)

    def events(self, path: str, body: Any) -> Iterator[ServerSentEvent]:
        """The events of a stream as they come; raises ``Failure`` if it is refused."""
        parser = SseParser()
        with self._response("POST", path, body) as response:
            if response.status != http.HTTPStatus.OK:
                reason = reason_of(response.read())
                raise Failure(f"POST {path} answered {response.status}: {reason}")
            while piece := response.read1():
                yield from parser.feed(piece)

    @contextmanager
    def _response(self, method: str, path: str, body: Any) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=120)
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            yield connection.getresponse()
        finally:
            connection.close()


def reason_of(body: bytes) -> str:
    """What an error says, which is a problem object unless something else has answered."""
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return text_of(body)


def text_of(body: bytes) -> str:
    return body.decode("utf-8", "replace")[:2000]


# --- addresses -----------------------------------------------------------------------------------


def address_of(settings: Settings, command: str) -> tuple[Address, Address]:
    """Where the kernel shall listen, and where clients on this machine then find it.

    Raises ``Failure`` if a server can't be started there; ``command`` is what the user typed.
    """
    client = _free(_reachable(settings.kernel_address), command)
    return Address(settings.kernel_address.host, client.port), client


def _reachable(address: Address) -> Address:
    """Where a client on this machine finds a server that listens there."""
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    return Address(loopback.get(address.host, address.host), address.port)


def _free(address: Address, command: str) -> Address:
    """The same with port 0 replaced."""
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
            f"or choose another address: KERNEL_ADDRESS=127.0.0.1:8082 {command}"
        ) from None


def _pair(address: Address) -> tuple[str, int]:
    return address.host, address.port


# --- the kernel's process ------------------------------------------------------------------------


@contextmanager
def running_kernel(
    environ: dict[str, str], settings: Settings, client: Client
) -> Iterator[subprocess.Popen[bytes]]:
    """A kernel that is ready, and is stopped in the end, gently first."""
    command = Path(sysconfig.get_path("scripts")) / "pharia-kernel"
    say(f"Starting the kernel on {client.url} (Ctrl-C stops it) ...")
    # A group of its own: Ctrl-C shall reach the kernel once, from here.
    kernel = subprocess.Popen([command, "serve"], env=environ, process_group=0)
    try:
        _wait_until_ready(client, kernel)
        yield kernel
    finally:
        for number in (signal.SIGINT, *OTHER_STOPS):
            signal.signal(number, lambda *_: kernel.kill())
        if kernel.poll() is None:
            say("Stopping the kernel (Ctrl-C again kills it) ...")
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
            say(f"Waiting for: {waiting_for} ...")
        time.sleep(POLL)
    raise Failure(f"the kernel is not ready after {READY_WITHIN:.0f} s; see {client.url}/ready")


def _not_ready(body: bytes) -> str:
    try:
        components = json.loads(body)["components"]
        return ", ".join(name for name, state in components.items() if not state["ready"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return "the kernel"
