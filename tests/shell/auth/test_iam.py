from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import unused_port

from pharia_kernel.errors import AuthorizationUnavailable, Forbidden
from pharia_kernel.shell.auth.iam import LONGEST_REFUSAL, RETRY_PAUSE, IamAuthorizer
from tests.shell.auth.support import GRANTED, Clock, Iam
from tests.shell.support import TRACEPARENT, within

TTL, GRACE = 30.0, 60.0


@pytest.fixture
async def checker(iam: Iam, clock: Clock) -> AsyncIterator[IamAuthorizer]:
    checker = IamAuthorizer(iam.url, ttl=TTL, grace=GRACE, clock=clock)
    yield checker
    await checker.close()


async def test_it_is_asked_with_the_token(iam: Iam, checker: IamAuthorizer) -> None:
    identity = await checker.identify("abc", {"traceparent": TRACEPARENT})
    assert identity.grants.admin
    assert identity.forwards_token
    [(request, question)] = iam.requests
    assert question == {"permissions": [{"permission": "KernelAccess"}]}
    assert request.headers["Authorization"] == "Bearer abc"
    assert request.headers["traceparent"] == TRACEPARENT
    assert request.content_type == "application/json"


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (401, ""),
        (403, ""),
        (200, '{"permissions": []}'),
        (200, '{"permissions": [{"permission": "Other"}]}'),
    ],
)
async def test_refusal(iam: Iam, checker: IamAuthorizer, status: int, answer: str) -> None:
    iam.says(status, answer)
    with pytest.raises(Forbidden, match="Bearer token invalid"):
        await checker.identify("abc", {})


@pytest.mark.parametrize(
    ("status", "answer"),
    [(500, GRANTED), (404, GRANTED), (302, GRANTED), (200, "{"), (200, "[]"), (200, "1" * 100_000)],
)
async def test_unusable_answer(
    iam: Iam, checker: IamAuthorizer, status: int, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    iam.says(status, answer)
    with pytest.raises(AuthorizationUnavailable) as caught:
        await checker.identify("abc", {})
    assert str(iam.server.port) not in caught.value.detail
    assert str(iam.server.port) in caplog.text
    assert "abc" not in caplog.text
    assert len(iam.requests) == 1


async def test_passing_trouble_is_tried_again(iam: Iam, checker: IamAuthorizer) -> None:
    iam.resets()
    iam.says(503, "")
    iam.says(200, GRANTED)
    await checker.identify("abc", {})
    assert len(iam.requests) == 3


async def test_lasting_trouble_is_not(iam: Iam, checker: IamAuthorizer) -> None:
    for _ in range(3):
        iam.says(502, "")
    with pytest.raises(AuthorizationUnavailable):
        await checker.identify("abc", {})
    assert len(iam.requests) == 3


async def test_unreachable_service() -> None:
    checker = IamAuthorizer(f"http://127.0.0.1:{unused_port()}", ttl=TTL, grace=GRACE)
    with pytest.raises(AuthorizationUnavailable):
        await checker.identify("abc", {})
    await checker.close()


async def test_slow_service(iam: Iam, caplog: pytest.LogCaptureFixture) -> None:
    gate = asyncio.Event()
    iam.waits_for(gate)
    checker = IamAuthorizer(iam.url, ttl=TTL, grace=GRACE, timeout=0.05)
    with pytest.raises(AuthorizationUnavailable):
        await checker.identify("abc", {})
    assert "no answer within 0.05 s" in caplog.text
    gate.set()
    await checker.close()


# --- the cache ------------------------------------------------------------------------------------


async def test_acceptance_is_remembered(iam: Iam, checker: IamAuthorizer, clock: Clock) -> None:
    for _ in range(3):
        await checker.identify("abc", {})
    clock.advance(TTL - 1)
    await checker.identify("abc", {})
    assert len(iam.requests) == 1
    clock.advance(1)
    iam.says(403, "")
    with pytest.raises(Forbidden):
        await checker.identify("abc", {})


async def test_each_token_has_its_own_answer(iam: Iam, checker: IamAuthorizer) -> None:
    await checker.identify("abc", {})
    iam.says(403, "")
    with pytest.raises(Forbidden):
        await checker.identify("abd", {})
    assert len(iam.requests) == 2


async def test_refusal_is_remembered_for_less(
    iam: Iam, checker: IamAuthorizer, clock: Clock
) -> None:
    iam.says(403, "")
    for _ in range(3):
        with pytest.raises(Forbidden):
            await checker.identify("abc", {})
    assert len(iam.requests) == 1
    clock.advance(LONGEST_REFUSAL)
    await checker.identify("abc", {})


async def test_trouble_is_not_remembered(iam: Iam, checker: IamAuthorizer) -> None:
    iam.says(500, "")
    with pytest.raises(AuthorizationUnavailable):
        await checker.identify("abc", {})
    await checker.identify("abc", {})


async def test_without_a_cache_each_request_asks(iam: Iam, clock: Clock) -> None:
    checker = IamAuthorizer(iam.url, ttl=0.0, grace=GRACE, clock=clock)
    await checker.identify("abc", {})
    await checker.identify("abc", {})
    assert len(iam.requests) == 2
    iam.says(500, "")
    await checker.identify("abc", {})  # within the grace
    await checker.close()


async def test_equal_tokens_share_a_question(iam: Iam, checker: IamAuthorizer) -> None:
    gate = asyncio.Event()
    iam.waits_for(gate)
    requests = [asyncio.create_task(checker.identify("abc", {})) for _ in range(20)]
    await within(iam.arrived.wait())
    requests.pop(0).cancel()  # whoever asked first does not take the others down
    gate.set()
    await within(asyncio.gather(*requests))
    assert len(iam.requests) == 1


async def test_nobody_waits_for_what_nobody_wants(iam: Iam, checker: IamAuthorizer) -> None:
    gate = asyncio.Event()
    iam.waits_for(gate)
    request = asyncio.create_task(checker.identify("abc", {}))
    await within(iam.arrived.wait())
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await within(checker.close())
    gate.set()


async def test_grace_while_the_service_is_down(
    iam: Iam, checker: IamAuthorizer, clock: Clock
) -> None:
    await checker.identify("abc", {})
    clock.advance(TTL)
    iam.says(500, "")
    await checker.identify("abc", {})
    assert len(iam.requests) == 2
    # It is not asked again by each request ...
    await checker.identify("abc", {})
    assert len(iam.requests) == 2
    # ... but soon.
    clock.advance(RETRY_PAUSE)
    iam.says(500, "")
    await checker.identify("abc", {})
    assert len(iam.requests) == 3
    # Those who were not accepted before get no grace.
    iam.says(500, "")
    with pytest.raises(AuthorizationUnavailable):
        await checker.identify("abd", {})
    clock.advance(GRACE)
    iam.says(500, "")
    with pytest.raises(AuthorizationUnavailable):
        await checker.identify("abc", {})


async def test_a_refusal_ends_the_grace(iam: Iam, checker: IamAuthorizer, clock: Clock) -> None:
    await checker.identify("abc", {})
    clock.advance(TTL)
    iam.says(401, "")
    with pytest.raises(Forbidden):
        await checker.identify("abc", {})
    clock.advance(LONGEST_REFUSAL)
    iam.says(500, "")
    with pytest.raises(AuthorizationUnavailable):
        await checker.identify("abc", {})
