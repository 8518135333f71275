"""Makes everything that a release consists of in ``dist/``, and proves that it works.

    python -m tools.release_check

Wheels and source distributions of the kernel and of its SDK (each wheel is built from the sources
in its distribution, and has to hold what the working tree makes), the packaged chart, bills of
materials (CycloneDX), a statement of where it all comes from (in-toto with SLSA provenance), and
checksums. Each wheel is installed into an empty environment of its own with what
``requirements.lock`` says. There the SDK has to build skills, without making images first; and a
kernel has to start, run components, one of them the SDK's, and stop as it should.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools import smoke
from tools.go_tools import tool
from tools.local_kernel import Client, Failure, run_tool, say
from tools.release_packages import ROOT, Package, build, install, run, write_bill_of_materials
from tools.release_provenance import write_provenance
from tools.release_sdk import SDK, build_skills
from tools.tool_cache import ToolUnavailable

KERNEL = Package(ROOT, kind="application")
CHART = ROOT / "charts" / "pharia-kernel"
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")


def main() -> int:
    return run_tool(lambda: release(ROOT / "dist"))


def release(out: Path) -> int:
    """Make and check everything; raises ``Failure`` at the first thing that is wrong."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    version = KERNEL.version
    if SDK.version != version:
        raise Failure(f"the SDK has version {SDK.version}, the kernel {version}; they go together")
    with tempfile.TemporaryDirectory(prefix="kernel-release-") as folder:
        kernel, sdk = (make(package, out, Path(folder)) for package in (KERNEL, SDK))
        package_chart(out)
        component = build_skills(sdk, Path(folder))
        try_out(kernel.with_name("pharia-kernel"), version, component, Path(folder))
    write_provenance(ROOT, out, version)
    write_checksums(out)
    say(f"in {out.name}/:")
    for path in sorted(out.iterdir()):
        print(f"{path.stat().st_size:>12,}  {path.name}")
    return 0


# --- making it -----------------------------------------------------------------------------------


def make(package: Package, out: Path, scratch: Path) -> Path:
    """The interpreter of an environment that has the package, which is in ``out``."""
    own = scratch / package.name
    own.mkdir()
    python = install(package, build(package, out, own), own)
    write_bill_of_materials(package, python, out)
    return python


def package_chart(out: Path) -> None:
    say("packaging the chart ...")
    try:
        helm = str(tool("helm", say))
    except ToolUnavailable as error:
        raise Failure(str(error)) from None
    run(helm, "lint", "--strict", str(CHART), "--kube-version", "1.37")
    run(helm, "package", str(CHART), "--destination", str(out))


# --- proving it ----------------------------------------------------------------------------------


def try_out(command: Path, version: str, component: Path, scratch: Path) -> None:
    """Run the installed command with nothing of this project around it, and in it a component that
    the installed SDK has built of a function that greets."""
    said = run(str(command), "--version", cwd=scratch, PYTHONPATH="").strip()
    if said != f"pharia-kernel {version}":
        raise Failure(f"the installed command says {said!r}, not version {version}")
    home = scratch / "home"
    address = smoke.free_address()
    smoke.furnish(home, address)
    shutil.copy(component, home / "skills")
    environ = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environ["XDG_CACHE_HOME"] = str(scratch / "cache")
    say("starting the kernel; three skills are compiled ...")
    with (scratch / "log").open("wb") as log:
        process = subprocess.Popen([command], cwd=home, env=environ, stdout=log, stderr=log)
    try:
        client = Client(address, None)
        say(f"ready after {smoke.until_ready(client, process):.1f} s")
        smoke.try_out(client)
        run_own = f"/v1/skills/dev/{component.stem}/run"
        smoke.expect(client, "POST", run_own, "Homer", json.dumps("Hello Homer").encode())
        seconds = smoke.drains(client, process, process.terminate)
        say(f"ran skills; SIGTERM during another: answered, and ended after {seconds:.1f} s")
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


if __name__ == "__main__":
    sys.exit(main())
