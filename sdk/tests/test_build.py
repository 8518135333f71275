"""The build: what it finds out, what it refuses, and that it always writes the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from pharia_kernel import wit
from pharia_kernel.engine.inspector import inspect
from sdk_components import SKILLS, component

from pharia_kernel_sdk.build import project, wasm
from pharia_kernel_sdk.build.component import Built, build, metadata_of
from pharia_kernel_sdk.build.errors import BuildError
from pharia_kernel_sdk.build.function_imports import function_imports

pytestmark = pytest.mark.timeout(200, func_only=True)

HEADER = "from pharia_kernel_sdk import Csi, skill\n"
BODY = "\n@skill\ndef run(csi: Csi, input: str) -> str:\n    return input\n"


def written(folder: Path, source: str, name: str = "mine.py") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(dedent(source))
    return file


def built(folder: Path, source: str) -> Built:
    file = written(folder, source)
    return build(project.find(str(file)), folder / "out.wasm")


def refused(folder: Path, source: str) -> str:
    with pytest.raises(BuildError) as caught:
        built(folder, source)
    assert not (folder / "out.wasm").exists()
    return str(caught.value)


def test_the_wit_is_the_kernels() -> None:
    text = (Path(project.__file__).parents[1] / "wit" / "skill.wit").read_text()
    assert text == wit.text(wit.newest_stable())


def test_metadata_is_beside_the_component() -> None:
    metadata = metadata_of(component("story").read_bytes())
    assert metadata is not None
    assert (metadata["kind"], metadata["name"]) == ("message-stream", "story")
    assert metadata["description"] == "Tells a story."
    assert metadata["input_schema"]["required"] == ["mode"]
    assert metadata["output_schema"]["required"] == ["finish_reason"]
    assert metadata_of(wasm.COMPONENT) is None


def test_a_component_is_small_and_of_the_newest_line() -> None:
    binary = component("greet").read_bytes()
    assert len(binary) < 25_000_000
    info = inspect(binary)
    assert (info.kind.value, info.wit_version) == ("function", wit.newest_stable())
    assert b".debug_info" not in binary


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    """Wherever they lie, and whenever they were written."""
    results: list[Built] = []
    for name in ("one", "two"):
        copy = tmp_path / name
        shutil.copytree(SKILLS, copy, ignore=shutil.ignore_patterns("__pycache__"))
        os.utime(copy / "faulty.py", (1, len(results)))
        output = tmp_path / f"{name}.wasm"
        results.append(build(project.find("faulty.py", copy), output))
    first, second = (result.file.read_bytes() for result in results)
    assert first == second
    assert "statistics" in results[0].modules
    assert not results[0].warnings


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def run(:\n", "mine.py:1: SyntaxError: invalid syntax\n    def run(:"),
        (HEADER + "x = 1 / 0\n", "mine.py:2: ZeroDivisionError: division by zero\n    x = 1 / 0"),
        (HEADER + "import absent_module\n" + BODY, "No module named 'absent_module'"),
        (
            HEADER + "import absent.one\n" + BODY,
            "`absent` is neither beside the skill nor installed",
        ),
        (HEADER, "has no skill. Decorate a function"),
        (HEADER + BODY + BODY.replace("run", "walk"), "has 2 skills: `run` (line 3), `walk`"),
        (HEADER + "@skill\ndef run(csi, input: str) -> str: ...\n", "is not annotated as Csi"),
        (HEADER + "import os\nos._exit(3)\n", "ended Python itself (status 3)"),
    ],
)
def test_mistakes_are_found_under_plain_python(tmp_path: Path, source: str, said: str) -> None:
    assert said in refused(tmp_path, source)


def test_a_compiled_package_is_named_with_advice(tmp_path: Path) -> None:
    said = refused(tmp_path, HEADER + "import numpy\n" + BODY)
    assert "mine.py needs `numpy" in said
    assert "is compiled for this machine" in said
    assert "do small calculations in plain Python" in said
    assert said.endswith("\n  mine.py:2 in <module>: import numpy")


def test_a_module_that_components_lack_is_named_with_advice(tmp_path: Path) -> None:
    said = refused(tmp_path, HEADER + "import ssl\n" + BODY)
    assert "`_ssl` does not work in components" in said
    assert "a component has no network" in said


def test_a_call_while_importing_is_refused(tmp_path: Path) -> None:
    source = HEADER + dedent("""
        import sys
        if sys.platform == "wasi":
            from pharia_kernel_sdk.guest.wasm_csi import WasmCsi
            WasmCsi().list_tools()
    """)
    assert "calls `list-tools` of the kernel while it is imported" in refused(
        tmp_path, source + BODY
    )


def test_an_import_that_will_fail_later_is_a_warning(tmp_path: Path) -> None:
    source = HEADER + BODY.replace("return", "import ssl\n    return")
    (warning,) = built(tmp_path, source).warnings
    assert warning.startswith("mine.py:5: `ssl` ")
    assert "a component has no network" in warning


def test_what_a_module_prints_is_seen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    built(tmp_path, HEADER + "print('a', 'word')\n" + BODY)
    assert "a word" in capfd.readouterr().err


def test_imports_in_functions_are_found(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        import top
        def f():
            import a.b, c as d
            from .near import x
            from e import f as g
            def inner():
                from ..far import *
        """,
        "p/q/mine.py",
    )
    found = function_imports(file, "p.q.mine")
    assert {imported.name for imported in found if imported.certain} == {
        "a.b", "c", "p.q.near", "e", "p.far",
    }  # fmt: skip
    assert {imported.name for imported in found if not imported.certain} == {"p.q.near.x", "e.f"}


