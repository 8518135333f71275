"""(u) the way from nothing to a deployed skill, step by step, with the published SDK and with ours.

Both install from the same index without a cache, publish to the same registry, and are served by
the same kernel, which polls the registry as often as it does by default. The model is scripted.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from benchmarks import authors, client
from benchmarks.bench import Bench
from benchmarks.cases.editing import running_dev
from benchmarks.processes import NAMESPACE, Address, Kernel, running_kernel, running_llm
from benchmarks.table import Row
from tests.support.registry import PASSWORD, USER, RegistryProcess, running_registry
from tools.build_skills import ROOT

_INPUT = b'{"topic": "rain"}'
_LIMIT = 300.0
_PAUSE = 0.01
_TEAM = """
[namespaces.team]
registry = "{host}"
registry-ca-file = "{ca}"
registry-user = "{user}"
registry-password = "{password}"
base-repository = "team"
skills = [{{ name = "before" }}, {{ name = "haiku" }}]
"""
_BEFORE = """\
from pharia_skill import ChatParams, Csi, Message, skill
from pydantic import BaseModel


class Input(BaseModel):
    topic: str


class Output(BaseModel):
    haiku: str


@skill
def before(csi: Csi, input: Input) -> Output:
    \"\"\"Writes a haiku.\"\"\"
    messages = [Message.user(f"A haiku about {input.topic}.")]
    response = csi.chat("llama-3.1-8b-instruct", messages, ChatParams(max_tokens=100))
    return Output(haiku=response.message.content.strip())
"""
_TEST_BEFORE = """\
from before import Input, before
from pharia_skill.testing import StubCsi


def test_it_repeats_what_it_is_told():
    assert "rain" in before(StubCsi(), Input(topic="rain")).haiku.lower()
