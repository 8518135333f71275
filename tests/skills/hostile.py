"""Small components written by hand: those that misbehave, and a few that don't, for tests that can
do without a skill of 48 MB.

``SKILLS`` maps a name to component text. All share two shapes, a function skill and a message
stream; what a skill does is core WebAssembly that calls the helpers named below.

Memory of a skill: page 0 holds results (address 0 to 255) and constant texts, page 1 and up are
handed out by a bump allocator that grows the memory as it has to.
"""

from __future__ import annotations

from dataclasses import dataclass

RESULT = 16
"""Address where a lifted function finds its result."""
ANSWER = 128
"""Address where host functions put theirs."""
TEXT = 1024
"""Address of the first constant text."""

HUGE = 1 << 30
"""1 GiB"""
SHARED_TEXT_SIZE = 1 << 20
STRINGS = 4096
"""Strings of 1 MiB each, which all lie at the same address: 4 GiB to read out of 1 MiB."""


def _escape(data: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in data)


def _libc(realloc: str = "") -> str:
    """Memory and allocator; they come first because lowered host functions need them."""
    return f"""
  (core module $libc
    (memory (export "memory") 2)
    (global $heap (export "heap") (mut i32) (i32.const 65536))
    (func (export "realloc")
      (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
      (local $at i32)
      {realloc}
      (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
      (global.set $heap (i32.add (local.get $at) (local.get $new)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $fits (i32.ne (i32.const -1)
          (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $new) (i32.const 16))))))
        unreachable)
      (memory.copy (local.get $at) (local.get $old) (local.get $size))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))"""


# Helpers: `$ok` and `$err` write the result of `run` and give its address.
_HELPERS = f"""
    (func $result (param $tag i32) (param $b i32) (param $c i32) (param $d i32) (result i32)
      (i32.store (i32.const {RESULT}) (local.get $tag))
      (i32.store (i32.const {RESULT + 4}) (local.get $b))
      (i32.store (i32.const {RESULT + 8}) (local.get $c))
      (i32.store (i32.const {RESULT + 12}) (local.get $d))
      (i32.const {RESULT}))
    (func $ok (param $ptr i32) (param $len i32) (result i32)
      (call $result (i32.const 0) (local.get $ptr) (local.get $len) (i32.const 0)))
    (func $err (param $case i32) (param $ptr i32) (param $len i32) (result i32)
      (call $result (i32.const 1) (local.get $case) (local.get $ptr) (local.get $len)))"""

_ERROR = '(type $error (variant (case "internal" string) (case "invalid-input" string)))'


@dataclass(frozen=True)
class Import:
    """An interface that a skill imports; with one function of it if the skill's code calls it."""

    interface: str
    function: str = ""
    """Path of the function in the interface's instance."""
    name: str = ""
    """What the code calls it."""
    type: str = ""
    """Its core type."""

    @property
    def lowered(self) -> str:
        options = "(memory $memory) (realloc $realloc)"
        return f"(core func ${self.name} (canon lower (func {self.function}) {options}))"

    @property
    def core_import(self) -> str:
        return f'(import "host" "{self.name}" (func ${self.name} {self.type}))'

    @property
    def argument(self) -> str:
        return f'(export "{self.name}" (func ${self.name}))'


LANGUAGE = Import(
    """(import "pharia:skill/language@0.3.11" (instance $language
    (type $r (record (field "text" string) (field "languages" (list string))))
    (export "select-language-request" (type $request (eq $r)))
    (export "select-language"
      (func (param "request" (list $request)) (result (list (option string)))))))""",
    '$language "select-language"',
    "select",
    "(param i32 i32 i32)",
)
"""``$select`` takes pointer and length of the requests, and the address for the answer."""

TOOL = Import(
    """(import "pharia:skill/tool@0.3.11" (instance $tool
    (type $t (record
      (field "name" string) (field "description" string) (field "input-schema" (list u8))))
    (export "tool" (type $tool (eq $t)))
    (export "list-tools" (func (result (list $tool))))))""",
    '$tool "list-tools"',
    "list-tools",
    "(param i32)",
)
"""``$list-tools`` takes the address for the answer."""

