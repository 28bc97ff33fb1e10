"""Celery: a worker with `--pool gevent`, on a queue in a folder."""
