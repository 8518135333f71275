"""Builds the container image and tries it out, also where no base image can be pulled.

    python -m tools.container_check [--base IMAGE] [--image NAME]

Without ``--base``, a base is made from Debian packages (``debootstrap``) and kept as an image of
its own. Nothing needs namespaces for users or networks: the image is built and run with
``--isolation=chroot``, so this works in most sandboxes, as root. Checked are what the image holds,
a start with mounted configuration and skills, the health check, a run of a built component, that a
run under way ends well after SIGTERM, and that the kernel obeys SIGTERM as process 1, whose signals
nobody else handles, from its first moments on.

Needs the Debian packages buildah, debootstrap and podman, and ten minutes the first time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tools import smoke
from tools.local_kernel import Client, Failure, run_tool, say

ROOT = Path(__file__).resolve().parents[1]
DEBIAN = "bookworm"
DEBIAN_BASE = f"localhost/debian-python:{DEBIAN}"
DEBIAN_PACKAGES = "ca-certificates,python3,python3-venv"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
STORAGE = ("--storage-driver=vfs",)
USER = 2000
FIRST_MOMENTS = (0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds after the start at which SIGTERM is tried."""
_UNWANTED = ("gcc", "cc", "g++", "make", "pytest", "mypy", "ruff")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the container image and try it out.")
    parser.add_argument("--base", help="base image, instead of one made from Debian packages")
    parser.add_argument("--image", default="localhost/pharia-kernel:check", help="name to build")
    options = parser.parse_args()
    return run_tool(lambda: check(options.base, options.image))


def check(base: str | None, image: str) -> int:
    """Everything; raises ``Failure`` at the first thing that is wrong."""
    missing = [name for name in ("buildah", "debootstrap", "podman") if not shutil.which(name)]
    if missing or os.getuid() != 0:
        raise Failure(f"this needs root and {', '.join(missing) or 'nothing else'}")
    base = base or _debian_base()
    _build(base, image)
    _check_image(image)
    with _container(image) as (container, mounted):
        _check_content(mounted)
        with tempfile.TemporaryDirectory(prefix="kernel-container-") as folder:
            _check_kernel(container, Path(folder))
        _check_first_process(mounted)
    say("the image is good")
    return 0


# --- building ------------------------------------------------------------------------------------


def _debian_base() -> str:
    if subprocess.run(["podman", *STORAGE, "image", "exists", DEBIAN_BASE]).returncode == 0:
        return DEBIAN_BASE
    say(f"making a base image from Debian {DEBIAN} ...")
    with tempfile.TemporaryDirectory(prefix="kernel-base-") as folder:
        include = f"--include={DEBIAN_PACKAGES}"
        _run("debootstrap", "--variant=minbase", include, DEBIAN, folder)
        archive = subprocess.Popen(
            ["tar", "-C", folder, "--exclude=./var/cache/apt", "-c", "."], stdout=subprocess.PIPE
        )
        _run("podman", *STORAGE, "import", "-", DEBIAN_BASE, stdin=archive)
        if archive.wait():
            raise Failure("packing the base image failed")
    return DEBIAN_BASE


def _build(base: str, image: str) -> None:
    say(f"building {image} on {base} ...")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kernel-secrets-") as folder:
        _run(
            "podman", *STORAGE, "build", str(ROOT), "--file", str(ROOT / "Containerfile"),
            "--isolation=chroot", "--format=docker", f"--build-arg=BASE={base}",
            *_package_index(Path(folder)), "--tag", image,
        )  # fmt: skip
    say(f"built in {time.monotonic() - began:.0f} s")


def _package_index(folder: Path) -> Iterator[str]:
    """The settings with which this machine reaches its package index, as secrets of the build."""
    settings = "[global]\ntimeout = 180\n"
    index = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
    )
    if index.returncode == 0:
        settings += f"index-url = {index.stdout.strip()}\n"
    if CERTIFICATES.exists():
        settings += "cert = /run/secrets/ca.crt\n"
        yield f"--secret=id=ca,src={CERTIFICATES}"
    (folder / "pip.conf").write_text(settings)
    yield f"--secret=id=pip,src={folder / 'pip.conf'}"


# --- what is in it -------------------------------------------------------------------------------


def _check_image(image: str) -> None:
    (facts,) = json.loads(_run("podman", *STORAGE, "image", "inspect", image))
    _equal(facts["User"], f"{USER}:{USER}", "user")
    _equal(facts["Config"]["WorkingDir"], "/app", "working directory")
    _equal(facts["Config"]["StopSignal"], "SIGTERM", "stop signal")
    _equal(facts["Healthcheck"]["Test"], ["CMD", "pharia-kernel", "health"], "health check")
    _equal(set(facts["Config"]["ExposedPorts"]), {"8081/tcp", "9000/tcp"}, "ports")
    say(f"size {facts['Size'] / 1e6:.0f} MB")


