"""What pytest loads: options and fixtures."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from pharia_kernel_sdk.csi.protocol import Csi
from pharia_kernel_sdk.http_csi import HttpCsi
from pharia_kernel_sdk.pytest_plugin.cassette import Player, Recorder, cassette_file, write
from pharia_kernel_sdk.pytest_plugin.runner import Components, SkillRunner
from pharia_kernel_sdk.pytest_plugin.scripted import ScriptedCsi
from pharia_kernel_sdk.transport import TOKEN, HttpTransport

_NAMESPACE = "dev"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pharia-kernel", "skills for PhariaKernel")
    group.addoption(
        "--csi-record",
        metavar="URL",
        help="Ask the kernel at this address (with the token in PHARIA_AI_TOKEN, if it needs one) "
        "what the tests have not scripted, and keep its answers beside the tests.",
    )
    group.addoption(
        "--csi-namespace",
        metavar="NAME",
        default=_NAMESPACE,
        help=f"The namespace whose tools are called. Default: {_NAMESPACE}",
    )
    group.addoption(
        "--skill-component",
        action="store_true",
        help="Build the skills and run the components instead of the Python code.",
    )


@pytest.fixture
def csi(request: pytest.FixtureRequest) -> Iterator[ScriptedCsi]:
    """The kernel as the test says it is: scripted with ``csi.on(...)``, or recorded."""
    recording = _Recording(request)
    scripted = ScriptedCsi(recording.csi, recording.advice)
    yield scripted
    recording.keep()
    report = request.node.stash.get(_OUTCOME, None)
    if report is None or report.passed:
        scripted.verify()


@pytest.fixture
def run_skill(
    request: pytest.FixtureRequest, csi: ScriptedCsi, _skill_components: Components
) -> SkillRunner:
    """Runs a skill with the test's ``csi``: ``run_skill(skill, input)``."""
    as_component = bool(request.config.getoption("--skill-component"))
    return SkillRunner(csi, _skill_components, as_component=as_component)


@pytest.fixture(scope="session")
def _skill_components() -> Iterator[Components]:
    components = Components()
    yield components
    components.close()


_OUTCOME = pytest.StashKey[pytest.TestReport]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that has failed already needs no second reason."""
    report = yield
    if call.when == "call":
        item.stash[_OUTCOME] = report
    return report


class _Recording:
    """The recording of one test: being made, being played, or absent."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._kernel: str | None = request.config.getoption("--csi-record")
        self._namespace: str = request.config.getoption("--csi-namespace")
        self._file = cassette_file(Path(request.node.path), request.node.name)
        self._command = f"pytest '{request.node.nodeid}' --csi-record http://127.0.0.1:8081"
        self._recorder: Recorder | None = None
        self._csi: Csi | None = None

    @property
    def advice(self) -> str:
        return f", or record it from a kernel:\n  {self._command}"

    def csi(self) -> Csi | None:
        """Made on first use, so that scripted tests have no files and need no kernel."""
        if self._csi is None:
            self._csi = self._open()
        return self._csi

    def keep(self) -> None:
        if self._recorder is not None:
            self._recorder.close()
            if self._recorder.entries:
                write(self._file, self._recorder.entries)

    def _open(self) -> Csi | None:
        if self._kernel is not None:
            self._recorder = Recorder(HttpTransport(self._kernel, os.environ.get(TOKEN)))
            return HttpCsi(self._namespace, self._recorder)
        if not self._file.is_file():
            return None
        advice = f"Record it again from a kernel:\n  {self._command}"
        return HttpCsi(self._namespace, Player(self._file, advice))
