from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from pharia_kernel.csi.types import SelectLanguageRequest
from pharia_kernel.drivers.language import CODES, LanguageSelector
from pharia_kernel.errors import CallTooExpensive, InvalidCsiRequest
from tests.drivers.workers.support import watched

SUPPORTED = (
    "afr ara aze bel ben bos bul cat ces cym dan deu ell eng epo est eus fas fin fra gle guj heb "
    "hin hrv hun hye ind isl ita jpn kat kaz kor lat lav lit lug mar mkd mon mri msa nld nno nob "
    "pan pol por ron rus slk slv sna som sot spa sqi srp swa swe tam tel tgl tha tsn tso tur ukr "
    "urd vie xho yor zho zul"
)
GERMAN = "Ich möchte wissen, in welcher Sprache dieser Satz geschrieben ist."
ENGLISH = "I would like to know in which language this sentence is written."


@pytest.fixture
async def selector() -> AsyncGenerator[LanguageSelector, None]:
    selector = LanguageSelector()
    yield selector
    await selector.close()


async def select(selector: LanguageSelector, text: str, *languages: str) -> str | None:
    return await selector.select(SelectLanguageRequest(text, list(languages)))


def test_the_languages_are_those_that_skills_may_name() -> None:
    assert set(SUPPORTED.split()) == CODES
    assert len(CODES) == 75


async def test_the_language_of_the_text_is_selected(selector: LanguageSelector) -> None:
    assert await select(selector, GERMAN, "eng", "deu") == "deu"
    assert await select(selector, ENGLISH, "eng", "deu") == "eng"
    assert await select(selector, "これは日本語の文です。", "eng", "jpn", "deu") == "jpn"


@pytest.mark.parametrize("code", SUPPORTED.split())
async def test_every_code_is_accepted(selector: LanguageSelector, code: str) -> None:
    # A text without letters is in no language, so no model is loaded.
    assert await select(selector, "12345", code, "eng") is None


@pytest.mark.parametrize("text", ["", " ", "12345 !?", "これは日本語の文です。"])
async def test_there_may_be_no_winner(selector: LanguageSelector, text: str) -> None:
    assert await select(selector, text, "eng", "deu") is None


async def test_a_close_race_has_no_winner(selector: LanguageSelector) -> None:
    assert await select(selector, "winter", "eng", "deu") is None


async def test_duplicates_do_no_harm(selector: LanguageSelector) -> None:
    assert await select(selector, GERMAN, "deu", "eng", "deu", "deu") == "deu"


async def test_a_single_language_is_a_question_of_yes_or_no(selector: LanguageSelector) -> None:
    assert await select(selector, ENGLISH, "eng") == "eng"
    assert await select(selector, "Это русский текст.", "eng") is None


async def test_an_empty_list_is_refused(selector: LanguageSelector) -> None:
    with pytest.raises(InvalidCsiRequest, match="`languages` is empty"):
        await select(selector, ENGLISH)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("en", "`en` in `languages` is not supported: did you mean `eng`"),
        ("german", "did you mean `deu`"),
        ("ENG", "did you mean `eng`"),
        ("nor", "did you mean `nob`"),
        ("engl", "did you mean `eng`"),
        ("qqq", "one of the ISO 639-3 codes afr, ara, .*, zul"),
        ("", "one of the ISO 639-3 codes"),
    ],
)
async def test_an_unknown_code_is_named(selector: LanguageSelector, code: str, said: str) -> None:
    with pytest.raises(InvalidCsiRequest, match=said):
        await select(selector, ENGLISH, "deu", code)


async def test_an_endless_code_does_not_make_an_endless_error(selector: LanguageSelector) -> None:
    with pytest.raises(InvalidCsiRequest) as refused:
        await select(selector, ENGLISH, "x" * 1_000_000)
    assert len(refused.value.detail) < 1000


async def test_the_event_loop_goes_on_meanwhile(selector: LanguageSelector) -> None:
    await select(selector, ENGLISH, "eng", "deu")
    selecting = await watched(select(selector, ENGLISH * 10_000, "eng", "deu"))
    assert selecting.result == "eng"
    assert selecting.turns > 1000


async def test_a_text_that_is_not_unicode_is_refused(selector: LanguageSelector) -> None:
    with pytest.raises(InvalidCsiRequest, match="character 1"):
        await select(selector, "a\ud800", "eng", "deu")


async def test_a_caller_that_leaves_does_not_cost_the_loaded_models(
    selector: LanguageSelector,
) -> None:
    await select(selector, ENGLISH, "eng", "deu")
    pids = selector.pool.pids
    leaving = [
        asyncio.create_task(select(selector, ENGLISH * 1000, "eng", "deu")) for _ in range(50)
    ]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.wait(leaving)
    assert all(task.cancelled() for task in leaving)
    assert await select(selector, GERMAN, "eng", "deu") == "deu"
    assert selector.pool.pids == pids


async def test_work_that_takes_too_long_is_ended() -> None:
    selector = LanguageSelector(time_limit=0.5)
    with pytest.raises(CallTooExpensive, match=r"find out the language within 0\.5 s"):
        await select(selector, ENGLISH * 100_000, "eng", "deu")
    await selector.close()
