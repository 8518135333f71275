"""Which functions are skills, and what is said of those that are not."""

# Annotations are objects here and texts in the other tests: both have to work.
from dataclasses import dataclass
from typing import Any

import pytest

from pharia_kernel_sdk import Csi, MessageWriter, SkillDefinitionError, message_stream, skill
from pharia_kernel_sdk.declaration import declaration_of, declared_in
from pharia_kernel_sdk.testing import MessageRecorder, StubCsi


@dataclass
class End:
    reason: str


@skill
def shout(csi: Csi, input: str) -> list[str]:
    """Says it louder.

    Much louder.
    """
    return [input.upper()]


@message_stream
def echo(csi: Csi, writer: MessageWriter[End], input: str) -> None:
    writer.begin_message()
    writer.append_to_message(input)
    writer.end_message(End("done"))


@message_stream
def silent(csi: Csi, writer: MessageWriter[None], input: dict[str, Any]) -> None:
    pass


def test_a_skill_is_still_its_function() -> None:
    assert shout(StubCsi(), "hi") == ["HI"]
    recorder = MessageRecorder[End]()
    echo(StubCsi(), recorder, "hi")
    (message,) = recorder.messages()
    assert (message.content, message.payload) == ("hi", End("done"))


def test_metadata_of_a_function() -> None:
    declaration = declaration_of(shout)
    assert declaration is not None
    metadata = declaration.metadata()
    assert metadata.pop("sdk").startswith("pharia-kernel-sdk ")
    assert metadata == {
        "kind": "function",
        "name": "shout",
        "description": "Says it louder.\n\nMuch louder.",
        "input_schema": {"type": "string"},
        "output_schema": {"type": "array", "items": {"type": "string"}},
        "wit_version": "0.4.0",
    }


def test_metadata_of_streams_has_the_payload_as_output() -> None:
    with_payload, without = declaration_of(echo), declaration_of(silent)
    assert with_payload is not None and without is not None
    assert with_payload.metadata()["output_schema"]["required"] == ["reason"]
    assert without.metadata()["output_schema"] is None
    assert without.metadata()["kind"] == "message-stream"


def test_imported_skills_are_not_a_modules_own() -> None:
    found = declared_in(globals(), __name__)
    assert {declaration.name for declaration in found} == {"shout", "echo", "silent"}
    assert declared_in(globals(), "another") == []


def _no_input(csi: Csi) -> str:
    return ""


def _no_csi(csi: str, input: str) -> str:
    return ""


def _no_type(csi: Csi, input) -> str:  # type: ignore[no-untyped-def]
    return ""


def _no_result(csi: Csi, input: str):  # type: ignore[no-untyped-def]
    return ""


def _no_json(csi: Csi, input: bytes) -> str:
    return ""


async def _asynchronous(csi: Csi, input: str) -> str:
    return ""


def _undefined(csi: Csi, input: "Undefined") -> str:  # type: ignore[name-defined]  # noqa: F821
    return ""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (_no_input, "has 1 parameters, but a skill has two"),
        (_no_csi, "`csi`, its first parameter, is not annotated as Csi"),
        (_no_type, "`input` has no type"),
        (_no_result, "does not say what it returns"),
        (_no_json, "`input` can't be JSON: bytes has no JSON form"),
        (_asynchronous, "`_asynchronous` is async; what shall run at once"),
        (_undefined, "has an annotation that is not defined at this point"),
        (print, "A skill is a plain function"),
    ],
)
def test_what_is_wrong_with_a_function(function: Any, said: str) -> None:
    with pytest.raises(SkillDefinitionError) as caught:
        skill(function)
    assert said in str(caught.value)
    assert ".." not in str(caught.value)


def test_errors_name_file_line_and_the_right_form() -> None:
    with pytest.raises(SkillDefinitionError) as caught:
        skill(_no_csi)
    place = f"{__file__}:{_no_csi.__code__.co_firstlineno}: `_no_csi`"
    assert str(caught.value).startswith(place)
    assert "def _no_csi(csi: Csi, input: Input) -> Output" in str(caught.value)


def _no_writer(csi: Csi, writer: str, input: str) -> None: ...


def _returns(csi: Csi, writer: MessageWriter[None], input: str) -> str:
    return ""


def _binary(csi: Csi, writer: MessageWriter[bytes], input: str) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (shout, "has 2 parameters, but a message stream has three"),
        (_no_writer, "`writer` is not annotated as MessageWriter"),
        (_returns, "returns something, but a message stream only writes"),
        (_binary, "the payload of its writer can't be JSON"),
    ],
)
def test_what_is_wrong_with_a_stream(function: Any, said: str) -> None:
    with pytest.raises(SkillDefinitionError) as caught:
        message_stream(function)
    assert said in str(caught.value)
