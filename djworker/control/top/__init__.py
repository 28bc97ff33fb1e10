"""[client] ``top``: workers, requests and pools on the whole screen, as they change.

``figures`` and ``layout`` are pure: what the server says becomes tables, and tables become lines. ``feed`` asks the server in
threads, so that the screen never waits; ``screen`` (with rich) and ``plain`` (without) show it. Nothing here loads the project.
"""
