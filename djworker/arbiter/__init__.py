"""[arbiter] Supervises molds and workers. Standard library only: no Django, no gevent, never patched.

It decides in pure code (``fleet``) and acts at the edge (``loop``, ``children``). It does not serve requests, does not read
the project's settings, and never will: whatever can fail with the project's code belongs into a mold or a worker.
"""
