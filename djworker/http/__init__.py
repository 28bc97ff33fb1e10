"""HTTP/1.1 for WSGI: bytes to requests and answers to bytes, without Django."""
