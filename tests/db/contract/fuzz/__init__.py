"""Random programs on our engine beside neighbours, and on Django's own: the answers must be the same.

`programs` says what a program is, `kinds` and its siblings what a step does, `sides` runs a program, `stage` prepares the
two databases and looks at them afterwards, `libraries` looks at the client library's object, `test_differential` compares.
"""
