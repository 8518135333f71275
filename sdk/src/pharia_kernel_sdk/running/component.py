"""Runs a component in this process, with a ``Csi`` of this process as its kernel."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import wasmtime
from wasmtime import component as components

from pharia_kernel_sdk.build.images import cache_folder
from pharia_kernel_sdk.build.preload import fast_engine
from pharia_kernel_sdk.csi.inference import MessageBegin
from pharia_kernel_sdk.csi.protocol import Csi
from pharia_kernel_sdk.declaration import Kind
from pharia_kernel_sdk.running import wit_answers as answers
from pharia_kernel_sdk.running import wit_requests as requests
from pharia_kernel_sdk.running.errors import InvalidInputError, SkillError, SkillFailedError
from pharia_kernel_sdk.running.results import Streamed
from pharia_kernel_sdk.running.skill import Listener, TellingRecorder, nobody
from pharia_kernel_sdk.testing.recorder import MessageRecorder

_PACKAGE = "pharia:skill/"
_LINE = "0.4."
_EXPORTS: dict[str, Kind] = {"skill-handler": "function", "message-stream": "message-stream"}
_STREAM_OUTPUT, _COMPLETION_STREAM, _CHAT_STREAM = 1, 2, 3
_RESOURCES = {
    "stream-output": _STREAM_OUTPUT,
    "completion-stream": _COMPLETION_STREAM,
    "chat-stream": _CHAT_STREAM,
}
_CACHE_SIZE = 1 << 30
"""Bytes of machine code. That of a skill in Python is one of 50 to 100 MB."""
_OUTPUT = 1
"""The one stream that a run writes to."""


class SkillComponent:
    """A component of WIT line 0.4, compiled. Each run has an instance of its own."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._engine = fast_engine()
        try:
            self._component = _compiled(file.read_bytes(), self._engine)
        except wasmtime.WasmtimeError as error:
            raise SkillError(f"{file.name} is no component that can be run: {error}") from None
        exports = self._component.type.exports(self._engine)
        self._export = next((name for name in exports if name.startswith(_PACKAGE)), "")
        interface, _, version = self._export.removeprefix(_PACKAGE).partition("@")
        if interface not in _EXPORTS or not version.startswith(_LINE):
            raise SkillError(
                f"{file.name} can't be run in this process: it exports "
                f"{self._export or 'no skill'}, and known here is the WIT line {_LINE}x. Kernels "
                "know others."
            )
        self.kind: Kind = _EXPORTS[interface]

    def run(self, csi: Csi, input_: bytes) -> bytes:
        """The output of a function. Raises ``SkillError``, or what ``csi`` raised."""
        output: bytes = self._run(csi, input_, MessageRecorder())
        return output

    def stream(self, csi: Csi, input_: bytes, recorder: MessageRecorder[Any]) -> None:
        """``recorder`` gets what a message stream writes, as it does so. Raises ``SkillError``, or
        what ``csi`` raised."""
        self._run(csi, input_, recorder)

    def _run(self, csi: Csi, input_: bytes, recorder: MessageRecorder[Any]) -> Any:
        host = Host(csi, recorder)
        store = wasmtime.Store(self._engine)
        store.set_wasi(_wasi())
        try:
            result = self._call(store, host, input_)
        except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
            if host.failure is not None:
                raise host.failure from None
            raise SkillFailedError(f"The component crashed: {error}") from error
        finally:
            host.close()
        if isinstance(result, components.Variant):
            kind = InvalidInputError if result.tag == "invalid-input" else SkillFailedError
            raise kind(str(result.payload))
        return result

    def _call(self, store: wasmtime.Store, host: Host, input_: bytes) -> Any:
        linker = components.Linker(self._engine)
        linker.add_wasip2()
        linker.allow_shadowing = True
        imports: dict[str, Any] = self._component.type.imports(self._engine)
        with linker.root() as root:
            for name, item in imports.items():
                if name.startswith(_PACKAGE):
                    _define(root, name, item.ty.exports(self._engine), host)
        instance = linker.instantiate(store, self._component)
        exported = instance.get_export_index(store, self._export)
        entry = instance.get_export_index(store, "run", exported)
        run: Any = instance.get_func(store, entry) if entry else None
        arguments: list[Any] = [input_]
        if self.kind == "message-stream":
            arguments.append(components.ResourceHost.own(_OUTPUT, _STREAM_OUTPUT).to_any(store))
        result = run(store, *arguments)
        run.post_return(store)
        return result


