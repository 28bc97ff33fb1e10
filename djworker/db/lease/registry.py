"""One pool with all that its leases share, and the register of them."""

from __future__ import annotations

import logging
import math
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from djworker import log
from djworker.db.drivers.news import News
from djworker.db.errors import DJANGO
from djworker.db.lease import poolers
from djworker.db.lease.client_libraries import CLIENT_LIBRARIES
from djworker.db.lease.connector import Connector
from djworker.db.lease.demotion import Demotion
from djworker.db.lease.receivers import Receivers
from djworker.db.lease.stats import LeaseCounters
from djworker.db.observe.pool_watch import PoolWatch
from djworker.db.pool.bound import Bound
from djworker.db.pool.limits import Limits
from djworker.db.pool.pool import Pool
from djworker.ipc.contract import SESSIONS_END

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from djworker.conf.pool_table import PoolOptions
    from djworker.db.lease.protocols import Bare, RawConnection, RawDriver

logger = logging.getLogger("djworker.db")
#: Seconds between two replacements of all sessions for a new password. Settings that have another one for each request (a
#: token of IAM that is asked for too often) must not make a connection for each request.
RECONNECT: Final = 5.0
#: Seconds after which a pool without requests is one that is not used any more, if its alias has another or is gone.
UNUSED: Final = 60.0
#: Numbers of which several pools with one alias have one.
_NO_SUMS: Final = frozenset({"pool_min", "pool_max", "circuit_open", "circuit_failures"})
CLOSING: Final = 2.0  # seconds for connections to be closed, where a caller wants them gone
_LEVELS: Final = {
    "pool_outage": logging.ERROR,
    "pool_recovered": logging.WARNING,
    "pool_reclaimed": logging.WARNING,
    "pool_read_only": logging.WARNING,
    "transaction_pooler": logging.WARNING,
}


