"""HTTP/1.1 for WSGI: bytes to requests, and answers to bytes.

Lives in workers. Knows gevent and WSGI; knows no Django, no database and no other tree.
"""
