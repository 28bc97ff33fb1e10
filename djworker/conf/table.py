"""Every option, declared once.

From this table come ``settings.DJWORKER`` (upper-case keys), the ``DJWORKER_*`` environment, the command line,
``--print-config``, the system checks and the reference page of the documentation.
Precedence: command line, then environment, then settings, then default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, Self

from djworker.conf.cpus import cpu_count
from djworker.conf.kinds import (
    ADDRESSES,
    ADDRESSES_OR_NONE,
    ANNOUNCED,
    CONTROL,
    FILE,
    FLAG,
    NAME,
    PATHS,
    PEERS,
    PROBE,
    SECONDS,
    SIZE,
    TEXT,
    UMASK,
    WHOLE,
    WORKERS,
    choice,
)
from djworker.conf.option import Option, option, table
from djworker.conf.problems import ConfigError, Problem
from djworker.conf.span import Span
from djworker.units import MEBIBYTE

__all__ = ["OPTIONS", "Config", "ConfigError", "Option", "Problem", "adopt", "changes", "cpu_count"]

DAY: Final = 86_400
MOST_WORKERS: Final = 1024
#: Apache's "combined" with the time taken in microseconds at its end; gunicorn's atoms.
ACCESS_LOG_FORMAT: Final = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(D)s'


#: As with gunicorn: a proxy on this machine.
BELIEVED: Final = ("127.0.0.1", "::1", "unix")


def inherited_umask() -> int:
    """Return this process's umask. The only portable way to read it is to set it twice."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def usual_workers() -> int:
    """One for each processor that we may use, as far as the option goes."""
    return min(cpu_count(), MOST_WORKERS)


def _plain(value: Any) -> Any:
    if isinstance(value, Span):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True)
