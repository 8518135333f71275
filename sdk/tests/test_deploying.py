"""From a push to a real registry until a real kernel serves it, and back."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from publishing_support import component, published, sdk, written
from tests.skills_layer.signatures.support import public_pem
from tests.support.kernel import KernelProcess, temporary_home
from tests.support.registry import RegistryProcess, registry_server, unique
from typer.testing import Result

from pharia_kernel_sdk.publishing import artifact as layout
from pharia_kernel_sdk.publishing.artifact import Blob
from pharia_kernel_sdk.publishing.following import Wanted, deploy
from pharia_kernel_sdk.publishing.kernel import Kernel
from pharia_kernel_sdk.publishing.reference import Defaults, parse
from pharia_kernel_sdk.publishing.registry import Registry
from pharia_kernel_sdk.publishing.runs import follow

__all__ = ["registry_server"]

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(240, func_only=True),
]

PATIENCE = 120
KEY = ec.generate_private_key(ec.SECP256R1())


@dataclass
class Site:
    """A kernel, and a namespace in a registry."""

    kernel: KernelProcess
    folder: Path
    host: str
    base: str

    def at(self, name: str, tag: str = "latest") -> str:
        return f"{self.host}/{self.base}/{name}:{tag}"

    async def sdk(self, *arguments: object) -> Result:
        """In a thread, so that the clients of this loop live on."""
        return await asyncio.to_thread(sdk, *arguments, "--kernel", self.kernel.url)

    async def deploy(self, name: str, answer: str, *arguments: object) -> Result:
        file = written(self.folder, component(answer), f"{name}.wasm")
        return await self.sdk("deploy", file, self.at(name), "--deadline", PATIENCE, *arguments)

    async def served(self, skill: str) -> Any:
        return (await self.kernel.run(skill, {})).json()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(
    registry_server: RegistryProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Site, None]:
    folder = tmp_path_factory.mktemp("publishing")
    base = unique("team")
    (folder / "team.pub").write_bytes(public_pem(KEY))
    place = [
        f'registry = "{registry_server.host}"',
        "registry-plain-http = true",
        f'base-repository = "{base}"',
        'update-interval = "1h"',
    ]
    (folder / "team.toml").write_text(
        'skills = [{ name = "greet" }, { name = "poem", tag = "v1" }, { name = "twice" }, '
        '{ name = "plain" }]'
    )
    (folder / "signed.toml").write_text('skills = [{ name = "sealed" }, { name = "twice" }]')
    toml = [
        "[namespaces.team]",
        f'config-url = "{(folder / "team.toml").as_uri()}"',
        *place,
        "[namespaces.signed]",
        f'config-url = "{(folder / "signed.toml").as_uri()}"',
        f'signature-keys = ["{folder / "team.pub"}"]',
        *place,
    ]
    # Nothing but the commands' own refreshes makes the kernel look.
    with temporary_home(engines=1, namespace_update_interval="1h") as home:
        (home.folder / "config.toml").write_text("\n".join(toml))
        async with home.running() as kernel:
            yield Site(kernel, folder, registry_server.host, base)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


async def test_deploy_list_and_rollback(site: Site) -> None:
    first = await site.deploy("greet", '"one"')
    assert first.exit_code == 0, first.output
    assert await site.served("team/greet") == "one"
    second = await site.deploy("greet", '"two"')
    assert second.exit_code == 0, second.output
    assert "team/greet serves sha256:" in second.stdout
    assert await site.served("team/greet") == "two"

    listed = await site.sdk("list", "team", "--json")
    greet = next(s for s in json.loads(listed.stdout) if s["path"] == "team/greet")
    assert greet["manifest_digest"] in second.stdout
    shown = (await site.sdk("list", "team")).stdout
    assert greet["manifest_digest"][:19] in shown
    assert "serving" in shown

    rolled = await site.sdk("rollback", site.at("greet"), "--deadline", PATIENCE)
    assert rolled.exit_code == 0, rolled.output
    assert await site.served("team/greet") == "one"
    further = await site.sdk("rollback", site.at("greet"))
    assert further.exit_code == 1
    assert "Nothing tells what" in further.output
    chosen = await site.sdk("rollback", site.at("greet"), "--to", "v9")
    assert chosen.exit_code == 1
    assert "has no `v9`" in chosen.output


async def test_rollback_of_what_others_published(site: Site) -> None:
    """They note nothing, so what the kernel remembers counts; step by step back, not to and fro."""
    digests = []
    with Registry(parse(site.at("plain"), Defaults(), name="")) as registry:
        for answer in ("1", "2", "3"):
            layer = Blob(layout.LAYER, component(answer, metadata=None))
            config = Blob(layout.CONFIG, b"{}")
            registry.push(layer)
            registry.push(config)
            manifest = {"schemaVersion": 2, "mediaType": layout.MANIFEST}
            manifest |= {"config": config.descriptor(), "layers": [layer.descriptor()]}
            digests.append(registry.put("latest", layout.encoded(manifest)))
            with Kernel(site.kernel.url) as kernel:
                wanted = Wanted("team", "plain", "latest", digests[-1])
                await asyncio.to_thread(deploy, kernel, wanted, PATIENCE)
    for expected in (2, 1):
        rolled = await site.sdk("rollback", site.at("plain"))
        assert rolled.exit_code == 0, rolled.output
        assert await site.served("team/plain") == expected
    assert (await site.sdk("rollback", site.at("plain"))).exit_code == 1


async def test_from_source(site: Site, tmp_path: Path) -> None:
    """Built, pushed and served by one command."""
    source = tmp_path / "greet.py"
    source.write_text(
        "from pharia_kernel_sdk import Csi, skill\n\n\n"
        "@skill\ndef greet(csi: Csi, input: str) -> str:\n"
        "    print('greeting', input)\n    return f'Hello {input}'\n"
    )
    done = await site.sdk("deploy", "greet.py", site.at("greet"), "--deadline", PATIENCE)
    assert done.exit_code == 0, done.output
    assert (await site.kernel.run("team/greet", "you")).json() == "Hello you"
    logs = await site.sdk("logs", "team/greet", "--limit", "1")
    assert "  | greeting you" in logs.stdout.splitlines()
    refused = await site.kernel.run("team/greet", 7)
    assert refused.is_error
    logs = await site.sdk("logs", "team/greet", "--limit", "1", "--json")
    (line,) = logs.stdout.splitlines()
    assert json.loads(line)["error"]["fixable_by"] == "caller"


async def test_deploying_the_same_again(site: Site) -> None:
    for _ in range(2):
        done = await site.deploy("greet", '"same"')
        assert done.exit_code == 0, done.output
    assert "pushed     nothing" in done.stdout


async def test_only_what_is_said_of_it_is_new(site: Site) -> None:
    """The same component under another manifest is served as that manifest."""
    assert (await site.deploy("greet", '"said"')).exit_code == 0
    before = await site.kernel.detail("team/greet")
    assert before
    file = written(site.folder, component('"said"'), "greet.wasm")
    done = await asyncio.to_thread(published, file, site.at("greet", "main"))
    assert done["digest"] != before["manifest_digest"]
    rolled = await site.sdk("rollback", site.at("greet"), "--to", "main")
    assert rolled.exit_code == 0, rolled.output
    after = await site.kernel.detail("team/greet")
    assert after
    assert (after["manifest_digest"], after["digest"]) == (done["digest"], before["digest"])


async def test_tags_of_the_registry(site: Site) -> None:
    file = written(site.folder, component('"t"'), "greet.wasm")
    await asyncio.to_thread(published, file, site.at("greet", "v7"))
    listed = await site.sdk(
        "list", "team", "--tags", "--json", "--registry", site.host, "--repository", site.base
    )
    assert listed.exit_code == 0, listed.output
    greet = next(s for s in json.loads(listed.stdout) if s["path"] == "team/greet")
    assert "v7" in [tag["name"] for tag in greet["tags"]]


async def test_signed(site: Site) -> None:
    key = site.folder / "team.key"
    key.write_bytes(
        KEY.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    unsigned = await site.deploy("sealed", '"1"')
    assert unsigned.exit_code == 1
    assert "Signature rejected" in unsigned.output
    signed = await site.deploy("sealed", '"1"', "--sign", key)
    assert signed.exit_code == 0, signed.output
    assert "signed by team.pub" in signed.stdout
    assert await site.served("signed/sealed") == "1"


async def test_what_the_kernel_refuses(site: Site) -> None:
    """A component that exports the interface, but in a version to come."""
    file = written(site.folder, component('"x"').replace(b"@0.3.11", b"@9.3.11"), "greet.wasm")
    failed = await site.sdk("deploy", file, site.at("greet"), "--deadline", PATIENCE)
    assert failed.exit_code == 1
    assert "WIT version not supported yet" in failed.output
    assert "Traceback" not in failed.output


async def test_skills_that_no_namespace_has(site: Site) -> None:
    unknown = await site.deploy("unknown", '"x"')
    assert unknown.exit_code == 1
    assert "No namespace of the kernel has a skill `unknown`" in unknown.output
    undescribed = await site.deploy("unknown", '"x"', "--namespace", "team")
    assert undescribed.exit_code == 1
    assert "has no skill `unknown`" in undescribed.output
    assert 'name = "unknown"' in undescribed.output
    several = await site.deploy("twice", '"x"')
    assert several.exit_code == 1
    assert "signed, team" in several.output
    nowhere = await site.deploy("greet", '"x"', "--namespace", "nowhere")
    assert nowhere.exit_code == 1
    assert "404" in nowhere.output


async def test_another_tag_than_the_described(site: Site) -> None:
    refused = await site.deploy("poem", '"x"')
    assert refused.exit_code == 1
    assert "takes the tag v1, but latest was published" in refused.output


async def test_deadline(site: Site) -> None:
    """A registry that the kernel does not ask: what is published there is never found."""
    other = f"{site.host}/elsewhere/{site.base}/greet"
    file = written(site.folder, component('"elsewhere"'), "greet.wasm")
    late = await site.sdk("deploy", file, other, "--deadline", 1)
    assert late.exit_code == 1
    assert "is not served after 1 s" in late.output


async def test_no_kernel() -> None:
    refused = await asyncio.to_thread(sdk, "list", "--kernel", "http://user:secret@127.0.0.1:1")
    assert refused.exit_code == 1
    assert "No answer from the kernel at http://127.0.0.1:1" in refused.output


async def test_logs(site: Site) -> None:
    assert (await site.deploy("greet", '"logged"')).exit_code == 0
    assert await site.served("team/greet") == "logged"
    logs = await site.sdk("logs", "team/greet", "--limit", "1")
    assert logs.exit_code == 0, logs.output
    assert "team/greet  ok" in logs.stdout
    nothing = await site.sdk("logs", "team/nobody")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "No runs" in nothing.stderr


async def test_logs_that_follow(site: Site) -> None:
    """Runs are shown once each, also those that came after the first look."""
    assert (await site.deploy("greet", '"followed"')).exit_code == 0
    assert await site.served("team/greet") == "followed"
    first_seen = threading.Event()

    def two_runs() -> list[str]:
        with Kernel(site.kernel.url) as kernel:
            runs = follow(kernel, "team/greet", 1)
            seen = [next(runs)["id"]]
            first_seen.set()
            return [*seen, next(runs)["id"]]

    following = asyncio.create_task(asyncio.to_thread(two_runs))
    assert await asyncio.to_thread(first_seen.wait, PATIENCE)
    await site.served("team/greet")
    ids = await asyncio.wait_for(following, PATIENCE)
    listed = await site.kernel.client.get("/v1/runs", params={"skill": "team/greet"})
    assert [run["id"] for run in listed.json()][:2] == ids[::-1]
