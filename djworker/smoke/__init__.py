"""[smoke] ``--smoke``: serves the project on a free port, asks every worker, reloads, stops, and says what went wrong.

It is the parent of an ordinary server, whose log it reads and whose control socket it asks. It neither imports nor patches
anything of the project.
"""
