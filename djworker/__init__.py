"""djworker turns a Django project into a production service with one command, ``manage.py runworkers``.

An arbiter supervises gevent workers; broken code never replaces code that works; and thousands of requests share a
handful of database connections. The aims, in this order, decide every choice made here:

1. no data lost or mixed between requests;
2. the site stays up: through bad deploys, faults and overload;
3. tail latency;
4. throughput and memory;
5. convenience.

What stays outside: TLS, HTTP/2, static files and caching belong to the proxy in front; ASGI belongs to other servers.

This module imports nothing, because the arbiter imports it and must stay small.
"""

__version__ = "0.1.0"
