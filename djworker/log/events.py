"""The log: lifecycle events on standard error, and the access log.

Built on ``logging``, so that a project can add handlers to the ``djworker`` loggers. Works in the arbiter, where
nothing is patched, and in the mold and the workers, where gevent has replaced the locks and ``poll``.

Event names are an API: supervisors, dashboards and djworker's own tests wait for them.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from typing import Any, Final, Literal

from djworker.log.format import EVENT, FIELDS, JSONFormatter, TextFormatter, escape
from djworker.log.request_id import RequestId
from djworker.log.sink import FileSink, Sink

_PARTS: Final = ("arbiter", "mold", "worker", "http", "access", "db", "admin", "status")
NAMES: Final = ("djworker", *(f"djworker.{part}" for part in _PARTS))
_LOGGER: Final = logging.getLogger("djworker")
_ACCESS: Final = logging.getLogger("djworker.access")
STANDARD_OUTPUT, STANDARD_ERROR = 1, 2
#: What the option ``access_log`` calls it.
_ON_STANDARD_OUTPUT: Final = "-"
_REQUEST_ID: Final = RequestId()


class SinkHandler(logging.Handler):
    """[arbiter, mold, worker] Hands formatted lines to a sink.

    Takes no lock, unlike other handlers: see ``djworker.log.sink``.
    """

    def __init__(self, sink: Sink, formatter: logging.Formatter) -> None:
        super().__init__()
        self.sink = sink
        self.setFormatter(formatter)

    def createLock(self) -> None:  # noqa: N802 - logging's name
        """Have no lock."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Filter and write without the lock that the base class would take."""
        kept: object = self.filter(record)  # a bool, or since Python 3.12 another record in place of this one
        if kept:
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return bool(kept)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; nothing is ever raised."""
        try:
            self.sink.write(self.format(record))
        except Exception:  # noqa: BLE001 - a log that cannot be written must not fail a request
            with contextlib.suppress(Exception):
                self.sink.write(f"djworker: a log record of {record.pathname}:{record.lineno} could not be written")


class OwnLogger(logging.Logger):
    """[arbiter, mold, worker] A logger that ``logging.config`` cannot switch off in passing.

    ``disable_existing_loggers`` is true unless a project says otherwise, and means every logger that there is: the project's own
    LOGGING, or a library's call of ``dictConfig`` at any later time, would silence the server. Its level can still be set.
    """

    # The data descriptor wins over what Logger.__init__ and logging.config put into the instance.
    @property
    def disabled(self) -> bool:
        """Never."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        """Pay no attention."""


class AccessFormatter(logging.Formatter):
    """The finished line as it is: the access log's format is the operator's."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message in one line."""
        return escape(record.getMessage())


class _State:
    """[arbiter, mold, worker] This process's handlers, so that they can be attached again and reopened."""

    main: SinkHandler | None = None
    access: SinkHandler | None = None
    level: int = logging.INFO
    format: str = "text"
    role: str = ""
    request_ids: bool = False


_state = _State()


def configure(level: str, fmt: str, role: str) -> None:
    """Send the djworker loggers to standard error. May be called again, after a change of options or of role.

    level: debug, info, warning, error or critical. role: arbiter, mold or worker, shown in JSON lines.
    """
    _state.level, _state.format, _state.role = logging.getLevelNamesMapping()[level.upper()], fmt, role
    formatter = JSONFormatter(role) if fmt == "json" else TextFormatter()
    sink = _state.main.sink if _state.main else Sink(STANDARD_ERROR, _notice, last_resort=True)
    _replace("main", SinkHandler(sink, formatter))
    reassert()


def access_file(path: str | None) -> str | None:
    """The file that the option ``access_log`` names; None where that is standard output, or no access log."""
    return None if path == _ON_STANDARD_OUTPUT else path


def configure_access(path: str | None) -> None:
    """Open the access log. path: a file, ``-`` for standard output, None for no access log.

    With the JSON format each line is an object with the fields that ``access_line`` was given. Raises OSError where the
    file cannot be opened; the access log in use then stays.
    """
    handler = None
    if path is not None:
        sink = Sink(STANDARD_OUTPUT, _access_notice) if path == _ON_STANDARD_OUTPUT else FileSink(path, _access_notice)
        handler = SinkHandler(sink, JSONFormatter(_state.role) if _state.format == "json" else AccessFormatter())
    _replace("access", handler)
    reassert()


def with_request_ids(wanted: bool) -> None:  # noqa: FBT001 - the option's value
    """Have each handler that there is, and those that `reassert` finds later, give records the id of their request."""
    _state.request_ids = wanted
    reassert()


