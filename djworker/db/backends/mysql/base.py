"""Django's MySQL and MariaDB backend on a green pool: mysqlclient, or PyMySQL in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.db.backends.mysql import base
from django.utils.functional import cached_property

from djworker.db.backends.mixin import Announcer, LeasingMixin

if TYPE_CHECKING:
    from djworker.db.drivers.base import Driver
    from djworker.db.lease.protocols import RawDriver


def driver() -> Driver[Any]:
    """The library that goes by the name of MySQLdb: `pymysql.install_as_MySQLdb()` is PyMySQL's documented way."""
    library: Any = base.Database  # type: ignore[attr-defined]  # the module, not in the stubs
    if library.__name__ == "pymysql":
        from djworker.db.drivers.pymysql import PyMySQLDriver  # noqa: PLC0415 - one of the two is not installed

        return PyMySQLDriver()
    from djworker.db.drivers.mysqlclient import MySQLClientDriver  # noqa: PLC0415 - one of the two is not installed

    return MySQLClientDriver()


class GreenConnect(base.DatabaseWrapper):
    """[worker] Django's, with a green `connect`. It stands below an engine that adds something to `get_new_connection`."""

    native: bool  # see `LeasingMixin`

    def get_new_connection(self, conn_params: dict[str, Any]) -> object:
        """As Django's."""
        if self.native:
            return super().get_new_connection(conn_params)
        connection = driver().connect(conn_params)
        if connection.encoders.get(bytes) is bytes:  # mysqlclient < 2.1, as in Django's
            connection.encoders.pop(bytes)
        return connection


class MySQLMixin(LeasingMixin):
    """[worker] What stands above Django's."""

    def green_driver(self) -> RawDriver:
        """See `driver`."""
        return driver()

    @cached_property
    def isolation_level(self) -> object:
        """Django's notes it when it asks for the parameters of a connection, and a lease asks for none."""
        self.get_connection_params()
        return self.__dict__["isolation_level"]

    @cached_property
    def mysql_server_data(self) -> dict[str, Any]:
        """Django's, asked once per pool and not once per request."""
        if not self.bare:
            self.facts = self.leased_pool.facts
        if "server_data" not in self.facts:
            self.facts["server_data"] = super().mysql_server_data  # type: ignore[misc]  # Django's, below
        return dict(self.facts["server_data"])


class DatabaseWrapper(MySQLMixin, GreenConnect, Announcer):
    """[worker] Django's, leasing."""


#: What is put above and below an engine that is built on Django's own.
AROUND: Final = (MySQLMixin, GreenConnect, Announcer)


def __getattr__(name: str) -> Any:
    """Django's: packages take more than the class from here."""
    return getattr(base, name)
