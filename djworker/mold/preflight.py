"""[mold] What is wrong with the settings or with this machine before a visitor finds out: warnings, ``djworker.W2xx``.

They are Django's check messages, so ``SILENCED_SYSTEM_CHECKS`` silences them, and they are only run by a mold: it is the user
that serves, and ``manage.py check`` of a laptop is not to complain of DEBUG.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from djworker.conf.address import Address, Family
from djworker.ipc.contract import SettledQuestion
from djworker.mold import blame

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

    from djworker.conf.table import Config

#: Descriptors of a worker beside its clients and databases: logs, templates, listening sockets, the hub's own.
_SPARE_DESCRIPTORS: Final = 64
#: Descriptors that the arbiter has for each worker: both ends of its channel, its row of the scoreboard.
_FOR_EACH_WORKER: Final = 3
#: What ``startproject`` writes before a key that is for development.
_INSECURE: Final = "django-insecure-"
#: listen(2): the most that any backlog can be.
_SOMAXCONN: Final = "/proc/sys/net/core/somaxconn"
#: Migrations that are named; the others are counted.
_NAMED: Final = 3
_MIGRATIONS: Final = "djworker.W204"

Said = tuple[str, str]
NOTHING: Final[Said] = ("", "")


def run(config: Config) -> Iterator[CheckMessage]:
    """Everything that can be known without asking a server."""
    for number, check in SETTINGS.values():
        yield from _message(number, *_guarded(check))
    for path in _sqlite_files():
        yield from _message("djworker.W205", *_unwritable(*path))
    yield from _message("djworker.W206", *_no_databases())
    yield from _message("djworker.W207", *_too_few_descriptors(config))
    yield from _message("djworker.W208", *_short_backlog(config))


def unapplied() -> Iterator[CheckMessage]:
    """[a child of the mold] Ask the default database which migrations it lacks. A server that is away is told of elsewhere."""
    from django.db import DatabaseError, connections
    from django.db.migrations.executor import MigrationExecutor

    connection = connections["default"]
    if connection.vendor == "unknown":  # DATABASES is empty
        return
    with suppress(DatabaseError):
        try:
            executor = MigrationExecutor(connection)
            plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001 - a file that is no migration, a history that contradicts itself
            text = f"the migrations cannot be read: {blame.sentence(error)}"
            yield from _message(_MIGRATIONS, text, "manage.py showmigrations says more")
            return
        names = [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan]
        yield from _message(_MIGRATIONS, *_lacking(names))


def _lacking(names: list[str]) -> Said:
    if not names:
        return NOTHING
    some = ", ".join(names[:_NAMED])
    others = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    text = f"database 'default' lacks {len(names)} migration{'s' * (len(names) > 1)}: {some}{others}"
    return text, "run manage.py migrate"


def _message(number: str, text: str, hint: str) -> Iterator[CheckMessage]:
    from django.core.checks import Warning  # noqa: A004 - Django's own name

    if text:
        meant = f"if it is meant so: SILENCED_SYSTEM_CHECKS = [{number!r}]"
        message = Warning(text, hint=f"{hint}; {meant}", id=number)
        if not message.is_silenced():
            yield message


# -- the settings: the probe asks these of each generation, too


def secret_key() -> Said:
    """An empty key fails with the first page that signs something; a key that others know signs for them, too."""
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    hint = "set it from the environment or a file that only the service can read"
    try:
        key = settings.SECRET_KEY
    except ImproperlyConfigured:
        key = ""
    if not key:
        return "SECRET_KEY is empty: pages with sessions, messages or forms are answered with 500", hint
    if str(key).startswith(_INSECURE):
        return f"SECRET_KEY begins with {_INSECURE}: it was made for development, and may be in the repository", hint
    return NOTHING


def allowed_hosts() -> Said:
    """Without DEBUG, Django answers only to these."""
    from django.conf import settings

    if settings.ALLOWED_HOSTS or settings.DEBUG:
        return NOTHING
    text = "ALLOWED_HOSTS is empty, so every request is answered with 400"
    return text, "name the hosts of the site, as in ALLOWED_HOSTS = ['shop.example']"


def debug() -> Said:
    """Nothing else tells a visitor so much."""
    from django.conf import settings

    if not settings.DEBUG:
        return NOTHING
    text = "DEBUG is True: error pages show code and settings to every visitor, and each SQL statement stays in memory"
    return text, "DEBUG = False in the settings of production"


def manifest() -> Said:
    """A page finds out only where it names a file; which pages do is for each project to know."""
    from django.apps import apps
    from django.conf import settings

    if settings.DEBUG or not apps.is_installed("django.contrib.staticfiles"):
        return NOTHING
    from django.contrib.staticfiles.storage import ManifestFilesMixin, staticfiles_storage

    staticfiles_storage.url  # noqa: B018 - a lazy object; now it is made
    storage = getattr(staticfiles_storage, "_wrapped", staticfiles_storage)
    if not isinstance(storage, ManifestFilesMixin) or not storage.manifest_strict or storage.hashed_files:
        return NOTHING
    text = f"{storage.manifest_name} is missing or empty: pages that name a static file are answered with 500"
    return text, "run manage.py collectstatic"


def _guarded(check: Callable[[], Said]) -> Said:
    """A storage that cannot be made is the probe's to tell, with its traceback."""
    try:
        return check()
    except Exception:  # noqa: BLE001 - the probe tells of it
        return NOTHING


