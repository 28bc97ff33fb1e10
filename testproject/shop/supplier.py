"""The supplier, who tells over HTTP when more of a product comes, and takes his time."""

import os

from django.conf import settings
from urllib3 import connection_from_url
from urllib3.exceptions import HTTPError, ProtocolError

TIMEOUT = 90  # seconds; he may be asked to think for 60
MOST_KEPT = 10_000  # connections; above what any worker has requests at once, so that none is closed after its answer

_pools = {}  # by the supplier's URL
_parents = []  # connections that were opened before a fork


class SupplierError(Exception):
    """The supplier does not answer, or says what nobody understands."""


def delivery(product, ms):
    """Ask when more of this product comes. ms: how long the stand-in shall think. Raises SupplierError."""
    try:
        answer = _ask({"product": product.slug, "ms": ms})
        if answer.status != 200:
            raise SupplierError(f"The supplier does not answer: {answer.status} {answer.reason}")
        return answer.json()
    except (HTTPError, ValueError) as error:
        raise SupplierError(f"The supplier does not answer: {error}") from error


def _ask(question):
    """Ask over a kept connection, and once more if he had closed it: to ask twice changes nothing at his side."""
    pool = _pool(settings.SLOW_SERVICE_URL)
    try:
        return pool.request("GET", "/delivery", fields=question)
    except ProtocolError as error:
        if not isinstance(error.args[-1], ConnectionError):
            raise
        return pool.request("GET", "/delivery", fields=question)


def _pool(url):
    """His connections. None is opened before he is asked, so the pool may be made before a fork.

    urllib3's own retries are off: they would wait for a second time-out too.
    """
    if url not in _pools:
        _pools.setdefault(url, connection_from_url(url, maxsize=MOST_KEPT, timeout=TIMEOUT, retries=False))
    return _pools[url]


def _disown():
    """After a fork, what a warm-up opened stays the parent's: nobody here talks over it, or closes it in the end."""
    for pool in _pools.values():
        _parents.extend(pool.pool.queue)
        pool.pool.queue.clear()  # urllib3 closes what it finds there
    _pools.clear()


os.register_at_fork(after_in_child=_disown)
