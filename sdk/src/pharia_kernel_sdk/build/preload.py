"""Runs an image outside of the kernel to import the author's module, and takes its memory."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import wasmtime
from wasmtime import _ffi
from wasmtime import component as components

from pharia_kernel_sdk.build.errors import BuildError
from pharia_kernel_sdk.build.images import Image
from pharia_kernel_sdk.build.immortal import Objects, immortal
from pharia_kernel_sdk.build.snapshot import PEEPHOLE, with_peephole
from pharia_kernel_sdk.build.sources import Sources
from pharia_kernel_sdk.declaration import Kind

_FIND = "find-module"
_LAST = "_pharia_sdk_last"
"""A module of the build's own, which a component imports after the author's."""
_WITHOUT_LISTING = "import gc\ngc.collect()\ngc.freeze()\n"
"""Its source if the component is not to list its objects: frozen ones are left out."""
_MOST_LISTED = 20_000
"""Addresses whose listing may leave its traces in a component: about 50 bytes for each."""
_TOO_MUCH = "fuel allocated for hostcalls"
"""wasmtime's words for an answer above its limit, which its binding can't change."""
_STREAM_OUTPUT = 1
"""Number of the resource type; the others count from 2."""
_WINCH = 2
"""wasmtime's single-pass compiler. The binding has no name for it; it compiles ten times faster
than the optimizing one, for code that runs once."""


@dataclass(frozen=True)
class Preloaded:
    """An image with the author's module in it."""

    memory: bytes
    failed: list[str]
    """Modules that should have been imported in addition, and could not."""


def preload(
    image: Image,
    kind: Kind,
    module: str,
    additional: list[str],
    sources: Sources,
    printed: Callable[[bytes], None],
) -> Preloaded:
    """Imports the module, and then the additional ones, in a fresh instance of the image.

    ``printed`` gets what the module prints. Raises ``BuildError`` if the module can't be imported.
    """
    mounts = [f"/packages/{i}" for i in range(len(sources.packages))]
    request = {"module": module, "preload": [*additional, _LAST], "path": ["/app", *mounts]}
    session = _Session(image, sources, printed)
    answer = _ask(session, kind, request)
    objects = answer["objects"] if answer else []
    if answer is None or len(objects) > _MOST_LISTED:
        # Once more, without the listing: its traces can be larger than the skill. The addresses
        # stay, as all that comes before is the same.
        session = _Session(image, sources, _nowhere, _WITHOUT_LISTING)
        answer = _ask(session, kind, request)
        assert answer is not None, "an answer without objects is short"
    memory = immortal(session.memory(), list_objects(image, kind), objects)
    return Preloaded(memory, answer["failed"])


def _ask(session: _Session, kind: Kind, request: dict[str, Any]) -> dict[str, Any] | None:
    """What the component answers; none if it has too many objects to list them."""
    try:
        answer: dict[str, Any] = json.loads(session.load(kind, json.dumps(request).encode()))
    except wasmtime.WasmtimeError as error:
        if _TOO_MUCH in str(error):
            return None
        raise
    if "error" in answer:
        raise _ImportFailedError(answer["error"], answer["whole"])
    return answer


def list_objects(image: Image, kind: Kind) -> Objects:
    """Those of the image, which are kept beside it: they are many."""
    if image.objects.is_file():
        return Objects.of(image.objects.read_text())
    # An instance of its own, with nothing of an author's: listing them leaves traces in memory.
    nothing = Sources(image.standard_library, image.standard_library, [])
    objects = Objects.of(_Session(image, nothing, _nowhere).load(kind, b"{}"))
    objects.write(image.objects)
    return objects


def _nowhere(_: bytes) -> None:
    """Where output goes that nobody wants."""


class _ImportFailedError(BuildError):
    pass


