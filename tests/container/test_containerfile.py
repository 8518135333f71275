"""What can be told from the Containerfile itself; ``make image-check`` builds and runs it."""

from __future__ import annotations

import json
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pharia_kernel.config import Settings

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Containerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(line.split()[0], line.split(None, 1)[1].strip()) for line in lines if line.strip()]


def stages() -> list[list[tuple[str, str]]]:
    parts: list[list[tuple[str, str]]] = [[]]
    for instruction in instructions():
        if instruction[0] == "FROM":
            parts.append([])
        parts[-1].append(instruction)
    return parts[1:]


def final(name: str) -> list[str]:
    return [value for instruction, value in stages()[-1] if instruction == name]


def environment() -> dict[str, str]:
    return dict(part.split("=", 1) for value in final("ENV") for part in shlex.split(value))


def test_the_base_image_is_pinned() -> None:
    arguments = dict(
        value.split("=", 1) for name, value in instructions() if name == "ARG" and "=" in value
    )
    assert re.fullmatch(r"\S+:\d+\.\d+\.\d+-slim-\w+|\S+@sha256:[0-9a-f]{64}", arguments["BASE"])
    assert [value for name, value in instructions() if name == "FROM"] == [
        "${BUILD_BASE} AS build",
        "${BASE}",
    ]


def test_packages_are_locked_wheels() -> None:
    (script,) = [value for name, value in stages()[0] if name == "RUN" and "runtime.lock" in value]
    assert "--require-hashes --only-binary :all:" in script
    installs = re.findall(r"pip [^;]*install[^;]*", " ".join(v for _, v in stages()[0]))
    assert [i for i in installs if "--no-index" not in i and "${install}" not in i] == []
    assert not re.search(r"index-url|find-links|trusted-host", (ROOT / "Containerfile").read_text())


def test_the_final_stage_only_copies() -> None:
    names = {name for name, _ in stages()[-1]}
    assert "RUN" not in names and "ADD" not in names
    assert all(value.startswith("--from=build ") for value in final("COPY"))


def test_the_user_is_a_number_and_not_root() -> None:
    (user,) = final("USER")
    assert re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", user)
    cache = [value for value in final("COPY") if "--chown" in value]
    assert [f"--chown={user}" in value for value in cache] == [True]


def test_start_stop_and_health() -> None:
    assert final("WORKDIR") == ["/app"]
    assert [json.loads(value) for value in final("CMD")] == [["pharia-kernel", "serve"]]
    assert final("ENTRYPOINT") == []  # so that other commands can be given
    assert final("STOPSIGNAL") == ["SIGTERM"]
    (health,) = final("HEALTHCHECK")
    assert health.endswith('CMD ["pharia-kernel", "health"]')


def test_ports_are_the_defaults_of_the_settings() -> None:
    fields = Settings.model_fields
    addresses = [fields[name].default for name in ("kernel_address", "metrics_address")]
    assert final("EXPOSE") == [" ".join(str(address.port) for address in addresses)]
    assert {address.host for address in addresses} == {"0.0.0.0"}


def test_the_artifact_cache_is_a_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    from pharia_kernel.config.settings import default_cache_dir

    assert final("VOLUME") == [str(default_cache_dir(environment()))]
    # Nothing that config.toml may say is overridden.
    settings = {alias.upper().replace("-", "_") for alias in map(str, _aliases())}
    assert not settings & environment().keys()


def _aliases() -> list[str | None]:
    return [field.alias for field in Settings.model_fields.values()]


def test_the_context_is_what_is_copied_and_nothing_else() -> None:
    rules = [
        line for line in (ROOT / ".containerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]  # fmt: skip
    assert rules[0] == "*"
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    copied = [
        source for name, value in stages()[0] if name == "COPY" for source in value.split()[:-1]
    ]
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / path).exists() for path in allowed)
    assert not any(fnmatch(name, rule) for name in (".env", "skills") for rule in allowed)
