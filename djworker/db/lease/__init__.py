"""The lease: for how long a request holds a physical connection, and what it finds in its session.

Lives in workers. Knows the pool and Django, and no engine.
"""
