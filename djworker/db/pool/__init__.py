"""The pool: lends a bounded number of connections to any number of greenlets, in the order of arrival.

Lives in workers. Knows no database, no driver, no Django, and no lease.
"""