class LeasedPool:
    """[worker] The pool of one alias with one set of connection parameters."""

    keeps_untold = False  # whether a session is held that has made a number which the library does not tell
    ended = False  # its pool is closed for good, or it is not used any more
    bound: Bound  # kept by those who share it
    given: dict[str, Any]  # the settings as the application has them, for what goes on using them

    def __init__(
        self,
        alias: str,
        options: PoolOptions,
        green: RawDriver,
        make: Callable[[dict[str, Any]], Bare],
        settings: dict[str, Any],
        family: tuple[object, ...] = (),
    ) -> None:
        """green: the client library's driver; settings: of the database; family: see `leased_pool_for`.

        make: a bare Django wrapper with settings of a database, see `Connector`.
        """
        self.alias = alias
        self._make = make
        self.settings = settings
        self.password = settings.get("PASSWORD")
        self.family = family
        self._reconnected_at = -math.inf
        self._reconnect_due = False
        self._requests_seen, self._seen_at = -1, -math.inf
        self.database = database_of(settings)
        self.options = options
        self.driver = green
        self.client_library = CLIENT_LIBRARIES[green.name]()
        self.contract = self.client_library.contract(options.pin_sql)
        self.detach = self.client_library.detach
        self.spliced = green.spliced
        self.keeps_all = options.lease == "request"
        self.strict = options.strict
        self.counters = LeaseCounters()
        self.facts: dict[str, Any] = {}  # what is asked of the server once, for all wrappers
        self.base: dict[str, str] = {}
        self.demotion = Demotion(alias, green, notify)
        self._plans = green.plans(_resolution)
        self._base_known = False
        self._numbers_wiped = False
        self.receivers = Receivers()
        self.pool_watch: PoolWatch[RawConnection] = PoolWatch(options, green)
        self.pool: Pool[RawConnection] = Pool(
            Connector(lambda: make(self.settings), alias, green, self._set_up, self._judge, self.receivers),
            Limits(**options.for_pool()),
            rotate=options.strict,
            name=alias,
            refusals=DJANGO,
            notify=notify,
            on_wait=self.pool_watch.waited,
        )
        self.pool_watch.pool = self.demotion.pool = self.pool

    def __repr__(self) -> str:
        return f"<leased pool {self.alias!r}: {self.pool!r}>"

    def _set_up(self, conn: RawConnection) -> None:
        if not self._base_known:
            self.base = self.client_library.base(conn)
            self._base_known = True
            self._look_for_pooler(conn)
        self.client_library.learn(self.contract, conn)  # anew: a migration may have made a trigger
        self.driver.share_plans(conn, self._plans)
        self.demotion.connected(conn)

    def _look_for_pooler(self, conn: RawConnection) -> None:
        """Once: a session that is not ours alone breaks every promise of a lease."""
        if not self.client_library.may_be_pooled or not poolers.stands_between(conn, self.driver.backend_id(conn)):
            return
        if poolers.multiplexes(conn, self.driver, self._connect_bare):
            text = (
                "between us and PostgreSQL stands a pooler in transaction mode (PgBouncer). Each transaction may run in another"
                " session, so what one request sets reaches others. Connect to PostgreSQL itself (port 5432, not 6432), or set"
                " pool_mode = session for this database"
            )
            notify("transaction_pooler", f"database {self.alias!r}: {text}", pool=self.alias)

    def _connect_bare(self) -> RawConnection:
        wrapper = self._make(self.settings)
        return wrapper.get_new_connection(wrapper.get_connection_params())

    def _judge(self, conn: RawConnection) -> None:
        """Raise Useless for a connection on which a write was refused, if it was not the application that wanted that."""
        if conn.lease_record.suspect:
            conn.lease_record.suspect = False
            self.demotion.judge(conn)

    def heard(self, error: BaseException | None, conn: RawConnection) -> bool:
        """A statement raised this on a connection. Whether to wipe it when it goes back. Does not switch."""
        news = self.driver.news(error)
        if news is News.STALE_PLAN:
            self.driver.stale_plan(conn)
        elif news is not None and self.demotion.heard(news):
            conn.lease_record.suspect = True
            return True
        return False

    def asked_for_number(self) -> None:
        """The last number of a sequence was asked for and refused. From now on each session is wiped that has one in it."""
        if not self._numbers_wiped:
            self._numbers_wiped = True
            if self.client_library.forget_numbers is None:
                self.strict = True  # any statement may have taken one, and there is no other way to forget it
            self.pool.renew()  # those from before

    def asked_behind(self) -> bool:
        """Code goes behind a connection, where it may ask for a number that the library has not told.

        From now on a session that has made such a number is held.

        Returns:
            Whether it must be refused this time, because nothing else keeps it from being told a wrong number.
        """
        if self.client_library.forget_numbers is not None:  # the server says then that there is none
            return False
        self.keeps_untold = self.contract.clears_numbers = True
        return True

    @property
    def proved(self) -> bool:
        """Whether a connection has been made, so that settings and server are known to be good."""
        return self._base_known

    def refresh(self) -> None:
        """The set-up has changed (Django's time zone): all connections are replaced, and what was known of them is not."""
        self.facts.clear()
        self._base_known = False
        self.pool.drain(CLOSING)

    def log_in_with(self, settings: dict[str, Any], given: dict[str, Any]) -> None:
        """The password has changed: new connections use it, and what the old one opened is replaced."""
        self.given = given
        self.settings, self.password = settings, settings.get("PASSWORD")
        for conn in self.pool.connections():
            self.driver.new_password(conn, self.password)
        self.pool.forgive()  # sessions are replaced once in a while, but a password that is right again helps at once
        self._reconnect_due = True
        self.tend(time.monotonic())

    def tend(self, now: float) -> None:
        """What is due once in a while: old sessions are replaced, and a pool that is not used any more ends."""
        if self._reconnect_due and now >= self._reconnected_at + RECONNECT:
            self._reconnect_due, self._reconnected_at = False, now
            self.pool.reconnect()
        requests = self.pool.stats()["requests_num"]
        if requests != self._requests_seen:
            self._requests_seen, self._seen_at = int(requests), now
        elif now >= self._seen_at + UNUSED and self._expendable:
            self.pool.resize(0, self.pool.limits.max_size)
            self.pool.renew()
            if not self.pool.connections():
                self._end()

    @property
    def _expendable(self) -> bool:
        """Whether this is but one of several ways to one alias, or its alias is gone."""
        return self.pool.shares or self.alias not in connections.settings

    def _end(self) -> None:
        """Be forgotten. A lease that still has it may go on: its pool lends, within the same bound."""
        self.ended = True
        for key in [key for key, leased_pool in _leased_pools.items() if leased_pool is self]:
            del _leased_pools[key]

    def stats(self) -> dict[str, float]:
        """The pool's numbers and the leases'."""
        return self.pool.stats() | self.counters.as_dict()


def _resolution(conn: RawConnection) -> Hashable:
    """The settings of a connection that say which tables a name means."""
    return conn.lease_record.profile.resolution()


def notify(event: str, message: str, **fields: object) -> None:
    """For a pool's `notify`: outages, recoveries and reclaims are events of the log."""
    log.event(logger, _LEVELS.get(event, logging.INFO), event, message, **fields)


_leased_pools: dict[Hashable, LeasedPool] = {}
_bounds: weakref.WeakValueDictionary[Hashable, Bound] = weakref.WeakValueDictionary()


def leased_pool_for(key: Hashable, make: Callable[[], LeasedPool]) -> LeasedPool:
    """The pool with this key: alias and parameters of the connection. Those of one family share the bound of their pools."""
    leased_pool = _leased_pools.get(key)
    if leased_pool is None:
        leased_pool = _leased_pools[key] = make()
        leased_pool.bound = _bounds.setdefault(leased_pool.family, Bound())
        leased_pool.pool.share(leased_pool.bound)
        if _retiring:
            leased_pool.pool.retire()
        if (left := _paused.get(leased_pool.alias, 0.0) - time.monotonic()) > 0:
            leased_pool.pool.pause(left)
    return leased_pool


