"""Texts that are measured with: all of them come with Python or stand here."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from pydoc_data.topics import topics

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

_VOCABULARY = 8000

LANGUAGES = {
    "deu": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft "
    "und Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen.",
    "eng": "All human beings are born free and equal in dignity and rights. They are endowed with "
    "reason and conscience and should act towards one another in a spirit of brotherhood.",
    "fra": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont "
    "doués de raison et de conscience et doivent agir les uns envers les autres dans un esprit de "
    "fraternité.",
    "ita": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati "
    "di ragione e di coscienza e devono agire gli uni verso gli altri in spirito di fratellanza.",
    "spa": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como "
    "están de razón y conciencia, deben comportarse fraternalmente los unos con los otros.",
}
"""Article 1 of the Universal Declaration of Human Rights, by ISO 639-3 code."""


@cache
def prose() -> str:
    """Half a megabyte of English with some code: what Python's ``help`` says."""
    return "\n\n".join(topics[name] for name in sorted(topics))


def passage(number: int, length: int) -> str:
    """``length`` characters from another place for each number; it begins with the number."""
    text = prose()
    start = number * 7919 % (len(text) - length)
    return f"{number} {text[start : start + length]}"[:length]


def write_tokenizer(file: Path) -> None:
    """A ``tokenizer.json`` of HuggingFace's kind, trained on ``prose``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([prose()], trainer)
    tokenizer.save(str(file))
