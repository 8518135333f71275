"""One skill's versions: their states, generations, signatures, and what is remembered of them."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from pharia_kernel.engine.api import Returned
from pharia_kernel.errors import (
    ArtifactNotFound,
    CompileFailed,
    CompilerLost,
    NotAComponent,
    RegistryUnavailable,
    SignatureRejected,
    SkillLoadError,
    SkillUnavailable,
)
from pharia_kernel.skills.deployment import HISTORY, ComponentSource, Pace
from pharia_kernel.skills.types import (
    SkillDetail,
    SkillSettings,
    SkillStatus,
    VersionRecord,
    VersionState,
)
from tests.skills_layer.registries import Notary, RemoteRegistry
from tests.skills_layer.support import (
    Guest,
    Kernel,
    digest_of,
    error_of,
    eventually,
    kernel,
    parse,
)

SLOW = Pace(interval=3600, first_pause=3600, longest_pause=3600)
"""Nothing happens by itself."""
QUICK = Pace(interval=0.01, first_pause=0.01, longest_pause=0.02)


@pytest.fixture
async def k() -> AsyncGenerator[Kernel, None]:
    async with kernel(pace=SLOW) as made:
        yield made


@pytest.fixture
async def quick() -> AsyncGenerator[Kernel, None]:
    async with kernel(pace=QUICK) as made:
        yield made


@pytest.fixture
def registry() -> RemoteRegistry:
    return RemoteRegistry()


def follow(k: Kernel, registry: RemoteRegistry, **source: Any) -> None:
    """Configure ``dev/greet``."""
    k.store.configure("dev", {"greet": ComponentSource(registry, "greet", **source)})


def deploy(k: Kernel, registry: RemoteRegistry, text: str, **source: Any) -> None:
    registry.push("greet", text, source.get("tag", "latest"))
    follow(k, registry, **source)
    k.store.check("dev")


def detail(k: Kernel) -> SkillDetail:
    (found,) = k.store.details("dev")
    return found


def history(k: Kernel) -> list[VersionRecord]:
    return detail(k).history


def states(k: Kernel) -> list[tuple[str, VersionState]]:
    """Newest first."""
    texts = {digest_of(text): text for text in ("function:1", "function:2", "function:3")}
    return [(texts[record.digest], record.state) for record in history(k)]


async def serves(k: Kernel, text: str) -> None:
    await eventually(lambda: detail(k).digest == digest_of(text))
    assert await k.run("dev/greet") == text


# --- states and history ---------------------------------------------------------------------------


async def test_a_version_passes_its_states(k: Kernel, registry: RemoteRegistry) -> None:
    registry.gate, registry.read_gate = asyncio.Event(), asyncio.Event()
    compiling = k.compiler.gates["function:1"] = asyncio.Event()
    loading = k.pool.load_gate = asyncio.Event()
    began = time.time()
    deploy(k, registry, "function:1", tag="v1")
    await eventually(lambda: registry.asking)
    assert (detail(k).state, detail(k).status) == (None, SkillStatus.PREPARING)

    registry.gate.set()
    await eventually(lambda: detail(k).state is VersionState.FOUND)
    registry.read_gate.set()
    await eventually(lambda: detail(k).state is VersionState.PULLED)
    compiling.set()
    await eventually(lambda: detail(k).state is VersionState.COMPILED)
    assert detail(k).status is SkillStatus.PREPARING
    loading.set()
    await eventually(lambda: detail(k).state is VersionState.SERVING)

    (record,) = history(k)
    assert (record.digest, record.tag) == (digest_of("function:1"), "v1")
    assert record.manifest_digest == digest_of("manifest of function:1")
    assert list(record.seconds) == [
        VersionState.PULLED,
        VersionState.COMPILED,
        VersionState.READY,
    ]
    assert began <= record.found <= record.since <= time.time()
    assert (record.cached, record.attempts, record.failed_at) == (False, 1, None)
    info = detail(k)
    assert info.manifest_digest == record.manifest_digest
    assert info.tag == "v1"
    assert info.last_check and began <= info.last_check <= time.time()
    assert info.next_attempt is None


async def test_the_version_before_is_retired(k: Kernel, registry: RemoteRegistry) -> None:
    deploy(k, registry, "function:1")
    await serves(k, "function:1")
    deploy(k, registry, "function:2")
    await serves(k, "function:2")
    assert states(k) == [
        ("function:2", VersionState.SERVING),
        ("function:1", VersionState.RETIRED),
    ]


async def test_nothing_is_pulled_if_the_machine_code_is_there(
    k: Kernel, registry: RemoteRegistry
) -> None:
    await k.compiler.compile(digest_of("function:1"), b"function:1")
    deploy(k, registry, "function:1")
    await serves(k, "function:1")
    (record,) = history(k)
    assert record.cached
    assert list(record.seconds) == [VersionState.READY]
    assert not registry.read_names


async def test_what_another_skill_has_loaded_counts_as_cached(
    k: Kernel, registry: RemoteRegistry
) -> None:
    registry.push("other", "function:1")
    k.store.configure("other", {"other": ComponentSource(registry, "other")})
    assert await k.run("other/other") == "function:1"
    deploy(k, registry, "function:1")
    await serves(k, "function:1")
    assert history(k)[0].cached


@pytest.mark.parametrize("stage", [VersionState.PULLED, VersionState.COMPILED, VersionState.READY])
async def test_a_failure_tells_its_stage_and_reason(
    k: Kernel, registry: RemoteRegistry, stage: VersionState
) -> None:
    error = CompileFailed(f"{stage} failed")
    if stage is VersionState.PULLED:
        registry.read_fault = error
    elif stage is VersionState.COMPILED:
        k.compiler.faults["function:1"] = error
    else:
        k.pool.load_faults = [error]
    deploy(k, registry, "function:1")
    assert (await error_of(k.run("dev/greet"))).detail == error.detail
    (record,) = history(k)
    assert (record.state, record.failed_at) == (VersionState.FAILED, stage)
    assert record.error and record.error["detail"] == error.detail
    assert (detail(k).status, detail(k).state) == (SkillStatus.FAILED, VersionState.FAILED)


async def test_retries_of_a_version_are_one_record(quick: Kernel, registry: RemoteRegistry) -> None:
    registry.read_fault = RegistryUnavailable("down")
    deploy(quick, registry, "function:1")
    await eventually(lambda: history(quick) and history(quick)[0].attempts >= 3)
    registry.read_fault = None
    await serves(quick, "function:1")
    (record,) = history(quick)
    assert record.attempts >= 3
    assert (record.state, record.error) == (VersionState.SERVING, None)


async def test_the_history_is_bounded(k: Kernel, registry: RemoteRegistry) -> None:
    for n in range(HISTORY + 3):
        deploy(k, registry, f"function:{n}")
        await serves(k, f"function:{n}")
    assert len(history(k)) == HISTORY
    assert history(k)[0].digest == digest_of(f"function:{HISTORY + 2}")
    assert history(k)[-1].digest == digest_of("function:3")


async def test_deploy_events_are_logged(
    k: Kernel, registry: RemoteRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="pharia_kernel.deployments")
    deploy(k, registry, "function:1")
    await serves(k, "function:1")
    deploy(k, registry, "garbage")
    await eventually(lambda: detail(k).error)
    k.store.evict(parse("dev/greet"))
    k.store.configure("dev", {})

    events = {record.getMessage(): vars(record) for record in caplog.records}
    assert [*events] == [
        "Skill is new",
        "Skill version serves",
        "Not a WebAssembly component (the old version keeps serving): "
        "`garbage` is not a component.",
        "Skill is evicted",
        "Skill is removed",
        "Skill version is retired",
    ]
    assert all(event["skill"] == "dev/greet" for event in events.values())
    served = events["Skill version serves"]
    assert served["digest"] == digest_of("function:1")
    assert served["manifest_digest"] == digest_of("manifest of function:1")
    assert (served["generation"], served["tag"]) == (1, "latest")
    assert served["seconds"] >= 0
    failed = next(event for message, event in events.items() if "garbage" in message)
    assert (failed["error"], failed["digest"]) == ("not_a_component", digest_of("garbage"))


# --- generations ----------------------------------------------------------------------------------


async def test_another_tag_begins_a_generation(k: Kernel, registry: RemoteRegistry) -> None:
    deploy(k, registry, "function:1", tag="v1")
    await serves(k, "function:1")
    deploy(k, registry, "function:2", tag="v2")
    await serves(k, "function:2")
    assert detail(k).generation == 2
    assert [(record.generation, record.tag) for record in history(k)] == [(2, "v2"), (1, "v1")]


async def test_what_was_prepared_for_another_tag_is_discarded(
    k: Kernel, registry: RemoteRegistry
) -> None:
    gate = k.compiler.gates["function:1"] = asyncio.Event()
    deploy(k, registry, "function:1", tag="v1")
    await eventually(lambda: k.compiler.started)
    deploy(k, registry, "function:2", tag="v2")
    await serves(k, "function:2")
    gate.set()
    assert k.compiler.cancelled == ["function:1"]
    assert states(k) == [
        ("function:2", VersionState.SERVING),
        ("function:1", VersionState.DISCARDED),
    ]


async def test_evicting_discards_what_is_being_prepared(
    k: Kernel, registry: RemoteRegistry
) -> None:
    gate = k.compiler.gates["function:1"] = asyncio.Event()
    deploy(k, registry, "function:1")
    await eventually(lambda: k.compiler.started)
    registry.push("greet", "function:2")  # nobody tells
    k.store.evict(parse("dev/greet"))
    gate.set()
    await serves(k, "function:2")
    assert detail(k).generation == 2
    assert states(k)[1] == ("function:1", VersionState.DISCARDED)


async def test_a_result_that_comes_in_spite_of_being_cancelled_is_discarded(
    k: Kernel, registry: RemoteRegistry
) -> None:
    stubborn = Notary()
    stubborn.signed, stubborn.deaf, stubborn.gate = {"function:1"}, True, asyncio.Event()
    deploy(k, registry, "function:1", tag="v1", verifier=stubborn)
    await eventually(lambda: stubborn.asked)
    deploy(k, registry, "function:2", tag="v2")
    await serves(k, "function:2")
    await eventually(lambda: k.pool.unloads["function:1"])  # it came, and nobody wanted it
    await serves(k, "function:2")
    assert ("function:1", VersionState.DISCARDED) in states(k)


async def test_a_failure_that_comes_in_spite_of_being_cancelled_is_nobodys_news(
    k: Kernel, registry: RemoteRegistry
) -> None:
    stubborn = Notary()
    stubborn.deaf, stubborn.gate = True, asyncio.Event()
    deploy(k, registry, "function:1", tag="v1", verifier=stubborn)
    await eventually(lambda: stubborn.asked)
    deploy(k, registry, "function:2", tag="v2", verifier=notary("function:2"))
    await serves(k, "function:2")
    assert stubborn.asked.total() == 1
    assert detail(k).error is None
    assert states(k) == [
        ("function:2", VersionState.SERVING),
        ("function:1", VersionState.DISCARDED),
    ]


async def test_a_look_that_hangs_does_not_hold_up_the_next_generation(
    k: Kernel, registry: RemoteRegistry
) -> None:
    registry.gate = asyncio.Event()
    deploy(k, registry, "function:1")
    await eventually(lambda: registry.asking)
    other = RemoteRegistry()
    deploy(k, other, "function:2")
    await serves(k, "function:2")
    assert registry.asking == 0


async def test_after_evicting_nobody_is_told_the_old_error(
    k: Kernel, registry: RemoteRegistry
) -> None:
    registry.fault = RegistryUnavailable("down")
    deploy(k, registry, "function:1")
    assert isinstance(await error_of(k.run("dev/greet")), RegistryUnavailable)
    registry.fault, registry.gate = None, asyncio.Event()
    k.store.evict(parse("dev/greet"))
    waiting = asyncio.create_task(k.run("dev/greet"))
    await eventually(lambda: registry.asking)
    assert detail(k).status is SkillStatus.PREPARING
    registry.gate.set()
    assert await waiting == "function:1"


async def test_other_settings_hold_for_the_next_run_and_change_nothing_else(
    k: Kernel, registry: RemoteRegistry
) -> None:
    deploy(k, registry, "function:1")
    await serves(k, "function:1")
    asked = registry.asked.total()
    for limit in (100, 200):
        follow(k, registry, settings=SkillSettings(memory_limit=limit))
        assert await k.run("dev/greet") == "function:1"
        assert k.pool.memory_limits[-1] == limit
        assert detail(k).settings == SkillSettings(memory_limit=limit)
    assert (detail(k).generation, len(history(k))) == (1, 1)
    assert registry.asked.total() == asked
    assert k.compiler.compiled["function:1"] == k.pool.loads["function:1"] == 1


async def test_fifty_versions_under_load(k: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    """No run fails, and each reports the digest of the version that answered it."""
    caplog.set_level(logging.INFO, logger="pharia_kernel.skills.runs")
    registry = RemoteRegistry()
    answers: dict[str, str] = {}
    stop = asyncio.Event()

    def naming(text: str) -> Guest:
        async def guest(input: bytes, host: Any) -> Returned:
            await asyncio.sleep(0)
            return Returned(json.dumps([text, host._calls.context.run_id]).encode())

        return guest

    async def client() -> None:
        while not stop.is_set():
            text, run = await k.run("dev/greet")
            answers[run] = text

    def is_answered(text: str) -> bool:
        return text in answers.values()

    clients: list[asyncio.Task[None]] = []
    for n in range(51):
        text = f"function:{n}"
        k.pool.guests[text] = naming(text)
        deploy(k, registry, text, tag=f"v{n % 3}" if n % 2 else "latest")
        if n % 5 == 0:
            k.store.evict(parse("dev/greet"))
        clients = clients or [asyncio.create_task(client()) for _ in range(8)]
        await eventually(lambda: is_answered(text))  # noqa: B023 (called at once)
    stop.set()
    await asyncio.gather(*clients)
    await eventually(lambda: k.pool.loaded == {"function:50"})

    reported = {}
    for record in caplog.records:
        found = re.search("executed successfully: .* run=([0-9a-f]+)", record.getMessage())
        assert found, record.getMessage()
        reported[found[1]] = vars(record)["digest"]
    assert reported == {run: digest_of(text) for run, text in answers.items()}


async def test_a_compiler_that_was_lost_is_started_again(
    quick: Kernel, registry: RemoteRegistry
) -> None:
    quick.compiler.faults["function:1"] = CompilerLost("It ended with status 1.")
    deploy(quick, registry, "function:1")
    assert isinstance(await error_of(quick.run("dev/greet")), CompilerLost)
    del quick.compiler.faults["function:1"]
    await serves(quick, "function:1")


# --- signatures -----------------------------------------------------------------------------------


def notary(*signed: str, name: str = "alice") -> Notary:
    made = Notary(name)
    made.signed = set(signed)
    return made


async def test_nothing_is_pulled_before_it_is_verified(k: Kernel, registry: RemoteRegistry) -> None:
    verifier = notary("function:1")
    verifier.gate = asyncio.Event()
    deploy(k, registry, "function:1", verifier=verifier)
    await eventually(lambda: verifier.asked)
    assert not registry.read_names
    verifier.gate.set()
    await serves(k, "function:1")
    (record,) = history(k)
    assert record.signed_by == detail(k).signed_by == "alice"
    assert list(record.seconds) == [
        VersionState.PULLED,
        VersionState.VERIFIED,
        VersionState.COMPILED,
        VersionState.READY,
    ]


async def test_verified_means_that_the_bytes_are_the_signed_ones(
    k: Kernel, registry: RemoteRegistry
) -> None:
    registry.read_gate = asyncio.Event()
    k.compiler.gates["function:1"] = asyncio.Event()
    deploy(k, registry, "function:1", verifier=notary("function:1"))
    await eventually(lambda: registry.read_names)
    assert detail(k).state is VersionState.FOUND
    registry.read_gate.set()
    await eventually(lambda: k.compiler.started)
    assert detail(k).state is VersionState.VERIFIED
    k.compiler.gates["function:1"].set()
    await serves(k, "function:1")


async def test_what_comes_from_the_artifact_cache_is_verified_too(
    k: Kernel, registry: RemoteRegistry
) -> None:
    await k.compiler.compile(digest_of("function:1"), b"function:1")
    deploy(k, registry, "function:1", verifier=notary())
    assert isinstance(await error_of(k.run("dev/greet")), SignatureRejected)
    assert not k.pool.loaded

    deploy(k, registry, "function:1", verifier=notary("function:1"))
    await serves(k, "function:1")
    (record, rejected) = history(k)
    assert list(record.seconds) == [VersionState.VERIFIED, VersionState.READY]
    assert record.cached
    assert rejected.failed_at is VersionState.VERIFIED


async def test_a_rejected_version_does_not_replace_an_accepted_one(
    k: Kernel, registry: RemoteRegistry
) -> None:
    verifier = notary("function:1")
    deploy(k, registry, "function:1", verifier=verifier)
    await serves(k, "function:1")
    deploy(k, registry, "function:2", verifier=verifier)
    await eventually(lambda: detail(k).error)
    assert detail(k).error["code"] == "signature_rejected"  # type: ignore[index]
    assert "function:2" not in k.compiler.started
    assert await k.run("dev/greet") == "function:1"
    assert detail(k).signed_by == "alice"
    assert states(k)[0] == ("function:2", VersionState.FAILED)


async def test_who_asks_for_it_need_not_wait_for_the_next_attempt(
    k: Kernel, registry: RemoteRegistry
) -> None:
    """Somebody has signed, and says so."""
    alice = notary()
    deploy(k, registry, "function:1", verifier=alice)
    await eventually(lambda: detail(k).error)
    alice.signed.add("function:1")
    k.store.check("dev")
    await serves(k, "function:1")
    assert detail(k).error is None


async def test_a_signature_may_come_later(quick: Kernel, registry: RemoteRegistry) -> None:
    verifier = notary()
    deploy(quick, registry, "function:1", verifier=verifier)
    assert isinstance(await error_of(quick.run("dev/greet")), SignatureRejected)
    assert detail(quick).next_attempt is not None
    verifier.signed.add("function:1")
    await serves(quick, "function:1")


async def test_each_version_is_verified_once(k: Kernel, registry: RemoteRegistry) -> None:
    verifier = notary("function:1")
    deploy(k, registry, "function:1", verifier=verifier)
    await serves(k, "function:1")
    for _ in range(3):
        asked = registry.asked["greet"]
        deploy(k, registry, "function:1", verifier=verifier)
        await eventually(lambda: registry.asked["greet"] > asked)  # noqa: B023 (called at once)
        await k.run("dev/greet")
    k.store.evict(parse("dev/greet"))
    await eventually(lambda: not k.store.cached())
    await serves(k, "function:1")
    assert verifier.asked == {digest_of("function:1"): 1}


async def test_another_verifier_verifies_again_without_compiling(
    k: Kernel, registry: RemoteRegistry
) -> None:
    deploy(k, registry, "function:1", verifier=notary("function:1"))
    await serves(k, "function:1")
    bob = notary("function:1", name="bob")
    bob.gate = asyncio.Event()
    deploy(k, registry, "function:1", verifier=bob)
    await eventually(lambda: bob.asked)
    assert await k.run("dev/greet") == "function:1"
    bob.gate.set()
    await eventually(lambda: detail(k).signed_by == "bob")
    assert k.compiler.compiled["function:1"] == k.pool.loads["function:1"] == 1
    assert detail(k).generation == 2


async def test_what_the_new_verifier_rejects_stops_serving(
    k: Kernel, registry: RemoteRegistry
) -> None:
    """Unsigned versions don't outlive the moment in which signatures are demanded."""
    deploy(k, registry, "function:1")
    await serves(k, "function:1")
    deploy(k, registry, "function:1", verifier=notary())
    await eventually(lambda: detail(k).error)
    assert isinstance(await error_of(k.run("dev/greet")), SignatureRejected)
    assert states(k) == [("function:1", VersionState.FAILED), ("function:1", VersionState.RETIRED)]
    await eventually(lambda: not k.pool.loaded)


