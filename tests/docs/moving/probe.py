"""What the page on moving from ``pharia_skill`` says, tried out with one of the two SDKs.

Run as a program, by a Python that has the SDK: ``probe.py pharia_skill`` prints what each function
below has found out, as one JSON object. The page's test compares both.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import http.server
import importlib.util
import inspect
import json
import os
import sys
import tempfile
import threading
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAME = sys.argv[1] if len(sys.argv) > 1 else "pharia_kernel_sdk"
sdk: Any = importlib.import_module(NAME)
testing: Any = importlib.import_module(f"{NAME}.testing")
inference: Any = importlib.import_module(f"{NAME}.csi.inference")

NEW = NAME == "pharia_kernel_sdk"
MOST_TURNS = 30


# --- names, parameters and fields ---------------------------------------------------------------


def names() -> dict[str, list[str]]:
    """Everything that can be imported, with its parameters."""
    exported = {name: getattr(sdk, name) for name in sdk.__all__}
    exported |= {name: getattr(testing, name) for name in testing.__all__}
    return {name: parameters(value) for name, value in exported.items()}


def methods() -> dict[str, list[str]]:
    """Of the ``Csi``, and of what skills get from it and write to."""
    classes = ("Csi", "ChatStreamResponse", "CompletionStreamResponse", "MessageWriter")
    return {
        f"{name}.{method}": parameters(function)
        for name in classes
        for method, function in inspect.getmembers(getattr(sdk, name), inspect.isfunction)
        if not method.startswith("_")
    }


def parameters(value: Any) -> list[str]:
    if isinstance(value, type) and issubclass(value, enum.Enum):
        return [member.name for member in value]
    if isinstance(value, type) and dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    if typing.get_origin(value) in (typing.Union, types.UnionType):
        return []
    try:
        return [name for name in inspect.signature(value).parameters if name != "self"]
    except (TypeError, ValueError):
        return []


# --- models -------------------------------------------------------------------------------------


class Stream(sdk.ChatStreamResponse):  # type: ignore[misc]
    def __init__(self, *events: Any) -> None:
        self._events: Iterator[Any] = iter([inference.MessageBegin("assistant"), *events])
        super().__init__()

    def _next(self) -> Any:
        return next(self._events, None)


class Model(testing.StubCsi):  # type: ignore[misc]
    """Calls the tool ``add`` for some turns, and then answers."""

    def __init__(self, turns: int) -> None:
        self._turns = turns
        self.requests: list[tuple[list[Any], Any]] = []

    def list_tools(self) -> list[Any]:
        return [inference.Tool(name="add", description="Adds.", input_schema={"type": "object"})]

    def invoke_tool_concurrent(self, requests: Any) -> list[Any]:
        return [sdk.ToolOutput(["3"]) for _ in requests]

    def _chat_stream(self, model: str, messages: list[Any], params: Any) -> Stream:
        self.requests.append((list(messages), params))
        turn = len(self.requests)
        if turn > MOST_TURNS:
            raise RuntimeError("never gives up")
        reason = sdk.FinishReason.STOP
        if turn > self._turns:
            return Stream(inference.MessageAppend("Three.", []), reason)
        if not NEW:
            call = '{"type": "function", "name": "add", "parameters": {"a": 1, "b": 2}}'
            return Stream(inference.MessageAppend(call, []), reason)
        chunk = inference.ToolCallChunk(0, "call-1", "add", '{"a": 1, "b": 2}')
        said = inference.MessageAppend("Let me see. ")
        asked = inference.ToolCallEvent([chunk])
        return Stream(said, asked, sdk.FinishReason.TOOL_CALLS)


def tools_are_described() -> dict[str, bool]:
    model = Model(turns=0)
    model.chat_stream("m", [sdk.Message.user("1 + 2?")], tools=["add"])
    messages, params = model.requests[0]
    return {
        "in the system prompt": any("add" in message.content for message in messages),
        "in the request": bool(getattr(params, "tools", None)),
    }


def tool_results() -> dict[str, str]:
    """How call and result are told to the model."""
    model = Model(turns=1)
    response = model.chat_stream("m", [sdk.Message.user("1 + 2?")], tools=["add"])
    said = "".join(append.content for append in response.stream())
    *_, asked, result = model.requests[-1][0]
    return {"asked": asked.content, "result": result.content, "said": said}


def callers_list() -> int:
    messages = [sdk.Message.user("1 + 2?")]
    response = Model(turns=1).chat_stream("m", messages, tools=["add"])
    list(response.stream())
    return len(messages)


def endless_tools() -> str:
    model = Model(turns=MOST_TURNS + 1)
    try:
        response = model.chat_stream("m", [sdk.Message.user("1 + 2?")], tools=["add"])
        list(response.stream())
    except Exception as error:
        return f"{type(error).__name__} after {len(model.requests)}"
    return "an answer"


def tool_call() -> list[str]:
    return parameters(sdk.ToolCallRequest)


def tool_call_parameters() -> Any:
    values = ("call-1", "add", '{"a": 1}') if NEW else ("add", {"a": 1})
    return sdk.ToolCallRequest(*values).parameters


def tool_messages() -> dict[str, list[str]]:
    return {
        "as_message": parameters(sdk.ToolOutput.as_message),
        "tool": parameters(sdk.Message.tool),
    }


def finish_reasons() -> list[str]:
    return [reason.name for reason in sdk.FinishReason]


def finish_reason_without_usage() -> dict[str, str]:
    return {"reason": _outcome("finish_reason"), "usage": _outcome("usage")}


def _outcome(method: str) -> str:
    response = Stream(inference.MessageAppend("Hi", []), sdk.FinishReason.STOP)
    try:
        return str(getattr(response, method)().value)
    except Exception as error:
        return type(error).__name__


def stays_readable() -> list[str]:
    """What is left of a stream after its reason was asked for."""
    usage = inference.TokenUsage(1, 2)
    response = Stream(sdk.FinishReason.STOP, usage)
    response.finish_reason()
    return [type(event).__name__ for event in iter(response.next, None)]


def forwarded_reasoning() -> list[str]:
    writer = testing.MessageRecorder()
    thought = [inference.Reasoning("Hm.")] if hasattr(inference, "Reasoning") else []
    writer.forward_response(Stream(*thought, inference.MessageAppend("Hi", [])))
    return [type(item).__name__ for item in writer.items]


# --- types --------------------------------------------------------------------------------------


def wrong_when_made() -> str:
    try:
        sdk.ChatRequest("m", "no list", sdk.ChatParams())
    except ValueError as error:
        return type(error).__name__
    return "nothing"


def wrong_when_used() -> str:
    try:
        testing.DevCsi(namespace="dev").chat("m", "no list", sdk.ChatParams())
    except Exception as error:
        return str(error)
    return "nothing"


def from_source(text: str) -> Any:
    """A module with a skill ``greet``; the error's name if it can't be imported."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sample.py").write_text(text.replace("SDK", NAME))
        sys.path.insert(0, folder)
        sys.modules.pop("sample", None)
        importlib.invalidate_caches()
        try:
            return importlib.import_module("sample")
        except Exception as error:
            return type(error).__name__
        finally:
            sys.path.remove(folder)


