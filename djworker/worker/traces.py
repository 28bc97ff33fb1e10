"""[mold] What talking to a database leaves in a process, and what must not be copied into workers: pools, threads, the hub.

The project's threads and greenlets, and what is inside `atomic()`, are not ours to end; `leftovers` finds them.
"""

from __future__ import annotations

import gc


def close_connections() -> None:
    """Close Django's connections that nothing holds, so that the next stage opens its own."""
    from django.conf import settings  # noqa: PLC0415 -- Django comes after the import path

    from djworker.db import unheld  # noqa: PLC0415

    if (
        settings.configured
    ):  # else there are none, and to look would load the settings, which a module is still to choose
        unheld.close(unheld.here())


def wipe() -> None:
    """Close Django's connections that nothing holds; close and forget the pools, if there are any, and all that they used."""
    from djworker.db import home, unheld  # noqa: PLC0415
    from djworker.db.drivers import offload  # noqa: PLC0415

    found = unheld.everywhere()
    unheld.close(found)
    if found or any(home.lookouts()):
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
