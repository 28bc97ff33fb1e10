"""MySQL's drivers over TLS: green as without, and no wait for what is in the TLS library's hands."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from tests.db.drivers.target import Target, eventually, run
from tests.db.proxy import TCPProxy
from tests.db.servers import DatabaseServer, MariaDBServer


@pytest.fixture(scope="module")
def tls_server() -> Iterator[MariaDBServer]:
    with tempfile.TemporaryDirectory(prefix="djworker-tls-") as folder:
        key, certificate = Path(folder) / "key.pem", Path(folder) / "cert.pem"
        request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        subprocess.run([*request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        for path, mode in ((Path(folder), 0o755), (key, 0o644), (certificate, 0o644)):
            path.chmod(mode)
        with MariaDBServer(ssl_cert=str(certificate), ssl_key=str(key)) as server:
            server.create_database("tls")
            yield server


@pytest.fixture(params=["mysqlclient", "pymysql"])
def tls_target(
    request: pytest.FixtureRequest, tls_server: MariaDBServer, proxy: Callable[[DatabaseServer], TCPProxy]
) -> Target:
    return Target(request.param, tls_server, proxy(tls_server), "tls")


def more(target: Target) -> dict[str, object]:
    return {"ssl": True} if target.name == "mysqlclient" else {}


def test_rows_of_any_number_come_over_tls(tls_target: Target) -> None:
    driver = tls_target.driver
    conn = tls_target.connect(**more(tls_target))
    (_, cipher) = run(conn, "SHOW STATUS LIKE 'Ssl_cipher'")[0]
    assert cipher
    for rows in (0, 1, 100, 700, 5000):
        assert len(run(conn, f"SELECT seq, 'some text' FROM seq_1_to_10000 WHERE seq <= {rows}")) == rows
    assert not driver.is_broken(conn)
    driver.reset(conn)
    tls_target.server.terminate_backends("tls")
    eventually(lambda: driver.is_broken(conn), "the connection is found broken")
    driver.close(conn)


def test_a_killed_query_over_tls_is_cancelled(tls_target: Target) -> None:
    driver = tls_target.driver
    conn = tls_target.connect(**more(tls_target))
    worker = gevent.spawn(run, conn, tls_target.sleep_sql(30))
    eventually(lambda: tls_target.active() == 1, "the statement runs")
    worker.kill()
    assert driver.busy(conn)
    driver.cancel(conn)
    driver.close(conn)
    assert tls_target.sessions() == 0