async def test_trouble_of_the_new_verifier_takes_nothing_away(
    k: Kernel, registry: RemoteRegistry
) -> None:
    deploy(k, registry, "function:1")
    await serves(k, "function:1")
    verifier = notary("function:1")
    verifier.fault = RegistryUnavailable("down")
    deploy(k, registry, "function:1", verifier=verifier)
    await eventually(lambda: detail(k).error)
    assert history(k)[0].failed_at is VersionState.VERIFIED
    assert await k.run("dev/greet") == "function:1"


async def test_without_a_verifier_nobody_has_signed(k: Kernel, registry: RemoteRegistry) -> None:
    deploy(k, registry, "function:1", verifier=notary("function:1"))
    await serves(k, "function:1")
    deploy(k, registry, "function:1")
    await eventually(lambda: detail(k).signed_by is None)
    assert detail(k).digest == digest_of("function:1")


async def test_the_same_bytes_in_another_manifest_are_verified_again(
    k: Kernel, registry: RemoteRegistry
) -> None:
    verifier = notary("function:1")
    deploy(k, registry, "function:1", verifier=verifier)
    await serves(k, "function:1")
    registry.manifests["function:1"] = "sha256:other"
    deploy(k, registry, "function:1", verifier=verifier)
    await eventually(lambda: detail(k).manifest_digest == "sha256:other")
    assert verifier.asked[digest_of("function:1")] == 2
    assert k.compiler.compiled["function:1"] == k.pool.loads["function:1"] == 1


