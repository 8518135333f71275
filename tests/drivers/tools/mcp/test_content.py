from __future__ import annotations

import base64

import mcp_types
import pytest
from msgspec import Raw

from pharia_kernel.csi.types import Argument
from pharia_kernel.drivers.tools.mcp.content import MAX_DEPTH, decode_arguments, text_of
from pharia_kernel.errors import ToolFailed


def test_arguments_are_json_values() -> None:
    given = [Argument("a", Raw(b"1")), Argument("b", Raw(b'{"c": [null, "\xc3\xa5"]}'))]
    assert decode_arguments(given) == {"a": 1, "b": {"c": [None, "å"]}}


@pytest.mark.parametrize("value", [b"", b"{", b"nope", b'"\xff"', b"1 2"])
def test_argument_that_is_not_json_is_named(value: bytes) -> None:
    with pytest.raises(ToolFailed, match=r"^Argument city is not valid JSON\.$"):
        decode_arguments([Argument("a", Raw(b"1")), Argument("city", Raw(value))])


@pytest.mark.parametrize(
    ("levels", "allowed"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False), (100_000, False)]
)
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_limited(levels: int, allowed: bool, opening: bytes, closing: bytes) -> None:
    argument = Argument("deep", Raw(opening * levels + b"1" + closing * levels))
    if allowed:
        assert decode_arguments([argument])
    else:
        with pytest.raises(ToolFailed, match="Argument deep is nested more than 100 levels"):
            decode_arguments([argument])


def test_request_for_input_is_a_failure() -> None:
    result = mcp_types.InputRequiredResult(request_state="s")
    with pytest.raises(ToolFailed, match="Tool book asks for input"):
        text_of("book", result)


def test_structured_content_explains_a_failure_without_text() -> None:
    result = mcp_types.CallToolResult(content=[], structured_content={"why": "no"}, is_error=True)
    with pytest.raises(ToolFailed, match=r'^{"why":"no"}$'):
        text_of("book", result)


@pytest.mark.parametrize("size", range(5))
def test_size_of_an_image_is_that_of_its_bytes(size: int) -> None:
    data = base64.b64encode(bytes(size)).decode()
    image = mcp_types.ImageContent(data=data, mime_type="image/png")
    (output,) = text_of("draw", mcp_types.CallToolResult(content=[image]))
    assert output.text == f"[image: image/png, {size} bytes]"


def test_unknown_parts_of_a_description_are_left_out() -> None:
    link = mcp_types.ResourceLink(uri="file:///a", name="a")
    (output,) = text_of("find", mcp_types.CallToolResult(content=[link]))
    assert output.text == "[resource link: file:///a, a]"
