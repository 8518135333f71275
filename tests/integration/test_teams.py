"""Teams deploy their skills themselves, and no request fails because of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest_asyncio

from tests.integration import teams_story as story
from tests.integration.teams import Site, new_site, traffic

REDEPLOYMENTS = 50
OUTAGE = 3.0
"""Seconds that the registry stays down after everybody has noticed."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site() -> AsyncGenerator[Site, None]:
    """Two teams whose skills serve; every test leaves it in order."""
    async with new_site() as site:
        await story.settle(site)
        async with site.running():
            await story.all_serve(site)
            yield site


# --- under load ----------------------------------------------------------------------------------


async def test_redeployments(site: Site) -> None:
    async with traffic(site.kernel, *site.skills_of("team-a", "team-b")) as requests:
        await story.redeployments(site, requests, REDEPLOYMENTS)


async def test_a_namespace_comes_and_goes(site: Site) -> None:
    async with traffic(site.kernel, *site.skills_of("team-a", "team-b")) as requests:
        await story.namespace_comes_and_goes(site, requests)


async def test_a_server_of_descriptions_that_fails(site: Site) -> None:
    async with traffic(site.kernel, *site.skills_of("team-a", "team-b")) as requests:
        await story.description_faults(site, requests)


async def test_a_registry_that_is_down(site: Site) -> None:
    async with traffic(site.kernel, *site.skills_of("team-a", "team-b")) as requests:
        await story.outage(site, requests, OUTAGE)


async def test_a_registry_that_fails(site: Site) -> None:
    async with traffic(site.kernel, *site.skills_of("team-a", "team-b")) as requests:
        await story.registry_faults(site, requests)


async def test_pulls_that_fail(site: Site) -> None:
    async with traffic(site.kernel, *site.skills_of("team-a", "team-b")) as requests:
        await story.pull_faults(site, requests)
        await story.slow_pull(site, requests)
        await story.tag_moves_during_pull(site, requests)
