"""A language model of half a megabyte: llama architecture, byte-level vocabulary, random weights.

It answers gibberish, but printable gibberish. No layer writes to the first two hidden dimensions.
One is a constant, so its column of the output matrix works as a bias per token: bytes outside
printable ASCII are unlikely, and the tag that opens a tool call is likely, so tool calls happen
when tools are offered. The other one is set after ``>``, which makes the end of the turn likely:
so an answer ends after a tool call.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from gguf.vocab import bytes_to_unicode

CONTEXT_LENGTH = 4096
BOS, END_OF_TURN, START_OF_TURN = "<|endoftext|>", "<|im_end|>", "<|im_start|>"
TOOL_CALL, TAG_END = "<tool_call>", ">"
MERGES = [("t", "h"), ("e", "r"), ("th", "e")]

CHAT_TEMPLATE = """\
{%- if tools %}
    {{- '<|im_start|>system\\nTools, as JSON:\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
    {{- '\\n</tools>\\nTo call one, answer:\\n' }}
    {{- '<tool_call>{"name": NAME, "arguments": OBJECT}</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content %}{{- message.content }}{%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- '<tool_call>{"name": "' + call.function.name + '", "arguments": ' }}
        {{- call.function.arguments | tojson }}
        {{- '}</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
"""ChatML with tool calls in tags; the server derives the grammar of a tool call from it."""

_WIDTH, _HEADS, _LAYERS, _FEED_FORWARD = 64, 4, 2, 128
_CERTAIN, _LIKELY, _UNLIKELY, _NEVER = 16.0, 2.0, -6.0, -40.0

Array = npt.NDArray[np.float32]


def cached_model(folder: Path) -> Path:
    """Path of the model, written first if it is not there yet; safe for several processes."""
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    path = folder / f"tiny-{version}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
        os.close(handle)
        write_model(Path(temporary))
        Path(temporary).replace(path)
    return path


def write_model(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    _add_architecture(writer)
    tokens = _add_vocabulary(writer)
    for name, values in _weights(tokens).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_architecture(writer: gguf.GGUFWriter) -> None:
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_vocabulary(writer: gguf.GGUFWriter) -> list[str]:
    special = [BOS, END_OF_TURN, START_OF_TURN]
    plain = [*bytes_to_unicode().values(), *(left + right for left, right in MERGES)]
    tokens = [*special, TOOL_CALL, *plain]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL] * len(special)
        + [gguf.TokenType.USER_DEFINED]
        + [gguf.TokenType.NORMAL] * len(plain)
    )
    writer.add_token_merges([f"{left} {right}" for left, right in MERGES])
    writer.add_bos_token_id(tokens.index(BOS))
    writer.add_eos_token_id(tokens.index(END_OF_TURN))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    return tokens


def _weights(tokens: list[str]) -> dict[str, Array]:
    random = np.random.default_rng(seed=1)

    def matrix(rows: int, columns: int) -> Array:
        return random.normal(0.0, columns**-0.5, (rows, columns)).astype(np.float32)

    def keeps_reserved(rows: int, columns: int) -> Array:
        values = matrix(rows, columns)
        values[:2] = 0.0
        return values

    ones = np.ones(_WIDTH, dtype=np.float32)
    embedding = matrix(len(tokens), _WIDTH)
    embedding[:, 0] = 1.0
    embedding[:, 1] = [token == TAG_END for token in tokens]
    output = matrix(len(tokens), _WIDTH)
    output[:, 0] = [_bias(token) for token in tokens]
    output[:, 1] = [_CERTAIN * (token == END_OF_TURN) for token in tokens]
    weights = {"token_embd.weight": embedding, "output_norm.weight": ones, "output.weight": output}
    for layer in range(_LAYERS):
        block = f"blk.{layer}."
        weights |= {
            f"{block}attn_norm.weight": ones,
            f"{block}attn_q.weight": matrix(_WIDTH, _WIDTH),
            f"{block}attn_k.weight": matrix(_WIDTH, _WIDTH),
            f"{block}attn_v.weight": matrix(_WIDTH, _WIDTH),
            f"{block}attn_output.weight": keeps_reserved(_WIDTH, _WIDTH),
            f"{block}ffn_norm.weight": ones,
            f"{block}ffn_gate.weight": matrix(_FEED_FORWARD, _WIDTH),
            f"{block}ffn_up.weight": matrix(_FEED_FORWARD, _WIDTH),
            f"{block}ffn_down.weight": keeps_reserved(_WIDTH, _FEED_FORWARD),
        }
    return weights


def _bias(token: str) -> float:
    if token == TOOL_CALL:
        return _LIKELY
    if token in (BOS, START_OF_TURN):
        return _NEVER
    if token in (END_OF_TURN, TAG_END) or not token.isascii():
        return _UNLIKELY
    return 0.0
