"""Small tokenizers, made by the library itself."""

from __future__ import annotations

from functools import cache

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

WORDS = "the kernel runs skills and every skill asks it for what the world outside has to tell"
TEXT = (
    "The kernel runs skills. Every skill asks it for what it needs!\n\n"
    "Größe zählt: 日本語のテキスト, עברית, 👩‍👩‍👧 and e\u0301 are text, too.\r\n"
    "What the world outside has to tell is asked for by the kernel.\n"
)
WHITE_SPACE = (
    "".join(map(chr, [*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)]))
    + "\u2028\u2029\u202f\u205f\u3000"
)
"""Unicode's property of that name. To Python's ``strip`` some control characters are white too."""


@cache
def tiny_tokenizer() -> Tokenizer:
    """Byte-level BPE, trained on a few words, with a special token in front of each text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(
        [WORDS, TEXT] * 10,
        trainers.BpeTrainer(
            vocab_size=400,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<s>"],
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return tokenizer


@cache
def tiny_json() -> bytes:
    return tiny_tokenizer().to_str().encode()


@cache
def limited_json() -> bytes:
    """The same, with settings that falsify the number of tokens of a text."""
    tokenizer = Tokenizer.from_buffer(tiny_json())
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=64)
    return tokenizer.to_str().encode()


@cache
def picky_json() -> bytes:
    """Knows two words and fails on all others."""
    tokenizer = Tokenizer(models.WordLevel({"hello": 0, "world": 1}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer.to_str().encode()


def token_count(text: str) -> int:
    return len(tiny_tokenizer().encode(text, add_special_tokens=False).ids)
