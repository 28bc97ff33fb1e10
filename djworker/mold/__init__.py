"""The mold: loads one generation of the project's code, checks and warms it, and then only forks workers.

Lives in a process of its own for each generation. Knows everything but the arbiter.
"""
