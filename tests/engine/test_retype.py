"""Components are run as they are and as they are compiled: nobody may see a difference."""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wasmtime import Config, Engine, WasmtimeError, wat2wasm
from wasmtime import component as wit
from wasmtime.component import Component

from pharia_kernel.engine import binding, compile_worker, retype, signatures
from pharia_kernel.engine.artifacts import ArtifactCache
from pharia_kernel.engine.guest import LoadedComponent, Run
from pharia_kernel.engine.hostapi import HostApi
from pharia_kernel.engine.inspector import inspect
from pharia_kernel.engine.protocol import Done, Emit, Start, ToKernel
from pharia_kernel.engine.signatures import SignatureMismatch
from pharia_kernel.engine.surface import STREAM_OUTPUT
from pharia_kernel.engine.traps import trap_error
from pharia_kernel.errors import CompileFailed, InvalidOutput
from tests.skills import hostile
from tests.skills.hostile import Import, function_skill, message_stream
from tests.support.components import MIB, Artifacts, skill
from tools.build_skills import CACHE

ECHO = "(call $ok (local.get $ptr) (local.get $len))"
LIST = b"\x70\x7d"
MEMORY = 512 * MIB

RESULTS = {
    name: text
    for group in (hostile.WELL_BEHAVED, hostile.FAILING, hostile.MALFORMED, hostile.BAD_STREAMS)
    for name, text in group.items()
    if name != "metadata_csi"  # nobody answers it here
}


def wat(text: str) -> bytes:
    return bytes(wat2wasm(text))


def wrapped() -> str:
    """A skill whose lifted function has around it what toolchains put there."""
    core = function_skill(ECHO).partition("(type $metadata (record")[0]
    return f"""{core}
  (func $run (param "input" (list u8)) (result (result (list u8) (error $error)))
    (canon lift (core func $main "run") (memory $memory) (realloc $realloc)))
  (component $wrapper
    (type $in (list u8))
    (type $e (variant (case "internal" string) (case "invalid-input" string)))
    (import "import-type-error" (type $error (eq $e)))
    (import "import-func-run" (func $run (param "input" $in) (result (result $in (error $error)))))
    (export $named "error" (type $e))
    (type $out (list u8))
    (export "run" (func $run)
      (func (param "input" $out) (result (result $out (error $named))))))
  (instance $handler (instantiate $wrapper
    (with "import-func-run" (func $run)) (with "import-type-error" (type $error))))
  (export "pharia:skill/skill-handler@0.2.0" (instance $handler)))"""


class Guests:
    """Engine, host functions and runs in this process."""

    def __init__(self, directory: Path) -> None:
        config = Config()
        config.epoch_interruption = True
        config.cranelift_opt_level = "none"  # compiles faster
        self._engine = Engine(config)
        self._host = HostApi(self._engine, self)
        self._quiet = binding.OutputCallback(lambda _run, _data: None)
        # A file each: those of loaded components are mapped into memory.
        self._files = (directory / f"artifact-{number}" for number in itertools.count())
        self._run: Run | None = None
        self.items: list[bytes] = []

    def get(self, run: int) -> Run | None:
        return self._run

    def send(self, frame: ToKernel) -> None:
        assert isinstance(frame, Emit), "these guests make no calls"
        self.items.append(bytes(frame.item))

    def load(self, wasm: bytes, payload: str) -> LoadedComponent:
        file = next(self._files)
        file.write_bytes(Component(self._engine, wasm).serialize())
        return LoadedComponent(self._engine, str(file), [payload])

    def load_large(self, wasm: bytes, payload: str) -> LoadedComponent:
        """Its machine code is kept."""
        key = hashlib.sha256(wasm).hexdigest()[:16]
        file = CACHE / "retype" / f"{key}-{binding.VERSION}-{platform.machine()}"
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            unfinished = file.with_suffix(f".{os.getpid()}")
            unfinished.write_bytes(Component(self._engine, wasm).serialize())
            unfinished.replace(file)
        return LoadedComponent(self._engine, str(file), [payload])

    def run(self, component: LoadedComponent, data: bytes, entry: Any = "run") -> Done:
        start = Start(1, "", entry, data, MEMORY, 0)
        number = self._host.resource_number(component.line, STREAM_OUTPUT)
        outputs = (self._quiet, self._quiet)
        self._run = Run(start, component, self._engine, self._host.linker, number, outputs)
        self.items = []
        try:
            while (done := self._run.step()) is None:
                assert not self._run.parked
            return done
        finally:
            self._run.close()

    def seen(self, component: LoadedComponent, data: bytes, entry: Any = "run") -> Any:
        """Everything that the kernel learns of a run."""
        done = self.run(component, data, entry)
        if done.outcome == "trapped":
            return type(trap_error(done.value.decode(), MEMORY)), self.items
        return done.outcome, done.value, self.items


