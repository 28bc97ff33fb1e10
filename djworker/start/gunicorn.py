"""gunicorn's options, and what becomes of each one here: for the command line, for ``import-gunicorn`` and for the reference.

The names are those of gunicorn 27, under which older versions' are found too. A test compares them with the gunicorn that is
installed, so a new name is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

__all__ = ["BY_FLAG", "BY_NAME", "TABLE", "VERSIONS", "Fate", "Known", "without_versions"]


#: Values of gunicorn's ``--proxy-protocol``; without one, "auto".
VERSIONS: Final = frozenset({"v1", "v2", "auto"})


class Fate(StrEnum):
    """What becomes of an option."""

    SAME = "the same"
    RENAMED = "renamed"
    ALWAYS = "always on"
    NEEDLESS = "not needed"
    ABSENT = "not offered"


@dataclass(frozen=True, slots=True)
class Known:
    """One option of gunicorn's.

    name: in ``gunicorn.conf.py``. flags: on its command line. fate, text: what becomes of it, and a sentence for the user.
    ours: the option of ours that does the same, or the flag where no setting is behind it. takes: how many values its flag
    has: 1, 0, or "?" for one or none. harmless: values that ask for nothing which is not so here anyway; of an option that is
    always on or not needed, none means all.
    """

    name: str
    flags: tuple[str, ...]
    fate: Fate
    text: str
    ours: str = ""
    takes: int | str = 1
    harmless: tuple[Any, ...] = ()

    def is_harmless(self, value: object) -> bool:
        """Whether a server with this value and ours behave alike, so that the option can be left out."""
        if self.fate in {Fate.ALWAYS, Fate.NEEDLESS} and not self.harmless:
            return True
        return value in (None, False, "", [], {}) or str(value) in map(str, self.harmless)

    @property
    def label(self) -> str:
        """What the user wrote, as far as it is known: the flag, or the name in the file."""
        return self.flags[-1] if self.flags else self.name


def _same(name: str, flags: str, text: str = "", *, ours: str = "", takes: int | str = 1) -> Known:
    return Known(name, tuple(flags.split()), Fate.SAME, text, ours or name, takes)


def _renamed(name: str, flags: str, ours: str, text: str, *, takes: int | str = 1) -> Known:
    return Known(name, tuple(flags.split()), Fate.RENAMED, text, ours, takes)


def _always(name: str, flags: str, text: str, *only: str, takes: int | str = 0) -> Known:
    return Known(name, tuple(flags.split()), Fate.ALWAYS, text, takes=takes, harmless=only)


def _needless(name: str, flags: str, text: str, *, takes: int | str = 1) -> Known:
    return Known(name, tuple(flags.split()), Fate.NEEDLESS, text, takes=takes)


def _absent(name: str, flags: str, text: str, *harmless: object, takes: int | str = 1) -> Known:
    return Known(name, tuple(flags.split()), Fate.ABSENT, text, takes=takes, harmless=harmless)


_TLS: Final = "TLS belongs to the proxy in front, which does it for all services of a machine"
_HTTP2: Final = "HTTP/2 belongs to the proxy in front, which speaks HTTP/1.1 to the workers"
_ASGI: Final = "this server speaks WSGI: async views run under it, ASGI applications and WebSockets do not"
_DIRTY: Final = "long jobs belong to a queue such as Celery or Django's tasks"
_STRICT: Final = "requests are read strictly: what a proxy reads differently from the server can be smuggled"
_SYSLOG: Final = "the log goes to standard error, and systemd, Docker or a pipe to logger(1) takes it from there"
_LOGGING: Final = (
    "write LOGGING in the settings for the project's loggers; LOG_FORMAT = 'json' is the server's own log as JSON"
)
_STATSD: Final = "status_bind serves metrics for Prometheus, and the access log as JSON has the time of each request"
_PASTE: Final = "Django has no Paste configuration; name the module, as in djworker shop.wsgi"
_CONTROL: Final = "djworkerctl steers the server; the option control names its socket, or switches it off"


def _signal(name: str, receiver: str) -> Known:
    return _absent(name, "", f"write a receiver of djworker.signals.{receiver}")


def _no_hook(name: str, text: str) -> Known:
    return _absent(name, "", text)


_BIND: Final = (
    _same("bind", "-b --bind"),
    _same("backlog", "--backlog"),
    _needless("reuse_port", "--reuse-port", "all workers accept on the same sockets, and share the load", takes=0),
    _always("sendfile", "--no-sendfile", "files of FileResponse are sent by the kernel"),
)
_WORKERS: Final = (
    _same("workers", "-w --workers"),
    _always(
        "worker_class",
        "-k --worker-class",
        "workers are gevent's, and no others: leave it out",
        *("gevent", "ggevent", "gevent_wsgi", "gevent_pywsgi", "gunicorn.workers.ggevent.GeventWorker"),
        takes=1,
    ),
    _needless("threads", "--threads", "each request has a greenlet; worker_connections says how many run at once"),
    _same(
        "worker_connections",
        "--worker-connections",
        "It counts requests that run; idle keep-alive connections are not counted.",
    ),
    _same("max_requests", "--max-requests", "The replacement is ready first."),
    _same("max_requests_jitter", "--max-requests-jitter"),
    _same(
        "timeout", "-t --timeout", "It is the time for which a worker's hub does not turn, as with gevent's workers."
    ),
    _same("graceful_timeout", "--graceful-timeout"),
    _renamed(
        "keepalive",
        "--keep-alive",
        "keep_alive",
        "The default is 75 s and not 2 s: above the idle time of the usual balancers, so that they close first.",
    ),
    _needless("worker_tmp_dir", "--worker-tmp-dir", "workers beat in shared memory, without a file"),
)
_REQUESTS: Final = (
    _same("limit_request_line", "--limit-request-line"),
    _same("limit_request_fields", "--limit-request-fields"),
    _same("limit_request_field_size", "--limit-request-field_size", "It is understood with the underscore, too."),
    _absent("permit_obsolete_folding", "--permit-obsolete-folding", _STRICT, takes=0),
    _absent("strip_header_spaces", "--strip-header-spaces", _STRICT, takes=0),
    _needless(
        "permit_unconventional_http_method",
        "--permit-unconventional-http-method",
        "methods are those that llhttp knows, WebDAV's among them",
        takes=0,
    ),
    _absent("permit_unconventional_http_version", "--permit-unconventional-http-version", _STRICT, takes=0),
    _absent("casefold_http_method", "--casefold-http-method", _STRICT, takes=0),
    _absent("header_map", "--header-map", "fields with an underscore in their name are dropped", "drop"),
    _absent(
        "forwarder_headers",
        "--forwarder-headers",
        "a proxy that forwarded_allow_ips names may set SCRIPT_NAME, and no other variable",
        "SCRIPT_NAME,PATH_INFO",
        ["SCRIPT_NAME", "PATH_INFO"],
    ),
    _absent(
        "secure_scheme_headers",
        "",
        "X-Forwarded-Proto, -Protocol, -Ssl and Forwarded are read; SECURE_PROXY_SSL_HEADER in the settings names another",
        {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"},
    ),
    _needless("http_parser", "--http-parser", "llhttp reads requests, which is the fast parser of Node.js"),
    _needless("tmp_upload_dir", "", "bodies come as the view reads them; FILE_UPLOAD_TEMP_DIR is Django's folder"),
)
_PROXIES: Final = (
    _same("forwarded_allow_ips", "--forwarded-allow-ips", "Networks (10.0.0.0/8) and unix are understood too."),
    _same(
        "proxy_protocol",
        "--proxy-protocol",
        "It is on or off, and the version is found. A connection without the header is refused.",
        takes="?",
    ),
    _renamed(
        "proxy_allow_ips",
        "--proxy-allow-from",
        "proxy_allow_from",
        "Networks (10.0.0.0/8) and unix are understood too.",
    ),
)
_PROCESS: Final = (
    _absent(
        "config",
        "-c --config",
        "no such file is read while serving: 'djworker import-gunicorn FILE' prints its settings",
        "./gunicorn.conf.py",
    ),
    _same("wsgi_app", "", "It is the first word: djworker shop.wsgi", ours="MODULE[:APP]"),
    _same("chdir", "--chdir", "Each reload enters it anew, so it may be a symbolic link.", ours="--chdir"),
    _same("pythonpath", "--pythonpath", ours="--pythonpath"),
    _same("raw_env", "-e --env", ours="--env"),
    _always(
        "preload_app",
        "--preload",
        "a project that can be forked is loaded once (preload = auto); a reload loads it anew",
    ),
    _renamed("pidfile", "-p --pid", "pid", "Its name is that of gunicorn's flag."),
    _same("user", "-u --user"),
    _same("group", "-g --group"),
    _same("umask", "-m --umask", "Unix sockets have socket_mode."),
    _always("initgroups", "--initgroups", "workers have all groups of their user"),
    _absent(
        "daemon",
        "-D --daemon",
        "the server stays in the foreground: systemd, a container or 'nohup djworker … &' keeps it running",
        takes=0,
    ),
    _renamed("proc_name", "-n --name", "proc_name", "--name is understood."),
    _needless("default_proc_name", "", "the default of proc_name is the project's name"),
    _same("reload", "--reload", "It is for development; watchfiles looks at the files.", takes=0),
    _needless("reload_engine", "--reload-engine", "watchfiles looks at the files, with the kernel's own means"),
    _absent(
        "reload_extra_files", "--reload-extra-file", "all files below the project's folder and sys.path are watched"
    ),
    _absent("spew", "--spew", "python -X importtime, or a debugger, shows what is executed", takes=0),
    _renamed("check_config", "--check-config", "--check", "It loads the project as well.", takes=0),
    _same("print_config", "--print-config", ours="--print-config", takes=0),
    _absent("paste", "--paste --paster", _PASTE),
    _absent("raw_paste_global_conf", "--paste-global", _PASTE),
)
_LOG: Final = (
    _renamed("accesslog", "--access-logfile", "access_log", "--access-logfile is understood."),
    _renamed("access_log_format", "--access-logformat", "access_log_format", "--access-logformat is understood."),
    _absent("errorlog", "--error-logfile --log-file", _SYSLOG, "-"),
    _renamed("loglevel", "--log-level", "log_level", "Its name is that of gunicorn's flag."),
    _always("capture_output", "--capture-output", "the project's output goes where the server's own output goes"),
    _needless(
        "enable_stdio_inheritance",
        "-R --enable-stdio-inheritance",
        "the project's output goes where the server's own output goes",
        takes=0,
    ),
    _absent("logger_class", "--logger-class", _LOGGING, "gunicorn.glogging.Logger"),
    _absent("logconfig", "--log-config", _LOGGING),
    _absent("logconfig_dict", "", _LOGGING),
    _absent("logconfig_json", "--log-config-json", _LOGGING),
    _absent("syslog", "--log-syslog", _SYSLOG, takes=0),
    _needless("syslog_addr", "--log-syslog-to", _SYSLOG),
    _needless("syslog_prefix", "--log-syslog-prefix", _SYSLOG),
    _needless("syslog_facility", "--log-syslog-facility", _SYSLOG),
    _needless("disable_redirect_access_to_syslog", "--disable-redirect-access-to-syslog", _SYSLOG, takes=0),
    _absent("statsd_host", "--statsd-host", _STATSD),
    _absent("dogstatsd_tags", "--dogstatsd-tags", _STATSD),
    _needless("statsd_prefix", "--statsd-prefix", _STATSD),
    _absent("enable_backlog_metric", "--enable-backlog-metric", _STATSD, takes=0),
)
_HOOKS: Final = (
    _no_hook("on_starting", "commands before the start belong into the unit (ExecStartPre=)"),
    _signal("on_reload", "mold_ready"),
    _signal("when_ready", "mold_ready"),
    _signal("pre_fork", "mold_ready"),
    _signal("post_fork", "worker_ready"),
    _signal("post_worker_init", "worker_ready"),
    _signal("worker_int", "worker_exiting"),
    _no_hook("worker_abort", "the stacks of a worker that is killed are logged (hub_blocked)"),
    _no_hook("pre_exec", "USR2 replaces the arbiter in place, and runs no code of the project's"),
    _no_hook("pre_request", "write a middleware, or a receiver of django.core.signals.request_started"),
    _no_hook("post_request", "write a middleware, or a receiver of django.core.signals.request_finished"),
    _signal("child_exit", "process_gone"),
    _signal("worker_exit", "worker_exiting"),
    _no_hook("nworkers_changed", "TTIN and TTOU are logged (scaled)"),
    _no_hook("on_exit", "commands after the stop belong into the unit (ExecStopPost=)"),
    _no_hook("ssl_context", _TLS),
    _no_hook("on_dirty_starting", _DIRTY),
    _no_hook("dirty_post_fork", _DIRTY),
    _no_hook("dirty_worker_init", _DIRTY),
    _no_hook("dirty_worker_exit", _DIRTY),
)
_OTHERS: Final = (
    _absent("protocol", "--protocol", "write proxy_pass in nginx, in the place of uwsgi_pass", "http"),
    _needless("uwsgi_allow_ips", "--uwsgi-allow-from", "the uwsgi protocol is not spoken"),
    _absent("keyfile", "--keyfile", _TLS),
    _absent("certfile", "--certfile", _TLS),
    _needless("ssl_version", "--ssl-version", _TLS),
    _absent("cert_reqs", "--cert-reqs", _TLS, 0, "VerifyMode.CERT_NONE"),
    _absent("ca_certs", "--ca-certs", _TLS),
    _needless("suppress_ragged_eofs", "--suppress-ragged-eofs", _TLS, takes=0),
    _needless("do_handshake_on_connect", "--do-handshake-on-connect", _TLS, takes=0),
    _absent("ciphers", "--ciphers", _TLS),
    _absent("http_protocols", "--http-protocols", _HTTP2, "h1"),
    _absent("http2_cleartext", "--http2-cleartext", _HTTP2, "off"),
    _needless("http2_max_concurrent_streams", "--http2-max-concurrent-streams", _HTTP2),
    _needless("http2_initial_window_size", "--http2-initial-window-size", _HTTP2),
    _needless("http2_max_frame_size", "--http2-max-frame-size", _HTTP2),
    _needless("http2_max_header_list_size", "--http2-max-header-list-size", _HTTP2),
    _needless("asgi_loop", "--asgi-loop", _ASGI),
    _absent("asgi_lifespan", "--asgi-lifespan", _ASGI, "auto", "off"),
    _needless("asgi_disconnect_grace_period", "--asgi-disconnect-grace-period", _ASGI),
    _needless("websocket_max_message_size", "--websocket-max-message-size", _ASGI),
    _absent("root_path", "--root-path", "FORCE_SCRIPT_NAME in the settings is the path below which the site is"),
    _absent("dirty_apps", "--dirty-app", _DIRTY),
    _absent("dirty_workers", "--dirty-workers", _DIRTY, 0),
    _needless("dirty_timeout", "--dirty-timeout", _DIRTY),
    _needless("dirty_threads", "--dirty-threads", _DIRTY),
    _needless("dirty_graceful_timeout", "--dirty-graceful-timeout", _DIRTY),
    _absent("control_socket", "--control-socket", _CONTROL),
    _needless("control_socket_mode", "--control-socket-mode", _CONTROL),
    _needless("control_socket_disable", "--no-control-socket", _CONTROL, takes=0),
)
#: By subject, for the reference.
TABLE: Final[Mapping[str, tuple[Known, ...]]] = {
    "Sockets": _BIND,
    "Worker processes": _WORKERS,
    "Requests": _REQUESTS,
    "Behind a proxy": _PROXIES,
    "The server": _PROCESS,
    "Logs and figures": _LOG,
    "Hooks": _HOOKS,
    "TLS, other protocols, and the rest": _OTHERS,
}
BY_NAME: Final[Mapping[str, Known]] = {known.name: known for rows in TABLE.values() for known in rows}
BY_FLAG: Final[Mapping[str, Known]] = {flag: known for known in BY_NAME.values() for flag in known.flags}


def without_versions(words: Sequence[str]) -> list[str]:
    """Return a command line in which ``--proxy-protocol`` is a flag: our option has no value, and gunicorn's may have one."""
    found: list[str] = []
    for word in words:
        flag, _, value = word.rpartition("=") if word.startswith("--proxy-protocol=") else ("", "", word)
        follows = flag or (found[-1] if found else "")
        if follows == "--proxy-protocol" and value in {*VERSIONS, "off"}:
            found = [*(found if flag else found[:-1]), "--no-proxy-protocol" if value == "off" else "--proxy-protocol"]
        else:
            found.append(word)
    return found