"""
_AS_IT_IS, _EDITED = ".strip()", ".strip().upper()"
_STEPS = {
    "install": "install the SDK into an empty environment",
    "kernel": "install the kernel, which has the development mode",
    "new": "start a project",
    "first": "the first answer",
    "edit": "from an edit to the answer",
    "test": "its tests",
    "build": "build",
    "publish": "publish",
    "deployed": "deployed and answering",
}

Seconds = dict[str, float]
"""By step."""


class _Site(Struct, frozen=True):
    """What both find."""

    kernel: Kernel
    registry: RegistryProcess
    llm: Address

    @property
    def environment(self) -> dict[str, str]:
        assert self.registry.tls
        return {
            "SKILL_REGISTRY": self.registry.host,
            "SKILL_REPOSITORY": "team",
            "SKILL_REGISTRY_USER": USER,
            "SKILL_REGISTRY_TOKEN": PASSWORD,
            "SSL_CERT_FILE": str(self.registry.tls.ca),
            "OPENAI_INFERENCE__URL": f"http://{self.llm[0]}:{self.llm[1]}/v1",
            "OPENAI_INFERENCE__TOKEN": "benchmark",
        }

    def answered(self, skill: str, what: bytes) -> None:
        _until_answered(self.kernel.address, f"/v1/skills/team/{skill}/run", what)


def measure(bench: Bench) -> list[Row]:
    with _site() as site, tempfile.TemporaryDirectory(prefix="bench-tutorial-") as name:
        folder = Path(name)
        bench.say("u: wheels of the kernel and of our SDK")
        kernel, sdk = _wheel(ROOT, folder), _wheel(ROOT / "sdk", folder)
        bench.say("u: the published SDK")
        before = _published(site, folder / "published")
        bench.say("u: our SDK")
        own = _own(site, folder / "own", kernel, sdk)
    return [_row(step, before, own) for step in _STEPS]


def _row(step: str, before: Seconds, own: Seconds) -> Row:
    def said(seconds: Seconds) -> str:
        return f"{seconds[step]:.2f} s" if step in seconds else "has none"

    values = {name: s[step] for name, s in (("before_s", before), ("own_s", own)) if step in s}
    ratio = f"{before[step] / own[step]:.1f} times as fast" if len(values) == 2 else ""
    result = f"pharia-skill {said(before)}, pharia-sdk {said(own)}"
    return Row(key="u", what=_STEPS[step], result=result, ratio=ratio, values=values)


@contextmanager
def _site() -> Iterator[_Site]:
    with ExitStack() as stack:
        registry = stack.enter_context(running_registry(tls=True, htpasswd=True))
        llm = stack.enter_context(running_llm())
        empty = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-skills-"))
        assert registry.tls
        toml = _TEAM.format(host=registry.host, ca=registry.tls.ca, user=USER, password=PASSWORD)
        # Its skills are not in the registry yet, so it is not ready.
        kernel = stack.enter_context(
            running_kernel(Path(empty), engines=2, llm=llm.address, toml=toml, wait=False)
        )
        _until_listening(kernel)
        yield _Site(kernel, registry, llm.address)


# --- the published SDK ----------------------------------------------------------------------------


def _published(site: _Site, folder: Path) -> Seconds:
    seconds = {"install": _install(folder / "env", "pharia-skill==0.20.0", "pytest")}
    environment = site.environment | authors.published_environment(folder / "env")
    command = str(folder / "env" / "bin" / "pharia-skill")
    source = folder / "before.py"
    source.write_text(_BEFORE)
    (folder / "test_before.py").write_text(_TEST_BEFORE)

    def build() -> float:
        options = ["--no-interactive", "--skill-type", "skill"]
        return authors.timed([command, "build", "before", *options], folder, environment)

    def publish() -> float:
        return authors.timed([command, "publish", "before.wasm"], folder, environment)

    with _timing(seconds, "first"):
        build()
        publish()
        site.answered("before", b"")
    shown = _answer(site.kernel.address, "/v1/skills/team/before/run")
    with _timing(seconds, "edit"):
        authors.save(source, _BEFORE.replace(_AS_IT_IS, _EDITED))
        seconds["build"] = build()
        seconds["publish"] = publish()
        with _timing(seconds, "deployed"):
            site.answered("before", _upper(shown))
    pytest = [str(folder / "env" / "bin" / "python"), "-m", "pytest", "-q"]
    seconds["test"] = authors.timed(pytest, folder, environment)
    return seconds


# --- ours -----------------------------------------------------------------------------------------


def _own(site: _Site, folder: Path, kernel_wheel: str, sdk_wheel: str) -> Seconds:
    seconds = {"install": _install(folder / "env", sdk_wheel, "pytest")}
    seconds["kernel"] = _pip_install(folder / "env", kernel_wheel)
    environment = site.environment | authors.published_environment(folder / "env")
    environment["PHARIA_SDK_CACHE"] = str(folder / "cache")
    bin_ = folder / "env" / "bin"
    sdk = str(bin_ / "pharia-sdk")
    seconds["new"] = authors.timed([sdk, "new", "haiku"], folder, environment)
    project = folder / "haiku"
    source = project / "haiku.py"
    path = f"/v1/skills/{NAMESPACE}/haiku/run"
    with ExitStack() as stack:
        with _timing(seconds, "first"):
            address = stack.enter_context(
                running_dev(source, str(bin_ / "pharia-kernel"), environment)
            )
            _until_answered(address, path, b"")
        shown = _answer(address, path)
        with _timing(seconds, "edit"):
            authors.save(source, source.read_text().replace(_AS_IT_IS, _EDITED))
            _until_answered(address, path, _upper(shown))
    authors.save(source, source.read_text().replace(_EDITED, _AS_IT_IS))
    seconds["test"] = authors.timed(
        [str(bin_ / "python"), "-m", "pytest", "-q"], project, environment
    )
    seconds["build"] = authors.timed([sdk, "build", "haiku.py"], project, environment)
    assert site.registry.tls
    options = ["--ca-file", str(site.registry.tls.ca)]
    publish = [sdk, "publish", "haiku.wasm", *options]
    seconds["publish"] = authors.timed(publish, project, environment)
    kernel = f"http://{site.kernel.address[0]}:{site.kernel.address[1]}"
    with _timing(seconds, "deployed"):
        deploy = [sdk, "deploy", "haiku.wasm", *options, "--namespace", "team", "--kernel", kernel]
        authors.timed(deploy, project, environment)
        site.answered("haiku", b"")
    return seconds


def _wheel(source: Path, folder: Path) -> str:
    """Of the distribution whose source this is."""
    out = Path(tempfile.mkdtemp(dir=folder))
    command = [authors.tool("uv"), "build", "--quiet", "--wheel", "--out-dir", str(out)]
    authors.timed([*command, str(source)], ROOT, {})
    (wheel,) = out.glob("*.whl")
    return str(wheel)


# --- steps ----------------------------------------------------------------------------------------


def _install(environment: Path, *packages: str) -> float:
    """Seconds to make the environment and to install into it."""
    environment.parent.mkdir()
    make = authors.timed([sys.executable, "-m", "venv", str(environment)], environment.parent, {})
    return make + _pip_install(environment, *packages)


def _pip_install(environment: Path, *packages: str) -> float:
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    return authors.timed([*pip, "--no-cache-dir", *packages], environment.parent, {})


@contextmanager
def _timing(seconds: Seconds, step: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - began


def _answer(address: Address, path: str) -> bytes:
    return client.answer(address, path, _INPUT)


def _upper(answer: bytes) -> bytes:
    """What the edited skill says, without what is around it in the JSON."""
    return answer.partition(b":")[2].strip(b' "}').upper()


def _until_answered(address: Address, path: str, what: bytes) -> None:
    """Until a run ends well, and ``what`` is in the answer."""
    deadline = time.monotonic() + _LIMIT
    while True:
        try:
            if what in _answer(address, path):
                return
        except (client.UnexpectedAnswer, OSError) as error:
            last = str(error)
        else:
            last = "another answer"
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} has not answered in {_LIMIT:.0f} s: {last}")
        time.sleep(_PAUSE)


def _until_listening(kernel: Kernel) -> None:
    deadline = time.monotonic() + _LIMIT
    while time.monotonic() < deadline:
        kernel.check_alive()
        try:
            kernel.get("/health")
        except OSError:
            time.sleep(_PAUSE)
        except ValueError:  # it is no JSON
            return
        else:
            return
    raise TimeoutError("the kernel does not listen")
