from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharia_kernel.drivers.inference.reasoning import Piece, ThinkParser, split_reasoning


@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("plain", None, "plain"),
        ("", None, ""),
        ("<think>why</think>because", "why", "because"),
        ("<think>why</think>\n\nbecause\n", "why", "\n\nbecause\n"),
        ("\n <think>why</think>because", "why", "because"),
        ("\n plain", None, "\n plain"),
        ("<think></think>because", None, "because"),
        ("<think>why</think>", "why", ""),
        ("<think>never ends", "never ends", None),
        ("<think>never ends</thin", "never ends</thin", None),
        ("<think>", None, None),
        ("<thin", None, "<thin"),
        ("<thinking>no tag</thinking>", None, "<thinking>no tag</thinking>"),
        ("so <think>why</think>", None, "so <think>why</think>"),
        ("</think>because<think>", None, "</think>because<think>"),
        ("<think>a</think>b<think>c</think>d", "a", "b<think>c</think>d"),
        ("<think>a<think>b</think>c", "a<think>b", "c"),
        ("<think>1 < 2 </ 3</think>x", "1 < 2 </ 3", "x"),
    ],
)
def test_a_whole_message_is_split(text: str, reasoning: str | None, content: str | None) -> None:
    assert split_reasoning(text) == (reasoning, content)


def test_text_is_held_back_only_while_it_may_be_a_tag() -> None:
    parser = ThinkParser()
    assert parser.feed(" <thi") == []
    assert parser.feed("nk>why") == [Piece("why", reasoning=True)]
    assert parser.feed(" not</") == [Piece(" not", reasoning=True)]
    assert parser.feed("b></think") == [Piece("</b>", reasoning=True)]
    assert parser.feed(">yes") == [Piece("yes", reasoning=False)]
    assert parser.transparent
    assert parser.finish() == []


def test_what_is_held_back_at_the_end_comes_out() -> None:
    parser = ThinkParser()
    assert parser.feed("\n<thi") == []
    assert parser.finish() == [Piece("\n<thi", reasoning=False)]


def texts(pieces: list[Piece]) -> tuple[str, str]:
    return (
        "".join(piece.text for piece in pieces if piece.reasoning),
        "".join(piece.text for piece in pieces if not piece.reasoning),
    )


@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<", "</", "think", ">", " ", "\n", "a", "é"]),
        max_size=12,
    ).map("".join),
    st.data(),
)
def test_cuts_do_not_matter(text: str, data: st.DataObject) -> None:
    reasoning, content = split_reasoning(text)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    bounds = [0, *cuts, len(text)]
    for parts in (
        [text[start:stop] for start, stop in pairwise(bounds)],
        list(text),
    ):
        parser = ThinkParser()
        pieces = [piece for part in parts for piece in parser.feed(part)] + parser.finish()
        assert texts(pieces) == (reasoning or "", content or "")
        assert all(piece.text for piece in pieces)
