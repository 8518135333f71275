"""Projects as ``pharia-sdk new`` makes them: their tests, and their components in a kernel."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pharia_kernel import cli as kernel_cli
from sdk_components import component
from tests.drivers.retrieval import embedding_server
from tests.integration.csi.support import fill_index
from tests.support.kernel import NATIVE_TOOLS, KernelProcess, temporary_home
from tests.support.llm import Llm
from tools.build_skills import CACHE, ENVIRONMENTS, prepare
from typer.testing import CliRunner

from pharia_kernel_sdk.cli.main import app
from pharia_kernel_sdk.cli.new import NewError, Template, create

pytestmark = pytest.mark.timeout(900, func_only=True)
in_kernel = pytest.mark.asyncio(loop_scope="session")

PYTHON = [template for template in Template if template.value.startswith("python")]
PROJECTS = CACHE / "sdk" / "templates"
SEARCHED = f"{PROJECTS / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
"""Programs that only these tests need may be kept with the cached builds."""


def name_of(template: Template) -> str:
    return f"new_{template.value}".replace("-", "_")


def project(template: Template) -> Path:
    """A project of the template, at a place that stays the same for the caches of builds."""
    folder = PROJECTS / name_of(template)
    fresh = PROJECTS / f".{name_of(template)}.{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    files = create(name_of(template), template, fresh)
    for file in files:
        target = folder / file
        content = (fresh / file).read_bytes()
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    shutil.rmtree(fresh)
    return folder


@pytest.mark.parametrize("options", [[], ["--skill-component"]], ids=["python", "component"])
@pytest.mark.parametrize("template", PYTHON)
def test_the_tests_of_python_projects_pass(template: Template, options: list[str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=project(template), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


# --- other languages


class Missing(Exception):
    """A toolchain is not on this machine."""


def tool(name: str) -> str:
    found = shutil.which(name, path=SEARCHED)
    if found is None:
        raise Missing(f"the program {name} is missing")
    return found


def jco() -> str:
    tool("npm")
    prepare("componentize-js", lambda _: None)
    return str(ENVIRONMENTS / "componentize-js" / "node_modules" / ".bin" / "jco")


def rust_commands() -> list[list[str]]:
    cargo = tool("cargo")
    library = subprocess.run(
        [tool("rustc"), "--print", "target-libdir", "--target", "wasm32-wasip2"],
        capture_output=True,
        text=True,
    )
    if not Path(library.stdout.strip() or "-").is_dir():
        raise Missing("the Rust target wasm32-wasip2 is missing")
    target = ["--target", "wasm32-wasip2"]
    return [[cargo, "test", "--quiet"], [cargo, "build", "--quiet", "--release", *target]]


def c_commands() -> list[list[str]]:
    tool("wit-bindgen")
    if importlib.util.find_spec("ziglang") is None:
        raise Missing("the package ziglang is missing")
    make = tool("make")
    compiler = f"WASM_CC={sys.executable} -m ziglang cc -target wasm32-wasi"
    return [[make, "test"], [make, f"{name_of(Template.C)}.wasm", f"JCO={jco()}", compiler]]


def typescript_commands() -> list[list[str]]:
    npm = tool("npm")
    install = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund"]
    return [install, [npm, "test"], [npm, "run", "build"]]


OTHERS = {
    Template.TYPESCRIPT: (typescript_commands, "."),
    Template.RUST: (rust_commands, "target/wasm32-wasip2/release"),
    Template.C: (c_commands, "."),
}


def made(template: Template) -> Path:
    """The component of a project in another language, whose tests passed.

    It is kept as long as the template stays the same. Raises ``Missing``.
    """
    folder = project(template)
    files = create(name_of(template), template, folder.with_name(f".key-{os.getpid()}"))
    shutil.rmtree(folder.with_name(f".key-{os.getpid()}"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.encode() + b"\0" + (folder / file).read_bytes() + b"\0")
    kept = PROJECTS / f"{name_of(template)}-{digest.hexdigest()[:16]}.wasm"
    if not kept.exists():
        commands, place = OTHERS[template]
        for command in commands():
            run(command, folder)
        shutil.copyfile(folder / place / f"{name_of(template)}.wasm", kept)
    return kept


def run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "PATH": SEARCHED}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="session")
def others() -> dict[Template, Path | str]:
    """Components by template, or why there is none."""
    components: dict[Template, Path | str] = {}
    for template in OTHERS:
        try:
            components[template] = made(template)
        except Missing as error:
            components[template] = str(error)
    return components


def required(others: dict[Template, Path | str], template: Template) -> Path:
    found = others[template]
    if isinstance(found, Path):
        return found
    if os.environ.get("CI"):
        pytest.fail(found)
    pytest.skip(found)


# --- in a kernel


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def deployed(
    llm: Llm, others: dict[Template, Path | str]
) -> AsyncGenerator[KernelProcess, None]:
    """All projects in a kernel that has a model, tools and documents."""
    settings = {"openai_inference__url": llm.url, "openai_inference__token": llm.token}
    config = """