def test_packages_and_dotted_names(tmp_path: Path) -> None:
    written(tmp_path, "", "pack/__init__.py")
    written(tmp_path, "WORD = 'x'", "pack/near.py")
    source = HEADER + "from .near import WORD\nfrom pack import near\n" + BODY
    written(tmp_path, source, "pack/mine.py")
    by_file = project.find("pack/mine.py", tmp_path)
    assert by_file == project.find("pack.mine", tmp_path)
    result = build(by_file, tmp_path / "out.wasm")
    assert result.modules == ["pack", "pack.mine", "pack.near"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent.py", "no file absent.py"),
        ("absent", "no skill `absent`"),
        ("./absent", "no skill `./absent`"),
        ("", "`` is neither a Python file"),
        ("/tmp", "`/tmp` is neither a Python file"),
    ],
)
def test_what_is_not_there(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(BuildError, match=said):
        project.find(name, tmp_path)


# --- the command


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pharia_kernel_sdk", "build", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
    )


def test_the_command_reports_without_asking(tmp_path: Path) -> None:
    shutil.copy(SKILLS / "greet.py", tmp_path)
    done = command(tmp_path, "greet.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("greet.wasm: function skill `greet`, ")
    assert " MB, WIT 0.4.0, built in " in done.stdout
    assert (tmp_path / "greet.wasm").read_bytes() == component("greet").read_bytes()


def test_the_command_fails_in_one_paragraph(tmp_path: Path) -> None:
    written(tmp_path, HEADER + "x = nothing\n")
    done = command(tmp_path, "mine")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"{tmp_path}/mine.py:2: NameError" in done.stderr
    assert "Traceback" in command(tmp_path, "mine", "-v").stderr


def test_metadata_keeps_the_order_of_the_fields(tmp_path: Path) -> None:
    source = HEADER + dedent("""
        from typing import TypedDict

        class Input(TypedDict):
            second: str
            first: str
    """)
    result = built(tmp_path, source + BODY.replace("input: str", "input: Input"))
    section = wasm.custom_section(result.file.read_bytes(), "pharia-skill-metadata")
    assert section is not None
    assert list(json.loads(section)["input_schema"]["properties"]) == ["second", "first"]
