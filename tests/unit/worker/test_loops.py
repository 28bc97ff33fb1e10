"""Under which loops of gevent's stalls are looked for. Each loop is a real one, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASKS = """
import gevent
from djworker.worker.main import _tells_its_turns
print(type(gevent.get_hub().loop).__module__, _tells_its_turns(gevent.get_hub().loop))
"""


@pytest.mark.parametrize(
    "loop, said",
    [
        ("libev-cext", "gevent.libev.corecext True"),
        ("libev-cffi", "gevent.libev.corecffi False"),
        ("libuv", "gevent.libuv.loop False"),
    ],
)
def test_stalls_are_looked_for_where_the_loop_tells_its_turns(loop: str, said: str) -> None:
    """libuv told of an idle worker that its hub was blocked."""
    environ = {**os.environ, "GEVENT_LOOP": loop}
    ended = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True, check=True, env=environ)
    assert ended.stdout.strip() == said
