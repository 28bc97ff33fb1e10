"""[mold] Loading a Django project for good: settings, applications, checks, WSGI application, URLconf, templates, warm-up.

Every step that can fail is a stage of ``stages``; what is told of it stands in ``reporting``.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from djworker import log
from djworker.conf import proxies
from djworker.conf.problems import ConfigError
from djworker.conf.table import Config
from djworker.http.forwarded import Declared
from djworker.ipc.contract import SETTINGS_VARIABLE
from djworker.ipc.scoreboard import Gauge
from djworker.mold import (
    blame,
    checks,
    cleanup,
    leftovers,
    reporting,
    request_errors,
    restarting,
    stages,
    warmup,
)
from djworker.mold.patches import async_streams, big_files, bodies, native_locks
from djworker.mold.stages import BootError
from djworker.start import interpreter
from djworker.start.application import ApplicationError, Target, wsgi_callable
from djworker.worker import grpc_calls
from djworker.worker.loaded import Notify, Project

if TYPE_CHECKING:
    from djworker.conf.resolve import Resolved
    from djworker.ipc.launch import Launch
    from djworker.ipc.regions import Writer

#: Generations whose options the command line has looked at a moment ago: that of a check, and the first.
_TOLD: Final = (0, 1)


def load(launch: Launch, generation: int, *, alone: bool = False) -> Project:
    """Load the project from disk, check it and warm it up.

    Args:
        launch: how the server was started.
        generation: for the log.
        alone: this process is to be a worker itself, so everything that the project starts may go on.

    Raises:
        BootError: it is not fit to serve; nothing of it may be forked.
    """
    with stages.stage("start"):
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
    with stages.stage("checks"):
        checks.ask_servers()
    if config.check_migrations == "refuse":
        with stages.stage("migrations"):
            _refuse_without_migrations()
    with stages.stage("warm_up"):
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
    reporting.loaded(generation)
    project.notify("mold_ready", generation=generation, pid=os.getpid())
    _clear(watch, config)
    grpc_calls.note()
    if watch.alone:
        return replace(project, is_shared=False, is_whole=not watch.ended)
    reporting.connections_closed(leftovers.hang_up())
    reporting.channels_connected(leftovers.connected_channels())
    return project


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
        with stages.stage("settings"):
            self.resolved = _resolve(self.launch, warns=self.warns)
        config = self.resolved.config
        log.configure(config.log_level, config.log_format, "mold")
        with stages.stage("databases"):
            _map_engines()
        with stages.stage("setup"):
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
        with stages.stage("application", spared=ApplicationError):
            return Target.parse(launch.app).load()
    except ApplicationError as error:
        raise BootError("application", launch.app.partition(":")[0], str(error)) from error
    finally:
        django.setup = setup.django_setup


def _load_application(config: Config, named: Callable[..., Any] | None) -> Callable[..., Any]:
    with stages.stage("databases"):
        _load_engines()
    with stages.stage("urlconf"):  # before the checks, which would import it too, and be blamed
        warmup.load_urlconf()
    with stages.stage("checks"):
        if errors := checks.run(config):
            raise BootError("checks", "django.core.checks", "; ".join(errors))
        checks.count_deployment_findings()
    with stages.stage("application"):
        _check_middleware()
        app = _wsgi_application() if named is None else named
    with stages.stage("templates"):
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
    named = launch.sys_path[0] if launch.sys_path else ""
    if os.path.isabs(named) and (target := interpreter.other_place(named, launch.cwd)):
        reporting.two_places(launch.cwd, named, target)


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
            reporting.odd_option(problem)
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
    if found and gc.collect():  # a client that nothing refers to any more ends by it
        restart, found = _look(watch)
    if not found and (restart or cleanup.has_hub()):
        if libraries := restarting.end(restart):
            watch.ended = True
            reporting.threads_ended(libraries)
        cleanup.destroy_hub()
        found = watch.found()
    if config.preload == "on":
        _refuse(found)
    elif found:
        watch.alone = True
        reporting.not_shared(found)


def _look(watch: leftovers.LeftoversWatch) -> tuple[Mapping[Any, str], Sequence[str]]:
    """Threads that begin again after a fork, and a description of everything else that is left."""
    things = leftovers.candidates()
    restart = restarting.threads(things)
    return restart, watch.found(restart, things)


def _refuse(found: Sequence[str]) -> None:
    """A copy of a thread does not run, a copy of a connection talks to another process's session."""
    if found:
        names = "; ".join(found)
        reason = f"left behind while loading: {names}. End it there, or begin it in a receiver of djworker.signals.worker_ready"
        raise BootError("leftovers", blame.first_module(found), reason)


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
