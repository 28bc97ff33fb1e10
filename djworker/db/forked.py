"""After a fork, Django's connections begin anew in the child: what they had is the parent's.

The pools forget theirs, and put a dead end in the place of their sockets. What is left is the greenlet that forked, in the middle
of a transaction perhaps: that is the parent's too, with what is to be done at its end.
"""

from __future__ import annotations

import os

from django.db import connections

# What the parent's connections were. Freed, they would say good-bye to the server, or let go of SQLite's locks.
_copies: list[object] = []


def begin_anew() -> None:
    """[a worker's child] Have the next query open a connection of this process."""
    for wrapper in connections.all(initialized_only=True):
        in_memory = getattr(wrapper, "is_in_memory_db", None)
        if wrapper.connection is None or (in_memory is not None and in_memory()):
            continue
        _copies.append((wrapper.connection, wrapper.run_on_commit))
        wrapper.connection = None
        wrapper.in_atomic_block = wrapper.needs_rollback = wrapper.closed_in_transaction = False
        wrapper.savepoint_ids, wrapper.atomic_blocks, wrapper.run_on_commit = [], [], []


os.register_at_fork(after_in_child=begin_anew)
