"""The shop's own tests, run by `manage.py test`."""
