"""What the connections of a worker share."""

from __future__ import annotations

import logging
import os
import resource
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from djworker.conf.peers import Peers
from djworker.http.admission import AdmissionQueue
from djworker.http.bulk import BulkWork
from djworker.http.concurrency import ConcurrencyLimit
from djworker.http.filewrapper import FileWrapper
from djworker.http.forwarded import NOTHING_DECLARED, Declared, Forwarding
from djworker.http.receive_buffer import HeadLimits
from djworker.http.request import HeadParser
from djworker.http.request_ids import RequestIds
from djworker.http.wsgi_input import Input
from djworker.ipc.latency import BUCKETS
from djworker.log import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from djworker.conf.table import Config
    from djworker.http.recorder import Recorder
    from djworker.http.wsgi import Exchange, WSGIApplication
    from djworker.ipc.in_flight import Records

__all__ = ["DRAINING_TIMEOUT", "SharedState"]

log = logging.getLogger("djworker.http")

#: Seconds that a peer may take for the next piece of anything, once the worker is draining.
DRAINING_TIMEOUT: Final = 5.0
#: Descriptors that stay free for files, database connections and the log.
RESERVED_DESCRIPTORS: Final = 64
#: Connections that there is room for in any case.
FEWEST_CONNECTIONS: Final = 16


class SharedState:
    """[worker] The application, the limits, the queues and the counts of all connections, and the lists of them."""

    def __init__(
        self,
        app: WSGIApplication,
        config: Config,
        *,
        server_address: Any,
        access: Callable[[Exchange], None] | None = None,
        declared: Declared = NOTHING_DECLARED,
    ) -> None:
        """Make it.

        Args:
            app: what answers requests.
            config: the options.
            server_address: what the listening socket is bound to.
            access: is called after each answer.
            declared: what the project's settings say of proxies.
        """
        self.request_ids = RequestIds(answers=config.request_id == "answer") if config.request_id != "off" else None
        self.app = app if self.request_ids is None else self.request_ids.around(app)
        self.config = config
        self.access = access
        # Where requests are noted for the case that the worker is killed; None where there is no access log.
        self.records: Records | None = None
        # Counts requests, where metrics are wanted.
        self.recorder: Recorder | None = None
        # How many requests took how long. A list: to add in shared memory costs twice as much.
        self.latencies = [0] * BUCKETS
        self.keep_alive = config.keep_alive
        self.header_timeout = config.header_timeout
        self.body_timeout = config.body_timeout
        self.upload_timeout = config.upload_timeout
        self.queue_timeout = config.queue_timeout
        self.health_paths = frozenset(path.encode() for path in config.health_paths)
        self.write_timeout = config.write_timeout
        self.request_timeout = config.request_timeout
        # Gives back what the application holds for the calling greenlet, when its request was ended from outside.
        self.let_go: Callable[[], object] = _nothing
        self.draining = False
        self.total = 0
        # Of them, those that were answered with 5xx.
        self.failed = 0
        self.parser = HeadParser(
            max_line=config.limit_request_line,
            max_fields=config.limit_request_fields,
            max_field=config.limit_request_field_size,
            max_body=config.limit_request_body,
            of_proxies=declared.variables,
        )
        self.forwarding = Forwarding(
            config.forwarded_allow_ips, left_to_django=declared.passes, extra=declared.variables
        )
        # The peers that may announce clients by the PROXY protocol; None where that is not spoken.
        self.announcers = Peers(config.proxy_allow_from) if config.proxy_protocol else None
        self._told_of_removed = False
        self.head_limits = HeadLimits(
            line=config.limit_request_line, fields=config.limit_request_fields, field=config.limit_request_field_size
        )
        self.concurrency = ConcurrencyLimit(config.worker_connections)
        self.admission = AdmissionQueue(self.concurrency)
        self.bulk = BulkWork()
        self.base_environ = _base_environ(server_address)
        # Ordered sets of Connection. Only those that a sweep finds idle move, so that clients who ask in quick succession do
        # not pay for it; the idle ones are in the order of their deadlines.
        self.idle_ones: dict[Any, None] = {}
        self.busy: dict[Any, None] = {}
        # Accepted sockets whose turn has not come.
        self.arriving: set[Any] = set()
        self.max_open = max(FEWEST_CONNECTIONS, _free_descriptors() - RESERVED_DESCRIPTORS)

    def deadline_in(self, timeout: float) -> float:
        """Return the deadline of a peer that may take timeout seconds; less while draining."""
        return time.monotonic() + (min(timeout, DRAINING_TIMEOUT) if self.draining else timeout)

    def tell_of_removed(self, variables: Iterable[str], peer: str) -> None:
        """Warn, once: a proxy that was forgotten in the options, or a client that pretends to be one."""
        if self._told_of_removed:
            return
        self._told_of_removed = True
        names = ", ".join(name.removeprefix("HTTP_").replace("_", "-").title() for name in variables)
        text = f"removed {names} of {peer}: forwarded_allow_ips does not name it; add it if it is a proxy of yours"
        event(log, logging.WARNING, "forwarded_removed", text, peer=peer, fields=names)


def _nothing() -> None:
    """Hold nothing."""


def _base_environ(server_address: Any) -> dict[str, Any]:
    if isinstance(server_address, tuple):
        name, port = str(server_address[0]), str(server_address[1])
    else:
        # PEP 3333: "can never be empty strings"; a unix socket has neither.
        name, port = "localhost", "80"
    return {
        "REQUEST_METHOD": "",
        "SCRIPT_NAME": "",
        "PATH_INFO": "",
        "QUERY_STRING": "",
        "RAW_URI": "",
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "djworker",
        "REMOTE_ADDR": "",
        "REMOTE_PORT": "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": Input(),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }


def _free_descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft - len(os.listdir("/dev/fd")) if soft > 0 else 1 << 20
