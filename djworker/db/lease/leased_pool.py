"""One pool with all that its leases share."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any, Final

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

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from djworker.conf.pool_table import PoolOptions
    from djworker.db.lease.protocols import Bare, RawConnection, RawDriver

__all__ = ["CLOSING", "LeasedPool", "database_of", "notify"]

logger = logging.getLogger("djworker.db")
#: Seconds between two replacements of all sessions for a new password. Settings that have another one for each request (a
#: token of IAM that is asked for too often) must not make a connection for each request.
RECONNECT: Final = 5.0
#: Seconds after which a pool without requests is one that is not used any more, if its alias has another or is gone.
UNUSED: Final = 60.0
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
    ends_late = False  # whether a pooler stands before the server: it may pass on a cancel after it has said so
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
        self.ends_late = True
        if poolers.multiplexes(conn, self.driver, self._connect_bare):
            text = (
                "a pooler in transaction mode (PgBouncer) stands between us and PostgreSQL. Each transaction may run in another"
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
        self._reconnect(time.monotonic())

    def tend(self, now: float) -> None:
        """What is due once in a while: old sessions are replaced, and a pool that is not used any more ends.

        A lease that still has an ended one may go on: the pool lends, within the same bound.
        """
        self._reconnect(now)
        requests = self.pool.stats()["requests_num"]
        if requests != self._requests_seen:
            self._requests_seen, self._seen_at = int(requests), now
        elif now >= self._seen_at + UNUSED and self._expendable:
            self.pool.resize(0, self.pool.limits.max_size)
            self.pool.renew()
            self.ended = not self.pool.connections()

    def _reconnect(self, now: float) -> None:
        if self._reconnect_due and now >= self._reconnected_at + RECONNECT:
            self._reconnect_due, self._reconnected_at = False, now
            self.pool.reconnect()

    @property
    def _expendable(self) -> bool:
        """Whether this is but one of several ways to one alias, or its alias is gone."""
        return self.pool.shares or self.alias not in connections.settings

    def stats(self) -> dict[str, float]:
        """The pool's numbers and the leases'."""
        return self.pool.stats() | self.counters.as_dict()


def _resolution(conn: RawConnection) -> Hashable:
    """The settings of a connection that say which tables a name means."""
    return conn.lease_record.profile.resolution()


def notify(event: str, message: str, **fields: object) -> None:
    """For a pool's `notify`: outages, recoveries and reclaims are events of the log."""
    log.event(logger, _LEVELS.get(event, logging.INFO), event, message, **fields)


def database_of(settings: Mapping[str, object]) -> tuple[object, ...]:
    """Which database these settings mean: see `leased_pools_of`."""
    return tuple(settings.get(name) for name in ("NAME", "HOST", "PORT"))