async def test_the_same_bytes_in_another_manifest_just_go_on(
    k: Kernel, registry: RemoteRegistry
) -> None:
    deploy(k, registry, "function:1")
    await serves(k, "function:1")
    registry.manifests["function:1"] = "sha256:other"
    deploy(k, registry, "function:1")
    await eventually(lambda: detail(k).manifest_digest == "sha256:other")
    assert len(history(k)) == 1


async def test_a_verifier_that_hangs_is_given_up() -> None:
    registry, verifier = RemoteRegistry(), notary("function:1")
    verifier.gate = asyncio.Event()
    async with kernel(pace=Pace(verify_limit=0.01)) as k:
        deploy(k, registry, "function:1", verifier=verifier)
        error = await error_of(k.run("dev/greet"))
        assert isinstance(error, SkillUnavailable)
        assert "signature" in error.detail
        assert history(k)[0].failed_at is VersionState.VERIFIED


# --- what is remembered of failures ---------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["missing", "unreachable", "broken"])
async def test_requests_cost_the_registry_and_the_compiler_nothing(
    k: Kernel, registry: RemoteRegistry, trouble: str
) -> None:
    kinds = {"missing": ArtifactNotFound, "unreachable": RegistryUnavailable}
    if trouble == "unreachable":
        registry.fault = RegistryUnavailable("down")
    if trouble == "missing":
        follow(k, registry)
    else:
        deploy(k, registry, "garbage")
    kind = kinds.get(trouble, NotAComponent)
    assert isinstance(await error_of(k.run("dev/greet")), kind)
    await eventually(lambda: detail(k).status is SkillStatus.FAILED)
    follow(k, registry)
    before = registry.asked.copy(), registry.read_names.copy(), list(k.compiler.started)
    for _ in range(100):
        assert isinstance(await error_of(k.run("dev/greet")), kind)
        follow(k, registry)
    assert (registry.asked, registry.read_names, k.compiler.started) == before

    next_attempt = detail(k).next_attempt
    assert (next_attempt is None) == (trouble == "broken")
    if next_attempt:
        assert next_attempt > time.time() + 1000
    registry.fault = None
    registry.push("greet", "function:1")
    k.store.evict(parse("dev/greet"))
    await serves(k, "function:1")
    assert (detail(k).error, detail(k).next_attempt) == (None, None)


