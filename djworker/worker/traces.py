"""[mold] What talking to a database leaves in a process, and what must not be copied into workers: pools, threads, the hub.

The project's own connections, threads and greenlets are not ours to close; `leftovers` finds them.
"""

from __future__ import annotations

import gc


def wipe() -> None:
    """Close and forget the pools, if there are any, and all that they used. A lease that holds nothing goes with its pool."""
    from django.db import connections  # noqa: PLC0415

    from djworker.db import home  # noqa: PLC0415
    from djworker.db.drivers import offload  # noqa: PLC0415

    if not any(home.lookouts()):
        return
    for connection in connections.all(initialized_only=True):
        lease = connection.connection
        if lease is not None and getattr(lease, "conn", lease) is None:
            connection.close()
    home.end_all()
    offload.stop()
    destroy_hub()


def let_threads_end() -> None:
    """Threads that have nothing more to do end when they get their turn: those of executors that nobody has any more.

    Django runs an async view in such a thread. They are greenlets, and their executors may be in cycles.
    """
    import gevent  # noqa: PLC0415 -- it makes a hub

    gc.collect()
    gevent.idle()


def destroy_hub() -> None:
    """A database driver or a name look-up has run it: it goes, with its own threads. The next one who waits gets another."""
    from gevent._hub_local import get_hub_if_exists  # noqa: PLC0415

    hub = get_hub_if_exists()
    if hub is not None:
        hub.destroy(destroy_loop=True)
