"""A real Chromium in front of real kernels."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from pharia_kernel_sdk.build.wasm import custom
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    async_playwright,
)

from pharia_kernel.engine.embedded import SECTION
from tests.support.kernel import NATIVE_TOOLS, KernelProcess, temporary_home
from tests.support.llm import Llm, llm
from tools.build_skills import build, build_folder

__all__ = ["llm"]

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "console"
PATIENCE = 30_000
"""Milliseconds after which the browser stops to wait."""
_SKILLS = (
    "greet",
    "greet_02",
    "sleeper",
    "user_error",
    "trap",
    "stream_error",
    "infinite_stream",
    "two_messages",
)
TOLD = {
    "description": "Says something twice.\n\nWhatever it is.",
    "input_schema": {
        "type": "object",
        "properties": {"word": {"type": "string"}, "loud": {"type": "boolean", "default": False}},
        "required": ["word"],
    },
}
"""What a stream says of itself in a custom section: no world of streams has an export for it."""
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
BROKEN = """
[namespaces.broken]
path = "."
config-url = "{url}"
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The browser and the kernel live in one event loop."""
    browser_tests = Path(__file__).with_name("test_browser.py")
    for item in items:
        if item.path == browser_tests and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            # The first start of a kernel on a machine compiles: fixtures have limits of their own.
            item.add_marker(pytest.mark.timeout(180, func_only=True))


def missing(what: str) -> None:
    """Skip, except where everything has to be there."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """What the front end is built and tested with, installed as its lock file says."""
    npm = shutil.which("npm")
    if npm is None:
        missing("npm is not installed")
    installed = SOURCES / "node_modules"
    stamp = installed / ".installed"
    lock = (SOURCES / "package-lock.json").read_bytes()
    if not stamp.exists() or stamp.read_bytes() != lock:
        command = [str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, timeout=250)
        if done.returncode:
            missing(f"npm can't install the packages: {done.stderr[-500:]}")
        stamp.write_bytes(lock)
    return installed


@pytest.fixture(scope="session")
def axe(node_modules: Path) -> str:
    """Source of axe-core, which finds violations of the accessibility guidelines."""
    return (node_modules / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="session")
def components(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Some of the test skills, and those of this folder: a nested input, a stream with tools."""
    out = tmp_path_factory.mktemp("components")
    built = dict(build(_SKILLS))
    for folder in (Path(__file__).parent / "skills").iterdir():
        built[folder.name] = build_folder(folder, out)
    built["told"] = out / "told.wasm"
    built["told"].write_bytes(
        built["two_messages"].read_bytes() + custom(SECTION, json.dumps(TOLD).encode()).encode()
    )
    yield built
    shutil.rmtree(out)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kernel(components: dict[str, Path], llm: Llm) -> AsyncGenerator[KernelProcess, None]:
    """Everything that the console shows, and a namespace whose description is wrong."""
    settings = {"openai_inference__url": llm.url, "openai_inference__token": llm.token}
    with temporary_home(
        namespaces={"dev": NATIVE_TOOLS}, engines=1, console_runs=50, **settings
    ) as home:
        home.deploy_all(components)
        (home.folder / "broken-namespace.toml").write_text('skills = [{ nme = "greet" }]')
        with (home.folder / "config.toml").open("a") as config:
            url = (home.folder / "broken-namespace.toml").as_uri()
            config.write(BROKEN.format(url=url))
        async with home.running() as process:
            yield process


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncGenerator[Browser, None]:
    executable = shutil.which("chromium")
    if executable is None:
        missing("chromium is not installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable, args=list(_FLAGS), headless=True, chromium_sandbox=False
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncGenerator[BrowserContext, None]:
    """A browser that nobody has used before."""
    context = await browser.new_context(
        viewport={"width": 1200, "height": 900}, locale="en-GB", reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE)
    yield context
    await context.close()


def _complaint(message: ConsoleMessage) -> list[str]:
    """Not of what the kernel refuses, or that it is gone: tests look at what the page says then."""
    expected = message.text.startswith("Failed to load resource")
    return [message.text] if message.type in ("error", "warning") and not expected else []


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext) -> AsyncGenerator[Page, None]:
    """A tab. In the end nothing has failed in it, and it has asked nobody but one kernel."""
    page = await context.new_page()
    complaints: list[str] = []
    hosts: set[str] = set()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.extend(_complaint(message)))
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    yield page
    assert not complaints
    assert len(hosts) <= 1
    assert await context.cookies() == []
