"""Tests on real process trees: ``manage.py runworkers`` on a copy of the shop, with files that may be broken."""
