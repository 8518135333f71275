"""Makes everything that a release consists of in ``dist/``, and proves that it works.

    python -m tools.release_check

Wheel and source distribution (the wheel is built again from the latter, and has to hold the same),
the packaged chart, a bill of materials (CycloneDX), a statement of where it all comes from (in-toto
with SLSA provenance), and checksums. The wheel is installed into an empty environment with what
``requirements.lock`` says, and there a kernel has to start, run a component that its authors'
toolchain built, and stop as it should.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

from tools import locked, smoke
from tools.go_tools import tool
from tools.local_kernel import Client, Failure, run_tool, say
from tools.release_provenance import write_provenance
from tools.tool_cache import ToolUnavailable

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "pharia-kernel"

PLATFORMS = ("x86_64-manylinux_2_36", "aarch64-manylinux_2_36")
"""Those of the container image; the number is the C library of its base."""
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")


def main() -> int:
    return run_tool(lambda: release(ROOT / "dist"))


def release(out: Path) -> int:
    """Make and check everything; raises ``Failure`` at the first thing that is wrong."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = str(project["version"])
    with tempfile.TemporaryDirectory(prefix="kernel-release-") as folder:
        wheel = build_packages(out, Path(folder))
        package_chart(out)
        python = install(wheel, Path(folder))
        write_bill_of_materials(python, out / f"pharia-kernel-{version}.cdx.json")
        try_out(python.with_name("pharia-kernel"), version, Path(folder))
    write_provenance(ROOT, out, version)
    write_checksums(out)
    say(f"in {out.name}/:")
    for path in sorted(out.iterdir()):
        print(f"{path.stat().st_size:>12,}  {path.name}")
    return 0


# --- making it -----------------------------------------------------------------------------------


def build_packages(out: Path, scratch: Path) -> Path:
    """The wheel; also makes the source distribution, and checks that it is complete."""
    say("building wheel and source distribution ...")
    _build(ROOT, out)
    (wheel,) = out.glob("*.whl")
    (source,) = out.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(scratch / "source", filter="data")
    (unpacked,) = (scratch / "source").iterdir()
    _build(unpacked, scratch / "again", "--target", "wheel")
    (again,) = (scratch / "again").glob("*.whl")
    if contents(wheel) != contents(again):
        raise Failure("the source distribution makes another wheel than the working tree")
    return wheel


def _build(source: Path, out: Path, *options: str) -> None:
    # The backend itself, in the version that is locked, instead of one that is downloaded now.
    build = (sys.executable, "-m", "hatchling", "build", "--directory", str(out), *options)
    run(*build, cwd=source, SOURCE_DATE_EPOCH=_commit_time())


def _commit_time() -> str:
    return run("git", "log", "-1", "--format=%ct", cwd=ROOT).strip() or "0"


def contents(wheel: Path) -> dict[str, str]:
    """Digest of each file in it."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def package_chart(out: Path) -> None:
    say("packaging the chart ...")
    try:
        helm = str(tool("helm", say))
    except ToolUnavailable as error:
        raise Failure(str(error)) from None
    run(helm, "lint", "--strict", str(CHART), "--kube-version", "1.37")
    run(helm, "package", str(CHART), "--destination", str(out))


# --- proving it ----------------------------------------------------------------------------------


def install(wheel: Path, scratch: Path) -> Path:
    """The interpreter of a new environment with the wheel and what is locked for it."""
    say("installing the wheel into an empty environment ...")
    uv = shutil.which("uv")
    if uv is None:
        raise Failure("uv is missing; `make release-check` installs it")
    lock = scratch / "runtime.lock"
    entries = locked.parse((ROOT / "requirements.lock").read_text())
    roots = locked.runtime_roots((ROOT / "pyproject.toml").read_text())
    try:
        lock.write_text("".join(entry.text for entry in locked.needed(entries, roots)))
    except locked.NotLocked as error:
        raise Failure(str(error)) from None
    python = scratch / "environment" / "bin" / "python"
    run(uv, "venv", "--quiet", "--python", sys.executable, str(python.parents[1]))
    add = (uv, "pip", "install", "--quiet", "--python", str(python))
    locked_only = ("--require-hashes", "--only-binary", ":all:", "--requirement", str(lock))
    for platform in PLATFORMS:  # is there a wheel of everything?
        run(*add, *locked_only, "--dry-run", "--python-platform", platform)
    run(*add, *locked_only)
    run(*add, "--no-deps", "--no-index", str(wheel))
    run(uv, "pip", "check", "--quiet", "--python", str(python))
    return python


def write_bill_of_materials(python: Path, file: Path) -> None:
    """Of the environment, so that it has what is really used, with licenses and dependencies."""
    say("writing the bill of materials ...")
    run(
        sys.executable, "-m", "cyclonedx_py", "environment", str(python),
        "--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application",
        "--output-reproducible", "--output-format", "JSON", "--output-file", str(file),
    )  # fmt: skip


def try_out(command: Path, version: str, scratch: Path) -> None:
    """Run the installed command with nothing of this project around it."""
    said = run(str(command), "--version", cwd=scratch, PYTHONPATH="").strip()
    if said != f"pharia-kernel {version}":
        raise Failure(f"the installed command says {said!r}, not version {version}")
    home = scratch / "home"
    address = smoke.free_address()
    smoke.furnish(home, address)
    environ = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environ["XDG_CACHE_HOME"] = str(scratch / "cache")
    say("starting it; two skills are compiled ...")
    with (scratch / "log").open("wb") as log:
        process = subprocess.Popen([command], cwd=home, env=environ, stdout=log, stderr=log)
    try:
        client = Client(address, None)
        say(f"ready after {smoke.until_ready(client, process):.1f} s")
        smoke.try_out(client)
        seconds = smoke.drains(client, process, process.terminate)
        say(f"ran a skill; SIGTERM during another: answered, and ended after {seconds:.1f} s")
        if process.returncode:
            raise Failure(f"the kernel ended with status {process.returncode}")
    except Failure as failure:
        said = (scratch / "log").read_text(errors="replace")[-3000:]
        raise Failure(f"{failure}\nThe kernel said:\n{said}") from None
    finally:
        process.kill()
        process.wait()


def write_checksums(out: Path) -> None:
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(out.iterdir())
    ]
    (out / "SHA256SUMS").write_text("".join(lines))


def run(*command: str, cwd: Path | None = None, **environ: str) -> str:
    """What the command said. Raises ``Failure`` with what it complained about."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environ, capture_output=True, text=True
    )
    if done.returncode:
        complaint = re.sub(r"//[^/@\s]*@", "//***@", done.stderr or done.stdout)
        raise Failure(f"`{Path(command[0]).name} {command[1]}` failed:\n{complaint[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
