"""The processes that hold the project's code: the mold, which loads it and only forks, and the workers, which serve it.

``mold`` is the composition root: the one module that knows Django and the server alike. ``worker`` and ``watchdog`` are
handed what they need and import no Django. Nothing is imported here, because ``python -m djworker.mold.main`` imports this
package before the mold's first statement patches the standard library.
"""