async def test_another_version_ends_the_memory_of_a_failure(
    quick: Kernel, registry: RemoteRegistry
) -> None:
    deploy(quick, registry, "garbage")
    await error_of(quick.run("dev/greet"))
    asked = registry.asked["greet"]
    await eventually(lambda: registry.asked["greet"] > asked + 5)
    assert quick.compiler.started == ["garbage"]
    registry.push("greet", "function:1")
    await serves(quick, "function:1")


async def test_who_waited_for_a_version_that_was_taken_back_is_told(
    quick: Kernel, registry: RemoteRegistry
) -> None:
    deploy(quick, registry, "garbage")
    await error_of(quick.run("dev/greet"))
    gate = quick.compiler.gates["function:1"] = asyncio.Event()
    registry.push("greet", "function:1")
    await eventually(lambda: "function:1" in quick.compiler.started)
    waiting = asyncio.create_task(error_of(quick.run("dev/greet")))
    await asyncio.sleep(0)  # it waits
    registry.push("greet", "garbage")
    assert isinstance(await asyncio.wait_for(waiting, 30), SkillLoadError)
    gate.set()


async def test_an_outage_does_not_make_a_broken_version_interesting_again(
    quick: Kernel, registry: RemoteRegistry
) -> None:
    deploy(quick, registry, "garbage")
    await error_of(quick.run("dev/greet"))
    registry.fault = RegistryUnavailable("down")
    await eventually(lambda: detail(quick).error["code"] == "registry_unavailable")  # type: ignore[index]
    registry.fault = None
    await eventually(lambda: detail(quick).error["code"] == "not_a_component")  # type: ignore[index]
    asked = registry.asked["greet"]
    await eventually(lambda: registry.asked["greet"] > asked + 5)
    assert quick.compiler.started == ["garbage"]