@pytest.fixture
def guests(tmp_path: Path) -> Guests:
    return Guests(tmp_path)


def both(guests: Guests, wasm: bytes) -> tuple[LoadedComponent, LoadedComponent]:
    rewritten = retype.with_text(wasm)
    assert rewritten != wasm
    return guests.load(wasm, signatures.BYTES), guests.load(rewritten, signatures.TEXT)


# --- what the kernel sees


@pytest.mark.parametrize("name", [name for name in RESULTS if "utf8" not in name])
def test_small_components_behave_the_same(guests: Guests, name: str) -> None:
    original, rewritten = both(guests, wat(RESULTS[name]))
    for data in (b'"input"', b"", "häß\0".encode()):
        assert guests.seen(rewritten, data) == guests.seen(original, data)
    if "metadata" in original.entries:
        expected = guests.seen(original, b"", "metadata")
        assert guests.seen(rewritten, b"", "metadata") == expected


@pytest.mark.parametrize("name", ["greet_js", "greet_02"])
def test_real_skills_behave_the_same(guests: Guests, name: str) -> None:
    wasm = skill(name)
    original = guests.load_large(wasm, signatures.BYTES)
    rewritten = guests.load_large(retype.with_text(wasm), signatures.TEXT)
    for data in (b'{"name": "Ada"}', '{"name": "Zoë"}'.encode(), b"{}", b"["):
        assert guests.seen(rewritten, data) == guests.seen(original, data)
    assert guests.run(rewritten, '{"name": "Zoë"}'.encode()).outcome == "returned"
    if "metadata" in original.entries:
        metadata = guests.seen(rewritten, b"", "metadata")
        assert metadata == guests.seen(original, b"", "metadata")
        fields = msgspec.msgpack.decode(metadata[1])
        assert fields["description"] == "Greets a person by name, from JavaScript."
        assert msgspec.json.decode(fields["output-schema"]) == {"type": "string"}


def test_functions_in_a_wrapper_behave_the_same(guests: Guests) -> None:
    original, rewritten = both(guests, wat(wrapped()))
    assert guests.seen(rewritten, b"data") == guests.seen(original, b"data")
    assert guests.seen(rewritten, b"data") == ("returned", b"data", [])


@pytest.mark.parametrize("name", ["invalid_utf8_output", "invalid_utf8_error"])
def test_output_that_is_no_text_is_invalid(guests: Guests, name: str) -> None:
    _, rewritten = both(guests, wat(RESULTS[name]))
    assert guests.seen(rewritten, b"1") == (InvalidOutput, [])


def test_output_that_ends_within_a_character_is_invalid(guests: Guests) -> None:
    text = function_skill("(call $ok (i32.const 1024) (i32.const 1))", text="ß".encode())
    _, rewritten = both(guests, wat(text))
    assert guests.seen(rewritten, b"1") == (InvalidOutput, [])


