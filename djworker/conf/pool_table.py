"""Every option of a database pool, declared once, with the kinds of all other options.

From this table come `DJWORKER["POOL"]`, `DJWORKER["POOLS"][alias]`, the `DJWORKER_POOL_*` environment, the `--pool-*` flags,
`--print-config`, the system checks and the reference page of the documentation. `conf.pool_resolve` has the precedence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from djworker.conf.kinds import FLAG, PATTERNS, SECONDS, WHOLE, choice
from djworker.conf.option import Option, option, table

__all__ = ["POOL_OPTIONS", "PoolOptions"]

#: What flags and variables of these options begin with, and their group in the help.
_SECTION: Final = "pool"
_GROUP: Final = "Database pools"
#: Seconds for a connect, the login included. `OPTIONS["connect_timeout"]` can be less; the pool gives none more. libpq's and
#: Connector/C's own default is to wait for ever, psycopg's 130, PyMySQL's 10.
CONNECT_TIMEOUT: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """[mold, worker] How the connections of one alias are pooled and leased. Times in seconds; sizes per worker process."""

    lease: Literal["transaction", "request"] = option(
        "transaction",
        choice("transaction", "request"),
        _GROUP,
        "For how long a request holds a connection: for a statement or transaction, or to its end.",
    )
    min_size: int = option(
        0,
        WHOLE,
        _GROUP,
        "Connections that a worker opens at its start, and keeps open even if they are idle.",
        minimum=0,
    )
    max_size: int = option(10, WHOLE, _GROUP, "Connections of one worker, at most.", minimum=1)
    timeout: float = option(30.0, SECONDS, _GROUP, "Longest wait for a connection.", minimum=0)
    max_waiting: int = option(
        0,
        WHOLE,
        _GROUP,
        "Requests that may wait for a connection; further ones are refused. 0: any number.",
        minimum=0,
    )
    max_lifetime: float = option(
        3600.0,
        SECONDS,
        _GROUP,
        "Age at which a connection is replaced, or up to a tenth earlier. 0: never.",
        minimum=0,
    )
    max_idle: float = option(
        600.0,
        SECONDS,
        _GROUP,
        "Time after which an idle connection above min_size is closed. 0: never.",
        minimum=0,
    )
    check_after: float = option(
        30.0,
        SECONDS,
        _GROUP,
        "Quiet time after which a connection is checked before it is used.",
        minimum=0,
    )
    slow_acquire: float = option(
        1.0,
        SECONDS,
        _GROUP,
        "A longer wait for a connection is logged. 0: never.",
        minimum=0,
    )
    long_hold: float = option(
        60.0,
        SECONDS,
        _GROUP,
        "A connection that is held for longer is logged, with the stack. 0: never.",
        minimum=0,
    )
    idle_in_transaction: float = option(
        10.0,
        SECONDS,
        _GROUP,
        "A transaction in which no query runs for longer is logged, with the stack. 0: never.",
        minimum=0,
    )
    strict: bool = option(
        False,
        FLAG,
        _GROUP,
        """For development and CI: each statement gets another connection, which is wiped when it comes back. Code that depends
        on a session then fails here, and not in production.""",
    )
    pin_sql: tuple[str, ...] = option(
        (),
        PATTERNS,
        _GROUP,
        "Regular expressions; a statement in which one is found keeps its connection to the end of the request.",
    )

    def for_pool(self) -> dict[str, Any]:
        """The numbers that a pool is given as its limits."""
        names = ("min_size", "max_size", "timeout", "max_waiting", "max_lifetime", "max_idle", "check_after")
        return {name: getattr(self, name) for name in names}


POOL_OPTIONS: Mapping[str, Option] = table(PoolOptions, section=_SECTION)