async def test_an_outage_in_the_middle_of_a_compilation_does_not_cancel_it(
    quick: Kernel, registry: RemoteRegistry
) -> None:
    gate = quick.compiler.gates["function:1"] = asyncio.Event()
    deploy(quick, registry, "function:1")
    await eventually(lambda: quick.compiler.started)
    registry.fault = RegistryUnavailable("down")
    await eventually(lambda: detail(quick).error)
    assert detail(quick).status is SkillStatus.PREPARING
    gate.set()
    await serves(quick, "function:1")


async def test_bytes_that_never_have_their_digest_are_not_read_for_ever(
    k: Kernel, registry: RemoteRegistry
) -> None:
    registry.forged = "function:2"
    deploy(k, registry, "function:1")
    error = await error_of(k.run("dev/greet"))
    assert isinstance(error, SkillUnavailable)
    assert "digest" in error.detail
    reads = registry.read_names["greet"]
    assert reads == 5
    assert not k.compiler.started
    await error_of(k.run("dev/greet"))
    assert registry.read_names["greet"] == reads


# --- following registries -------------------------------------------------------------------------


async def test_registries_are_asked_without_anybody_telling(
    quick: Kernel, registry: RemoteRegistry
) -> None:
    deploy(quick, registry, "function:1")
    await serves(quick, "function:1")
    registry.push("greet", "function:2")
    await serves(quick, "function:2")


