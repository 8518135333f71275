"""The skills in ``published``, which use ``pharia_skill`` as the examples of its repository do.

There is one for each of those examples, under its name. The examples themselves are in no package
of that SDK, so these are written anew: the same calls in the same order, with short prompts, and
with parameters that make a model's answers repeatable.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from sdk_components import component
from tests.dev.support import author
from tests.drivers.retrieval import embedding_server
from tests.drivers.tokenizers.tiny import tiny_json
from tests.integration.csi.support import CALLER, fill_index
from tests.support.kernel import KernelHome, KernelProcess, parse_events, temporary_home, until
from tests.support.llm import Llm
from tests.support.mcp_servers import Context, ToolServer, text, tool
from tools.build_skills import CACHE, build_folder

SKILLS = Path(__file__).parent / "published"
ALL = tuple(sorted(file.stem for file in SKILLS.glob("*.py")))
STREAMS = ("haiku_stream", "haiku_stream_collect", "web_search")
ORIGINALS = ("haiku_stream", "summarize", "tool_call")
"""Skills that are built by the published SDK as well; each takes it a quarter of a minute."""

_CONFIG = """
mcp-servers = ["{tools}"]

[inference-models]
"llama-3.1-8b-instruct" = "openai"
"llama-3.3-70b-instruct" = "openai"

[inference-providers.embeddings]
type = "openai"
url = "{embeddings}"
token = "{token}"

[tokenizers]
"llama-3.1-8b-instruct" = "{tokenizer}"

[document-index]
directory = "index"
embedding-provider = "embeddings"
embedding-model = "{model}"
"""
_NEWS = {"https://a.example/1": "The first page.", "https://b.example/2": "The second page."}


def original(name: str) -> Path:
    """The skill as the published SDK builds it."""
    folder = CACHE / "sdk" / "published" / name
    folder.mkdir(parents=True, exist_ok=True)
    world = "message-stream-skill" if name in STREAMS else "skill"
    _write(folder / "skill.toml", f'toolchain = "pharia-skill"\nworld = "{world}"\nwit = "0.3"\n')
    _write(folder / f"{name}.py", (SKILLS / f"{name}.py").read_text())
    return build_folder(folder, CACHE / "sdk" / "components", report=lambda _: None)


def ported(name: str) -> Path:
    """The skill with changed imports, as this SDK builds it."""
    folder = CACHE / "sdk" / "ported"
    folder.mkdir(parents=True, exist_ok=True)
    for each in ALL:  # before the first is built: what lies beside a skill counts as its source
        _write(folder / f"{each}.py", ported_source(each))
    return component(name, folder)


def ported_source(name: str) -> str:
    changed, count = re.subn(
        "^from pharia_skill import",
        "from pharia_kernel_sdk import",
        (SKILLS / f"{name}.py").read_text(),
        flags=re.M,
    )
    assert (count, "pharia_skill" in changed) == (1, False), f"{name} has other imports, too"
    return changed


def _write(file: Path, text: str) -> None:
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


# --- what callers get -----------------------------------------------------------------------------


async def told(kernel: KernelProcess, skill: str, name: str, input_: Any) -> list[Any]:
    """Status and answer of a run of ``skill``, which is the one called ``name`` in this module.

    Without what is different each time; of a stream all events.
    """
    route = "message-stream" if name in STREAMS else "run"
    answer = await kernel.client.post(
        f"/v1/skills/dev/{skill}/{route}", json=input_, headers=CALLER
    )
    return [answer.status_code, _body(answer)]


def _body(answer: httpx.Response) -> Any:
    if answer.headers["content-type"].startswith("text/event-stream"):
        return [[event, _without_ids(data)] for event, data in parse_events(answer.text)]
    return _without_ids(answer.json())


def _without_ids(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    return {key: value for key, value in data.items() if key not in ("run_id", "trace_id")}


# --- kernels --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kernels:
    components: KernelProcess
    """Has the ported skills, and some as ``original_{name}``."""
    sources: KernelProcess
    """In development mode, with the ported sources."""


@asynccontextmanager
async def running_kernels(llm: Llm) -> AsyncGenerator[Kernels, None]:
    """Both with the same model server, tools and documents."""
    settings = {"openai_inference__url": llm.url, "openai_inference__token": llm.token}
    async with (
        embedding_server.running_embedding_server() as embeddings,
        _running_tools() as tools,
    ):
        with (
            temporary_home(namespaces={"dev": ("add", "subtract")}, engines=1, **settings) as home,
            author() as own,
        ):
            _configure(home, tools, embeddings)
            home.deploy_all({name: ported(name) for name in ALL})
            home.deploy_all({f"original_{name}": original(name) for name in ORIGINALS})
            own.write("config.toml", (home.folder / "config.toml").read_text())
            files = [own.write(f"{name}.py", ported_source(name)).name for name in ALL]
            async with home.running() as components, own.serving(*files, **settings) as sources:
                for kernel in (components, sources):
                    await fill_index(kernel)
                    await until(partial(_tools_are_known, kernel), "the tools are listed")
                yield Kernels(components, sources)


async def _tools_are_known(kernel: KernelProcess) -> bool:
    answer = await kernel.client.get("/v1/tools/dev", headers=CALLER)
    return {"add", *_HANDLERS} <= {tool["name"] for tool in answer.raise_for_status().json()}


def _configure(home: KernelHome, tools: ToolServer, embeddings: str) -> None:
    tokenizer = home.folder / "tokenizer.json"
    tokenizer.write_bytes(tiny_json())
    with (home.folder / "config.toml").open("a") as config:
        config.write(
            _CONFIG.format(
                tools=tools.url,
                embeddings=embeddings,
                token=embedding_server.TOKEN,
                model=embedding_server.MODEL,
                tokenizer=tokenizer,
            )
        )


# --- tools ----------------------------------------------------------------------------------------


@asynccontextmanager
async def _running_tools() -> AsyncGenerator[ToolServer, None]:
    server = ToolServer([tool(name) for name in _HANDLERS], dict(_HANDLERS))
    await server.start()
    try:
        yield server
    finally:
        await server.die()


async def _search_news(_: ToolServer, __: Context, arguments: dict[str, Any]) -> Any:
    """Finds one page more than there is."""
    if arguments["query"] == "nothing":
        return text("there are no news", is_error=True)
    urls = [*_NEWS, "https://c.example/gone"]
    return text(*(json.dumps({"url": u, "title": f"{arguments['query']} at {u}"}) for u in urls))


async def _fetch(_: ToolServer, __: Context, arguments: dict[str, Any]) -> Any:
    page = _NEWS.get(arguments["url"])
    return text(page) if page else text("no such page", is_error=True)


_HANDLERS = {"search_news": _search_news, "search": _search_news, "fetch": _fetch}
