"""[mold] Loading a Django project for good: settings, applications, checks, WSGI application, URLconf, templates, warm-up.

Every step that can fail has a name, and a failure says which step, whose module, and why.
"""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import platform
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from djworker import log, process
from djworker.bug import Bug
from djworker.conf import proxies
from djworker.conf.problems import ConfigError
from djworker.conf.table import Config
from djworker.http.forwarded import NOTHING_DECLARED, Declared
from djworker.ipc import messages
from djworker.ipc.contract import SETTINGS_VARIABLE
from djworker.ipc.scoreboard import Gauge
from djworker.mold import (
    blame,
    checks,
    cleanup,
    leftovers,
    named_settings,
    request_errors,
    restarting,
    rights,
    taken_ports,
    warmup,
)
from djworker.mold.patches import async_streams, big_files, bodies, native_locks
from djworker.start import interpreter
from djworker.start.application import ApplicationError, Target, wsgi_callable
from djworker.worker import grpc_calls
from djworker.worker.balance import Balance

if TYPE_CHECKING:
    from djworker.conf.resolve import Resolved
    from djworker.ipc.launch import Launch
    from djworker.ipc.regions import Writer

logger = logging.getLogger("djworker.mold")

#: Calls a hook by name; a hook that raises or hangs is logged and holds no worker back.
Notify = Callable[..., None]


class BootError(Exception):
    """A generation that cannot serve."""

    def __init__(self, stage: str, module: str, reason: str, text: str = "") -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.module = module
        self.reason = reason
        self.traceback = text

    def as_message(self) -> messages.MoldFailed:
        """For the arbiter."""
        return messages.MoldFailed(self.stage, self.module, self.reason, messages.tail(self.traceback))


#: Generations whose options the command line has looked at a moment ago: that of a check, and the first.
_TOLD: Final = (0, 1)


def _not_loaded(_environ: Any, _start_response: Any) -> Any:
    message = "bug: a worker without an application"
    raise Bug(message)


@dataclass(frozen=True, slots=True)
class Project:
    """[mold, worker] One generation of a project, loaded."""

    config: Config = field(default_factory=Config)
    title: str = "django"
    app: Callable[..., Any] = _not_loaded
    notify: Notify = lambda *_args, **_kwargs: None
    #: Looks after the database pools at each beat of a worker, and returns their gauges.
    pools: Callable[[], Mapping[Gauge, int]] = dict
    #: Begins to open the database sessions that each worker keeps.
    warm_pools: Callable[[], object] = dict
    #: Gives back the database sessions that a draining worker does not need.
    retire_pools: Callable[[], object] = dict
    #: Counts in a worker's region what its database pools do.
    count_pools: Callable[[Writer], object] = lambda _writer: None
    #: Ends the database sessions of a worker that leaves.
    close_pools: Callable[[], object] = dict
    #: What the workers of this generation know of each other.
    balance: Balance = field(default_factory=Balance)
    #: It can be forked. Otherwise this process is one worker, or a spare one.
    is_shared: bool = True
    #: This process can become a worker itself.
    is_whole: bool = True
    #: What the settings say of proxies.
    declared: Declared = NOTHING_DECLARED
    #: ``djworker.db.insight``; None without Django.
    insight: Any = None


class _Progress:
    """[mold] How far loading is, for the one who asks because it takes too long."""

    stage = "start"


def stage() -> str:
    """The name of the step that loading is at."""
    return _Progress.stage


@contextmanager
def _stage(name: str, spared: type[Exception] = BootError) -> Iterator[None]:
    """A failure in here is this stage's. The database connections that it leaves behind are closed.

    spared: errors that say everything themselves.
    """
    _Progress.stage = name
    try:
        yield
        cleanup.close_connections()
    except (BootError, spared):
        raise
    except Exception as error:
        module, reason = named_settings.described(error)
        raise BootError(name, module, _with_remedies(reason, error), traceback.format_exc()) from error
    except SystemExit as error:  # a settings module that calls sys.exit()
        raise BootError(name, blame.module_of(error), f"sys.exit({error.code!r})", traceback.format_exc()) from error


def _with_remedies(reason: str, error: BaseException) -> str:
    root = blame.root_of(error)
    return "; ".join(filter(None, (reason, rights.complaint(root), taken_ports.remedy(root))))


