"""Images that come with a released SDK, in the place of those that are made on first use."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path

import pytest
from sdk_components import SKILLS

from pharia_kernel_sdk.build import archives, images, project, shipping
from pharia_kernel_sdk.build.component import build
from pharia_kernel_sdk.build.errors import BuildError
from pharia_kernel_sdk.declaration import Kind

pytestmark = pytest.mark.timeout(200, func_only=True)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The component that is built on the image in the cache of the tests."""
    output = tmp_path_factory.mktemp("expected") / "greet.wasm"
    built_on(output)
    return output.read_bytes()


@pytest.fixture(scope="module")
def archive(expected: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That image, packed."""
    assert expected  # building it has listed the image's objects
    image = images.get("function", "plain")
    folder = tmp_path_factory.mktemp("shipped")
    return archives.pack(image.folder, images.key("function", "plain"), folder, preset=0)


@pytest.fixture
def cache(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache. The SDK has the archive, and there is no toolchain."""
    monkeypatch.setattr(archives, "FOLDER", archive.parent)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setenv("PHARIA_SDK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def built_on(output: Path) -> list[str]:
    """Builds a component; what was reported meanwhile."""
    reported: list[str] = []
    build(project.find("greet.py", SKILLS), output, reported.append)
    return reported


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
    }


def test_components_are_the_same_and_need_no_toolchain(
    cache: Path, archive: Path, tmp_path: Path, expected: bytes
) -> None:
    before = state(archive.parent)
    reported = built_on(tmp_path / "greet.wasm")
    assert (tmp_path / "greet.wasm").read_bytes() == expected
    assert not [line for line in reported if "Preparing" in line]
    assert state(archive.parent) == before, "packages may be on read-only disks"
    assert [path.name for path in cache.iterdir()] == [archive.name.removesuffix(".tar.xz")]


def test_they_go_before_those_that_were_made_here(cache: Path, archive: Path) -> None:
    """Each one that is made is different; with the shipped one all machines build the same."""
    own = cache / images.key("function", "plain")
    own.mkdir(parents=True)
    (own / "image.wasm").write_bytes(b"made before the release was installed")
    folder = cache / archive.name.removesuffix(".tar.xz")
    assert images.get("function", "plain") == images.Image(folder)


@pytest.mark.parametrize("kind", ["function", "message-stream"])
def test_another_toolchain_makes_images_of_its_own(
    cache: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images.Plain, "inputs", lambda _: "0.25.99")
    assert images.existing(kind, "plain") is None
    with pytest.raises(BuildError, match="componentize-py is missing"):
        images.get(kind, "plain")


def test_what_is_not_shipped_is_made(cache: Path) -> None:
    assert images.existing("message-stream", "plain") is None
    with pytest.raises(BuildError, match="componentize-py is missing"):
        images.get("message-stream", "plain")


def test_a_python_without_xz_makes_them(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lzma", None)
    assert images.existing("function", "plain") is None
    with pytest.raises(BuildError, match="componentize-py is missing"):
        images.get("function", "plain")


def test_many_may_unpack_at_once(cache: Path, archive: Path) -> None:
    found: list[Path] = []
    together = threading.Barrier(4, timeout=60)

    def unpack() -> None:
        together.wait()
        found.append(archives.unpacked(archive, cache))

    threads = [threading.Thread(target=unpack) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == 4
    (folder,) = set(found)
    assert sorted(path.name for path in folder.iterdir()) == [
        "image.wasm",
        "objects.json",
        "standard",
    ]
    assert list(cache.iterdir()) == [folder], "nothing unfinished is left"


def test_a_cache_that_was_tidied_is_filled_again(cache: Path, archive: Path) -> None:
    folder = archives.unpacked(archive, cache)
    (folder / "image.wasm").unlink()
    assert archives.unpacked(archive, cache) == folder
    assert (folder / "image.wasm").is_file()


def test_an_archive_that_was_cut_off_leaves_nothing(
    cache: Path, archive: Path, tmp_path: Path
) -> None:
    cut = tmp_path / archive.name
    cut.write_bytes(archive.read_bytes()[:1_000_000])
    with pytest.raises(EOFError):
        archives.unpacked(cut, cache)
    assert list(cache.iterdir()) == []


def test_the_same_image_makes_the_same_archive(tmp_path: Path) -> None:
    packed: list[Path] = []
    for name in ("one", "two"):
        image = tmp_path / name
        (image / "standard" / "json").mkdir(parents=True)
        for file in ("image.wasm", "objects.json", "standard/json/__init__.py", "standard/abc.py"):
            (image / file).write_text(file)
            os.utime(image / file, (len(packed), len(packed)))
        (image / "wasmtime-50.0.1.bin").write_text("of this machine")
        packed.append(archives.pack(image, "plain-function-1", tmp_path / f"{name}-packed"))
    first, second = packed
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
    folder = archives.unpacked(first, tmp_path / "cache")
    assert not (folder / "wasmtime-50.0.1.bin").exists()
    assert (folder / "standard" / "json" / "__init__.py").is_file()


def test_shipping_replaces_what_was_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making an image takes long; here each is a small one, and the release makes real ones."""

    def make(place: Path, kind: Kind, toolchain: str) -> images.Image:
        (place / "standard").mkdir(parents=True)
        (place / "image.wasm").write_text(f"{kind} {toolchain}")
        (place / "objects.json").write_text('{"python": [3, 14], "objects": []}')
        return images.Image(place)

    monkeypatch.setattr(images, "make", make)
    (tmp_path / "plain-function-0-0.tar.xz").write_bytes(b"of the last release")
    shipping.main([str(tmp_path)])
    monkeypatch.setattr(archives, "FOLDER", tmp_path)
    monkeypatch.setenv("PHARIA_SDK_CACHE", str(tmp_path / "cache"))
    kinds: tuple[Kind, ...] = ("function", "message-stream")
    assert len(list(tmp_path.glob("*.tar.xz"))) == len(kinds)
    for kind in kinds:
        assert images.get(kind, "plain").component.read_text() == f"{kind} plain"
    assert images.existing("function", "pydantic") is None
