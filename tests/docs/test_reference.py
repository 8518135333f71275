"""``docs/reference`` says what the code says, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import griffe
import pytest

from pharia_kernel import errors, wit
from pharia_kernel.errors import KernelError
from pharia_kernel.shell.auth.routes import ROUTES
from tools.build_skills import ROOT
from tools.reference import library
from tools.reference import markdown as md
from tools.reference.__main__ import FOLDER, main
from tools.reference.definitions import Sections
from tools.reference.schemas import fields, spelled

HEADING = re.compile(r"^#{1,6} (.+)$", re.M)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
CODE = re.compile(r"^```.*?^```$", re.M | re.S)
WIT_NAME = re.compile(
    r"^ {0,4}(?:(?:world|interface|record|variant|enum|resource|type) )?([a-z0-9-]+)"
    r"(?= \{|: func| =)",
    re.M,
)
ELSEWHERE = {
    "COLUMNS": "30",
    "TERM": "xterm-256color",
    "FORCE_COLOR": "1",
    "PYTHONHASHSEED": "7",
    "LC_ALL": "C",
    "TZ": "Asia/Tokyo",
    "KERNEL_ADDRESS": "127.0.0.1:1",
    "PHARIA_KERNEL_ADDRESS": "http://kernel.example",
    "PHARIA_AI_TOKEN": "secret",
}
"""Another terminal, another machine, another configuration."""


def page(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


def anchors(text: str) -> Counter[str]:
    return Counter(md.anchor(title) for title in HEADING.findall(CODE.sub("", text)))


# --- the pages ------------------------------------------------------------------------------------


def test_pages_are_what_the_code_says_now(tmp_path: Path) -> None:
    environ = {**os.environ, **ELSEWHERE, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tools.reference", "--output", str(tmp_path / "new")]
    run = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=200
    )
    assert run.returncode == 0, run.stderr
    written = {file.name: file.read_text("utf-8") for file in (tmp_path / "new").iterdir()}
    there = {file.name: file.read_text("utf-8") for file in FOLDER.iterdir()}
    stale = sorted(n for n in written.keys() | there.keys() if written.get(n) != there.get(n))
    assert not stale, f"docs/reference is stale ({', '.join(stale)}): run `make reference`"


def test_check_tells_which_pages_are_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tools.reference.__main__.pages", lambda: {"a.md": "A\n", "b.md": "B\n"})
    assert main(["--output", str(tmp_path)]) == 0
    assert main(["--output", str(tmp_path), "--check"]) == 0
    (tmp_path / "b.md").write_text("by hand")
    capsys.readouterr()
    assert main(["--output", str(tmp_path), "--check"]) == 1
    assert capsys.readouterr().err == "error: stale: b.md; run `make reference`\n"
    assert (tmp_path / "b.md").read_text() == "by hand"


@pytest.mark.parametrize("name", sorted(file.name for file in FOLDER.iterdir()))
def test_links_lead_somewhere(name: str) -> None:
    text = page(name)
    headings = anchors(text)
    assert [anchor for anchor, count in headings.items() if count > 1] == []
    for target, anchor in LINK.findall(CODE.sub("", text)):
        file = FOLDER / target if target else FOLDER / name
        assert file.is_file(), target
        assert not anchor or anchors(file.read_text("utf-8"))[anchor] == 1, f"{target}#{anchor}"


@pytest.mark.parametrize("name", sorted(file.name for file in FOLDER.iterdir()))
def test_pages_are_the_same_on_every_machine(name: str) -> None:
    text = page(name)
    assert str(ROOT) not in text
    assert str(Path.home()) not in text
    assert "0x" not in CODE.sub("", text), "the address of an object"
    assert "``" not in CODE.sub("", text), "a literal of reStructuredText"


# --- nothing is left out --------------------------------------------------------------------------


def test_every_error_is_on_the_page_once() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, KernelError)
    ]
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| ([^|]+) \|", page("errors.md"), re.M)
    assert sorted(rows) == sorted((kind.code, str(kind.status), kind.title) for kind in kinds)


def test_every_route_is_on_the_page_with_its_permission() -> None:
    text = page("http.md")
    for (method, path), demand in ROUTES.items():
        if "{asset}" in path or "{function}" in path:
            continue
        section = text.partition(f"\n### `{method} {path}`\n")[2].partition("\n### ")[0]
        assert section, f"{method} {path}"
        assert (
            all(f"`{each}`" in section for each in demand)
            if isinstance(demand, tuple)
            else ("Permission: none" in section)
        )


def test_every_declaration_of_the_wit_is_on_the_page() -> None:
    text = wit.text(wit.newest_stable())
    declared = WIT_NAME.findall(text)
    titles = [title.strip("`").rpartition(".")[2] for title in HEADING.findall(page("wit.md"))]
    titles = [title.removeprefix("Interface `") for title in titles]
    assert len(declared) > 50
    assert Counter(declared) == Counter(titles) - Counter(["WIT", "Worlds"])


def test_commands_of_all_levels_are_on_the_page() -> None:
    titles = {title.strip("`") for title in HEADING.findall(page("cli.md"))}
    assert {"pharia-sdk build", "pharia-kernel serve", "pharia-kernel documents ingest"} <= titles


# --- what the code has to say ---------------------------------------------------------------------


def test_a_public_name_must_be_on_the_page() -> None:
    with pytest.raises(library.UndocumentedError, match=r"On no page: .*ChatParams"):
        Sections(["skill"]).check("")


def test_a_method_without_a_section_is_missed_if_others_have_one() -> None:
    with pytest.raises(library.UndocumentedError, match=r"On no page: .*Csi\.search"):
        Sections(["Csi.chat"]).check()


def test_a_definition_without_docstring_is_an_error() -> None:
    with pytest.raises(library.UndocumentedError, match="has no docstring"):
        library.docs(griffe.Function("silent"))


SAMPLE = """
from dataclasses import dataclass, field