def load(launch: Launch, generation: int, *, alone: bool = False) -> Project:
    """Load the project from disk, check it and warm it up.

    Args:
        launch: how the server was started.
        generation: for the log.
        alone: this process is to be a worker itself, so everything that the project starts may go on.

    Raises:
        BootError: it is not fit to serve; nothing of it may be forked.
    """
    with _stage("start"):
        _enter(launch)
        _warn_of_two_places(launch)
    watch = leftovers.LeftoversWatch(alone=alone)
    with watch.connections():
        return _load(launch, generation, watch)


def _load(launch: Launch, generation: int, watch: leftovers.LeftoversWatch) -> Project:
    import django

    setup = Setup(launch, django.setup, warns=generation not in _TOLD)
    named = _named_application(launch, setup) if launch.app else None
    resolved = setup()
    config = resolved.config
    watch.alone = watch.alone or config.preload == "off"
    app = _load_application(config, named)
    _clear(watch, config)
    with _stage("checks"):
        checks.ask_servers()
    if config.check_migrations == "refuse":
        with _stage("migrations"):
            _refuse_without_migrations()
    with _stage("warm_up"):
        _warm_up(app, config.warm_up)
    project = Project(
        config,
        config.proc_name or launch.proc_name,
        app,
        _notifier(),
        *_pools(),
        declared=_declared(resolved),
        insight=_insight(),
    )
    if config.status_bind:
        from djworker.mold.patches import url_names

        url_names.install()
    request_errors.install()
    log.reassert()  # what the project has loaded since may have configured logging once more
    _tell_what_is_loaded(generation)
    project.notify("mold_ready", generation=generation, pid=os.getpid())
    _clear(watch, config)
    grpc_calls.note()
    if watch.alone:
        return replace(project, is_shared=False, is_whole=not watch.ended)
    _tell_of(leftovers.hang_up())
    _tell_of_channels(leftovers.connected_channels())
    return project


def _tell_what_is_loaded(generation: int) -> None:
    """Settings and code may be others with each generation, and so may Django be."""
    import django
    from django.conf import settings

    module = str(getattr(settings, "SETTINGS_MODULE", "") or os.environ.get(SETTINGS_VARIABLE, ""))
    fields = {"settings": module, "debug": settings.DEBUG, "django": django.get_version()}
    mebibytes = process.resident_bytes() >> 20
    text = f"generation {generation} has loaded {module or 'settings'}, with DEBUG {'on' if settings.DEBUG else 'off'}"
    log.event(
        logger,
        logging.INFO,
        "project_loaded",
        text,
        generation=generation,
        **fields,
        python=platform.python_version(),
        mebibytes=mebibytes,
        allowed_hosts=[str(host) for host in settings.ALLOWED_HOSTS],
    )


@dataclass(slots=True)
class Setup:
    """[mold] ``django.setup()`` with what comes before and after it, once: here, or where the project itself calls it."""

    launch: Launch
    #: Django's own.
    django_setup: Callable[..., None]
    resolved: Resolved | None = None
    #: Whether what is odd in the options is still to be told: the command line does so before it starts a server, or a check.
    warns: bool = True
    #: A project may have caught it; it is fatal all the same.
    failure: BootError | None = None

    def __call__(self, set_prefix: bool = True) -> Resolved:  # noqa: FBT001, FBT002 - django.setup()'s own
        """Return the configuration, and where it came from."""
        if self.failure is not None:
            raise self.failure
        if self.resolved is None:
            try:
                self._run(set_prefix)
            except BootError as error:
                self.failure = error
                raise
        assert self.resolved is not None  # noqa: S101 - for mypy
        return self.resolved

    def _run(self, set_prefix: bool) -> None:  # noqa: FBT001 - its only argument
        with _stage("settings"):
            self.resolved = _resolve(self.launch, warns=self.warns)
        config = self.resolved.config
        log.configure(config.log_level, config.log_format, "mold")
        with _stage("databases"):
            _map_engines()
        with _stage("setup"):
            self.django_setup(set_prefix)
            bodies.install(config.chunked_buffer)
            big_files.install()
            async_streams.install()
        log.with_request_ids(config.request_id != "off")  # Django has just applied the project's LOGGING


def _named_application(launch: Launch, setup: Setup) -> Callable[..., Any]:
    """Import the module that the command line names, before the settings: it chooses them, as under gunicorn."""
    import django

    django.setup = setup  # type: ignore[assignment]  # what get_wsgi_application() calls
    try:
        with _stage("application", spared=ApplicationError):
            return Target.parse(launch.app).load()
    except ApplicationError as error:
        raise BootError("application", launch.app.partition(":")[0], str(error)) from error
    finally:
        django.setup = setup.django_setup


