"""[client] Asks a running server, and steers it: ``djworkerctl``, ``python -m djworker.control`` and ``manage.py workers``.

It does not load the project, so it answers while the code on disk is broken. ``protocol`` and ``verbs`` are the arbiter's too:
standard library only.
"""
