"""What crosses between processes: messages, channels, the scoreboard, and what the arbiter is started with.

Lives in every process. Knows the standard library and the options, and no process tree.
"""