def _load_application(config: Config, named: Callable[..., Any] | None) -> Callable[..., Any]:
    with _stage("databases"):
        _load_engines()
    with _stage("urlconf"):  # before the checks, which would import it too, and be blamed
        warmup.load_urlconf()
    with _stage("checks"):
        if errors := checks.run(config):
            raise BootError("checks", "django.core.checks", "; ".join(errors))
        checks.count_deployment_findings()
    with _stage("application"):
        _check_middleware()
        app = _wsgi_application() if named is None else named
    with _stage("templates"):
        warmup.load_templates()
    return app


def _check_middleware() -> None:
    """Django takes each letter of a text for a middleware."""
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    if isinstance(settings.MIDDLEWARE, str):
        raise ImproperlyConfigured("The MIDDLEWARE setting must be a list or a tuple.")


def _enter(launch: Launch) -> None:
    """The directory and the import path that ``manage.py`` had."""
    launch.enter()
    if importlib.util.find_spec("psycopg2") is not None:
        from psycogreen.gevent import patch_psycopg

        patch_psycopg()
        from djworker.db.drivers import psycopg2_functions

        psycopg2_functions.install()
    interpreter.find_configurations(os.environ)
    native_locks.install()  # it imports Django, which must be the one of that path


def _warn_of_two_places(launch: Launch) -> None:
    """Code of one release in the directory of another: a deployment has moved the link that the command line names."""
    named = launch.sys_path[0] if launch.sys_path else ""
    if os.path.isabs(named) and (target := interpreter.other_place(named, launch.cwd)):
        text = (
            f"the working directory is {launch.cwd}, but the code is that of {target}, where {named} leads: start with"
            f" --chdir {named}, which each reload enters anew"
        )
        log.event(logger, logging.WARNING, "working_directory", text, cwd=launch.cwd, link=named, target=target)


def _resolve(launch: Launch, *, warns: bool) -> Resolved:
    from django.conf import settings

    from djworker.conf import client_libraries, databases, pool_resolve
    from djworker.conf.resolve import resolve, together

    given = getattr(settings, "DJWORKER", {})
    pool_resolve.expect(launch.cli, os.environ)
    _pools, problems = pool_resolve.resolve_pools(given, settings.DATABASES, launch.cli, os.environ)
    try:
        resolved = together(
            [*databases.malformed(settings.DATABASES), *problems, *client_libraries.missing(settings.DATABASES)],
            lambda: resolve(launch.cli, os.environ, given, launch.proc_name, inherited=launch.inherited),
        )
    except ConfigError as error:
        module = os.environ.get(SETTINGS_VARIABLE) or launch.settings_module
        raise BootError("settings", module, str(error)) from error
    for problem in resolved.warnings:
        if warns and f"djworker.{problem.id}" not in settings.SILENCED_SYSTEM_CHECKS:
            log.event(logger, logging.WARNING, "config_warning", str(problem), id=problem.id, setting=problem.setting)
    proxies.expect(resolved)
    return resolved


def _declared(resolved: Resolved) -> Declared:
    """Return what the project's settings say of proxies."""
    from django.conf import settings

    passes = proxies.unsaid(resolved) and bool(proxies.trusted(settings))
    return Declared(proxies.variables(settings), passes=passes)


def _map_engines() -> None:
    from django.conf import settings

    from djworker.db import engines
    from djworker.db.backends import mixin

    engines.install(settings)
    mixin.first_aliases()  # before the project can add some


def _load_engines() -> None:
    from djworker.db import engines

    engines.load_all()


def _warm_up(app: Callable[..., Any], paths: Sequence[str]) -> None:
    if paths:
        try:
            warmup.request_paths(app, paths)
        except warmup.WarmUpError as error:
            cause = error.__cause__ or error
            text = "".join(traceback.format_exception(cause))
            raise BootError("warm_up", blame.module_of(cause), str(error), text) from error
        cleanup.wipe()


def _pools() -> tuple[
    Callable[[], Mapping[Gauge, int]],
    Callable[[], object],
    Callable[[], object],
    Callable[[Writer], object],
    Callable[[], object],
]:
    from djworker.db import forked  # noqa: F401 - the first one only has to be there
    from djworker.db.lease import registry
    from djworker.db.lease.beat import beat
    from djworker.db.lease.metrics import PoolMetrics

    return beat, registry.warm, registry.retire, PoolMetrics(), registry.leave


