"""A worker: accepts connections, serves them in one hub, watches over that hub, and ends when it is told to.

Lives in a process of its own, which the mold forks. Knows ``http``; knows no mold, no database and no Django: ``main`` is handed
the project, and what is to be asked of its databases.
"""