async def test_an_unchanged_namespace_asks_no_registry(k: Kernel, registry: RemoteRegistry) -> None:
    deploy(k, registry, "function:1")
    await serves(k, "function:1")
    asked = registry.asked["greet"]
    for _ in range(10):
        follow(k, registry)
        await k.run("dev/greet")
    assert registry.asked["greet"] == asked


async def test_a_registry_that_hangs_disturbs_no_other_skill(registry: RemoteRegistry) -> None:
    registry.gate = asyncio.Event()
    well = RemoteRegistry()
    names = [f"skill-{n}" for n in range(1000)]
    async with kernel(pace=Pace(interval=0.01, check_limit=1.0)) as k:
        k.store.configure("stuck", {name: ComponentSource(registry, name) for name in names})
        await eventually(lambda: len(registry.asked) == 1000)
        deploy(k, well, "function:1")
        await serves(k, "function:1")
        well.push("greet", "function:2")
        await serves(k, "function:2")
        await eventually(lambda: k.store.states("stuck")[SkillStatus.FAILED] == 1000)
        error = await error_of(k.run("stuck/skill-7"))
        assert isinstance(error, SkillUnavailable)
        assert "in time" in error.detail
        assert k.runtime.readiness()["skills"]["ready"]


def test_many_skills_do_not_ask_at_the_same_moment() -> None:
    pace = Pace(interval=10, first_pause=1, longest_pause=60)
    looks = [pace.next_look(local=False) for _ in range(200)]
    assert all(8 <= look <= 12 for look in looks)
    assert len({round(look, 2) for look in looks}) > 50
    assert min(pace.next_look(local=True) for _ in range(200)) > 12
    for failures, longest in ((1, 1), (2, 2), (5, 16), (100, 60)):
        pauses = [pace.pause(failures) for _ in range(200)]
        assert all(longest / 2 <= pause <= longest for pause in pauses)
        assert len({round(pause / longest, 2) for pause in pauses}) > 20