def _refuse_without_migrations() -> None:
    """A page whose tables are not there answers 500, and need not be one of those that are probed."""
    if lines := checks.lacking_migrations():
        raise BootError("migrations", "database 'default'", "; ".join(lines))


def _insight() -> Any:
    from djworker.db import insight

    return insight


def _wsgi_application() -> Callable[..., Any]:
    from django.conf import settings
    from django.core.servers.basehttp import get_internal_wsgi_application

    name = settings.WSGI_APPLICATION or "django.core.wsgi"
    try:
        return wsgi_callable(get_internal_wsgi_application(), name)
    except ApplicationError as error:
        raise BootError("application", name.rpartition(".")[0], str(error)) from error


def _clear(watch: leftovers.LeftoversWatch, config: Config) -> None:
    """Everything that a fork must not copy goes. What we cannot end ends the boot, or nothing of this process is forked."""
    _refuse(watch.unclosed(cleanup.wipe()))
    if watch.alone:
        return
    grpc_calls.end()
    cleanup.let_threads_end()
    restart, found = _look(watch)
    if not found and (restart or cleanup.has_hub()):
        if libraries := restarting.end(restart):
            watch.ended = True
            text = f"threads of {', '.join(libraries)} were ended; each worker begins its own"
            log.event(logger, logging.INFO, "threads_ended", text, libraries=libraries)
        cleanup.destroy_hub()
        found = watch.found()
    if config.preload == "on":
        _refuse(found)
    elif found:
        watch.alone = True
        _warn_of_copies(found)


def _look(watch: leftovers.LeftoversWatch) -> tuple[Mapping[Any, str], Sequence[str]]:
    """Threads that begin again after a fork, and a description of everything else that is left."""
    things = leftovers.candidates()
    restart = restarting.threads(things)
    return restart, watch.found(restart, things)


def _warn_of_copies(found: Sequence[str]) -> None:
    """It works, and it costs."""
    size = process.resident_bytes() >> 20
    text = (
        f"each worker loads the project by itself, because this cannot be forked: {'; '.join(found)}. Each takes about"
        f" {size} MiB for itself, and as long as a boot to come. Begin it in a receiver of djworker.signals.worker_ready,"
        " and workers share the memory; preload = off says that this is meant"
    )
    log.event(logger, logging.WARNING, "not_shared", text, found=list(found), mebibytes=size)


def _refuse(found: Sequence[str]) -> None:
    """A copy of a thread does not run, a copy of a connection talks to another process's session."""
    if found:
        names = "; ".join(found)
        reason = f"left behind while loading: {names}. End it there, or begin it in a receiver of djworker.signals.worker_ready"
        raise BootError("leftovers", blame.first_module(found), reason)


def _tell_left_open(text: str, peer: str, library: str) -> None:
    level = logging.DEBUG if library else logging.WARNING
    log.event(logger, level, "connection_left_open", text, peer=peer, library=library)


def _tell_of(closed: Sequence[tuple[str, str]]) -> None:
    """No reason to refuse; and where the library opens another by itself, no reason to warn."""
    for peer, library in closed:
        text = (
            f"a connection to {peer} was left open while loading; it is closed, since workers cannot share it. Open it in a"
            " receiver of djworker.signals.worker_ready, unless its library opens another by itself"
        )
        _tell_left_open(text, peer, library)


def _tell_of_channels(connected: Sequence[tuple[str, str]]) -> None:
    """No reason to refuse: they connect anew. A library that asks again, where a call fails, is no reason to warn."""
    for peer, library in connected:
        text = (
            f"a channel of gRPC to {peer} was connected while loading; the first call over it may fail in a worker"
            " (UNAVAILABLE). Open it in a receiver of djworker.signals.worker_ready, or close it after the call"
        )
        _tell_left_open(text, peer, library)


def _notifier() -> Notify:
    from djworker import signals

    def notify(name: str, **arguments: Any) -> None:
        signals.send_guarded(getattr(signals, name), **arguments)

    return notify


def hears(name: str) -> bool:
    """Whether a hook has receivers."""
    from djworker import signals

    return signals.has_receivers(getattr(signals, name))


def freeze() -> None:
    """Move everything that is loaded out of the collector's sight: a collection would write to every shared page."""
    gc.collect()
    gc.freeze()
