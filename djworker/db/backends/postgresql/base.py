"""Django's PostgreSQL backend on a green pool: psycopg 3, or psycopg2 through psycogreen."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import IsolationLevel, is_psycopg3
from django.utils.functional import cached_property

from djworker.db.backends.mixin import Announcer, LeasingMixin
from djworker.db.backends.postgresql.operations import ComposesSQL, DatabaseOperations

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from django.db.backends.base.operations import BaseDatabaseOperations

    from djworker.db.drivers.base import Driver
    from djworker.db.lease.protocols import RawConnection, RawDriver

#: While a query runs PostgreSQL does not look at its client: the query of a worker that was killed would keep its session for
#: as long as it likes, and its locks. From PostgreSQL 14 on it can be asked to look; a value that is set already is left alone.
_LOOK_AT_CLIENT: Final = """SELECT set_config('client_connection_check_interval', '2s', false)
 WHERE current_setting('client_connection_check_interval', true) = '0'"""


class Library:
    """[worker] The client library's module, but that `connect` is green."""

    def __init__(self, module: ModuleType, driver: RawDriver) -> None:
        self._module = module
        self._driver = driver

    def connect(self, **params: object) -> RawConnection:
        """As the library's."""
        return self._driver.connect(params)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        setattr(self, name, value)
        return value


def driver() -> Driver[Any]:
    """Psycopg 3 where it is installed, as Django chooses."""
    if is_psycopg3:
        from djworker.db.drivers.psycopg3 import Psycopg3Driver  # noqa: PLC0415 - one of the two is not installed

        return Psycopg3Driver()
    from djworker.db.drivers.psycopg2 import Psycopg2Driver  # noqa: PLC0415 - one of the two is not installed

    return Psycopg2Driver()


class PostgresMixin(LeasingMixin):
    """[worker] What PostgreSQL and PostGIS share."""

    Database: Any
    ops_class: type[BaseDatabaseOperations]
    operations_mixin: type[BaseDatabaseOperations] = ComposesSQL
    _configure_timezone: Callable[[RawConnection], object]

    def __init_subclass__(cls, **more: object) -> None:
        """An engine built on ours may bring operations that are built on Django's."""
        super().__init_subclass__(**more)
        operations = getattr(cls, "ops_class", None)
        if operations is not None and not issubclass(operations, cls.operations_mixin):
            bases = (cls.operations_mixin, operations)
            cls.ops_class = type(operations.__name__, bases, {"__module__": operations.__module__})

    def green_driver(self) -> RawDriver:
        """See `driver`."""
        return driver()

    def get_new_connection(self, conn_params: dict[str, Any]) -> object:
        """Django's own, with a green `connect`."""
        if not self.native and not isinstance(self.Database, Library):
            self.Database = Library(self.Database, self.green_driver())
        return super().get_new_connection(conn_params)

    @cached_property
    def isolation_level(self) -> object:
        """Django's notes it when it connects, which a lease does not."""
        return IsolationLevel(self.settings_dict["OPTIONS"].get("isolation_level", IsolationLevel.READ_COMMITTED))

    def init_connection_state(self) -> None:
        """Django's, for a connection of the pool's with one setting more; part of each reset, too."""
        super().init_connection_state()
        if self.bare and not self.native:
            # Not every system can tell the server of it, and not everything that speaks PostgreSQL's protocol has settings.
            with suppress(self.Database.Error), self.connection.cursor() as cursor:
                cursor.execute(_LOOK_AT_CLIENT)

    @property
    def pool(self) -> None:
        """Django's own pool: there is none."""
        return None

    def ensure_timezone(self) -> bool:
        """Django calls it after a change of TIME_ZONE."""
        if self.bare:
            return bool(super().ensure_timezone())
        self.close_pool()
        lease = self.lease
        conn = lease.held() if lease is not None else None
        return conn is not None and bool(self._configure_timezone(conn))

    @cached_property
    def pg_version(self) -> int:
        """Asked once per pool."""
        if "version" not in self.facts:
            if self.bare:
                with self.temporary_connection():
                    self.facts["version"] = self.connection.info.server_version
            else:
                leased_pool = self.leased_pool
                self.ensure_connection()
                self.facts = leased_pool.facts
                self.facts["version"] = self.connection.info.server_version
        return int(self.facts["version"])


class DatabaseWrapper(PostgresMixin, base.DatabaseWrapper, Announcer):
    """[worker] Django's, leasing."""

    ops_class = DatabaseOperations


#: What is put above and below an engine that is built on Django's own.
AROUND: Final = (PostgresMixin, Announcer)


def __getattr__(name: str) -> Any:
    """Django's: packages take more than the class from here."""
    return getattr(base, name)
