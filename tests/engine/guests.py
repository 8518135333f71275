"""Components for single tests of the engine, beside those that all tests have."""

from __future__ import annotations

from wasmtime import wat2wasm

from tests.skills.hostile import ANSWER, LANGUAGE, Import, function_skill, message_stream

SELECT_LANGUAGE = "pharia:skill/language@0.3.11#select-language"
_RECORD = ANSWER + 16

_ASK = f"""
      (i32.store (i32.const {_RECORD}) (local.get $ptr))
      (i32.store (i32.const {_RECORD + 4}) (local.get $len))
      (i32.store (i32.const {_RECORD + 8}) (i32.const 0))
      (i32.store (i32.const {_RECORD + 12}) (i32.const 0))
      (call $select (i32.const {_RECORD}) (i32.const 1) (i32.const {ANSWER}))
      (local.set $i (i32.load (i32.const {ANSWER})))"""
_ANSWER = "(call $ok (i32.load offset=4 (local.get $i)) (i32.load offset=8 (local.get $i)))"

CHAT_STREAM = "pharia:skill/inference@0.3.11#{}chat-stream"
OPEN, NEXT, DROP = (
    CHAT_STREAM.format("[constructor]"),
    CHAT_STREAM.format("[method]") + ".next",
    CHAT_STREAM.format("[drop]"),
)
# Host functions take the types that the component declares; these are simpler than the real ones.
_STREAMS = Import(
    """(import "pharia:skill/inference@0.3.11" (instance $inference
    (export "chat-stream" (type $chat-stream (sub resource)))
    (export "[constructor]chat-stream"
      (func (param "init" u32) (result (own $chat-stream))))
    (export "[method]chat-stream.next"
      (func (param "self" (borrow $chat-stream)) (result (option string))))))
  (alias export $inference "chat-stream" (type $chat-stream))
  (core func $drop (canon resource.drop $chat-stream))
  (core func $open (canon lower (func $inference "[constructor]chat-stream")))""",
    '$inference "[method]chat-stream.next"',
    "next",
    "(param i32 i32)",
)


def _with_streams(run: str) -> bytes:
    """``run`` may call ``$open`` (number -> stream), ``$next`` (stream, address), and ``$drop``."""
    text = function_skill(run, imports=_STREAMS)
    text = text.replace(
        _STREAMS.core_import,
        _STREAMS.core_import
        + '(import "host" "open" (func $open (param i32) (result i32)))'
        + '(import "host" "drop" (func $drop (param i32)))',
    )
    text = text.replace(
        _STREAMS.argument,
        _STREAMS.argument + '(export "open" (func $open)) (export "drop" (func $drop))',
    )
    return bytes(wat2wasm(text))


def ask() -> bytes:
    """Hands its input to select-language and returns the answer."""
    return bytes(wat2wasm(function_skill(_ASK + _ANSWER, imports=LANGUAGE)))


def ask_then_loop() -> bytes:
    """Makes one call, and never ends."""
    loop = "(loop $again (br $again)) unreachable"
    return bytes(wat2wasm(function_skill(_ASK + loop, imports=LANGUAGE)))


def wide_stream(size: int) -> bytes:
    """Writes items of so many bytes for ever."""
    run = "(call $begin) (loop $next (call $append) (br $next)) unreachable"
    return bytes(wat2wasm(message_stream(run, text=b"x" * size)))


def read_stream() -> bytes:
    """Opens a stream with 7, and returns the last event before its end."""
    return _with_streams(f"""
      (local.set $i (call $open (i32.const 7)))
      (loop $more
        (call $next (local.get $i) (i32.const {ANSWER}))
        (if (i32.load8_u (i32.const {ANSWER})) (then
          (local.set $ptr (i32.load (i32.const {ANSWER + 4})))
          (local.set $len (i32.load (i32.const {ANSWER + 8})))
          (br $more))))
      (call $drop (local.get $i))
      (call $ok (local.get $ptr) (local.get $len))""")


def open_streams(count: int) -> bytes:
    """Opens that many streams, and keeps them."""
    return _with_streams(f"""
      (loop $more
        (drop (call $open (i32.const 0)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $i) (i32.const {count}))))
      (call $ok (local.get $ptr) (local.get $len))""")


def stream_storm() -> bytes:
    """Opens and drops streams for ever: each asks for work of the kernel, and waits for nothing."""
    return _with_streams("""
      (loop $more (call $drop (call $open (i32.const 0))) (br $more))
      unreachable""")
