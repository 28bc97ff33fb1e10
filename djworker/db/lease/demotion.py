"""What a pool does when its server takes no writes any more, or says that it leaves: after a planned failover."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from djworker.db.drivers.news import News
from djworker.db.lease.standby import Standby
from djworker.db.pool.driver import Useless
from djworker.log.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from djworker.db.lease.protocols import RawConnection, RawDriver
    from djworker.db.pool.pool import Pool


class Demotion:
    """[worker] For one pool."""

    pool: Pool[RawConnection]  # set when there is one: its driver asks us

    def __init__(self, alias: str, driver: RawDriver, notify: Callable[..., None]) -> None:
        """alias: of the database, for messages. notify: (event, message, **fields), for the log."""
        self._alias = alias
        self._driver = driver
        self._notify = notify
        self._standby = Standby()
        self._throttle = Throttle()

    def heard(self, news: News | None) -> bool:
        """A statement's error has said this of the server. Whether to ask the server on its connection. Does not switch."""
        now = time.monotonic()
        if news is News.LEAVING and self._standby.may_renew(now):
            self.pool.renew()
        return news is News.READ_ONLY and self._standby.may_look(now)

    def judge(self, conn: RawConnection) -> None:
        """A session in which a write was refused has been wiped.

        Raises:
            Useless: the server refuses the writes of all sessions.
        """
        refused = self._driver.refuses_writes(conn)
        self._tell(refused=refused)
        if refused:
            raise Useless("the server is read-only")

    def connected(self, conn: RawConnection) -> bool:
        """A new connection: while the last server was read-only, this one is asked. Whether it was."""
        if not self._standby.refusing:
            return False
        self._tell(refused=self._driver.refuses_writes(conn))
        return True

    def _tell(self, *, refused: bool) -> None:
        alias, now = self._alias, time.monotonic()
        if not self._standby.answered(refuses=refused, now=now):
            return
        if not refused:
            self.pool.renew()
            self._notify("pool_recovered", f"pool {alias!r}: new connections take writes, all are replaced", pool=alias)
        elif self._throttle.admit("pool_read_only", now) is not None:
            text = "the database server has become read-only: new connections look for one that takes writes"
            self._notify("pool_read_only", f"pool {alias!r}: {text}", pool=alias)
