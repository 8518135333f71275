"""Calls of a kernel that is too busy for them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pharia_kernel_sdk.transport import CsiError, HttpTransport

Answer = tuple[int, dict[str, str], bytes]
OK: Answer = (200, {}, b"[1]")
EVENTS: Answer = (200, {"Content-Type": "text/event-stream"}, b'event: end\ndata: {"a": 1}\n\n')


class Kernel:
    """Gives the answers that it is told, in their order, and then the last one again."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked = 0
        self.pauses: list[float] = []
        kernel = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                status, headers, body = kernel.answers[min(kernel.asked, len(kernel.answers) - 1)]
                kernel.asked += 1
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def transport(self) -> HttpTransport:
        address = f"http://127.0.0.1:{self.server.server_port}"
        return HttpTransport(address, sleep=self.pauses.append)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    thread = threading.Thread(target=kernel.server.serve_forever)
    thread.start()
    yield kernel
    kernel.server.shutdown()
    thread.join()
    kernel.server.server_close()


def busy(status: int = 429, **headers: str) -> Answer:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, b"busy"


def test_a_call_that_was_not_begun_is_repeated_when_the_kernel_says(kernel: Kernel) -> None:
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    kernel.answers = [busy(Retry_After="7"), busy(503), busy(Retry_After=date), OK]
    assert kernel.transport().call("chunk", []) == [1]
    assert kernel.pauses == [7, 1, 2]


def test_a_stream_that_was_not_begun_as_well(kernel: Kernel) -> None:
    kernel.answers = [busy(Retry_After="3"), EVENTS]
    assert list(kernel.transport().stream("chat_stream", {})) == [("end", {"a": 1})]
    assert kernel.pauses == [3]


def test_at_last_it_is_an_error(kernel: Kernel) -> None:
    kernel.answers = [busy()]
    with pytest.raises(CsiError, match="429 busy") as caught:
        kernel.transport().call("chunk", [])
    assert (caught.value.status, kernel.asked) == (429, 5)


@pytest.mark.parametrize(
    "answer", [busy(400), busy(500), busy(Retry_After="3600"), busy(Retry_After="nan")]
)
def test_what_does_not_help_is_not_tried(kernel: Kernel, answer: Answer) -> None:
    kernel.answers = [answer]
    with pytest.raises(CsiError):
        list(kernel.transport().stream("chat_stream", {}))
    assert (kernel.asked, kernel.pauses) == (1, [])


def problem(code: str, *, retryable: bool) -> Answer:
    headers = {"Content-Type": "application/problem+json"}
    return 503, headers, json.dumps({"code": code, "retryable": retryable}).encode()


def test_the_kernel_says_that_nothing_will_change(kernel: Kernel) -> None:
    kernel.answers = [problem("not_configured", retryable=False)]
    with pytest.raises(CsiError) as caught:
        kernel.transport().call("chat", [])
    assert (caught.value.code, kernel.asked, kernel.pauses) == ("not_configured", 1, [])


def test_a_tool_that_may_have_been_called_is_not_called_again(kernel: Kernel) -> None:
    kernel.answers = [problem("shutting_down", retryable=True), OK]
    with pytest.raises(CsiError) as caught:
        kernel.transport().call("invoke_tool", {})
    assert (caught.value.code, kernel.asked) == ("shutting_down", 1)
    kernel.asked = 0
    assert kernel.transport().call("chunk", []) == [1]


def test_an_error_that_is_not_the_kernels(kernel: Kernel) -> None:
    kernel.answers = [(502, {"Content-Type": "application/json"}, b"<html>")]
    with pytest.raises(CsiError, match="502 <html>"):
        kernel.transport().call("chunk", [])
