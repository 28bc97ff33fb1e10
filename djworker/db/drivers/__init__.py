"""Green database drivers: the client libraries of Django's databases, made to wait in gevent's hub.

Live in workers. Know the client libraries; know no pool, no lease and no engine.
"""