def _replace(which: Literal["main", "access"], handler: SinkHandler | None) -> None:
    old: SinkHandler | None = getattr(_state, which)
    setattr(_state, which, handler)
    if old is None:
        return
    for name in NAMES:
        logging.getLogger(name).removeHandler(old)
    if handler is None or handler.sink is not old.sink:
        old.sink.close()


def reassert() -> None:
    """Make the djworker loggers ours again, after ``logging.config`` ran.

    Django applies LOGGING with ``disable_existing_loggers`` unless told otherwise, which would silence the server. What
    the project itself attached to these loggers stays.
    """
    for name in NAMES:
        _own(logging.getLogger(name))
    if _state.format == "json":
        _write_json()
    _attach("djworker", _state.main, _state.level)
    _attach("djworker.access", _state.access, logging.INFO)
    if _state.request_ids:
        for handler in _handlers():
            if not any(isinstance(own, RequestId) for own in handler.filters):
                handler.addFilter(_REQUEST_ID)
    for name in NAMES:
        # The answer is cached, under a lock that a watchdog's thread should not have to wait for.
        for level in (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            logging.getLogger(name).isEnabledFor(level)


def _write_json() -> None:
    """Handlers of the project's and Django's that write to our streams, and leave the form open, write JSON as well."""
    for handler in _handlers():
        streams = (sys.stdout, sys.stderr)
        if isinstance(handler.formatter, JSONFormatter):
            handler.formatter.role = _state.role  # a worker has the handlers of its mold
        elif isinstance(handler, logging.StreamHandler) and handler.formatter is None and handler.stream in streams:
            handler.setFormatter(JSONFormatter(_state.role))


def _handlers() -> set[logging.Handler]:
    """Those of all loggers, and the one for records that have none."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    found = {handler for logger in loggers if isinstance(logger, logging.Logger) for handler in logger.handlers}
    return found | {logging.lastResort} if logging.lastResort is not None else found


def capture_warnings() -> None:
    """Have Python's warnings be events, where the log is JSON: they are lines of the same stream."""
    usual = warnings.showwarning

    def show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        if file is not None or _state.format != "json":
            usual(message, category, filename, lineno, file, line)
        else:
            text = f"{category.__name__}: {message}"
            event(_LOGGER, logging.WARNING, "python_warning", text, file=filename, line=lineno)

    warnings.showwarning = show


def _own(logger: logging.Logger) -> None:
    """Keep what is its own, and what a project has attached."""
    if type(logger) is logging.Logger:  # else a library has put its own class there
        logger.__class__ = OwnLogger
    logger.disabled = False


def _attach(name: str, handler: SinkHandler | None, level: int) -> None:
    logger = logging.getLogger(name)
    logger.propagate = False
    logger.setLevel(level)
    if handler is not None and handler not in logger.handlers:
        logger.addHandler(handler)


def event(logger: logging.Logger, level: int, name: str, message: str, **fields: Any) -> None:
    """Log an event.

    name: what happened, as an identifier (``worker_ready``); it is an API. message: the same for people, without
    placeholders. fields: what it happened to; texts of several lines (traceback, stack) are shown as blocks.
    ``exc_info`` among the fields means what it means to ``logging``.
    """
    exc_info = fields.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    if logger.isEnabledFor(level):
        # No "args": a per cent sign in a message is a per cent sign.
        logger.log(level, message, exc_info=exc_info, extra={EVENT: name, FIELDS: fields})


def wants_fields() -> bool:
    """Tell whether anything reads an access line's fields: JSON, or a handler that the project attached."""
    return not (_state.access is not None and _state.format == "text" and len(_ACCESS.handlers) == 1)


def access_line(line: str, **fields: Any) -> None:
    """Write one request to the access log. line: as the operator's format made it; fields: the same for JSON."""
    if _state.access is not None and not wants_fields():
        _state.access.sink.write(escape(line))  # the usual case, for each request: no record, no look at the threads
    elif _ACCESS.handlers:
        extra = {EVENT: "access", FIELDS: fields}
        _ACCESS.handle(_ACCESS.makeRecord(_ACCESS.name, logging.INFO, "", 0, line, (), None, extra=extra))


def reopen() -> None:
    """Open the log files anew, after they were rotated."""
    for handler in (_state.main, _state.access):
        if handler is not None:
            handler.sink.reopen()


def _notice(lost: int, error: OSError) -> None:
    reason = error.strerror or str(error)
    event(_LOGGER, logging.WARNING, "log_lost", "lines of this log could not be written", lost=lost, error=reason)


def _access_notice(lost: int, error: OSError) -> None:
    reason = error.strerror or str(error)
    event(_LOGGER, logging.WARNING, "access_log_lost", "the access log cannot be written", lost=lost, error=reason)