WRONG_LANGUAGE = Import(
    """(import "pharia:skill/language@0.3.11" (instance $language
    (export "select-language" (func (param "text" string) (result u32)))))""",
    '$language "select-language"',
    "select",
    "(param i32 i32) (result i32)",
)
"""The right name with the wrong type; ``$select`` takes pointer and length of a text."""

ABSENT_INTERFACE = Import('(import "acme:thing/api@1.0.0" (instance (export "f" (func))))')
ABSENT_FUNCTION = Import(
    '(import "pharia:skill/language@0.3.11" (instance (export "translate" (func))))'
)


def function_skill(
    run: str,
    *,
    text: bytes = b'"fine"',
    metadata: str = "",
    schema: bytes = b"{}",
    realloc: str = "",
    start: str = "",
    version: str = "0.3.11",
    imports: Import | None = None,
    input_type: str = "(list u8)",
) -> str:
    """``run`` is core code with ``$ptr`` and ``$len`` of the input; it leaves its result's address.

    ``text`` lies at ``TEXT``. ``start`` is code for the instantiation.
    """
    schema_at = TEXT + len(text)
    called = imports if imports and imports.name else None
    return f"""(component
  {imports.interface if imports else ""}{_libc(realloc)}
  {called.lowered if called else ""}
  (core module $main
    (import "libc" "memory" (memory 1))
    (import "libc" "heap" (global $heap (mut i32)))
    (import "libc" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    {called.core_import if called else ""}
    (data (i32.const {TEXT}) "{_escape(text)}")
    (data (i32.const {schema_at}) "{_escape(schema)}"){_HELPERS}
    (func $run (export "run") (param $ptr i32) (param $len i32) (result i32)
      (local $i i32) (local $j i32)
      {run})
    (func (export "metadata") (result i32)
      {metadata}
      (i32.store (i32.const {RESULT}) (i32.const 0))
      (i32.store (i32.const {RESULT + 12}) (i32.const {schema_at}))
      (i32.store (i32.const {RESULT + 16}) (i32.const {len(schema)}))
      (i32.store (i32.const {RESULT + 20}) (i32.const {schema_at}))
      (i32.store (i32.const {RESULT + 24}) (i32.const {len(schema)}))
      (i32.const {RESULT}))
    {f"(func $start {start}) (start $start)" if start else ""})
  (core instance $main (instantiate $main
    (with "libc" (instance $libc)) (with "host" (instance {called.argument if called else ""}))))
  {_ERROR}
  (type $metadata (record
    (field "description" (option string))
    (field "input-schema" (list u8))
    (field "output-schema" (list u8))))
  (type $run (func (param "input" {input_type}) (result (result (list u8) (error $error)))))
  (func $run (type $run) (canon lift (core func $main "run") (memory $memory) (realloc $realloc)))
  (func $describe (result $metadata)
    (canon lift (core func $main "metadata") (memory $memory) (realloc $realloc)))
  (instance $handler
    (export "error" (type $error)) (export "skill-metadata" (type $metadata))
    (export "run" (func $run)) (export "metadata" (func $describe)))
  (export "pharia:skill/skill-handler@{version}" (instance $handler)))"""


_ITEMS = {
    "0.3.11": ("message-begin", "message-append", "message-end"),
    "0.4.0": ("message-begin", "reasoning", "message-append", "message-end"),
}
_PAYLOADS = {
    "message-begin": "$attributes",
    "reasoning": "string",
    "message-append": "string",
    "message-end": "(option (list u8))",
}