PLAIN = """
from SDK import Csi, skill

@skill
def greet(csi: Csi, input: str) -> str:
    return input
"""
MODELS = """
from pydantic import BaseModel
from SDK import Csi, skill

class Input(BaseModel):
    name: str

class Output(BaseModel):
    text: str

@skill
def greet(csi: Csi, input: Input) -> Output:
    return Output(text=input.name)
"""


def decorated() -> bool:
    """Whether the name is the function itself."""
    return Path(from_source(MODELS).greet.__code__.co_filename).name == "sample.py"


def plain_parameters() -> str:
    return _kind(from_source(PLAIN))


def future_annotations() -> str:
    return _kind(from_source(f"from __future__ import annotations\n{MODELS}"))


def _kind(module: Any) -> str:
    return module if isinstance(module, str) else "works"


# --- testing ------------------------------------------------------------------------------------


def append_after_end() -> str:
    writer = testing.MessageRecorder()
    writer.begin_message()
    writer.end_message()
    try:
        writer.append_to_message("more")
    except ValueError as error:
        return type(error).__name__
    return "accepted"


def recorded_message() -> dict[str, bool]:
    return {
        "pydantic": hasattr(testing.RecordedMessage, "model_dump"),
        "dataclass": dataclasses.is_dataclass(testing.RecordedMessage),
        "skill_output": hasattr(testing.MessageRecorder, "skill_output"),
    }


