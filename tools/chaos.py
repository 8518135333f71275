"""A long campaign against one kernel: teams deploy under load while everything around them fails.

    python -m tools.chaos --minutes 10 --kills 20

Its chapters are those of `tests/integration/test_teams.py`, in random order and again and again;
then the kernel is killed at random moments. Needs the program `docker-registry`. Exits with 1 at
the first failure. `--seed` repeats the choices, though not what happens at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import time
from collections import Counter

import psutil

from tests.integration import teams_story as story
from tests.integration.teams import Site, new_site, traffic
from tests.integration.teams_killed import DOWN, Killing


async def under_load(site: Site, chance: random.Random, seconds: float, outage: int) -> None:
    """Chapters in random order until the time is over, but each at least once."""
    chapters = story.chapters(redeployments=50, outage=outage)
    told: Counter[str] = Counter()
    ends = time.monotonic() + seconds
    async with site.running() as kernel:
        await story.all_serve(site)
        process = psutil.Process(kernel.process.pid)
        before = _size(process)
        async with traffic(kernel, *site.skills_of(story.A, story.B)) as requests:
            while time.monotonic() < ends or len(told) < len(chapters):
                chance.shuffle(chapters)
                for chapter in chapters:
                    await chapter(site, requests)
                    told[chapter.__name__] += 1
                    _say(f"{chapter.__name__}: {requests.answers.total()} answers", requests)
                    assert not requests.failures
        pushed = sum(len(skill.digests) for skill in site.skills)
        _say(f"chapters: {dict(told)}; versions pushed: {pushed}")
        _say(f"answers: {dict(requests.answers)}; failed: {len(requests.failures)}")
        _say(f"memory of the kernel process: {before} MiB before, {_size(process)} MiB after")


async def killed(site: Site, chance: random.Random, count: int) -> None:
    killing = Killing(site, chance)
    try:
        await killing.begin()
        while killing.kills < count:
            down = DOWN[killing.kills % len(DOWN)]
            await killing.kill(down)
            _say(f"kill {killing.kills}: came back while {down} was down")
        await killing.end()
    finally:
        site.kernel.kill()
        await site.kernel.close()
    pushed = sum(len(skill.digests) for skill in site.skills)
    _say(f"kills: {killing.kills}; versions pushed: {pushed}")


def _size(process: psutil.Process) -> int:
    return int(process.memory_info().rss) >> 20


def _say(line: str, about: object = None) -> None:
    failures = getattr(about, "failures", [])
    print(line, *failures[:5], sep="\n  ", flush=True)


async def campaign(arguments: argparse.Namespace) -> None:
    chance = random.Random(arguments.seed)  # noqa: S311 (no secret)
    if arguments.minutes:
        async with new_site() as site:
            await story.settle(site)
            await under_load(site, chance, arguments.minutes * 60, arguments.outage)
    if arguments.kills:
        async with new_site() as site:
            await story.settle(site)
            await killed(site, chance, arguments.kills)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="time for the chapters")
    parser.add_argument("--outage", type=int, default=60, help="seconds of a registry outage")
    parser.add_argument("--kills", type=int, default=20, help="of the kernel, afterwards")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1 << 32))
    arguments = parser.parse_args()
    if shutil.which("docker-registry") is None:
        sys.exit("the program `docker-registry` is missing (Debian package docker-registry)")
    _say(f"seed: {arguments.seed}")
    try:
        asyncio.run(campaign(arguments))
    except AssertionError as error:
        sys.exit("\n".join(["failed:", str(error), *getattr(error, "__notes__", [])]))


if __name__ == "__main__":
    main()