def message_stream(
    run: str, *, text: bytes = b"text", payload: bytes = b"{}", version: str = "0.3.11"
) -> str:
    """``run`` is core code that calls ``$begin``, ``$append``, ``$end`` (without payload),
    ``$end-payload`` and, from 0.4 on, ``$reasoning``; it leaves its result's address.
    """
    items = _ITEMS[version]
    cases = " ".join(f'(case "{item}" {_PAYLOADS[item]})' for item in items)
    payload_at = TEXT + len(text)

    def write(name: str, item: str, a: int, b: int, c: int) -> str:
        return f"""
    (func ${name} (call $write (global.get $output) (i32.const {items.index(item)})
      (i32.const {a}) (i32.const {b}) (i32.const {c})))"""

    reasoning = write("reasoning", "reasoning", TEXT, len(text), 0) if "reasoning" in items else ""
    return f"""(component
  (import "pharia:skill/streaming-output@{version}" (instance $streaming
    (type $a (record (field "role" (option string))))
    (export "begin-attributes" (type $attributes (eq $a)))
    (type $i (variant {cases}))
    (export "message-item" (type $item (eq $i)))
    (export "stream-output" (type $output (sub resource)))
    (export "[method]stream-output.write"
      (func (param "self" (borrow $output)) (param "item" $item)))))
  (alias export $streaming "stream-output" (type $output)){_libc()}
  (core func $write (canon lower (func $streaming "[method]stream-output.write")
    (memory $memory) (realloc $realloc)))
  (core func $drop (canon resource.drop $output))
  (core module $main
    (import "libc" "memory" (memory 1))
    (import "host" "write" (func $write (param i32 i32 i32 i32 i32)))
    (import "host" "drop" (func $drop (param i32)))
    (global $output (mut i32) (i32.const 0))
    (data (i32.const {TEXT}) "{_escape(text)}")
    (data (i32.const {payload_at}) "{_escape(payload)}"){_HELPERS}
    {write("begin", "message-begin", 0, 0, 0)}{reasoning}
    {write("append", "message-append", TEXT, len(text), 0)}
    {write("end", "message-end", 0, 0, 0)}
    {write("end-payload", "message-end", 1, payload_at, len(payload))}
    (func (export "run") (param $ptr i32) (param $len i32) (param $handle i32) (result i32)
      (global.set $output (local.get $handle))
      (call $body)
      (call $drop (local.get $handle)))
    (func $body (result i32)
      {run}))
  (core instance $main (instantiate $main
    (with "libc" (instance $libc))
    (with "host" (instance (export "write" (func $write)) (export "drop" (func $drop))))))
  {_ERROR}
  (func $run
    (param "input" (list u8)) (param "output" (own $output)) (result (result (error $error)))
    (canon lift (core func $main "run") (memory $memory) (realloc $realloc)))
  (instance $stream
    (export "stream-output" (type $output))
    (export "error" (type $error))
    (export "run" (func $run)))
  (export "pharia:skill/message-stream@{version}" (instance $stream)))"""


def _ok(length: int) -> str:
    return f"(call $ok (i32.const {TEXT}) (i32.const {length}))"


def _err(case: int, length: int) -> str:
    return f"(call $err (i32.const {case}) (i32.const {TEXT}) (i32.const {length}))"


def _storm(call: str) -> str:
    """A million host calls; what the answers take is given back, so that only the calls count."""
    return f"""
      (local.set $j (global.get $heap))
      (loop $next
        {call}
        (global.set $heap (local.get $j))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $i) (i32.const 1000000))))
      {_FINE}"""


def _select(
    text_at: str,
    text_length: str,
    languages_at: str = "(i32.const 0)",
    languages: str = "(i32.const 0)",
) -> str:
    """One request to select-language; its record lies at ``ANSWER + 16``."""
    at = ANSWER + 16
    return f"""
      (i32.store (i32.const {at}) {text_at})
      (i32.store (i32.const {at + 4}) {text_length})
      (i32.store (i32.const {at + 8}) {languages_at})
      (i32.store (i32.const {at + 12}) {languages})
      (call $select (i32.const {at}) (i32.const 1) (i32.const {ANSWER}))"""


