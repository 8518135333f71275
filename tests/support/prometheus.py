"""A real Prometheus: Debian's package ``prometheus``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.kernel import PATIENCE, until
from tests.telemetry.tools import needed

INTERVAL = "200ms"
JOB = "kernel"


class Prometheus:
    """A client of a server that runs."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str, **params: str) -> Any:
        """``data`` of an answer, which has to be a success."""
        response = await self._client.get(f"/api/v1/{path}", params=params)
        body = response.json()
        assert body["status"] == "success", f"{params}: {body}"
        return body["data"]

    async def query(self, promql: str) -> list[dict[str, Any]]:
        """The series of an instant vector at this moment."""
        return list((await self.get("query", query=promql))["result"])


@contextlib.asynccontextmanager
async def prometheus(
    folder: Path,
    target: str,
    *,
    rules: Path | None = None,
    labels: Mapping[str, str] | None = None,
    honor_labels: bool = False,
) -> AsyncGenerator[Prometheus, None]:
    """Scrapes the target, to which discovery gave the labels. What it stores is in the folder."""
    config = folder / "prometheus.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "global": {
                    "scrape_interval": INTERVAL,
                    "scrape_timeout": INTERVAL,
                    "evaluation_interval": "1s",
                },
                "rule_files": [str(rules)] if rules else [],
                "scrape_configs": [
                    {
                        "job_name": JOB,
                        "honor_labels": honor_labels,
                        "static_configs": [{"targets": [target], "labels": dict(labels or {})}],
                    }
                ],
            }
        )
    )
    process = await asyncio.create_subprocess_exec(
        needed("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--log.format=json",
        stdout=DEVNULL,
        stderr=PIPE,
    )
    drain = None
    try:
        address = await asyncio.wait_for(_address(process), PATIENCE)
        assert process.stderr
        # Otherwise it stops once the pipe is full.
        drain = asyncio.create_task(process.stderr.read())
        async with httpx.AsyncClient(
            base_url=f"http://{address}", trust_env=False, timeout=PATIENCE
        ) as client:

            async def ready() -> bool:
                return (await client.get("/-/ready")).is_success

            await until(ready, "prometheus answers queries")
            yield Prometheus(client)
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        if drain:
            await drain


async def _address(process: asyncio.subprocess.Process) -> str:
    """Where it listens, as its log says."""
    assert process.stderr
    async for line in process.stderr:
        entry: dict[str, Any] = json.loads(line)
        if entry.get("msg") == "Listening on" and "address" in entry:
            return str(entry["address"])
    raise AssertionError("prometheus did not start")
