import hashlib
import os
from io import BufferedReader
from pathlib import Path

import pytest

from pharia_kernel.errors import SkillLoadError, SkillUnavailable
from pharia_kernel.skills.registry import file as module
from pharia_kernel.skills.registry.base import Snapshot
from pharia_kernel.skills.registry.file import FileRegistry, FileSignature


@pytest.fixture
def registry(tmp_path: Path) -> FileRegistry:
    directory = tmp_path / "skills"
    directory.mkdir()
    return FileRegistry(directory)


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def test_names_are_those_of_regular_wasm_files(registry: FileRegistry) -> None:
    for name in ("greet.wasm", "my.skill.wasm", "ünï.wasm", "two words.wasm"):
        (registry.directory / name).write_bytes(b"")
    for name in (
        "README.md",
        ".hidden.wasm",
        ".wasm",
        "~greet.wasm",
        "#x.wasm",
        "a.wasm~",
        "A.WASM",
    ):
        (registry.directory / name).write_bytes(b"")
    (registry.directory / "directory.wasm").mkdir()
    (registry.directory / "directory.wasm" / "deep.wasm").write_bytes(b"")
    os.mkfifo(registry.directory / "pipe.wasm")
    (registry.directory / os.fsdecode(b"bad\xff.wasm")).write_bytes(b"")
    (registry.directory / "line\nbreak.wasm").write_bytes(b"")

    assert await registry.names() == {"greet", "my.skill", "ünï", "two words"}


async def test_links_count_as_long_as_they_stay_inside(
    registry: FileRegistry, tmp_path: Path
) -> None:
    (registry.directory / "real.wasm").write_bytes(b"inside")
    (registry.directory / "alias.wasm").symlink_to("real.wasm")
    (tmp_path / "outside.wasm").write_bytes(b"outside")
    (registry.directory / "escape.wasm").symlink_to(tmp_path / "outside.wasm")
    (registry.directory / "dangling.wasm").symlink_to("nothing.wasm")
    (registry.directory / "loop.wasm").symlink_to("loop.wasm")

    assert await registry.names() == {"real", "alias"}
    assert (await registry.read("alias", "latest")).wasm == b"inside"
    with pytest.raises(SkillUnavailable, match="link out of"):
        await registry.read("escape", "latest")
    with pytest.raises(SkillUnavailable, match="can't be read"):
        await registry.read("loop", "latest")


@pytest.mark.parametrize("name", ["../outside", "..", "sub/skill", "a\\b", "nul\0", "", "a" * 300])
async def test_names_cannot_escape(registry: FileRegistry, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.wasm").write_bytes(b"outside")
    with pytest.raises(SkillUnavailable):
        await registry.read(name, "latest")


async def test_a_missing_directory_has_no_names(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await FileRegistry(tmp_path / "nothing").names()
    with pytest.raises(SkillUnavailable, match=r"no file `greet\.wasm`"):
        await FileRegistry(tmp_path / "nothing").read("greet", "latest")


async def test_the_digest_is_of_the_bytes(registry: FileRegistry) -> None:
    (registry.directory / "greet.wasm").write_bytes(b"component")

    blob = await registry.read("greet", "latest")

    assert blob.wasm == b"component"
    assert blob.snapshot.digest == sha256(b"component")
    assert (await registry.snapshot("greet", "any tag")).digest == sha256(b"component")
    assert blob.snapshot.size == 9


async def test_a_pipe_does_not_block(registry: FileRegistry) -> None:
    os.mkfifo(registry.directory / "pipe.wasm")
    with pytest.raises(SkillUnavailable, match="not a regular file"):
        await registry.snapshot("pipe", "latest")


async def test_a_huge_file_is_refused(
    registry: FileRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_COMPONENT_SIZE", 3)
    (registry.directory / "big.wasm").write_bytes(b"1234")
    with pytest.raises(SkillLoadError, match="4 bytes; 3 are allowed"):
        await registry.read("big", "latest")


async def test_a_fresh_file_is_in_doubt_even_with_the_same_times(registry: FileRegistry) -> None:
    path = registry.directory / "greet.wasm"
    path.write_bytes(b"one")
    snapshot = await registry.snapshot("greet", "latest")
    assert await registry.changed("greet", "latest", snapshot)


async def test_an_old_file_is_told_unchanged_by_its_signature(
    registry: FileRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = registry.directory / "greet.wasm"
    path.write_bytes(b"one")
    monkeypatch.setattr(module, "_DOUBTFUL_AGE_NS", -1)  # as if everything was written long ago
    snapshot = await registry.snapshot("greet", "latest")
    assert not await registry.changed("greet", "latest", snapshot)

    path.write_bytes(b"other")
    assert await registry.changed("greet", "latest", snapshot)


async def test_a_copy_with_the_same_times_is_noticed(
    registry: FileRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DOUBTFUL_AGE_NS", -1)
    path, copy = registry.directory / "greet.wasm", registry.directory / "copy"
    path.write_bytes(b"one")
    snapshot = await registry.snapshot("greet", "latest")
    copy.write_bytes(b"two")
    times = path.stat()
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    copy.rename(path)

    assert await registry.changed("greet", "latest", snapshot)
    assert (await registry.snapshot("greet", "latest")).digest == sha256(b"two")


async def test_a_file_that_changes_while_it_is_read_is_read_again(registry: FileRegistry) -> None:
    path = registry.directory / "greet.wasm"
    path.write_bytes(b"half")

    class WrittenMeanwhile(FileRegistry):
        reads = 0

        def _digest(self, file: BufferedReader, signature: FileSignature) -> Snapshot:
            result = super()._digest(file, signature)
            self.reads += 1
            if self.reads == 1:
                with path.open("ab") as writer:
                    writer.write(b" and the rest")
            return result

    busy = WrittenMeanwhile(registry.directory)
    assert (await busy.snapshot("greet", "latest")).digest == sha256(b"half and the rest")
    assert busy.reads == 2


async def test_a_file_that_never_rests_is_unavailable(
    registry: FileRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.0)
    path = registry.directory / "greet.wasm"
    path.write_bytes(b"")

    class Growing(FileRegistry):
        def _digest(self, file: BufferedReader, signature: FileSignature) -> Snapshot:
            with path.open("ab") as writer:
                writer.write(b"more")
            return super()._digest(file, signature)

    with pytest.raises(SkillUnavailable, match="still being written"):
        await Growing(registry.directory).snapshot("greet", "latest")