_FINE = _ok(len(b'"fine"'))
_NO_REQUESTS = f"(call $select (i32.const 0) (i32.const 0) (i32.const {ANSWER}))"
_ALLOCATE_HUGE = f"(call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const {HUGE}))"
_FOREVER = "(loop $again (br $again))"
_STREAM_OK = "(call $ok (i32.const 0) (i32.const 0))"
_AMPLIFY = f"""
      (local.set $i
        (call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const {SHARED_TEXT_SIZE})))
      (memory.fill (local.get $i) (i32.const 97) (i32.const {SHARED_TEXT_SIZE}))
      (local.set $ptr
        (call $realloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const {8 * STRINGS})))
      (loop $next
        (i32.store (i32.add (local.get $ptr) (i32.shl (local.get $j) (i32.const 3))) (local.get $i))
        (i32.store offset=4 (i32.add (local.get $ptr) (i32.shl (local.get $j) (i32.const 3)))
          (i32.const {SHARED_TEXT_SIZE}))
        (local.set $j (i32.add (local.get $j) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $j) (i32.const {STRINGS}))))"""


def _grow(touch: str) -> str:
    """Grows by 1 MiB until that fails, then traps."""
    return f"""
      (loop $next
        (local.set $i (memory.grow (i32.const 16)))
        (if (i32.eq (local.get $i) (i32.const -1)) (then unreachable))
        {touch}
        (br $next))
      unreachable"""


WELL_BEHAVED = {
    "tiny_echo": function_skill("(call $ok (local.get $ptr) (local.get $len))"),
    "tiny_stream": message_stream(
        f"(call $begin) (call $append) (call $append) (call $end-payload) {_STREAM_OK}",
        payload=b'{"done": true}',
    ),
    "two_messages": message_stream(
        "(call $begin) (call $append) (call $end) (call $begin) (call $append) (call $end)"
        + _STREAM_OK
    ),
    "reasoning_04": message_stream(
        f"(call $begin) (call $reasoning) (call $append) (call $end) {_STREAM_OK}", version="0.4.0"
    ),
}

NEVER_ENDING = {
    "endless_loop": function_skill(f"{_FOREVER} unreachable"),
    "start_loop": function_skill(_FINE, start=_FOREVER),
    "realloc_loop": function_skill(_FINE, realloc=_FOREVER),
    "metadata_loop": function_skill(_FINE, metadata=_FOREVER),
    "host_call_storm": function_skill(_storm(_NO_REQUESTS), imports=LANGUAGE),
    "tool_storm": function_skill(_storm(f"(call $list-tools (i32.const {ANSWER}))"), imports=TOOL),
    "infinite_stream": message_stream(
        "(call $begin) (loop $next (call $append) (br $next)) unreachable"
    ),
}

GREEDY = {
    "memory_bomb": function_skill(_grow("")),
    "memory_bomb_touching": function_skill(
        # memory.fill writes the whole of what was just added
        _grow(
            "(memory.fill"
            " (i32.shl (local.get $i) (i32.const 16)) (i32.const 1) (i32.const 1048576))"
        )
    ),
    "deep_recursion": function_skill(
        "(call $run (local.get $ptr) (i32.load (call $run (local.get $ptr) (local.get $len))))"
    ),
    "gigabyte_string": function_skill(
        _select(_ALLOCATE_HUGE, f"(i32.const {HUGE})") + _FINE, imports=LANGUAGE
    ),
    "gigabyte_output": function_skill(f"(call $ok {_ALLOCATE_HUGE} (i32.const {HUGE}))"),
    "gigabyte_error": function_skill(
        f"(call $err (i32.const 0) {_ALLOCATE_HUGE} (i32.const {HUGE}))"
    ),
    "many_strings": function_skill(
        _AMPLIFY
        + _select("(i32.const 0)", "(i32.const 0)", "(local.get $ptr)", f"(i32.const {STRINGS})")
        + _FINE,
        imports=LANGUAGE,
    ),
}

