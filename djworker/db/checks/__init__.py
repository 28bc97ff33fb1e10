"""System checks of databases and pools.

Live in the mold and in ``manage.py check``. Know the engines and the options.
"""