#: Question of the probe → id and check.
SETTINGS: Final[Mapping[str, tuple[str, Callable[[], Said]]]] = {
    SettledQuestion.SECRET_KEY: ("djworker.W203", secret_key),
    SettledQuestion.ALLOWED_HOSTS: ("djworker.W202", allowed_hosts),
    SettledQuestion.DEBUG: ("djworker.W201", debug),
    SettledQuestion.MANIFEST: ("djworker.W209", manifest),
}


# -- the databases


def _no_databases() -> Said:
    from django.apps import apps
    from django.db import connections

    models = [model._meta.label for model in apps.get_models()]  # noqa: SLF001 - Django's own way to the name
    if connections["default"].vendor != "unknown" or not models:
        return NOTHING
    others = len(models) - 1
    who = f"{models[0]} and {others} other model{'s' * (others > 1)} want" if others else f"{models[0]} wants"
    text = f"DATABASES has no engine for 'default', and {who} one"
    return text, "name ENGINE and NAME; dj_database_url.config() gives {} if DATABASE_URL is not set"


def _sqlite_files() -> Iterator[tuple[str, str]]:
    """Aliases and files of SQLite databases that are to be written."""
    from django.db import connections

    for alias in connections:
        database = connections.settings[alias]
        name = str(database["NAME"])
        if database["ENGINE"].endswith("sqlite3") and ":memory:" not in name and "mode=" not in name:
            yield alias, name.removeprefix("file:").partition("?")[0]


def _unwritable(alias: str, path: str) -> Said:
    path = os.path.abspath(path)
    folder = os.path.dirname(path)
    who = f"user {os.geteuid()}"
    hint = f"give the file and its folder to {who}, or name another file in DATABASES[{alias!r}]"
    if not os.path.isdir(folder):
        return f"database {alias!r}: there is no folder {folder} for {os.path.basename(path)}", hint
    if os.path.exists(path) and not _may_write(path):
        return f"database {alias!r}: {who} may not write {path}", hint
    if not _may_write(folder):
        return f"database {alias!r}: SQLite keeps its journal beside {path}, and {who} may not write {folder}", hint
    return NOTHING


def _may_write(path: str) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


# -- the machine


def _too_few_descriptors(config: Config) -> Said:
    from django.db import connections as database_connections

    from djworker.db.checks.capacity import most_connections

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    connections = most_connections(database_connections)
    worker = config.worker_connections + connections + _SPARE_DESCRIPTORS
    arbiter = (config.workers + 1) * _FOR_EACH_WORKER + _SPARE_DESCRIPTORS
    hint = "raise it (LimitNOFILE= of the unit, ulimit -Hn)"
    if worker > limit:
        text = (
            f"a process may have {limit} descriptors, and a worker may need {worker}: {config.worker_connections} requests"
            f" (worker_connections), {connections} database connections, {_SPARE_DESCRIPTORS} others"
        )
        return text, f"{hint}, or lower worker_connections"
    if arbiter > limit:
        text = f"a process may have {limit} descriptors, and the arbiter of {config.workers} workers needs {arbiter}"
        return text, f"{hint}, or lower workers"
    return NOTHING


def _short_backlog(config: Config) -> Said:
    listening = [text for text in config.bind if Address.parse(text).family is not Family.FD]
    try:
        with open(_SOMAXCONN, encoding="ascii") as file:
            most = int(file.read())
    except (OSError, ValueError):  # another system's
        return NOTHING
    if not listening or config.backlog <= most:
        return NOTHING
    text = f"net.core.somaxconn is {most}, so not more connections can wait to be accepted, and backlog is {config.backlog}"
    return text, f"sysctl net.core.somaxconn={config.backlog}, or lower backlog"
