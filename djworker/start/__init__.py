"""The command line, and what it starts from: the words of users of other servers, the interpreter, the environment.

Lives in the process that ``runworkers`` is called in, until it becomes the arbiter. Knows the options, and no process tree.
"""
