"""Real applications from PyPI, crawled on djworker and on gunicorn's sync worker: ``make test-apps``.

Not part of ``make test``: a run installs some hundred packages and takes half an hour. Its last result is a page of the docs.
"""