def database_of(settings: Mapping[str, object]) -> tuple[object, ...]:
    """Which database these settings mean: see `leased_pools_of`."""
    return tuple(settings.get(name) for name in ("NAME", "HOST", "PORT"))


def leased_pools() -> Iterator[LeasedPool]:
    """All leased pools of this process."""
    return iter(list(_leased_pools.values()))


def leased_pools_of(database: tuple[object, ...]) -> Iterator[LeasedPool]:
    """All leased pools with connections to this database, whatever their alias and options: (name, host, port)."""
    return (leased_pool for leased_pool in leased_pools() if leased_pool.database == database)


_paused: dict[str, float] = {}  # until when, by alias: for pools that are made meanwhile


def pause(alias: str, seconds: float) -> list[Pool[RawConnection]]:
    """Have requests wait that want a connection of this alias, see `Pool.pause`; returns its pools."""
    _paused[alias] = time.monotonic() + seconds
    pools = _pools_of(alias)
    for pool in pools:
        pool.pause(seconds)
    return pools


def resume(alias: str) -> list[Pool[RawConnection]]:
    """End such a pause; returns the pools."""
    _paused.pop(alias, None)
    pools = _pools_of(alias)
    for pool in pools:
        pool.resume()
    return pools


def _pools_of(alias: str) -> list[Pool[RawConnection]]:
    ours = [leased_pool.pool for leased_pool in leased_pools() if leased_pool.alias == alias]
    return ours + [other.pool for other in _others if other.pool.name == alias]


_retiring: list[bool] = []  # not empty in a worker that drains
_others: list[PoolWatch[RawConnection]] = []  # over pools without leases: django-db-geventpool's


def register(pool_watch: PoolWatch[RawConnection]) -> None:
    """Count a pool that has no leases, look over it, and close it with the others."""
    _others.append(pool_watch)


def pool_watches() -> Iterator[PoolWatch[RawConnection]]:
    """One for each pool of this process."""
    return iter([*(leased_pool.pool_watch for leased_pool in leased_pools()), *_others])


def stats() -> dict[str, dict[str, float]]:
    """Numbers by alias; those of several leased pools with one alias (a database for each tenant) are summed up."""
    found: dict[str, dict[str, float]] = {}
    for leased_pool in leased_pools():
        found[leased_pool.alias] = _sum(found.get(leased_pool.alias, {}), leased_pool.stats())
    return found | {other.pool.name: other.pool.stats() for other in _others}


def _sum(some: Mapping[str, float], more: Mapping[str, float]) -> dict[str, float]:
    return {
        name: max(some.get(name, 0), value) if name in _NO_SUMS else some.get(name, 0) + value
        for name, value in more.items()
    }


def tend(now: float) -> None:
    """Look after all leased pools. `now`: of the pools' clock."""
    for leased_pool in leased_pools():
        leased_pool.tend(now)


def warm() -> None:
    """[worker] It begins: each pool opens the connections that it keeps, before any request asks for one. Does not wait."""
    for alias in connections:
        with suppress(ImproperlyConfigured):  # an alias that nothing uses may lack its library
            if begin := getattr(connections[alias], "warm_pool", None):
                begin()


def retire() -> None:
    """[worker] It drains: idle sessions end now, and what its last requests take goes back as soon as they do without."""
    _retiring.append(True)
    for pool_watch in pool_watches():
        pool_watch.pool.retire()


def end_all(timeout: float = CLOSING) -> None:
    """[mold] Close the pools and forget them, so that nothing of them is left to be copied. New ones are made at need.

    Those without leases belong to the code that made them: they are emptied, and go on.
    """
    for leased_pool in leased_pools():
        leased_pool.ended = True
        leased_pool.pool.close()
    _for_all(Pool.drain, timeout)
    _for_all(Pool.drain, timeout)  # once more: a connection that was being made has come meanwhile
    _leased_pools.clear()


def leave(timeout: float = SESSIONS_END) -> None:
    """A worker's end: every session is ended in the server, those of requests that are cut too. No pool lends any more."""
    _for_all(_leave, timeout)


def _leave(pool: Pool[RawConnection]) -> None:
    pool.close()
    pool.recall()


def _for_all(end: Callable[[Pool[RawConnection]], None], timeout: float) -> None:
    pools = [pool_watch.pool for pool_watch in pool_watches()]
    for pool in pools:
        end(pool)
    # All pools at once: a server that does not answer must not take the time of the others.
    deadline = time.monotonic() + timeout
    for pool in pools:
        pool.drain(max(deadline - time.monotonic(), 0.0))
