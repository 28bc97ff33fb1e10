# ruff: noqa: ANN001, ANN201 - an ordinary Django module
"""A view for what is imported before everything else of a project. Copied into the project, not imported by the tests."""

import select
import socket
import ssl
import subprocess
import sys
import threading
import time

import psycopg.waiting
import psycopg2.extensions
from django.http import JsonResponse


def patched(_request):
    """Which module stands behind the names that this module imported on its first lines."""
    return JsonResponse(
        {
            "socket": socket.socket.__module__,
            "ssl": ssl.SSLSocket.__module__,
            "lock": type(threading.Lock()).__module__,
            "local": threading.local.__module__,
            "sleep": time.sleep.__module__,
            "select": select.select.__module__,
            "popen": subprocess.Popen.__module__,
            "psycopg": psycopg.waiting.wait.__name__,
            "psycopg2": getattr(psycopg2.extensions.get_wait_callback(), "__module__", None),
            "saved": sorted(sys.modules["gevent.monkey"].saved),
        }
    )