class Config:
    """[arbiter, mold, worker] One complete configuration. Times are in seconds, sizes in bytes."""

    bind: tuple[str, ...] = option(
        ("127.0.0.1:8000",),
        ADDRESSES,
        "Listening",
        """Where to listen: HOST:PORT, [IPV6]:PORT, unix:PATH, unix:@NAME (an abstract socket of Linux) or fd://N; several
        are possible. [::]:PORT serves IPv4 too, unless that port has an IPv4 address of its own. The variable PORT means
        0.0.0.0:$PORT, and sockets that systemd passes (LISTEN_FDS) come before both.""",
        reloadable=False,
        flags=("-b",),
    )
    backlog: int = option(
        2048,
        WHOLE,
        "Listening",
        "Connections that may wait in the kernel to be accepted. The system's own limit (net.core.somaxconn) caps it.",
        minimum=1,
        maximum=65_535,
        reloadable=False,
    )
    socket_mode: int = option(
        0o666,
        UMASK,
        "Listening",
        """Permissions of unix sockets, in octal; the umask does not change them. A client needs the permission to write. An
        abstract socket has no permissions. The socket belongs to `user` and `group`, if these are set.""",
        minimum=0,
        maximum=0o777,
        reloadable=False,
    )
    status_bind: tuple[str, ...] = option(
        (),
        ADDRESSES_OR_NONE,
        "Listening",
        """Where the status process answers: `/metrics` for Prometheus, `/livez` and `/readyz` for balancers and Kubernetes. In
        the form of `bind`; empty for no such process. Keep it off the internet. Needs djworker[metrics].""",
        reloadable=False,
    )
    forwarded_allow_ips: tuple[str, ...] = option(
        BELIEVED,
        PEERS,
        "Proxies",
        """Proxies that are believed about their clients: addresses, networks (10.0.0.0/8), unix for unix sockets, * for every
        peer. Their fields X-Forwarded-For, -Proto, -Ssl, -Port and -Prefix and Forwarded set REMOTE_ADDR, wsgi.url_scheme,
        SERVER_PORT and SCRIPT_NAME; such fields of other peers are removed. The client is the last address in the list that
        is not named here. With the variable FORWARDED_ALLOW_IPS unix sockets are believed too, as with gunicorn.""",
        environment=("FORWARDED_ALLOW_IPS",),
    )
    proxy_protocol: bool = option(
        False,
        ANNOUNCED,
        "Proxies",
        """Each connection begins with a header of the PROXY protocol (send-proxy or send-proxy-v2 of HAProxy, an NLB of AWS),
        which says who the client is. A connection without one is refused.""",
    )
    proxy_allow_from: tuple[str, ...] = option(
        BELIEVED,
        PEERS,
        "Proxies",
        "Peers that may send this header, in the form of forwarded_allow_ips. Connections of all others are refused.",
        flags=("--proxy-allow-ips",),
    )
    workers: int = option(
        usual_workers,
        WORKERS,
        "Workers",
        """Worker processes. A worker is one thread of Python, so one for each processor is right for most sites. `2..8` lets the
        number follow the load: see [](../explanation/scaling.md).""",
        minimum=1,
        maximum=MOST_WORKERS,
        flags=("-w",),
        environment=("WEB_CONCURRENCY",),
        default_note="the processors that the cgroup allows",
    )
    worker_connections: int = option(
        1000,
        WHOLE,
        "Workers",
        """Requests that one worker runs at once. Idle keep-alive connections do not count. A request does not count while it
        waits for its client to send or to read.""",
        minimum=1,
        maximum=1_000_000,
    )
    max_requests: int = option(
        0,
        WHOLE,
        "Workers",
        "Replace a worker after so many requests, replacement first; 0 never does. It hides leaks of memory.",
        minimum=0,
    )
    max_requests_jitter: int = option(
        0,
        WHOLE,
        "Workers",
        "Add a random number up to this to max_requests, so that workers are not replaced all at the same time.",
        minimum=0,
    )
    max_memory: int = option(
        0,
        SIZE,
        "Workers",
        """Replace a worker that has more memory than this, replacement first; 0 never does. A page of memory that several
        processes share counts in parts (PSS). A worker is looked at once a second, and must have too much three times in a
        row.""",
        minimum=0,
    )
    max_lifetime: float = option(
        0.0,
        SECONDS,
        "Workers",
        """Replace a worker at this age, replacement first; 0 never does. Each one ends up to a tenth earlier, at random, so that
        workers are not replaced all at the same time.""",
        minimum=0,
        maximum=365 * DAY,
    )
    warm_up: tuple[str, ...] = option(
        (),
        PATHS,
        "Workers",
        "Paths that a new generation requests from itself before it counts as ready, such as /,/products/.",
    )
    probe: tuple[str, ...] = option(
        ("/",),
        PROBE,
        "Workers",
        """Paths that a new generation must answer no worse than the one in force, before it is trusted; `off` for none. They
        are requested in a child of the mold, by GET, without cookies, with `environ["djworker.probe"]` set.""",
    )
    strict: bool = option(
        False,
        FLAG,
        "Workers",
        "Refuse a first start, too, when a path of `probe` answers with an error, or a database cannot be reached.",
    )
    canary: float = option(
        0.0,
        SECONDS,
        "Workers",
        """Time for which the first worker of a new generation serves beside the old ones, before another comes. If more of its
        answers fail (5xx), or its hub stalls more often than theirs, the old code goes on, and the reload has failed. 0: no
        worker is watched.""",
        minimum=0,
        maximum=3600,
    )
    check_migrations: Literal["off", "warn", "refuse"] = option(
        "warn",
        choice("off", "warn", "refuse"),
        "Workers",
        """What happens if the default database lacks migrations of a new generation. `warn`: the generation serves, and the check
        W204 names them. `refuse`: it does not serve, at a first start either. `off`: the database is not asked. A database
        that does not answer within 10 s is no reason to refuse.""",
    )
    preload: Literal["auto", "on", "off"] = option(
        "auto",
        choice("auto", "on", "off"),
        "Workers",
        """Whether the project is loaded once, and workers share its memory. `auto`: they do, unless the project starts something
        while it loads that cannot be shared, such as a thread; then each worker loads the project by itself, and a warning
        names the line. `on`: a project that cannot be shared does not boot. `off`: each worker loads the project by itself.""",
        flag="--preload-mode",  # gunicorn's --preload takes no value
    )
    timeout: float = option(
        30.0,
        SECONDS,
        "Deadlines",
        """A worker whose hub has not turned for this time is blocked: its stack is logged, and it is killed and replaced; 0
        switches that off. A slow request that waits (for a database, for a service) blocks nothing.""",
        minimum=0,
        maximum=DAY,
        flags=("-t",),
    )
    stall_threshold: float = option(
        0.5,
        SECONDS,
        "Deadlines",
        """A worker's hub that one request keeps from turning for this time has stalled: all other requests of the worker waited
        meanwhile. The log names the request, view, statement and line (event `hub_stalled`), and the stall is counted; 0
        switches that off. Time in which the process was stopped, or had no processor, does not count.""",
        minimum=0,
        maximum=DAY,
    )
    request_timeout: float = option(
        0.0,
        SECONDS,
        "Deadlines",
        """Time for a request to be answered. It begins when the head has arrived and the request has its turn. At its end, the
        request's statement is cancelled in the database server, its transaction is rolled back, and the client gets 504; the
        worker serves on. 0: no limit. Views can have another time: [](../howto/deadlines.md).""",
        minimum=0,
        maximum=DAY,
    )
    boot_timeout: float = option(
        60.0,
        SECONDS,
        "Deadlines",
        "Time for the mold to load the project, and for a worker to become ready.",
        minimum=0.1,
        maximum=DAY,
    )
    graceful_timeout: float = option(
        30.0,
        SECONDS,
        "Deadlines",
        "Time for running requests to end when a worker is retired; what still runs then is cut and logged.",
        minimum=0,
        maximum=DAY,
    )
    shutdown_delay: float = option(
        0.0,
        SECONDS,
        "Deadlines",
        """Time between TERM and the stop, in which requests are served as before while `/readyz` of `status_bind` says 503:
        balancers and Kubernetes learn of the stop before it comes. A second TERM ends this time.""",
        minimum=0,
        maximum=DAY,
    )
    keep_alive: float = option(
        75.0,
        SECONDS,
        "Deadlines",
        """Time that an idle connection is kept open; 0 closes after each answer. Keep it above the idle time of the
        balancer in front (60 for most), or the balancer sends requests into closing connections.""",
        minimum=0,
        maximum=DAY,
    )
    header_timeout: float = option(
        10.0,
        SECONDS,
        "Deadlines",
        "Time for a request's head to arrive, from its first byte to the empty line.",
        minimum=0.1,
        maximum=DAY,
    )
    body_timeout: float = option(
        30.0,
        SECONDS,
        "Deadlines",
        "Time between two pieces of a request's body; a body must also bring 500 bytes a second on average.",
        minimum=0.1,
        maximum=DAY,
    )
    write_timeout: float = option(
        30.0,
        SECONDS,
        "Deadlines",
        "Time for a client to take the next piece of an answer.",
        minimum=0.1,
        maximum=DAY,
    )
    upload_timeout: float = option(
        3600.0,
        SECONDS,
        "Deadlines",
        "Time that a client may take for all of a request's body; 0: no limit beside body_timeout and its rate.",
        minimum=0,
        maximum=DAY,
    )
    queue_timeout: float = option(
        10.0,
        SECONDS,
        "Deadlines",
        """Time that a complete request may wait until it begins: others have to end, or to give up their place among the
        worker_connections. After that it is answered with 503 and Retry-After.""",
        minimum=0.1,
        maximum=DAY,
    )
    health_paths: tuple[str, ...] = option(
        (),
        PATHS,
        "Limits",
        "Paths whose requests no limit of running requests holds up, such as /healthz: an overloaded worker must not seem dead.",
    )
    limit_request_line: int = option(
        8190,
        SIZE,
        "Limits",
        "Length of the request line. Longer: 414.",
        minimum=64,
        maximum=MEBIBYTE,
    )
    limit_request_fields: int = option(
        100,
        WHOLE,
        "Limits",
        "Number of header fields. More: 431.",
        minimum=1,
        maximum=10_000,
    )
    limit_request_field_size: int = option(
        8190,
        SIZE,
        "Limits",
        "Length of one header field. Longer: 431.",
        minimum=64,
        maximum=MEBIBYTE,
        flags=("--limit-request-field_size",),
    )
    limit_request_body: int = option(
        0,
        SIZE,
        "Limits",
        "Length of a request's body, 0 for no limit. Longer: 413.",
        minimum=0,
    )
    chunked_buffer: int = option(
        2_621_440,
        SIZE,
        "Limits",
        """Memory for a body without a length (chunked), which Django reads only when it knows the length. Longer: 413. The
        default is Django's own limit for other bodies (DATA_UPLOAD_MAX_MEMORY_SIZE). File uploads, and bodies that a view
        reads with request.read(), come as they are read and have no such limit.""",
        minimum=1,
    )
    pid: str | None = option(
        None,
        FILE,
        "Process",
        "File that holds the arbiter's process id.",
        reloadable=False,
        flags=("-p",),
    )
    umask: int = option(
        inherited_umask,
        UMASK,
        "Process",
        "Permissions that new files do not get. Unix sockets have `socket_mode`.",
        minimum=0,
        maximum=0o777,
        reloadable=False,
        flags=("-m",),
        default_note="as inherited",
    )
    user: str | None = option(
        None,
        NAME,
        "Process",
        """User (name or number) that the mold and the workers run as, when started as root. A number without an account is
        its own group, has no other groups, and `/` for its home.""",
        reloadable=False,
        flags=("-u",),
    )
    group: str | None = option(
        None,
        NAME,
        "Process",
        "Group (name or number) that the mold and the workers run as, when started as root. Needs `user`.",
        reloadable=False,
        flags=("-g",),
        default_note="the user's own",
    )
    proc_name: str | None = option(
        None,
        NAME,
        "Process",
        "Name shown in the list of processes.",
        flags=("-n", "--name"),
        default_note="the project's name",
    )
    control: str = option(
        "auto",
        CONTROL,
        "Process",
        """The socket that `djworkerctl` and `manage.py workers` ask: `auto`, the path of a unix socket, or `off`. It answers
        root and the user that the server runs as, and no others. `auto` is an abstract socket on Linux, which needs no
        writable folder; give a path if the client has another network namespace.""",
        reloadable=False,
    )
    reload: bool = option(
        False,
        FLAG,
        "Process",
        "For development: reload when a file of the project changes. Needs watchfiles.",
        reloadable=False,
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = option(
        "info",
        choice("debug", "info", "warning", "error", "critical"),
        "Logging",
        "Messages of this level and above are logged.",
    )
    log_format: Literal["text", "json"] = option(
        "text", choice("text", "json"), "Logging", "Form of the log on standard error."
    )
    access_log: str | None = option(
        None,
        FILE,
        "Logging",
        "File that gets a line for each request; - for standard output.",
        flags=("--access-logfile",),
        default_note="off",
    )
    access_log_format: str = option(
        ACCESS_LOG_FORMAT,
        TEXT,
        "Logging",
        "Form of a line of the access log, made of gunicorn's atoms; or `json`: one JSON object for each request.",
        flags=("--access-logformat",),
    )

    request_id: Literal["off", "log", "answer"] = option(
        "off",
        choice("off", "log", "answer"),
        "Logging",
        """Whether each request has an id: the X-Request-ID of a proxy that `forwarded_allow_ips` names, if it is at most 128
        letters, digits and signs, or a new one of 32 digits. `log`: the application sees it as X-Request-ID, and log
        records of the request have it as `request_id`, events included. `answer`: the answer has it, too.""",
    )

    def to_json(self) -> dict[str, Any]:
        """Return a mapping that JSON can carry; ``from_json`` reads it back."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a configuration. Keys that this version does not know are left out: the sender may be newer.

        Raises:
            UnreadableError: a value that its option cannot have. The sender may be a mold, whose word is not ours.
        """
        return cls(**{name: OPTIONS[name].read(value) for name, value in data.items() if name in OPTIONS})


OPTIONS: Mapping[str, Option] = table(Config)


def changes(old: Config, new: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the options that differ: those that a reload adopts, and those that need a restart."""
    different = [name for name in OPTIONS if getattr(old, name) != getattr(new, name)]
    adopted = tuple(name for name in different if OPTIONS[name].spec.reloadable)
    return adopted, tuple(name for name in different if not OPTIONS[name].spec.reloadable)


def adopt(old: Config, new: Config) -> Config:
    """Return the new configuration with the old one's values where a restart would be needed."""
    _, fixed = changes(old, new)
    return replace(new, **{name: getattr(old, name) for name in fixed})
