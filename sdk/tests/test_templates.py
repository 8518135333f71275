"""Projects as ``pharia-sdk new`` makes them: their tests, and their components in a kernel."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import pytest_asyncio
from pharia_kernel import cli as kernel_cli
from sdk_components import component
from tests.drivers.retrieval import embedding_server
from tests.integration.csi.support import fill_index
from tests.support.kernel import NATIVE_TOOLS, KernelProcess, temporary_home
from tests.support.llm import Llm
from tools.build_skills import CACHE, ENVIRONMENTS, ZIG, prepare
from tools.rust_tools import TARGET, WIT_BINDGEN_HOME, TargetUnavailable, check_target, wit_bindgen
from tools.tool_cache import ToolUnavailable
from typer.testing import CliRunner

from pharia_kernel_sdk.cli.main import app
from pharia_kernel_sdk.cli.new import NewError, Template, create
from pharia_kernel_sdk.pytest_plugin import ScriptedCsi, SkillRunner

pytestmark = pytest.mark.timeout(900, func_only=True)
in_kernel = pytest.mark.asyncio(loop_scope="session")

PYTHON = [template for template in Template if template.value.startswith("python")]
PROJECTS = CACHE / "sdk" / "templates"


def name_of(template: Template) -> str:
    return f"new_{template.value}".replace("-", "_")


def project(template: Template) -> Path:
    """A project of the template, at a place that stays the same for the caches of builds."""
    folder = PROJECTS / name_of(template)
    for file, content in fresh(template).items():
        target = folder / file
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    return folder


def fresh(template: Template) -> dict[str, bytes]:
    """The files of a new project."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "project"
        files = create(name_of(template), template, target)
        return {file: (target / file).read_bytes() for file in files}