MALFORMED = {
    "string_out_of_bounds": function_skill(
        _select("(i32.const 0)", f"(i32.const {HUGE})") + _FINE, imports=LANGUAGE
    ),
    "output_out_of_bounds": function_skill(f"(call $ok (i32.const 0) (i32.const {HUGE}))"),
    "realloc_out_of_bounds": function_skill(_FINE, realloc=f"(return (i32.const {HUGE}))"),
    "invalid_utf8": function_skill(
        _select(f"(i32.const {TEXT})", "(i32.const 2)") + _FINE, text=b"\xff\xfe", imports=LANGUAGE
    ),
    "invalid_utf8_output": function_skill(_ok(4), text=b'"\xff\xfe"'),
    "invalid_utf8_error": function_skill(_err(0, 2), text=b"\xff\xfe"),
    "not_json": function_skill(_ok(1), text=b"{"),
    "empty_output": function_skill(_ok(0)),
}

FAILING = {
    "trap": function_skill("unreachable"),
    "start_trap": function_skill(_FINE, start="unreachable"),
    "realloc_trap": function_skill(_FINE, realloc="unreachable"),
    "metadata_trap": function_skill(_FINE, metadata="unreachable"),
    "user_error": function_skill(_err(0, 10), text=b"out of tea"),
    "invalid_input": function_skill(_err(1, 12), text=b"not a number"),
    "wrong_schema": function_skill(_FINE, schema=b"{"),
    "invalid_schema": function_skill(_FINE, schema=b'{"type": 5}'),
    "metadata_csi": function_skill(_FINE, metadata=_NO_REQUESTS, imports=LANGUAGE),
}

BAD_STREAMS = {
    "trap_mid_stream": message_stream("(call $begin) (call $append) unreachable"),
    "stream_error": message_stream(
        f"(call $begin) (call $append) {_err(0, 10)}", text=b"out of tea"
    ),
    "stream_invalid_input": message_stream(_err(1, 12), text=b"not a number"),
    "stream_not_json": message_stream(
        f"(call $begin) (call $append) (call $end-payload) {_STREAM_OK}", payload=b"{"
    ),
    "stream_invalid_utf8": message_stream(
        f"(call $begin) (call $append) {_STREAM_OK}", text=b"\xff\xfe"
    ),
    "open_message": message_stream(f"(call $begin) (call $append) {_STREAM_OK}"),
    "silent_stream": message_stream(_STREAM_OK),
    # After the item that is out of order they go on, so that a test sees whether they were stopped.
    "bad_order_append": message_stream(f"(call $append) (call $begin) (call $end) {_STREAM_OK}"),
    "bad_order_begin_twice": message_stream(
        f"(call $begin) (call $begin) (call $end) {_STREAM_OK}"
    ),
    "bad_order_end": message_stream(f"(call $end) (call $begin) (call $end) {_STREAM_OK}"),
    "bad_order_append_after_end": message_stream(
        f"(call $begin) (call $end) (call $append) (call $begin) (call $end) {_STREAM_OK}"
    ),
    "bad_order_reasoning": message_stream(
        f"(call $reasoning) (call $begin) (call $end) {_STREAM_OK}", version="0.4.0"
    ),
}

UNLOADABLE = {
    "core_module": '(module (func (export "run")))',
    "empty_component": "(component)",
    "other_world": """(component
  (core module $m (func (export "run") (result i32) (i32.const 0)))
  (core instance $m (instantiate $m))
  (func $run (result (result)) (canon lift (core func $m "run")))
  (instance $run (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $run)))""",
    "too_new": function_skill(_FINE, version="0.9.0"),
    "too_new_patch": function_skill(_FINE, version="0.3.99"),
    "too_old": function_skill(_FINE, version="0.1.0"),
    "unsatisfied_import": function_skill(_FINE, imports=ABSENT_INTERFACE),
    "unsatisfied_function": function_skill(_FINE, imports=ABSENT_FUNCTION),
    "bad_signature": function_skill(
        f"(drop (call $select (i32.const {TEXT}) (i32.const 4))) {_FINE}", imports=WRONG_LANGUAGE
    ),
    "bad_export_signature": function_skill(_FINE, input_type="string"),
}

SKILLS: dict[str, str] = {
    **WELL_BEHAVED,
    **NEVER_ENDING,
    **GREEDY,
    **MALFORMED,
    **FAILING,
    **BAD_STREAMS,
    **UNLOADABLE,
}