class _Session:
    def __init__(
        self, image: Image, sources: Sources, printed: Callable[[bytes], None], last: str = ""
    ) -> None:
        """``last`` is the source of ``_LAST``."""
        self._sources = sources
        self._last = last
        engine = fast_engine()
        component = _compiled(image, engine)
        self._store = wasmtime.Store(engine)
        wasi = wasmtime.WasiConfig()
        wasi.stdout_custom = printed
        wasi.stderr_custom = printed
        wasi.preopen_dir(str(sources.app), "app", False)
        for i, folder in enumerate(sources.packages):
            wasi.preopen_dir(str(folder), f"packages/{i}", False)
        self._store.set_wasi(wasi)
        linker = components.Linker(engine)
        linker.add_wasip2()
        linker.allow_shadowing = True
        self._define_imports(linker, component.type.imports(engine), engine)
        self._instance = linker.instantiate(self._store, component)

    def load(self, kind: Kind, request: bytes) -> bytes:
        if kind == "function":
            answer: bytes = self._call(self._export("skill-handler"), request)
            return answer
        output = components.ResourceHost.own(1, _STREAM_OUTPUT).to_any(self._store)
        # A message stream returns nothing but errors, so the answer comes as one.
        failure = self._call(self._export("message-stream"), request, output)
        return str(failure.payload).encode()

    def memory(self) -> bytes:
        try:
            text: str = self._call(self._instance.get_func(self._store, PEEPHOLE))
        except wasmtime.WasmtimeError as error:
            if _TOO_MUCH not in str(error):
                raise
            raise BuildError(
                "It keeps more data in memory than a component can start with (about 120 MB). "
                "Let the skill ask for what it needs, such as documents of an index."
            ) from None
        return text.encode("latin-1")

    def _export(self, interface: str) -> Any:
        name = f"pharia:skill/{interface}@0.4.0"
        exported = self._instance.get_export_index(self._store, name)
        run = self._instance.get_export_index(self._store, "run", exported)
        assert run is not None, "the image was made for another kind of skill"
        return self._instance.get_func(self._store, run)

    def _call(self, function: Any, *arguments: Any) -> Any:
        result = function(self._store, *arguments)
        function.post_return(self._store)
        return result

    def _define_imports(self, linker: Any, imports: dict[str, Any], engine: Any) -> None:
        resources = iter(range(_STREAM_OUTPUT + 1, 100))
        with linker.root() as root:
            for name, item in imports.items():
                if name.startswith("wasi:random/random@"):
                    _define_randomness(root, name)
                if not name.startswith("pharia:skill/"):
                    continue
                with root.add_instance(name) as instance:
                    for member, extern in item.ty.exports(engine).items():
                        if isinstance(extern.ty, components.FuncType):
                            instance.add_func(member, self._function(name, member))
                        elif isinstance(extern.ty, components.ResourceType):
                            number = next(resources)
                            if member == "stream-output":
                                number = _STREAM_OUTPUT
                            type_ = components.ResourceType.host(number)
                            instance.add_resource(member, type_, lambda *_: None)

    def _function(self, interface: str, name: str) -> Callable[..., Any]:
        if name == "invoke-tool":
            return self._invoke_tool

        def refuse(*_: Any) -> Any:
            raise BuildError(
                f"The module calls `{name}` of the kernel while it is imported. Only the skill's "
                "function can do that, when it runs."
            )

        return refuse

    def _invoke_tool(self, _store: Any, requests: list[Any]) -> list[Any]:
        """The loader in the component asks for a module by calling a tool."""
        (request,) = requests
        if getattr(request, "tool-name") != _FIND:
            return [components.Variant("err", "there are no tools while a skill is built")]
        name = json.loads(bytes(request.arguments[0].value))
        if name == _LAST:
            made_up = {"file": f"/{_LAST}.py", "package": False, "source": self._last}
            return [[json.dumps(made_up)]]
        found = self._sources.find(name)
        if found is None:
            return ["no such module"]
        return [[json.dumps(found)]]


def _define_randomness(root: Any, name: str) -> None:
    """What is drawn while a component is built is a part of it. So that the same sources give the
    same bytes, it is always the same; at the start of each run the generator is seeded anew."""
    generator = random.Random(0)  # noqa: S311 - see above
    with root.add_instance(name) as instance:
        instance.add_func("get-random-bytes", lambda _store, n: generator.randbytes(n))
        instance.add_func("get-random-u64", lambda _store: generator.getrandbits(64))


def fast_engine() -> wasmtime.Engine:
    """An engine for code that runs once or twice."""
    config = wasmtime.Config()
    if platform.machine().lower() in ("x86_64", "amd64"):
        _ffi.wasmtime_config_strategy_set(config.ptr(), _WINCH)
    else:  # there the fast compiler is not complete
        config.cranelift_opt_level = "none"
    return wasmtime.Engine(config)


def _compiled(image: Image, engine: wasmtime.Engine) -> components.Component:
    """Machine code of the image, which is kept beside it."""
    file = image.folder / f"wasmtime-{importlib.metadata.version('wasmtime')}.bin"
    if file.is_file():
        try:
            return components.Component.deserialize_file(engine, str(file))
        except wasmtime.WasmtimeError:  # of another machine
            file.unlink(missing_ok=True)
    component = components.Component(engine, with_peephole(image.component.read_bytes()))
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished.write_bytes(component.serialize())
    unfinished.replace(file)
    return component
