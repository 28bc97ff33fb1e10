"""The status process: serves ``/metrics``, ``/livez`` and ``/readyz`` out of shared memory.

It is a child of the arbiter, knows no Django and no gevent, and nothing that happens to it touches the service.
"""