def dev_csi() -> list[str]:
    return parameters(testing.DevCsi)


def dev_csi_without_token() -> str:
    with _without("PHARIA_AI_TOKEN"):
        try:
            testing.DevCsi(namespace="dev")
        except Exception as error:
            return type(error).__name__
    return "works"


def dotenv_in_the_current_folder() -> str:
    """Whether the kernel that it names is asked."""
    with receiving() as bodies, _without("PHARIA_KERNEL_ADDRESS", "PHARIA_AI_TOKEN") as taken:
        Path(".env").write_text("".join(f"{name}={value}\n" for name, value in taken.items()))
        try:
            testing.DevCsi(namespace="dev").search(sdk.IndexPath("n", "c", "i"), "q")
        except Exception as error:
            return type(error).__name__
        finally:
            Path(".env").unlink()
        return "asked" if bodies else "not asked"


@contextmanager
def _without(*variables: str) -> Iterator[dict[str, str]]:
    """The variables that were taken away."""
    taken = {name: os.environ.pop(name) for name in variables}
    try:
        yield taken
    finally:
        os.environ.update(taken)


def gone() -> list[str]:
    found = [f"DevCsi.{name}" for name in ("run", "stream") if hasattr(testing.DevCsi, name)]
    for module in ("studio", "llama3"):
        if importlib.util.find_spec(f"{NAME}.{module}"):
            found.append(module)
    return found


def filter_of_a_bool() -> Any:
    if NEW:
        return _sent(sdk.EqualTo(True))
    guest: Any = importlib.import_module(f"{NAME}.wit_csi.document_index")  # what components do
    return type(guest.value_to_wit(True)).__name__


def filter_by_date() -> Any:
    return _sent(sdk.After(dt.datetime(2026, 1, 2, tzinfo=dt.UTC)))


def _sent(condition: Any) -> Any:
    """The condition as a kernel gets it."""
    with receiving() as bodies:
        filters = [sdk.With([sdk.MetadataFilter("field", condition)])]
        try:
            path = sdk.IndexPath("n", "c", "i")
            testing.DevCsi(namespace="dev").search(path, "q", filters=filters)
        except Exception as error:
            if not bodies:
                return type(error).__name__
        text = json.dumps(json.loads(bodies[0]))
        return next((shown for shown in ('"equal_to": true', "2026-01-02") if shown in text), text)


@contextmanager
def receiving() -> Iterator[list[bytes]]:
    """Bodies of requests to the address that ``DevCsi`` asks."""
    bodies: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"[[]]")

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["PHARIA_KERNEL_ADDRESS"] = f"http://127.0.0.1:{server.server_port}"
    yield bodies
    server.shutdown()


def wit_version() -> str:
    folder = Path(sdk.__file__).parent / "wit"
    package = (folder / "skill.wit").read_text().split("package pharia:skill@")[1]
    return package.split(";")[0]


PROBES: list[Callable[[], Any]] = [
    names,
    methods,
    wit_version,
    tools_are_described,
    tool_results,
    callers_list,
    endless_tools,
    tool_call,
    tool_call_parameters,
    tool_messages,
    finish_reasons,
    finish_reason_without_usage,
    stays_readable,
    forwarded_reasoning,
    wrong_when_made,
    wrong_when_used,
    decorated,
    plain_parameters,
    future_annotations,
    append_after_end,
    recorded_message,
    dev_csi,
    dev_csi_without_token,
    dotenv_in_the_current_folder,
    gone,
    filter_of_a_bool,
    filter_by_date,
]


def main() -> None:
    os.environ["OTEL_SDK_DISABLED"] = "true"
    os.environ["PHARIA_AI_TOKEN"] = "secret"
    os.environ["PHARIA_KERNEL_ADDRESS"] = "http://127.0.0.1:9"  # nobody listens
    found = {}
    for probe in PROBES:
        try:
            found[probe.__name__] = probe()
        except Exception as error:
            found[probe.__name__] = f"failed: {error!r}"
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