def test_host_calls_with_invalid_text_are_what_they_were(guests: Guests) -> None:
    for name in ("invalid_utf8", "stream_invalid_utf8"):
        original, rewritten = both(guests, wat(RESULTS[name]))
        assert guests.seen(rewritten, b"1") == guests.seen(original, b"1")


def test_input_that_is_no_text_never_gets_to_the_runtime(guests: Guests) -> None:
    _, rewritten = both(guests, skill("tiny_echo"))
    outcome, reason, _ = guests.seen(rewritten, b"a\xff")
    assert (outcome, b"not UTF-8" in reason) == ("refused-invalid-input", True)


def test_megabytes_pass(guests: Guests) -> None:
    """As a byte list, less than three can."""
    original, rewritten = both(guests, skill("tiny_echo"))
    data = "häß".encode() * (4 * MIB)
    assert guests.run(rewritten, data).value == data
    assert guests.run(original, data[: 3 * MIB]).outcome == "trapped"


# --- what is compiled


@pytest.mark.parametrize(
    "name", ["echo", "greet_02", "chat_02", "chat_04", "stream_05", "stream_chat", "greet_js"]
)
def test_all_toolchains_are_understood(artifacts: Artifacts, name: str) -> None:
    """The compiler used the rewritten one, and it differs in nothing but the three types."""
    engine = binding.new_engine(binding.EngineOptions(pooling=False))
    LoadedComponent(engine, str(artifacts(name).path), [signatures.TEXT])
    wasm = skill(name)
    assert len(wasm) - len(retype.with_text(wasm)) == 3


def test_types_of_imports_stay(artifacts: Artifacts) -> None:
    engine = binding.new_engine(binding.EngineOptions(pooling=False))
    component = Component.deserialize_file(engine, str(artifacts("tool_user").path))
    imports = component.type.imports(engine)
    (tool,) = (item for name, item in imports.items() if name.startswith("pharia:skill/tool@"))
    interface: Any = tool.ty
    function = interface.exports(engine)["invoke-tool"].ty
    ((_, requests),) = function.params
    arguments = dict(requests.element.fields)["arguments"].element
    assert isinstance(dict(arguments.fields)["value"].element, wit.U8)


def test_what_is_rewritten_stays_as_it_is_the_second_time() -> None:
    for wasm in (skill("tiny_echo"), skill("tiny_stream"), wat(wrapped())):
        rewritten = retype.with_text(wasm)
        assert len(rewritten) < len(wasm)
        assert retype.with_text(rewritten) is rewritten


SHARED = Import(
    """(type $payload (list u8))
  (import "pharia:skill/language@0.3.11" (instance $language
    (export "select-language" (func (param "text" $payload) (result u32)))))""",
    '$language "select-language"',
    "select",
    "(param i32 i32) (result i32)",
)


def encoded(encoding: str) -> str:
    return function_skill(ECHO).replace(
        '"run") (memory $memory)', f'"run") (memory $memory) string-encoding={encoding}'
    )


@pytest.mark.parametrize(
    "text",
    [
        encoded("utf16"),
        encoded("latin1+utf16"),
        # A function of the host has the same type.
        function_skill(ECHO, imports=SHARED, input_type="$payload"),
        message_stream("(call $ok (i32.const 0) (i32.const 0))").replace(
            '"input" (list u8)', '"input" string'
        ),
        function_skill(ECHO).replace("(list u8)", "string"),
        hostile.UNLOADABLE["other_world"],
        "(component)",
        "(module)",
        # The wrapper has code of its own.
        wrapped().replace("(component $wrapper", "(component $wrapper (core module)"),
    ],
)
def test_what_is_not_certain_stays_as_it_is(text: str) -> None:
    wasm = wat(text)
    assert retype.with_text(wasm) is wasm


