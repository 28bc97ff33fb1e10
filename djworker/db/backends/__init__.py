"""Django's database backends on a green pool. Thin: what is asked of a database is Django's business.

Live wherever Django does: they lease in workers, and are Django's own elsewhere. Know all of the database layer but its checks.
"""
