"""[mold] gevent's patch comes before the agents that an interpreter begins with.

``opentelemetry-instrument``, ``newrelic-admin`` and others put a ``sitecustomize`` of theirs into PYTHONPATH. Python imports
that before ``-m djworker.mold.main`` has had a line: it imported ``ssl`` and ``threading`` unpatched, and began threads of the
system's, which no fork copies. So this one stands before theirs, patches, becomes the service, and imports theirs then.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from typing import Final

_HERE: Final = os.path.dirname(os.path.abspath(__file__))
_NAME: Final = "sitecustomize"
#: Agents that must be loaded before gevent's patch, and unload what they have imported: ``ddtrace-run``. The mold's first line
#: patches then.
_BEFORE_GEVENT: Final = (os.path.join("ddtrace", "bootstrap"),)


def _step_aside() -> None:
    """No other interpreter is to begin with this."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _HERE]
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    left = os.pathsep.join(entry for entry in given if entry and os.path.abspath(entry) != _HERE)
    if left:
        os.environ["PYTHONPATH"] = left
    else:
        os.environ.pop("PYTHONPATH", None)


def _patch() -> None:
    from djworker.mold.patches import patching

    patching.patch_all()
    from djworker.mold.patches import asyncio_loops

    asyncio_loops.install()


def _is_service() -> bool:
    """Become what serves, in its place and as its user: agents import settings. What cannot be done is the mold's to tell."""
    from djworker import accounts
    from djworker.ipc.launch import Launch

    try:
        launch = Launch.from_environ(os.environ)
        with accounts.acting_as(accounts.service_account(launch.config.user, launch.config.group)):
            os.listdir(os.path.dirname(_HERE))  # or Python would say that there is no mold
        accounts.become(accounts.find(launch.config.user, launch.config.group))
        launch.enter()
    except (LookupError, ValueError, OSError):
        return False
    return True


def _begin() -> None:
    _step_aside()
    ours = sys.modules.pop(_NAME)
    try:
        spec = PathFinder.find_spec(_NAME)
        if spec is None or not os.path.dirname(spec.origin or "").endswith(_BEFORE_GEVENT):
            _patch()
        if spec is not None and _is_service():
            __import__(_NAME)
    finally:
        sys.modules.setdefault(_NAME, ours)  # Python looks for it there


_begin()
