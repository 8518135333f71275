"""Starts a kernel to try out: builds the example skills if need be, runs one, and keeps serving.

    python -m tools.run

What ``config.toml``, ``.env`` and the environment say is kept. Where they say nothing, the kernel
listens on 127.0.0.1:8081 and serves the folder ``skills`` as the namespace ``dev``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pharia_kernel.config import Settings, WatchNamespace, load
from tools.examples import EXAMPLES, build_examples
from tools.local_kernel import (
    ADDRESS,
    Client,
    address_of,
    run_tool,
    running_kernel,
    say,
    text_of,
)

SKILLS = Path("skills")
EXAMPLE = "greet"
EXAMPLE_INPUT = {"name": "Homer"}


def main() -> int:
    return run_tool(_run)


def _run() -> int:
    settings, environ = _settings()
    listen, address = address_of(settings, "make run")
    environ["KERNEL_ADDRESS"] = str(listen)
    if _serves_examples(settings):
        build_examples(sorted((EXAMPLES / "skills").glob("*.py")), SKILLS)
    client = Client(address, environ.get("PHARIA_AI_TOKEN"))
    with running_kernel(environ, settings, client) as kernel, suppress(KeyboardInterrupt):
        _try_out(client, settings)
        return kernel.wait()
    return 0


def _settings() -> tuple[Settings, dict[str, str]]:
    """What the user configured, completed to something that can be tried out."""
    environ = dict(os.environ)
    given = load(environ=environ)
    if not given.namespaces:
        environ["NAMESPACES__DEV__DIRECTORY"] = str(SKILLS)
    if "kernel_address" not in given.model_fields_set:
        environ["KERNEL_ADDRESS"] = ADDRESS
    return load(environ=environ), environ


def _serves_examples(settings: Settings) -> bool:
    return any(
        isinstance(namespace, WatchNamespace) and namespace.directory == SKILLS
        for namespace in settings.namespaces.values()
    )


# --- trying it out -------------------------------------------------------------------------------


def _try_out(client: Client, settings: Settings) -> None:
    if settings.authorization_url and not client.token:
        say("Ready. Requests need a token; set PHARIA_AI_TOKEN to have a skill run from here.")
        return
    skills: list[str] = client.get("/v1/skills")
    example = next((skill for skill in skills if skill.endswith(f"/{EXAMPLE}")), None)
    say(f"Ready. Skills: {', '.join(skills) or 'none'}")
    if example:
        _run_example(client, example)
    _suggest(client, skills)


def _run_example(client: Client, skill: str) -> None:
    path = f"/v1/skills/{skill}/run"
    print(f"\n$ {_curl(client, path, EXAMPLE_INPUT)}", flush=True)
    started = time.perf_counter()
    status, body = client.request("POST", path, EXAMPLE_INPUT)
    took = (time.perf_counter() - started) * 1000
    print(f"{text_of(body)}    ({status}, {took:.0f} ms)", flush=True)


def _suggest(client: Client, skills: list[str]) -> None:
    chat = next((skill for skill in skills if skill.endswith("/chat")), None)
    print(
        "\nTry next, in another terminal:\n"
        f"  curl '{client.url}/v1/skills?detail=true'\n"
        f"  curl -N -X POST {client.url}/v1/skills/test-beta/hello/message-stream "
        "-H 'Content-Type: application/json' -d '{}'"
    )
    if chat:
        message = {"model": "MODEL", "messages": [{"role": "user", "content": "Hi"}]}
        stream = _curl(client, f"/v1/skills/{chat}/message-stream", message).replace(
            "curl", "curl -N"
        )
        print(
            f"  {stream}\n"
            "    (needs a model: set OPENAI_INFERENCE__URL and OPENAI_INFERENCE__TOKEN)"
        )
    print(
        f"  open {client.url}/  (the console)\n"
        f"  open {client.url}/api-docs  (all routes)\n"
        "  write a skill of your own: docs/tutorial.md\n",
        flush=True,
    )


def _curl(client: Client, path: str, body: Any) -> str:
    token = ' -H "Authorization: Bearer $PHARIA_AI_TOKEN"' if client.token else ""
    return (
        f"curl -X POST {client.url}{path}{token} "
        f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'"
    )


if __name__ == "__main__":
    sys.exit(main())
