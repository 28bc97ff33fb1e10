"""Observation: who holds a connection, who waits for one, and what is told of it.

Lives in workers. Knows the pool; knows no lease, no driver and no engine.
"""
