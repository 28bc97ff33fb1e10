"""Clients at their worst, a script each, and what the others notice of them.

``python -m tests.attacks`` (``make attacks``) runs each against djworker and gunicorn. ``python -m tests.attacks.tiny_chunks
PORT`` runs one against any server that serves ``tests.http.apps:application``, until it is stopped. ``test_attacks`` holds the
bounds.
"""