[inference-providers.embeddings]
type = "openai"
url = "{url}"
token = "{token}"

[document-index]
directory = "index"
embedding-provider = "embeddings"
embedding-model = "{model}"
"""
    async with embedding_server.running_embedding_server() as url:
        with temporary_home(namespaces={"dev": NATIVE_TOOLS}, engines=1, **settings) as home:
            with (home.folder / "config.toml").open("a") as file:
                token, model = embedding_server.TOKEN, embedding_server.MODEL
                file.write(config.format(url=url, token=token, model=model))
            for template in PYTHON:
                folder = project(template)
                built = await asyncio.to_thread(component, name_of(template), folder)
                home.deploy(name_of(template), built)
            for template, path in others.items():
                if isinstance(path, Path):
                    home.deploy(name_of(template), path)
            async with home.running() as kernel:
                await fill_index(kernel)
                yield kernel


async def answer(kernel: KernelProcess, template: Template, input_: Any) -> Any:
    response = await kernel.run(name_of(template), input_)
    assert response.status_code == 200, response.text
    return response.json()


@in_kernel
async def test_python_function(deployed: KernelProcess, llm: Llm) -> None:
    output = await answer(deployed, Template.PYTHON_FUNCTION, {"topic": "rain", "model": llm.model})
    assert output["haiku"]


@in_kernel
async def test_python_stream(deployed: KernelProcess, llm: Llm) -> None:
    input_ = {"text": "A story.", "model": llm.model}
    stream = await deployed.stream(name_of(Template.PYTHON_STREAM), input_)
    assert stream.text
    assert stream.end["tokens"] > 0


@in_kernel
async def test_python_rag(deployed: KernelProcess, llm: Llm) -> None:
    index = {"namespace": "dev", "collection": "animals", "index": "sections"}
    input_ = {"question": "Which animals bark?", "index": index, "model": llm.model}
    output = await answer(deployed, Template.PYTHON_RAG, input_)
    assert output["answer"]
    assert output["sources"]


@in_kernel
async def test_python_agent(deployed: KernelProcess, llm: Llm) -> None:
    input_ = {"task": "What is 1 + 2?", "model": llm.model}
    stream = await deployed.stream(name_of(Template.PYTHON_AGENT), input_)
    assert stream.text, stream.response.text


@in_kernel
@pytest.mark.parametrize("template", [Template.TYPESCRIPT, Template.RUST])
async def test_typescript_and_rust(
    deployed: KernelProcess, llm: Llm, others: dict[Template, Path | str], template: Template
) -> None:
    required(others, template)
    output = await answer(deployed, template, {"topic": "rain", "model": llm.model})
    assert output["haiku"]
    metadata = (await deployed.metadata(name_of(template))).json()
    assert metadata["description"] == "Writes a haiku."
    refused = await deployed.run(name_of(template), {"topic": 3})
    assert refused.status_code in (400, 422), refused.text


@in_kernel
async def test_c(deployed: KernelProcess, others: dict[Template, Path | str]) -> None:
    required(others, Template.C)
    refused = await deployed.run(name_of(Template.C), {"topic": "rain"})
    assert refused.status_code in (400, 422)
    assert "expected a text" in refused.json()["detail"]
    output = await answer(deployed, Template.C, "rain")
    assert isinstance(output, str)
    assert output


# --- the command


@pytest.mark.parametrize("command", ["pharia-sdk new", "pharia-kernel skill new"])
def test_the_command_says_what_it_made(command: str, tmp_path: Path) -> None:
    program = app if command.startswith("pharia-sdk") else kernel_cli.app
    target = tmp_path / "project"
    arguments = [*command.split()[1:], "rain-check", "--template", "rust"]
    done = CliRunner().invoke(program, [*arguments, "--folder", str(target)])
    assert done.exit_code == 0, done.output
    assert "a rust skill" in done.output
    assert "wit/skill.wit" in done.output
    assert 'name = "rain_check"' in (target / "Cargo.toml").read_text()
    assert "my_skill" not in "".join(f.read_text() for f in target.rglob("*") if f.is_file())


@pytest.mark.parametrize("name", ["Rain", "1st", "a b", "class", "json", "../x", "tests", ""])
def test_names_that_can_not_be_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(NewError, match=r"Choose another|can't be the name of a skill"):
        create(name, Template.RUST, tmp_path / "project")
    assert not (tmp_path / "project").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = CliRunner().invoke(app, ["new", "rain", "--folder", str(tmp_path)])
    assert done.exit_code == 1
    assert "exists already" in done.output
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_the_kernels_command_needs_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    done = CliRunner().invoke(kernel_cli.app, ["skill", "new", "rain"])
    assert done.exit_code == 1
    assert "Install pharia-kernel-sdk in the environment of the kernel" in done.output
