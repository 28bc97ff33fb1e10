"""[worker] The server on a page of Django's admin: put ``"djworker.contrib.admin"`` into INSTALLED_APPS.

``source`` asks the server over its control socket, as ``djworkerctl`` does; ``plots`` and ``page`` make of the answers what
templates show. No line of it needs the internet, an inline script or an inline style.
"""
