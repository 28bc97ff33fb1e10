"""[worker] What was made while loading, is the same in all workers, and must not be."""

from __future__ import annotations

import importlib
import sys


def renew() -> None:
    """Give this worker, just forked, what each worker needs for itself. Python does so for ``random`` by itself."""
    numbers = sys.modules.get("numpy.random")
    if numbers is not None:
        numbers.seed()


def make_green() -> None:
    """Have gRPC's calls wait in the hub. Before the fork it would begin threads; without it a call stops the worker."""
    if "grpc" in sys.modules:
        importlib.import_module("grpc.experimental.gevent").init_gevent()
