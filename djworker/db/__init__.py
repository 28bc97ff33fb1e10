"""The database layer: a few physical connections, really reused, for thousands of greenlets.

Charter. This package decides *when* a connection is held, never *what* is asked of it.

* `pool` knows no database, no driver and no Django. It lends connections and keeps their number.
* `lease` decides how long a request holds one. `drivers` make each client library green. `backends` are thin
  subclasses of Django's own.
* Nothing here rewrites SQL, retries a statement, routes between servers or caches rows. A feature that can live in a
  database router, in a middleware or in the application does not belong here.
* A bound is a bound: whatever is killed, forked, lost or late, the server never sees more connections than `max_size`.
"""

from __future__ import annotations

from typing import Any, Final

_LAZY: Final = {"sticky": "djworker.db.lease.sticky", "stats": "djworker.db.lease.registry"}


def __getattr__(name: str) -> Any:
    """Public names, imported when they are used: most of this package needs Django, and the pool must not."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - at the first use

    return getattr(import_module(_LAZY[name]), name)
