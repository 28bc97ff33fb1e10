"""The register of this process's pools: by alias and parameters, to be counted, looked after and ended together."""

from __future__ import annotations

import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from djworker.db.lease.leased_pool import CLOSING
from djworker.db.pool.bound import Bound
from djworker.db.pool.pool import Pool
from djworker.ipc.contract import SESSIONS_END

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from djworker.db.lease.leased_pool import LeasedPool
    from djworker.db.lease.protocols import RawConnection
    from djworker.db.observe.pool_watch import PoolWatch

#: Numbers of which several pools with one alias have one.
_NO_SUMS: Final = frozenset({"pool_min", "pool_max", "circuit_open", "circuit_failures"})

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
    """Look after all leased pools, and forget those that have ended. `now`: of the pools' clock."""
    for leased_pool in leased_pools():
        leased_pool.tend(now)
    for key in [key for key, leased_pool in _leased_pools.items() if leased_pool.ended]:
        del _leased_pools[key]


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
