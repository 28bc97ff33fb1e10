"""The receivers of `connection_created`, for one pool. Decision 0021 has the reasons.

Django sends the signal with each Django connection that connects. Here a physical connection serves many of them, and each
of them uses many. So a receiver is called

* once for each physical connection: what it does in the session and to the client library's object is there from then on, and
  its statements are repeated after each wipe, without it;
* once for each Django connection too, if it has been seen to change it (`execute_wrappers`, attributes, methods): with the
  request's own object, and with its statements and its calls of the client library left out.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import logging
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, Final

from asgiref.sync import async_to_sync
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.utils.functional import cached_property

from djworker import log
from djworker.db.lease.recording import recorded, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from djworker.db.lease.tape import Tape

    Receiver = Callable[..., object]

logger = logging.getLogger("djworker.db")

#: Parts of a Django connection that a receiver may change, too.
_PARTS: Final = ("ops", "client", "features", "introspection", "creation", "validation")
_CURSORS: Final = ("cursor", "chunked_cursor")
#: What Django and we keep in a Django connection, and change all the time.
_BOOKS: Final = frozenset(
    """connection autocommit in_atomic_block savepoint_state savepoint_ids commit_on_exit needs_rollback
    rollback_exc close_at closed_in_transaction errors_occurred health_check_enabled health_check_done run_on_commit
    run_commit_hooks_on_set_autocommit_on atomic_blocks execute_wrappers facts announce Database _tape""".split()  # noqa: SIM905 - words are read more easily than quoted ones
)
_OUTSIDE: Final = (
    "Raised by {name}, a receiver of connection_created. It runs once for each real connection, outside of any request:"
    " context variables and thread-locals of a request are not there. Set what belongs to a request in a middleware."
)
_CLASS: Final = (
    "{name}, a receiver of connection_created, exchanges the class of the connection object, which would be lost here: exchange"
    " its methods, add to its execute_wrappers, or name an engine of your own in DATABASES"
)


class WrapperState:
    """[worker] What a Django connection consists of at a moment."""

    def __init__(self, wrapper: BaseDatabaseWrapper) -> None:
        self._wrapper = wrapper
        self._parts = [wrapper, *(getattr(wrapper, name) for name in _PARTS if name in vars(wrapper))]
        self._classes = [type(part) for part in self._parts[1:]]
        self._states = [dict(vars(part)) for part in self._parts]
        self._settings = dict(wrapper.settings_dict)
        self._wrappers = wrapper.execute_wrappers
        self._items = list(wrapper.execute_wrappers)

    def differs(self) -> bool:
        """Whether anything has been changed that Django does not change by itself."""
        now = self._wrapper.execute_wrappers
        if len(now) != len(self._items) or any(a is not b for a, b in zip(now, self._items, strict=True)):
            return True
        if self._settings != self._wrapper.settings_dict or self._classes != [type(part) for part in self._parts[1:]]:
            return True
        return any(map(_changed, self._parts, self._states))

    def restore(self) -> None:
        """Undo all changes."""
        for part, state in zip(self._parts, self._states, strict=True):
            vars(part).clear()
            vars(part).update(state)
        self._wrappers[:] = self._items


def _changed(part: object, before: dict[str, object]) -> bool:
    now = vars(part)
    return any(
        now.get(name) is not before.get(name)
        for name in now.keys() | before.keys()
        if name not in _BOOKS and not isinstance(getattr(type(part), name, None), cached_property | property)
    )


class Receivers:
    """[worker] Who receives `connection_created` for the connections of one pool, and what each of them does."""

    #: Whether any receiver of this process changes Django connections.
    any_personal: ClassVar[bool] = False

    def __init__(self) -> None:
        #: Those that change the Django connection, in the order in which that was seen; and what their cursors answered.
        self.personal: list[Hashable] = []
        self._answers: dict[Hashable, list[tuple[str, object]]] = {}
        self._told: set[Hashable] = set()
        #: Of receivers, as far as they are known.
        self.number = -1
        self._known: set[Hashable] = set()

    def are_late(self, engine: type) -> bool:
        """Whether there are receivers that have seen none of the connections that there are."""
        known, self._known = self._known, {_key(receiver) for receiver in live(engine)}
        late = self.number >= 0 and not self._known <= known
        self.number = len(connection_created.receivers)
        return late

    def announce(self, wrapper: BaseDatabaseWrapper, tape: Tape) -> None:
        """A physical connection has been made, and stands in this bare Django connection: call all receivers."""
        # The pool connects for whichever request comes first: nothing of that one may settle in a session that all share.
        contextvars.Context().run(self._announce, wrapper, tape)

    def _announce(self, wrapper: BaseDatabaseWrapper, tape: Tape) -> None:
        sender = type(wrapper)
        for receiver in live(sender):
            before, known = WrapperState(wrapper), len(tape.answers)
            was = tape.beyond
            with recorded(wrapper, tape):
                _call(receiver, sender, wrapper)
            if tape.beyond and not was:
                tape.beyond = f"the receiver {name_of(receiver)} of connection_created {tape.beyond}"
            if before.differs():
                self._is_personal(receiver, tape.answers[known:])

    def _is_personal(self, receiver: Receiver, answers: list[tuple[str, object]]) -> None:
        key = _key(receiver)
        self._answers[key] = answers
        Receivers.any_personal = True
        if key not in self.personal:
            self.personal.append(key)

    def greet(self, wrapper: BaseDatabaseWrapper, since: int) -> None:
        """A request's Django connection has got a lease: call those that change it, from this number on."""
        there = {_key(receiver): receiver for receiver in live(type(wrapper))}
        for key in self.personal[since:]:
            if key in there:
                self._greet(there[key], key, wrapper)

    def _greet(self, receiver: Receiver, key: Hashable, wrapper: BaseDatabaseWrapper) -> None:
        sender, before = type(wrapper), WrapperState(wrapper)
        if key not in self._told:
            try:
                with silent(wrapper, self._answers[key]):
                    _call(receiver, sender, wrapper)
            except Exception as error:  # noqa: BLE001 - whatever it is, it may not come when the receiver gets what it asks for
                before.restore()
                self._tell(receiver, key, error)
            else:
                return
        _call(receiver, sender, wrapper)

    def _tell(self, receiver: Receiver, key: Hashable, error: Exception) -> None:
        self._told.add(key)
        text = (
            f"the receiver {name_of(receiver)} of connection_created changes the connection object, and runs statements that"
            f" cannot be left out ({error!r}): it runs whole for each greenlet; make two receivers of it"
        )
        log.event(logger, logging.WARNING, "receiver_repeated", text, receiver=name_of(receiver))