def _check_content(mounted: Path) -> None:
    application = mounted / "opt/pharia-kernel"
    kib = int(_run("du", "-sk", str(application)).split()[0])
    say(f"of which the kernel and its dependencies {kib * 1024 / 1e6:.0f} MB")
    binaries = [mounted / "usr/bin", mounted / "usr/local/bin", application / "bin"]
    found = [
        str(path)
        for folder in binaries
        for path in map(folder.joinpath, _UNWANTED)
        if path.exists()
    ]
    if list(application.glob("lib/python3*/site-packages/pip")):
        found.append("pip in the kernel's environment")
    found += map(str, (mounted / "root").glob(".cache/*"))
    if found:
        raise Failure(f"does not belong into the image: {', '.join(found)}")
    cache = (mounted / "var/cache/pharia-kernel").stat()
    _equal((cache.st_uid, cache.st_gid), (USER, USER), "owner of the artifact cache")


@contextmanager
def _container(image: str) -> Iterator[tuple[str, Path]]:
    name = _run("buildah", *STORAGE, "from", image).strip()
    try:
        yield name, Path(_run("buildah", *STORAGE, "mount", name).strip())
    finally:
        _run("buildah", *STORAGE, "rm", name)


# --- how it runs ---------------------------------------------------------------------------------


def _check_kernel(container: str, home: Path) -> None:
    home.chmod(0o755)
    address = smoke.free_address()
    smoke.furnish(home, address)
    command = _in_container(container, home, "pharia-kernel", "serve")
    with _started(command, home / "log") as process:
        client = Client(address, None)
        say(f"ready after {smoke.until_ready(client, process):.1f} s, two skills compiled")
        smoke.try_out(client)
        say(f"health check: {_run(*_in_container(container, home, 'pharia-kernel', 'health'))!r}")
        kernel = _kernel(process)
        _equal(kernel.uids().effective, USER, "user of the process")
        seconds = smoke.drains(client, process, kernel.terminate)
        say(f"SIGTERM during a run: answered, and ended after {seconds:.1f} s")
        _equal(process.returncode, 0, "exit status")
    with _started(command, home / "log") as process:
        say(f"ready after {smoke.until_ready(client, process):.1f} s, everything cached")
        _kernel(process).terminate()
        smoke.ends(process, time.monotonic())


def _in_container(container: str, home: Path, *command: str) -> list[str]:
    mounts = [f"--volume={home / name}:/app/{name}:ro" for name in ("config.toml", "skills")]
    return ["buildah", *STORAGE, "run", "--isolation=chroot", *mounts, container, "--", *command]


def _check_first_process(mounted: Path) -> None:
    """As process 1 of a process namespace: SIGTERM does nothing there unless it is handled."""
    script = (
        f"mount -t proc proc {mounted}/proc && mount --rbind /dev {mounted}/dev && "
        f"exec chroot --userspec={USER}:{USER} {mounted} /usr/bin/env -i "
        "PATH=/opt/pharia-kernel/bin:/usr/bin:/bin HOME=/app XDG_CACHE_HOME=/var/cache "
        f"KERNEL_ADDRESS={smoke.free_address()} METRICS_ADDRESS={smoke.free_address()} "
        "pharia-kernel serve"
    )
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]
    for moment in FIRST_MOMENTS:
        with (
            tempfile.TemporaryDirectory(prefix="kernel-first-") as folder,
            _started(command, Path(folder) / "log") as process,
        ):
            kernel = _kernel(process)
            time.sleep(moment)
            began = time.monotonic()
            kernel.send_signal(signal.SIGTERM)
            smoke.ends(process, began)
            seconds = time.monotonic() - began
            say(f"process 1, SIGTERM {moment} s after its start: ended {seconds:.1f} s later")


@contextmanager
def _started(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs until the end of the block; shows what it said if the block fails."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process
    except BaseException:
        print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
        raise
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()


def _kernel(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The process of the kernel itself, below those of the container tool."""
    deadline = time.monotonic() + smoke.GRACE
    while time.monotonic() < deadline and process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):  # it is gone again
                # The tool's own process has the same arguments after another program.
                program, script = (*child.cmdline(), "", "")[:2]
                if "python" in program and script.endswith("/pharia-kernel"):
                    return child
        time.sleep(0.01)
    raise Failure("no process of the kernel appeared")


def _equal(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise Failure(f"{what}: {found!r} instead of {expected!r}")


def _run(*command: str, stdin: subprocess.Popen[bytes] | None = None) -> str:
    done = subprocess.run(
        command, stdin=stdin.stdout if stdin else None, capture_output=True, text=True
    )
    if done.returncode:
        raise Failure(f"`{' '.join(command[:4])} ...` failed:\n{done.stderr[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