class _Base:
    def said(self):
        'Says.'

class Base:
    def promised(self):
        'Promises.'

class Owner(_Base, Base):
    def promised(self): ...
    def silent(self): ...
    def _private(self): ...

def short(self, a: int, *, b='x', **rest: str) -> None: ...
def long(first: LONG, *more: int, b: LONG = 1): ...

@dataclass
class Record:
    a: int
    b: list[int] = field(default_factory=list)
""".replace("LONG", "L" * 50)


@pytest.fixture
def sample(tmp_path: Path) -> griffe.Object | griffe.Alias:
    (tmp_path / "sample.py").write_text(SAMPLE)
    return griffe.load("sample", search_paths=[tmp_path], allow_inspection=False)


def test_methods_need_docstrings_unless_a_base_has_them(sample: griffe.Module) -> None:
    owner = sample["Owner"]
    assert [method.name for method in library.methods(owner)] == ["said"]
    assert list(library.undocumented(owner)) == ["sample.Owner.silent"]


# --- how it is said -------------------------------------------------------------------------------


def test_signatures(sample: griffe.Module) -> None:
    short, long = sample["short"], sample["long"]
    assert library.signature(short, "s") == 's(a: int, *, b = "x", **rest: str) -> None'
    type_ = "L" * 50
    lines = f"l(\n    first: {type_},\n    *more: int,\n    b: {type_} = 1,\n)"
    assert library.signature(long, "l") == lines
    in_one = f"l(first: {type_}, *more: int, b: {type_} = 1)"
    assert library.short_signature(long, "l") == in_one


def test_dataclasses_are_made_from_their_fields(sample: griffe.Module) -> None:
    assert library.constructor(sample["Record"]) == "Record(a: int, b: list[int] = [])"
    assert library.constructor(sample["Owner"]) == ""


def test_tables_have_no_empty_columns() -> None:
    assert md.table(("A", "B"), [("a|b", ""), ("c\nd", "")]) == "| A |\n| --- |\n| a\\|b |\n| c d |"
    assert md.table(("A", "B"), []) == ""


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string", "nullable": True}, "text or null"),
        ({"type": "integer", "minimum": 0, "maximum": 2**64}, "integer (at least 0)"),
        ({"type": "string", "minLength": 1, "maxLength": 64}, "text (1 to 64 long)"),
        ({"type": "array", "items": {"type": "string"}}, "list of texts"),
        ({"type": "array", "items": {"$ref": "#/x/Tool"}}, "list of [Tool](#tool)"),
        ({"anyOf": [{"enum": ["a", None]}, {"type": "boolean"}]}, '`"a"` or boolean'),
        ({"type": "object", "additionalProperties": {"type": "number"}},
         "object whose values are numbers"),
        ({}, "any JSON"),
    ],
)  # fmt: skip
def test_schemas_in_words(schema: dict[str, object], words: str) -> None:
    assert spelled(schema) == words


def test_fields_of_nested_objects_have_paths() -> None:
    inner = {"type": "object", "properties": {"b": {"type": "string", "description": "B."}}}
    schema = {
        "required": ["a"],
        "properties": {"a": inner, "c": {"type": "array", "items": inner, "default": []}},
    }
    assert list(fields(schema)) == [
        ("a", "object", True, "", ""),
        ("a.b", "text", False, "", "B."),
        ("c", "list of objects", False, "`[]`", ""),
        ("c[].b", "text", False, "", "B."),
    ]