class ComponentSkill:
    """A component with what it asks."""

    def __init__(self, component: SkillComponent, csi: Csi) -> None:
        self._component = component
        self._csi = csi

    def run(self, input_: bytes, listener: Listener = nobody) -> Any:
        if self._component.kind == "function":
            return json.loads(self._component.run(self._csi, input_))
        recorder = TellingRecorder(listener)
        self._component.stream(self._csi, input_, recorder)
        return Streamed.of(recorder)


def _define(root: Any, name: str, members: dict[str, Any], host: Host) -> None:
    interface, _, version = name.removeprefix(_PACKAGE).partition("@")
    with root.add_instance(name) as instance:
        for member, extern in members.items():
            if isinstance(extern.ty, components.FuncType):
                instance.add_func(member, host.function(interface, member, version))
            elif isinstance(extern.ty, components.ResourceType):
                type_ = components.ResourceType.host(_RESOURCES[member])
                instance.add_resource(member, type_, lambda _store, rep: host.drop(rep))


class Host:
    """The imports of one run."""

    def __init__(self, csi: Csi, recorder: MessageRecorder[Any]) -> None:
        self.failure: BaseException | None = None
        """What ended the run: an error of the kernel, or of the test."""
        self._csi = csi
        self._recorder = recorder
        self._streams: dict[int, _Stream] = {}
        self._functions: dict[tuple[str, str], Callable[..., Any]] = {
            ("inference", "complete"): self._complete,
            ("inference", "chat"): self._chat,
            ("inference", "explain"): self._explain,
            ("inference", "[constructor]completion-stream"): self._open_completion,
            ("inference", "[method]completion-stream.next"): self._next,
            ("inference", "[constructor]chat-stream"): self._open_chat,
            ("inference", "[method]chat-stream.next"): self._next,
            ("chunking", "chunk"): self._chunk,
            ("chunking", "chunk-with-offsets"): self._chunk_with_offsets,
            ("language", "select-language"): self._select_language,
            ("document-index", "search"): self._search,
            ("document-index", "documents"): self._documents,
            ("document-index", "document-metadata"): self._document_metadata,
            ("tool", "invoke-tool"): self._invoke_tool,
            ("tool", "list-tools"): self._list_tools,
            ("streaming-output", "[method]stream-output.write"): self._write,
        }

    def function(self, interface: str, name: str, version: str) -> Callable[..., Any]:
        known = self._functions.get((interface, name))
        if known is None or not (version.startswith(_LINE) or name == "explain"):
            full = f"{_PACKAGE}{interface}@{version}#{name}"
            known = _unknown(full)

        # The binding keeps exceptions of callbacks in one place for all threads, and loses those
        # that are no ``Exception``, such as a failure of pytest. Its own it passes on.
        def guarded(store: Any, *arguments: Any) -> Any:
            try:
                return known(store, *arguments)
            except BaseException as error:
                self.failure = error
                raise wasmtime.WasmtimeError("the host ended the run") from None

        return guarded

    def drop(self, number: int) -> None:
        if stream := self._streams.pop(number, None):
            stream.close()

    def close(self) -> None:
        for number in list(self._streams):
            self.drop(number)

    # --- inference

    def _complete(self, _: Any, values: list[Any]) -> Any:
        asked = [requests.completion_request(value) for value in values]
        return answers.lowered(self._csi.complete_concurrent(asked))

    def _chat(self, _: Any, values: list[Any]) -> Any:
        asked = [requests.chat_request(value) for value in values]
        return [answers.chat_response(answer) for answer in self._csi.chat_concurrent(asked)]

    def _explain(self, _: Any, values: list[Any]) -> Any:
        asked = [requests.explanation_request(value) for value in values]
        return answers.lowered(self._csi.explain_concurrent(asked))

    def _open_completion(self, _: Any, value: Any) -> Any:
        request = requests.completion_request(value)

        def open_() -> Any:
            return self._csi.completion_stream(request.model, request.prompt, request.params)

        return self._own(_Stream(open_, answers.completion_event), _COMPLETION_STREAM)

    def _open_chat(self, _: Any, value: Any) -> Any:
        request = requests.chat_request(value)

        def open_() -> Any:
            return self._csi.chat_stream_step(request.model, request.messages, request.params)

        return self._own(_Stream(open_, answers.chat_event), _CHAT_STREAM)

    def _own(self, stream: _Stream, kind: int) -> Any:
        number = max(self._streams, default=_OUTPUT) + 1
        self._streams[number] = stream
        return components.ResourceHost.own(number, kind)

    def _next(self, store: Any, resource: Any) -> Any:
        number = resource.to_host(store).rep  # which gives the borrowed handle back
        return self._streams[number].next()

    # --- the rest

    def _chunk(self, _: Any, values: list[Any]) -> Any:
        asked = [requests.chunk_request(value) for value in values]
        return [[c.text for c in chunks] for chunks in self._csi.chunk_concurrent(asked)]

    def _chunk_with_offsets(self, _: Any, values: list[Any]) -> Any:
        asked = [requests.chunk_request(value) for value in values]
        return [
            [answers.chunk_with_offset(request.text, chunk) for chunk in chunks]
            for request, chunks in zip(asked, self._csi.chunk_concurrent(asked), strict=True)
        ]

    def _select_language(self, _: Any, values: list[Any]) -> Any:
        asked = [requests.select_language_request(value) for value in values]
        return [code and code.value for code in self._csi.select_language_concurrent(asked)]

    def _search(self, _: Any, values: list[Any]) -> Any:
        asked = [requests.search_request(value) for value in values]
        return [
            [answers.search_result(result) for result in results]
            for results in self._csi.search_concurrent(asked)
        ]

    def _documents(self, _: Any, values: list[Any]) -> Any:
        paths = [requests.document_path(value) for value in values]
        return [answers.document(document) for document in self._csi.documents(paths)]

    def _document_metadata(self, _: Any, values: list[Any]) -> Any:
        paths = [requests.document_path(value) for value in values]
        return [answers.metadata(value) for value in self._csi.documents_metadata(paths)]

    def _invoke_tool(self, _: Any, values: list[Any]) -> Any:
        asked = [requests.invoke_request(value) for value in values]
        return [answers.tool_result(r) for r in self._csi.invoke_tool_concurrent(asked)]

    def _list_tools(self, _: Any) -> Any:
        return [answers.tool(tool) for tool in self._csi.list_tools()]

    def _write(self, store: Any, resource: Any, value: Any) -> None:
        resource.drop(store)
        self._recorder.write(requests.message_item(value))