def meet_before_first_cursor(wrapper: BaseDatabaseWrapper) -> None:
    """Have a new Django connection meet its receivers before its first `cursor()`, which they may exchange.

    Django connects inside of that, so that the one of a receiver would see the second statement of each request first.
    """
    for name in _CURSORS:
        vars(wrapper)[name] = FirstCursor(wrapper, name)


class FirstCursor:
    """[worker] In place of a Django connection's method until that is called, or receivers are met."""

    def __init__(self, wrapper: BaseDatabaseWrapper, name: str) -> None:
        self._wrapper = weakref.ref(wrapper)  # no cycle: Django's object must go with its greenlet
        self._name = name

    def __call__(self, *args: object, **more: object) -> object:
        """Connect, which meets the receivers, and call what stands in our place then."""
        wrapper: Any = self._wrapper()
        exchanged = vars(wrapper).get(self._name) is not self  # by code that calls us now
        remove_first_cursors(wrapper)
        wrapper.ensure_connection()
        method = getattr(type(wrapper), self._name).__get__(wrapper) if exchanged else getattr(wrapper, self._name)
        return method(*args, **more)


def remove_first_cursors(wrapper: BaseDatabaseWrapper) -> None:
    """Receivers are met now, and must find Django's methods."""
    for name in _CURSORS:
        if isinstance(vars(wrapper).get(name), FirstCursor):
            del vars(wrapper)[name]


def _call(receiver: Receiver, sender: type, wrapper: BaseDatabaseWrapper) -> None:
    cls = type(wrapper)
    call = async_to_sync(receiver) if inspect.iscoroutinefunction(receiver) else receiver
    try:
        call(signal=connection_created, sender=sender, connection=wrapper)
    except Exception as error:
        error.add_note(_OUTSIDE.format(name=name_of(receiver)))
        raise
    if type(wrapper) is not cls:
        raise TypeError(_CLASS.format(name=name_of(receiver)))


def live(engine: type) -> list[Receiver]:
    """The receivers for this engine and for Django's, whose place it takes: a receiver may ask for that by its class."""
    found: dict[Hashable, Receiver] = {}
    for cls in _senders(engine):
        for kind in connection_created._live_receivers(cls):  # noqa: SLF001 - Django's `send` calls all at once
            for receiver in kind:
                found.setdefault(_key(receiver), receiver)
    return list(found.values())


def _senders(cls: type) -> Iterator[type]:
    return (
        each for each in cls.__mro__ if issubclass(each, BaseDatabaseWrapper) and each.__name__ == "DatabaseWrapper"
    )


def _key(receiver: Any) -> Hashable:
    """As Django tells receivers apart: a bound method is another object each time."""
    function = getattr(receiver, "__func__", None)
    return id(receiver) if function is None else (id(receiver.__self__), id(function))


def name_of(receiver: Receiver) -> str:
    """Dotted, for a message."""
    while isinstance(receiver, functools.partial):
        receiver = receiver.func
    function = inspect.unwrap(receiver)
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