@pytest.mark.parametrize("wasm", [b"", b"\0asm", b"\0asm\x0d\0\x01", b"x" * 100])
def test_what_is_no_component_stays_as_it_is(wasm: bytes) -> None:
    assert retype.with_text(wasm) is wasm


def test_the_default_encoding_may_be_spelled_out(guests: Guests) -> None:
    _, rewritten = both(guests, wat(encoded("utf8")))
    assert guests.run(rewritten, b"data").value == b"data"


# --- the compiler decides


def compiled(path: Path, wasm: bytes) -> Engine:
    compile_worker.compile_to(path, wasm)
    return binding.new_engine(binding.EngineOptions(pooling=False))


def test_the_original_is_compiled_if_the_rewritten_is_not_valid(tmp_path: Path) -> None:
    """An interface that is spelled out again, outside of what is rewritten."""
    text = function_skill(ECHO, version="0.2.0").replace(
        '(export "pharia:skill/skill-handler@0.2.0" (instance $handler))',
        """(export "pharia:skill/skill-handler@0.2.0" (instance $handler) (instance
          (type $e (variant (case "internal" string) (case "invalid-input" string)))
          (export "error" (type $error (eq $e)))
          (export "run" (func (param "input" (list u8))
            (result (result (list u8) (error $error)))))))""",
    )
    wasm = wat(text)
    rewritten = retype.with_text(wasm)
    assert rewritten != wasm
    with pytest.raises(WasmtimeError):
        Component(Engine(), rewritten)
    engine = compiled(tmp_path / "artifact", wasm)
    LoadedComponent(engine, str(tmp_path / "artifact"), [signatures.BYTES])
    with pytest.raises(SignatureMismatch, match="`run`"):
        LoadedComponent(engine, str(tmp_path / "artifact"), [signatures.TEXT])


def test_a_skill_may_not_have_strings_of_its_own(tmp_path: Path) -> None:
    wasm = wat(function_skill(ECHO).replace("(list u8)", "string"))
    with pytest.raises(CompileFailed, match=r"`func\(string\).*expected `func\(list<u8>\)"):
        compile_worker.compile_to(tmp_path / "artifact", wasm)


def test_artifacts_of_another_recipe_are_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cache() -> ArtifactCache:
        return ArtifactCache(tmp_path, MIB, "fingerprint")

    temporary = cache().temporary()
    temporary.write_bytes(b"code")
    cache().store("sha256:1", temporary, inspect(skill("tiny_echo")))
    assert cache().find("sha256:1")
    monkeypatch.setattr(retype, "RECIPE", "another")
    assert cache().find("sha256:1") is None


# --- damage

SMALL = [
    wat(text) for text in (hostile.SKILLS["tiny_echo"], hostile.SKILLS["tiny_stream"], wrapped())
]


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_damage_is_left_to_the_compiler(data: st.DataObject) -> None:
    """The binary stays as it is, or has strings instead of byte lists and is otherwise the same."""
    wasm = bytearray(data.draw(st.sampled_from(SMALL)))
    for _ in range(data.draw(st.integers(0, 4))):
        wasm[data.draw(st.integers(0, len(wasm) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(wasm[: data.draw(st.integers(0, len(wasm)) | st.just(len(wasm)))])
    rewritten = retype.with_text(damaged)
    lost = len(damaged) - len(rewritten)
    assert rewritten is damaged or 0 < lost <= damaged.count(LIST)
    assert retype.with_text(rewritten) is rewritten or lost == 0


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_content_is_left_to_the_compiler(content: bytes) -> None:
    retype.with_text(b"\0asm\x0d\0\x01\0" + content)


@pytest.mark.parametrize("code", [b"\x42\x01\x01", b"\x41\x01\x01"])
def test_types_within_types_without_end(code: bytes) -> None:
    section = b"\x01" + code * 100_000
    size = len(section)
    encoded = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
    wasm = b"\0asm\x0d\0\x01\0\x07" + encoded + section
    assert retype.with_text(wasm) is wasm
