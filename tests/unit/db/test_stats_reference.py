"""The reference names every number of a pool, and no other."""

from __future__ import annotations

import random
import re
from pathlib import Path

from djworker.conf.pool_table import PoolOptions
from djworker.db.lease.stats import LeaseCounters
from djworker.db.pool.circuit import Circuit
from djworker.db.pool.limits import Limits
from djworker.db.pool.slots import Ledger
from djworker.db.pool.stats import Counters, gauges

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "pool.md"


def test_every_number_is_in_the_reference() -> None:
    there = (
        gauges(Ledger(), 0, Limits(**PoolOptions().for_pool()), Circuit(random.Random()))
        | Counters().as_dict()
        | LeaseCounters().as_dict()
    )
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(there)
