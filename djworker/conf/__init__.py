"""Options: what there is, how each is read, and what is wrong with it.

Lives in every process. Knows the standard library, and no process tree.
"""
