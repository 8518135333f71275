from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime
from wasmtime.component import Component

from tools import build_skills
from tools.build_skills import BuildError, Skill, build

WAT_SKILLS = [s.name for s in build_skills.test_skills().values() if s.toolchain == "wat"]


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and no toolchains."""
    monkeypatch.setattr(build_skills, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(build_skills, "ENVIRONMENTS", tmp_path / "toolchains")
    return tmp_path / "cache"


def offer(monkeypatch: pytest.MonkeyPatch, *skills: Skill) -> None:
    monkeypatch.setattr(build_skills, "test_skills", lambda: {s.name: s for s in skills})


def wat(name: str, text: str) -> Skill:
    return Skill(name, "wat", {f"{name}.wat": text.encode()})


def test_what_is_built_is_not_built_again(cache: Path) -> None:
    first = build(["tiny_echo"])["tiny_echo"]
    state = first.stat()
    lines: list[str] = []
    assert build(["tiny_echo"], report=lines.append) == {"tiny_echo": first}
    assert first.stat() == state
    assert lines == ["1 of 1 skills are built already."]


def test_a_changed_source_gets_a_file_of_its_own(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, wat("a", "(component)"))
    old = build()["a"]
    offer(monkeypatch, wat("a", "(component (core module))"))
    new = build()["a"]
    assert old.read_bytes() != new.read_bytes()
    assert sorted(cache.iterdir()) == sorted([old, new])


def test_a_changed_world_gets_a_file_of_its_own() -> None:
    keys = {build_skills._key(Skill("a", "wat", {}, world)) for world in ("skill", "other")}
    assert len(keys) == 2


def test_an_unknown_name_is_refused_with_those_that_there_are(cache: Path) -> None:
    with pytest.raises(BuildError, match=r"No such skill: nonsense\. There are: .*tiny_echo"):
        build(["tiny_echo", "nonsense"])
    assert not cache.exists()


def test_a_broken_skill_is_named_and_the_others_are_built(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, wat("broken", "(component (nonsense))"), wat("good", "(component)"))
    with pytest.raises(BuildError, match=r"(?s)^broken could not be built with wat\..*nonsense"):
        build()
    assert [file.name.partition("-")[0] for file in cache.iterdir()] == ["good"]


def test_without_node_only_javascript_fails(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError, match=r"(?s)not built: greet_js\..*`npm` is missing.*Node\.js"):
        build(["greet_js", "tiny_echo"])
    assert build(["tiny_echo"])["tiny_echo"].exists()


def test_sources_of_all_skills_are_there() -> None:
    for skill in build_skills.test_skills().values():
        assert any(Path(source).stem == skill.name for source in skill.sources), skill.name
        assert build_skills._key(skill)


def test_out_gets_a_copy_and_is_left_alone_if_nothing_changed(tmp_path: Path) -> None:
    source, target = tmp_path / "a-0123.wasm", tmp_path / "skills" / "a.wasm"
    source.write_bytes(b"one")
    build_skills._publish(source, target)
    state = target.stat()
    build_skills._publish(source, target)
    assert target.stat() == state
    target.write_bytes(b"scribble")
    assert source.read_bytes() == b"one"
    build_skills._publish(source, target)
    assert target.read_bytes() == b"one"
    assert list(target.parent.iterdir()) == [target]


def test_output_of_a_failed_program_is_shown_from_both_ends() -> None:
    with pytest.raises(BuildError) as caught:
        build_skills._run(["sh", "-c", "seq 1000; exit 3"])
    lines = str(caught.value).splitlines()
    assert lines[1] == "1"
    assert "[...]" in lines
    assert lines[-1] == "1000"


@pytest.fixture(scope="module")
def hand_written() -> dict[str, bytes]:
    return {name: file.read_bytes() for name, file in build(WAT_SKILLS).items()}


def test_hand_written_skills_are_components_that_export_a_handler(
    hand_written: dict[str, bytes],
) -> None:
    engine = wasmtime.Engine()
    strangers = {"core_module", "empty_component", "other_world"}
    for name in hand_written.keys() - strangers:
        (export,) = Component(engine, hand_written[name]).type.exports(engine)
        interface = export.removeprefix("pharia:skill/").partition("@")[0]
        assert interface in ("skill-handler", "message-stream"), name


def test_strangers_are_what_they_are_named_for(hand_written: dict[str, bytes]) -> None:
    engine = wasmtime.Engine()
    assert wasmtime.Module(engine, hand_written["core_module"]).exports
    assert not list(Component(engine, hand_written["empty_component"]).type.exports(engine))
    assert list(Component(engine, hand_written["other_world"]).type.exports(engine)) == [
        "wasi:cli/run@0.2.0"
    ]
