"""The same random programs on our engine, beside neighbours and on a small pool, and on Django's engine alone.

FUZZ_SECONDS makes it longer, FUZZ_SEED runs one round again, FUZZ_WITH=starved,lost draws these kinds
more often. What fails is made small, and printed as data.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.db.contract.fuzz import aliases, mysql, physical, postgres  # noqa: F401 - they register their kinds
from tests.db.contract.fuzz.kinds import KINDS
from tests.db.contract.fuzz.programs import Maker, Program, shown, shrink
from tests.db.contract.fuzz.sides import Round
from tests.db.contract.fuzz.stage import NEIGHBOURS, Stage
from tests.db.lease.site import Site

SECONDS = float(os.environ.get("FUZZ_SECONDS", "2"))
#: The start, or one round. A build server draws the same programs each time: its verdict is on the change, not on luck.
SEED = os.environ.get("FUZZ_SEED", "1" if "CI" in os.environ else "")
#: How many failing rounds are made small and shown before the test ends.
FINDINGS = int(os.environ.get("FUZZ_FINDINGS", "1"))
#: Kinds of steps that run although they are switched off below, and more often than others: for who mends them.
WITH = frozenset(filter(None, os.environ.get("FUZZ_WITH", "").split(",")))
#: Seconds to make a failing program small.
SHRINKING = float(os.environ.get("FUZZ_SHRINKING", "20"))
#: Rounds on one pool, before the next one with other numbers.
ROUNDS = 12

pytestmark = pytest.mark.timeout(120 + SECONDS)

#: Kinds of steps that are left out, each with the fault that it hits. Empty when all is well.
OFF: dict[str, str] = {}

#: Attributes of the library's connection that are tidied when a lease gives it out to be looked at, and not before.
TIDIED = frozenset({"notices"})


def kinds_for(site: Site) -> tuple[Any, ...]:
    """What can be done with this driver."""
    return tuple(
        replace(kind, weight=5.0) if kind.name in WITH else kind
        for kind in KINDS.values()
        if site.driver in kind.drivers and (kind.name not in OFF or kind.name in WITH)
    )


def pool_for(rng: random.Random, site: Site) -> dict[str, Any]:
    """Small, and with options that change how a statement is sent."""
    options: dict[str, Any] = {}
    if site.driver == "psycopg3" and rng.random() < 0.4:
        options["server_side_binding"] = True
    if site.driver == "psycopg3" and rng.random() < 0.3:
        options["prepare_threshold"] = 2
    return {"max_size": rng.randint(1, 3), "options": options}


def programs_for(seed: str, site: Site) -> tuple[Program, ...]:
    """Those of one round."""
    rng = random.Random(seed)
    maker = Maker(rng, kinds_for(site))
    return tuple(maker.program() for _ in range(rng.randint(2, NEIGHBOURS)))


def report(stage: Stage, programs: tuple[Program, ...], differences: list[str], seed: str) -> str:
    """Make it small, and say what is wrong."""
    end = time.monotonic() + SHRINKING

    def fails(candidate: tuple[Program, ...]) -> bool:
        stage.renew()
        return any(Round(stage, candidate).run() for _ in range(2))

    small = shrink(programs, fails, lambda: time.monotonic() > end)
    stage.renew()
    left = next((found for _ in range(5) if (found := Round(stage, small).run())), None)
    lines = [f"FUZZ_SEED={seed}", *differences[:5], "made smaller:", shown(small)]
    return "\n".join([*lines, *(left[:5] if left else ["(did not fail again: a matter of time)"])])


def test_ours_and_djangos_engine_give_the_same_answers(site: Site) -> None:
    twin = f"{site.database}_twin"
    names = [
        twin,
        *(
            [f"{name}_{tenant}" for name in (site.database, twin) for tenant in ("red", "blue")]
            if site.dialect == "mysql"
            else []
        ),
    ]
    for name in names:
        site.server.create_database(name)
    if site.dialect == "postgres":
        site.server.execute(
            "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fuzz_role') THEN CREATE ROLE fuzz_role;"
            f" GRANT fuzz_role TO {site.server.user}; END IF; END $$"
        )
    stage = Stage(site, twin, TIDIED)
    try:
        run(stage)
    finally:
        from django.db import connections

        connections.close_all()
        for name in names:
            site.server.drop_database(name)


def run(stage: Stage) -> None:
    """As many rounds as there is time for."""
    start, _, only = (SEED or str(random.randrange(10**9))).partition(".")
    number = int(only or 0)
    end = time.monotonic() + SECONDS
    rounds, steps, refused = 0, 0, 0
    found: list[str] = []
    while not rounds or (time.monotonic() < end and not only and len(found) < FINDINGS):
        if not rounds or number % ROUNDS == 0:
            stage.open(**pool_for(random.Random(f"{start} {number // ROUNDS}"), stage.site))
        seed = f"{start}.{number}"
        programs = programs_for(seed, stage.site)
        round_ = Round(stage, programs)
        if differences := round_.run():
            found.append(report(stage, programs, differences, seed))
            print(found[-1], flush=True)
        number, rounds = number + 1, rounds + 1
        steps, refused = steps + round_.steps, refused + round_.refused
    print(
        f"fuzz {stage.site.driver} {stage.site.lease}: seed {start}, {rounds} rounds, {steps} steps, {refused} refused"
    )
    assert not found, f"{len(found)} rounds failed, the first is:\n{found[0]}"
