from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pharia_kernel.engine.api import Artifact, ComponentInfo, ComponentKind, EmbeddedMetadata
from pharia_kernel.engine.artifacts import ArtifactCache

INFO = ComponentInfo(ComponentKind.FUNCTION, "0.3.11")
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
CODE = b"machine code" * 100
HOUR = 3600.0


def cache(
    directory: Path, capacity: int = 1 << 20, fingerprint: str = "runtime-1"
) -> ArtifactCache:
    return ArtifactCache(directory, capacity, fingerprint)


def put(
    cache: ArtifactCache, digest: str, code: bytes = CODE, info: ComponentInfo = INFO
) -> Artifact:
    temporary = cache.temporary()
    temporary.write_bytes(code)
    return cache.store(digest, temporary, info)


def sidecar(artifact: Artifact) -> Path:
    return artifact.path.with_suffix(".json")


def visible(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def never(_path: Path) -> bool:
    return False


# --- hit and miss


def test_what_was_stored_is_found(tmp_path: Path) -> None:
    stored = put(cache(tmp_path), A)
    assert stored.path.read_bytes() == CODE
    assert (stored.digest, stored.size, stored.info) == (A, len(CODE), INFO)
    assert cache(tmp_path).find(A) == stored, "by the next kernel"


def test_what_a_newer_kernel_stored_with_more_facts_is_found(tmp_path: Path) -> None:
    both = cache(tmp_path)
    stored = put(both, A)
    content = json.loads(sidecar(stored).read_bytes())
    facts = json.dumps(content["facts"] | {"future": 1})
    mac = both._mac(stored.path, msgspec.Raw(facts.encode()))
    sidecar(stored).write_text(f'{{"facts": {facts}, "mac": "{mac}"}}')
    assert cache(tmp_path).find(A) == stored


def test_what_was_not_stored_is_not_found(tmp_path: Path) -> None:
    both = cache(tmp_path)
    put(both, A)
    assert both.find(B) is None


def test_an_empty_artifact_is_one_too(tmp_path: Path) -> None:
    both = cache(tmp_path)
    assert both.find(A) is None
    assert both.find(put(both, A, b"").digest) is not None


def test_another_runtime_has_artifacts_of_its_own(tmp_path: Path) -> None:
    old = cache(tmp_path)
    put(old, A)
    new = cache(tmp_path, fingerprint="runtime-2")
    assert new.find(A) is None
    put(new, A, b"new code")
    for runtime, code in ((old, CODE), (new, b"new code")):
        found = runtime.find(A)
        assert found
        assert found.path.read_bytes() == code


def test_storing_again_replaces(tmp_path: Path) -> None:
    both = cache(tmp_path)
    put(both, A)
    put(both, A, b"newer")
    found = both.find(A)
    assert found
    assert found.size == 5
    assert len(list(tmp_path.glob("*.cwasm"))) == 1


# --- notes of kernels that read less from components

STREAM = ComponentInfo(ComponentKind.MESSAGE_STREAM, "0.3.11")
DESCRIBED = msgspec.structs.replace(STREAM, embedded=EmbeddedMetadata("Tells a story."))


def put_by_an_old_kernel(cache: ArtifactCache, info: ComponentInfo) -> Artifact:
    """As it wrote before there were metadata in it."""
    stored = put(cache, A, info=info)
    content = json.loads(sidecar(stored).read_bytes())["facts"]
    del content["inspection"], content["info"]["embedded"]
    facts = json.dumps(content)
    mac = cache._mac(stored.path, msgspec.Raw(facts.encode()))
    sidecar(stored).write_text(f'{{"facts": {facts}, "mac": "{mac}"}}')
    return stored


def test_a_function_is_found_at_once(tmp_path: Path) -> None:
    both = cache(tmp_path)
    old = put_by_an_old_kernel(both, INFO)
    assert both.find(A) == old


def test_a_stream_is_read_again_but_not_compiled_again(tmp_path: Path) -> None:
    both = cache(tmp_path)
    old = put_by_an_old_kernel(both, STREAM)
    assert both.find(A) is None
    renewed = both.renew(A, DESCRIBED)
    assert renewed == msgspec.structs.replace(old, info=DESCRIBED)
    assert old.path.read_bytes() == CODE
    assert cache(tmp_path).find(A) == renewed


def test_only_what_is_there_can_be_renewed(tmp_path: Path) -> None:
    both = cache(tmp_path)
    assert both.renew(A, DESCRIBED) is None
    put_by_an_old_kernel(both, STREAM).path.write_bytes(b"other code")
    assert both.renew(A, DESCRIBED) is None


def test_what_is_complete_stays_as_it_is(tmp_path: Path) -> None:
    both = cache(tmp_path)
    stored = put(both, A, info=DESCRIBED)
    before = sidecar(stored).read_bytes()
    assert both.renew(A, DESCRIBED) == stored == both.find(A)
    assert sidecar(stored).read_bytes() == before


# --- damage and forgery


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit(
    change: Callable[[dict[str, object], dict[str, object]], object],
) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        content = json.loads(path.read_bytes())
        change(content, content["facts"])
        # As the kernel writes it, so that nothing else differs.
        path.write_text(json.dumps(content, separators=(",", ":")))

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.write_bytes(CODE[:-1]),
        lambda path: path.write_bytes(CODE + b"\0"),
        lambda path: path.write_bytes(b""),
    ],
    ids=["flipped", "truncated", "extended", "emptied"],
)
def test_a_damaged_artifact_is_removed(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    both = cache(tmp_path)
    artifact = put(both, A)
    damage(artifact.path)
    assert both.find(A) is None
    assert visible(tmp_path) == {"key"}
    put(both, A)
    assert both.find(A) == artifact, "after it was compiled again"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff{"),
        lambda path: path.write_text("[]"),
        edit(lambda content, _: content.update(mac="0" * 64)),
        edit(lambda content, _: content.update(mac="kein Ä")),
        edit(lambda content, _: content.pop("mac")),
        edit(lambda _, facts: facts.update(size=1)),
        edit(lambda _, facts: facts.update(fingerprint="other")),
        edit(lambda _, facts: facts.update(info={"kind": "message_stream", "wit_version": "0.4"})),
    ],
)
def test_a_damaged_sidecar_is_removed(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    both = cache(tmp_path)
    damage(sidecar(put(both, A)))
    assert both.find(A) is None
    assert visible(tmp_path) == {"key"}


def test_an_artifact_of_another_key_is_not_loaded(tmp_path: Path) -> None:
    """Someone who can write into the directory, but not read the key, brings code of his own."""
    foreign = put(cache(tmp_path / "foreign"), A, b"evil code")
    ours = cache(tmp_path / "ours")
    for path in (foreign.path, sidecar(foreign)):
        (tmp_path / "ours" / path.name).write_bytes(path.read_bytes())
    assert ours.find(A) is None
    assert visible(tmp_path / "ours") == {"key"}


def test_an_artifact_of_another_component_is_not_loaded(tmp_path: Path) -> None:
    both = cache(tmp_path)
    a, b = put(both, A, b"code of a"), put(both, B, b"code of b")
    b.path.write_bytes(a.path.read_bytes())
    sidecar(b).write_bytes(sidecar(a).read_bytes())
    assert both.find(B) is None
    assert both.find(A) == a


def test_a_damaged_key_makes_all_artifacts_foreign(tmp_path: Path) -> None:
    put(cache(tmp_path), A)
    (tmp_path / "key").write_bytes(b"short")
    renewed = cache(tmp_path)
    assert renewed.find(A) is None
    assert renewed.find(put(renewed, A).digest) is not None


def test_a_sidecar_without_its_artifact_is_a_miss(tmp_path: Path) -> None:
    both = cache(tmp_path)
    put(both, A).path.unlink()
    assert both.find(A) is None
    assert both.find(put(both, A).digest) is not None


# --- the directory


def test_nobody_else_may_read_or_write(tmp_path: Path) -> None:
    directory = tmp_path / "some" / "where"
    old_mask = os.umask(0)
    try:
        put(cache(directory), A)
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_a_directory_that_is_open_to_others_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    cache(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_an_unusable_directory_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        cache(tmp_path / "file")


def test_kernels_that_start_together_share_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other kernel starts just when this one has made its key, but not published it yet."""
    other: list[ArtifactCache] = []
    link = Path.hardlink_to

    def slow_link(self: Path, target: Path) -> None:
        monkeypatch.setattr(Path, "hardlink_to", link)
        other.append(cache(tmp_path))
        link(self, target)

    monkeypatch.setattr(Path, "hardlink_to", slow_link)
    mine = cache(tmp_path)
    put(mine, A)
    assert other[0].find(A) is not None
    assert visible(tmp_path) == {"key", *(path.name for path in tmp_path.glob(f"{A[7:]}*"))}


def test_a_file_system_without_hard_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: Path, _target: Path) -> None:
        raise PermissionError("not on this file system")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    put(cache(tmp_path), A)
    assert cache(tmp_path).find(A) is not None


# --- crashes


def test_a_crash_before_the_artifact_is_renamed_leaves_the_old_one(tmp_path: Path) -> None:
    both = cache(tmp_path)
    old = put(both, A)
    both.temporary().write_bytes(b"half of the n")
    assert cache(tmp_path).find(A) == old


def test_a_crash_between_the_renames_leaves_a_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = cache(tmp_path)
    temporary = broken.temporary()
    temporary.write_bytes(CODE)

    rename = Path.replace

    def crash(self: Path, target: Path) -> Path:
        if target.suffix == ".json":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", crash)
        broken.store(A, temporary, INFO)
    assert len(list(tmp_path.glob("*.cwasm"))) == 1
    after = cache(tmp_path)
    assert after.find(A) is None
    assert after.find(put(after, A).digest) is not None


def test_a_crash_between_the_renames_of_a_replacement_leaves_a_miss(tmp_path: Path) -> None:
    both = cache(tmp_path)
    old = put(both, A)
    new = both.temporary()
    new.write_bytes(b"new code")
    new.replace(old.path)
    assert both.find(A) is None


def test_leftovers_are_removed_when_they_are_old(tmp_path: Path) -> None:
    first = cache(tmp_path)
    whole = put(first, A)
    lonely = put(first, B)
    sidecar(lonely).unlink()
    temporary = first.temporary()
    cache(tmp_path)
    assert lonely.path.exists(), "another kernel may be about to finish it"
    assert temporary.exists()
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - 2 * HOUR,) * 2)
    assert cache(tmp_path).find(A) == whole
    assert visible(tmp_path) == {"key", whole.path.name, sidecar(whole).name}


# --- the capacity


def aged(cache: ArtifactCache, *digests: str) -> list[Artifact]:
    """Artifacts of 1,000 bytes, each used an hour after the one before."""
    result = []
    for i, digest in enumerate(digests):
        result.append(put(cache, digest, bytes(1000)))
        os.utime(sidecar(result[-1]), (time.time() - (10 - i) * HOUR,) * 2)
    return result


def test_what_fits_stays(tmp_path: Path) -> None:
    full = cache(tmp_path, capacity=3000)
    artifacts = aged(full, A, B, C)
    full.trim(never)
    assert [full.find(artifact.digest) for artifact in artifacts] == artifacts


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    full = cache(tmp_path, capacity=2999)
    aged(full, A, B, C)
    assert full.find(A), "which makes it the most recently used"
    full.trim(never)
    assert [full.find(digest) is not None for digest in (A, B, C)] == [True, False, True]
    assert len(visible(tmp_path)) == 5


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    full = cache(tmp_path, capacity=1000)
    used, *_ = aged(full, A, B, C)
    full.trim(lambda path: path == used.path)
    assert [full.find(digest) is not None for digest in (A, B, C)] == [True, False, False]


def test_a_capacity_of_nothing_removes_all(tmp_path: Path) -> None:
    none = cache(tmp_path, capacity=0)
    aged(none, A, B)
    none.trim(never)
    assert visible(tmp_path) == {"key"}


def test_discarding_is_idempotent(tmp_path: Path) -> None:
    both = cache(tmp_path)
    put(both, A)
    both.discard(A)
    both.discard(A)
    assert visible(tmp_path) == {"key"}