@pytest.mark.parametrize("options", [[], ["--skill-component"]], ids=["python", "component"])
@pytest.mark.parametrize("template", PYTHON)
def test_the_tests_of_python_projects_pass(template: Template, options: list[str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=project(template), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


# --- other languages


@dataclass(frozen=True)
class Language:
    """The commands of a project. The functions raise ``ToolUnavailable``."""

    tests: Callable[[], list[list[str]]]
    build: Callable[[], list[list[str]]]
    place: str = "."
    """The folder of the component."""


def program(name: str, how_to_get_it: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ToolUnavailable(f"the program {name} is missing: {how_to_get_it}")
    return found


def npm() -> str:
    return program("npm", "install Node.js 20 or newer (https://nodejs.org)")


def cargo() -> str:
    return program("cargo", "install Rust (https://rustup.rs)")


def gnu_make() -> str:
    return program("make", "install GNU Make, on Debian the package make")


def _install() -> list[str]:
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    return [npm(), "install", *options]


def typescript_tests() -> list[list[str]]:
    return [_install(), [npm(), "test"]]


def typescript_build() -> list[list[str]]:
    return [_install(), [npm(), "run", "build"]]


def rust_tests() -> list[list[str]]:
    return [[cargo(), "test", "--quiet"]]


def rust_build() -> list[list[str]]:
    check_target()
    return [[cargo(), "build", "--quiet", "--release", "--target", TARGET]]


def c_tests() -> list[list[str]]:
    program("cc", "install a C compiler, on Debian the package gcc")
    return [[gnu_make(), "test"]]


def c_build() -> list[list[str]]:
    make = gnu_make()
    wit_bindgen(report=lambda _: None)
    npm()
    prepare("componentize-js", report=lambda _: None)
    jco = ENVIRONMENTS / "componentize-js" / "node_modules" / ".bin" / "jco"
    prepare("zig", report=lambda _: None)
    compiler = f"WASM_CC={' '.join(ZIG.compiler)} -target wasm32-wasi"
    return [[make, f"{name_of(Template.C)}.wasm", f"JCO={jco}", compiler]]


def go() -> str:
    return program("go", "install Go 1.25 or newer (https://go.dev/dl/)")


def go_tests() -> list[list[str]]:
    return [[gnu_make(), "test", f"GO={go()}"]]


def go_build() -> list[list[str]]:
    make = gnu_make()
    wit_bindgen(report=lambda _: None)
    return [_install(), [make, f"{name_of(Template.GO)}.wasm", f"GO={go()}"]]


LANGUAGES = {
    Template.TYPESCRIPT: Language(typescript_tests, typescript_build),
    Template.RUST: Language(rust_tests, rust_build, f"target/{TARGET}/release"),
    Template.GO: Language(go_tests, go_build),
    Template.C: Language(c_tests, c_build),
}


def run(command: list[str], folder: Path) -> None:
    path = f"{WIT_BINDGEN_HOME}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def unavailable(error: ToolUnavailable) -> NoReturn:
    """Skips the test, or fails it in continuous integration, where all is provided: but for the
    target of rustc, which comes from a server that is not within reach everywhere."""
    if os.environ.get("CI") and not isinstance(error, TargetUnavailable):
        pytest.fail(str(error))
    pytest.skip(str(error))


@pytest.mark.parametrize("template", LANGUAGES)
def test_the_tests_of_projects_in_other_languages_pass(template: Template) -> None:
    try:
        commands = LANGUAGES[template].tests()
    except ToolUnavailable as error:
        unavailable(error)
    for command in commands:
        run(command, project(template))


def built(template: Template) -> Path:
    """The component of a project in another language.

    It is kept as long as the template stays the same. Raises ``ToolUnavailable``.
    """
    folder = project(template)
    digest = hashlib.sha256()
    for file, content in sorted(fresh(template).items()):
        digest.update(file.encode() + b"\0" + content + b"\0")
    kept = PROJECTS / f"{name_of(template)}-{digest.hexdigest()[:16]}.wasm"
    if not kept.exists():
        language = LANGUAGES[template]
        for command in language.build():
            run(command, folder)
        shutil.copyfile(folder / language.place / f"{name_of(template)}.wasm", kept)
    return kept


Built = dict[Template, Path | ToolUnavailable]
"""Components by template, or why there is none."""


@pytest.fixture(scope="session")
def others() -> Built:
    components: Built = {}
    for template in LANGUAGES:
        try:
            components[template] = built(template)
        except ToolUnavailable as error:
            components[template] = error
    return components


def required(others: Built, template: Template) -> None:
    if isinstance(found := others[template], ToolUnavailable):
        unavailable(found)


MUCH = """
	for range 100 {
		if said := chat(input.Model, "much"); said != strings.Repeat("é", 100_000) {
			panic("this is not what the model said")
		}
	}
"""


def test_go_collects_garbage_while_the_kernel_writes(
    csi: ScriptedCsi, run_skill: SkillRunner
) -> None:
    """What the kernel writes is 20 MB here, many times of what starts a collection."""
    folder = PROJECTS / "go_with_much_to_collect"
    shutil.rmtree(folder, ignore_errors=True)
    create(name_of(Template.GO), Template.GO, folder)
    source = folder / "haiku" / "haiku.go"
    head = "func Write(input Input, chat Chat) Output {"
    assert head in source.read_text()
    source.write_text(source.read_text().replace(head, head + MUCH))
    try:
        install, build = LANGUAGES[Template.GO].build()
    except ToolUnavailable as error:
        unavailable(error)
    run(install, project(Template.GO))
    (folder / "node_modules").symlink_to(project(Template.GO) / "node_modules")
    run(build, folder)
    csi.on("chat", contains="much").always("é" * 100_000)
    csi.on("chat", contains="rain").answer("Drops")

    assert run_skill(folder / f"{name_of(Template.GO)}.wasm", {"topic": "rain"}) == {
        "haiku": "Drops"
    }


# --- in a kernel


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def deployed(llm: Llm, others: Built) -> AsyncGenerator[KernelProcess, None]:
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
@pytest.mark.parametrize("template", [Template.TYPESCRIPT, Template.RUST, Template.GO])
async def test_typescript_rust_and_go(
    deployed: KernelProcess, llm: Llm, others: Built, template: Template
) -> None:
    required(others, template)
    output = await answer(deployed, template, {"topic": "rain", "model": llm.model})
    assert output["haiku"]
    metadata = (await deployed.metadata(name_of(template))).json()
    assert metadata["description"] == "Writes a haiku."
    refused = await deployed.run(name_of(template), {"topic": 3})
    assert refused.status_code in (400, 422), refused.text


@in_kernel
async def test_c(deployed: KernelProcess, others: Built) -> None:
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
    assert (target / ".gitignore").is_file()
    assert f"cd {target}\n  rustup target add wasm32-wasip2" in done.output
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
