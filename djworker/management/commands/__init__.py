"""Commands for manage.py.

Live in the process that is called. Each hands its words on: ``runworkers`` becomes the arbiter, ``workers`` asks one.
"""
