"""What readers have before they begin: an empty machine with Python, and what a page asks for.

``pip install`` works as for a reader, but takes ``pharia-kernel`` and ``pharia-kernel-sdk`` from
wheels that were built of this checkout. What these depend on (and nothing else) counts as installed
already, in the versions of this environment: new virtual environments see it by a ``.pth`` file,
and no index is asked. With ``DOCS_INSTALL=index`` they are installed in earnest, from pip's index.

Compiled components and the images that skills are built on are kept in ``skill_build_cache``,
where other tests have them, too; with ``DOCS_CACHE=FOLDER``, in that folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docs.ports import Ports
from tests.support.llm import running_llm
from tests.support.registry import running_registry
from tools.build_skills import CACHE, ROOT

REGISTRY, MODEL = 5000, 8000
"""Ports in the pages: of ``registry:2`` in Docker, and of an OpenAI-compatible server."""
TOKEN = "secret"
"""What the pages give to that server."""
COLUMNS = "100"

_OWN = frozenset({"pharia-kernel", "pharia-kernel-sdk"})
_EXTRAS = frozenset({"local", "pydantic", "test"})
_SHARED_COMMANDS = ("pytest",)

_PYTHON = """\
#!/bin/sh
# Python, whose new virtual environments have packages without installing them.
"{python}" "$@" || exit
if [ "$1 $2" = "-m venv" ]; then
    for last; do :; done
    echo "{packages}" > "$(echo "$last"/lib/python*/site-packages)/shared.pth"
    for name in {commands}; do
        printf '%s\\n' "#!$(realpath "$last")/bin/python" \\
            "import runpy; runpy.run_module('$name', run_name='__main__')" > "$last/bin/$name"
        chmod +x "$last/bin/$name"
    done
fi
"""

_PIP = """\
#!/bin/sh
# `pip install`, for an environment that has everything, and must not be changed.
[ "$1" = install ] || exit 2
shift
exec "{python}" -m uv pip install --dry-run --no-index --python "{python}" "$@"
"""

Provision = Callable[[Ports], AbstractContextManager[Mapping[str, str]]]
"""Makes something available, and says which variables the reader's terminal gets."""


class Machine:
    """What all readers share. Nothing is made before it is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._wheels = folder / "wheels"
        self._programs = folder / "bin"
        self._from_index = os.environ.get("DOCS_INSTALL") == "index"
        self.provisions: dict[str, Provision] = {
            "environment": self._active_environment,
            "registry": _registry,
            "model": _model,
            "embeddings": _embeddings,
        }

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a terminal, but for ports and the home folder."""
        cache = Path(os.environ.get("DOCS_CACHE") or CACHE)
        return self._pip | {
            "PATH": os.pathsep.join([str(self._python()), *_system_path()]),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "NO_COLOR": "1",
            "COLUMNS": COLUMNS,
            "PYTHONUNBUFFERED": "1",  # as at a terminal, and so is
            "LOG_FORMAT": "text",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PHARIA_SDK_CACHE": str(cache / "sdk"),
            "WASMTIME_CACHE_DIR": str(cache / "artifacts"),
        }

    def offer_packages(self) -> None:
        """Makes wheels of the kernel and the SDK, as they are in this checkout."""
        if self._wheels.exists():
            return
        for project in (ROOT, ROOT / "sdk"):
            command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
            subprocess.run(
                [*command, "-d", str(self._wheels)], cwd=project, check=True, capture_output=True
            )
        wheels = (path.name.split("-") for path in self._wheels.glob("*.whl"))
        lines = [f"{name}=={version}\n" for name, version, *_ in wheels]
        self._constraints.write_text("".join(lines))  # no others of the same names

    @contextmanager
    def _active_environment(self, ports: Ports) -> Iterator[Mapping[str, str]]:
        """A virtual environment in which kernel and SDK are installed: this one."""
        folder = self._folder / "pip"
        if not folder.exists():
            folder.mkdir()
            (folder / "pip").write_text(_PIP.format(python=sys.executable))
            (folder / "pip").chmod(0o755)
        path = f"{folder}:{sysconfig.get_path('scripts')}:$PATH"
        yield {"PATH": path, "VIRTUAL_ENV": sys.prefix}

    @property
    def _constraints(self) -> Path:
        return self._folder / "constraints.txt"

    @property
    def _pip(self) -> dict[str, str]:
        settings = {
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_REQUIRE_VIRTUALENV": "1",  # never into this machine's own Python
            "PIP_FIND_LINKS": str(self._wheels),
            "PIP_CONSTRAINT": str(self._constraints),
        }
        if not self._from_index:
            return settings | {"PIP_NO_INDEX": "1", "PIP_NO_COMPILE": "1"}
        of_this_machine = ("PIP_", "UV_", "SSL_", "HTTP", "http", "NO_PROXY", "no_proxy")
        return {k: v for k, v in os.environ.items() if k.startswith(of_this_machine)} | settings

    def _python(self) -> Path:
        """The folder with the programs ``python3`` and ``python``."""
        if not self._programs.exists():
            self._programs.mkdir(parents=True)
            script = self._programs / "python3"
            base = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
            if self._from_index:
                script.write_text(f'#!/bin/sh\nexec "{base}" "$@"\n')
            else:
                commands = " ".join(_SHARED_COMMANDS)
                script.write_text(
                    _PYTHON.format(python=base, packages=self._packages(), commands=commands)
                )
            script.chmod(0o755)
            (self._programs / "python").symlink_to(script)
        return self._programs

    def _packages(self) -> Path:
        """A folder with all that the project's packages depend on, and nothing else."""
        folder = self._folder / "packages"
        folder.mkdir()
        for name in _dependencies():
            files = distribution(name).files or []
            for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
                if not (folder / top).exists():  # some share a folder
                    (folder / top).symlink_to(Path(sysconfig.get_path("purelib"), top))
        return folder


def _dependencies() -> set[str]:
    """Names of what pip would install with the project's packages and their extras."""
    found: set[str] = set()
    waiting = [(name, extra) for name in _OWN for extra in ("", *_EXTRAS)]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        found.add(name)
        for requirement in map(Requirement, distribution(name).requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                wanted = {
                    (canonicalize_name(requirement.name), e) for e in ("", *requirement.extras)
                }
                waiting += wanted - seen
                seen |= wanted
    return found - _OWN - {"pip"}


def _system_path() -> list[str]:
    """Without this environment, which readers don't have."""
    own = Path(sys.prefix)
    paths = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return [path for path in paths if not Path(path).is_relative_to(own)]


# --- what pages ask for -------------------------------------------------------------------------


@contextmanager
def _registry(ports: Ports) -> Iterator[Mapping[str, str]]:
    """An OCI registry at 127.0.0.1:5000, without TLS and authentication."""
    with running_registry() as registry:
        ports.assign(REGISTRY, registry.port)
        yield {}


@contextmanager
def _model(ports: Ports) -> Iterator[Mapping[str, str]]:
    """An OpenAI-compatible server at http://127.0.0.1:8000/v1 with the token ``secret``. It takes
    every name of a model, and answers gibberish."""
    with running_llm(token=TOKEN) as server:
        ports.assign(MODEL, _port(server.url))
        yield {}


@contextmanager
def _embeddings(ports: Ports) -> Iterator[Mapping[str, str]]:
    """The same, which also computes embeddings."""
    with running_llm(token=TOKEN, embeddings=True) as server:
        ports.assign(MODEL, _port(server.url))
        yield {}


def _port(url: str) -> int:
    found = re.search(r":(\d+)/", url)
    assert found, url
    return int(found[1])
