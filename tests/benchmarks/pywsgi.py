"""`python -m tests.benchmarks.pywsgi PORT MODULE:NAME`: the server that gevent brings along, with its log off."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import importlib  # noqa: E402 - nothing may be imported before the patch
import signal  # noqa: E402
import sys  # noqa: E402

import gevent  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402


def main(port: str, target: str) -> None:
    """Serve until SIGTERM."""
    module, _, name = target.partition(":")
    application = getattr(importlib.import_module(module), name)
    server = WSGIServer(("127.0.0.1", int(port)), application, backlog=2048, log=None)
    gevent.signal_handler(signal.SIGTERM, server.stop, 1)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