class _Stream:
    """A stream that begins when it is read first, as in the kernel."""

    def __init__(self, open_: Callable[[], Any], lower: Callable[[Any], Any]) -> None:
        self._open = open_
        self._lower = lower
        self._response: Any = None

    def next(self) -> Any:
        if self._response is None:
            self._response = self._open()
            # The SDK's chat streams have read the begin of the message already.
            if (role := getattr(self._response, "role", None)) is not None:
                return self._lower(MessageBegin(role))
        event = self._response.next()
        return None if event is None else self._lower(event)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()


def _unknown(name: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> Any:
        raise SkillError(f"The component calls {name}; known here is the WIT line {_LINE}x.")

    return refuse


def _wasi() -> wasmtime.WasiConfig:
    """Clocks and randomness, as in the kernel. What a skill prints is pytest's to show."""
    wasi = wasmtime.WasiConfig()
    wasi.stdout_custom = lambda data: _print(sys.stdout, data)
    wasi.stderr_custom = lambda data: _print(sys.stderr, data)
    return wasi


def _print(target: Any, data: bytes) -> None:
    target.write(bytes(data).decode(errors="replace"))


def _compiled(wasm: bytes, engine: wasmtime.Engine) -> components.Component:
    """Machine code, which is kept in the user's cache as long as it is among the last used."""
    name = hashlib.sha256(wasm).hexdigest()[:32]
    version = importlib.metadata.version("wasmtime")
    file = cache_folder() / "components" / f"{name}-{version}.bin"
    if file.is_file():
        try:
            found = components.Component.deserialize_file(engine, str(file))
        except wasmtime.WasmtimeError:  # of another machine, or another process has removed it
            file.unlink(missing_ok=True)
        else:
            with suppress(OSError):  # then it counts as old
                os.utime(file)
            return found
    component = components.Component(engine, wasm)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished.write_bytes(component.serialize())
    unfinished.replace(file)
    _trim(file.parent)
    return component


def _trim(folder: Path) -> None:
    """Every build of a skill is another component, of which only the last ones are of use."""
    room = _CACHE_SIZE
    for file, status in sorted(_files(folder), key=lambda found: -found[1].st_mtime):
        room -= status.st_size
        if room < 0:
            file.unlink(missing_ok=True)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for file in folder.glob("*.bin"):
        with suppress(FileNotFoundError):  # other processes remove files as well
            yield file, file.stat()
