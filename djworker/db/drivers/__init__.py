"""Green database drivers: the client libraries of Django's databases, made to wait in gevent's hub."""
