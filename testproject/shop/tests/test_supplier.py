"""How the shop speaks with its supplier, and with the one who stands in for him."""

import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import patch

from django.conf import settings
from django.test import SimpleTestCase

from testproject.shop import supplier
from testproject.shop.models import Product

TEA = Product(slug="gyokuro")
ANSWER = b'{"product": "tea", "days": 2}'


class Talk(BaseHTTPRequestHandler):
    """One connection to the supplier. He notes which connection each question comes over, and does as `acts` say."""

    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.opened += 1
        self.number = self.server.opened

    def do_GET(self):
        self.server.asked.append(self.number)
        act = self.server.acts.pop(0) if self.server.acts else "answer"
        if act == "hang":
            self.server.told.wait(10)
        if act != "answer":
            self.close_connection = True
        if act in {"answer", "answer and close", "fail"}:
            self.send_response(503 if act == "fail" else 200)
            self.send_header("Content-Length", "11")
            self.end_headers()
            self.wfile.write(b'{"days": 2}')

    def log_message(self, *_args):
        pass


class Asking(SimpleTestCase):
    def setUp(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Talk)
        self.server.opened, self.server.asked, self.server.acts = 0, [], []
        self.server.told = threading.Event()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.addCleanup(self.server.told.set)
        self.enterContext(patch.dict("testproject.shop.supplier._pools"))  # what is kept goes with its pool
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.enterContext(self.settings(SLOW_SERVICE_URL=f"http://127.0.0.1:{self.server.server_port}/"))

    def ask(self):
        return supplier.delivery(TEA, 0)

    def test_all_questions_go_over_one_connection(self):
        for _ in range(3):
            self.assertEqual(self.ask(), {"days": 2})
        self.assertEqual(self.server.asked, [1, 1, 1])

    def test_a_connection_that_he_closes_is_replaced(self):
        self.server.acts = ["answer and close", "answer"]
        self.assertEqual([self.ask(), self.ask()], [{"days": 2}] * 2)
        self.assertEqual(self.server.asked, [1, 2])

    def test_a_question_that_meets_the_close_is_asked_again(self):
        self.server.acts = ["answer", "close", "answer"]
        self.assertEqual([self.ask(), self.ask()], [{"days": 2}] * 2)
        self.assertEqual(self.server.asked, [1, 1, 2])

    def test_he_is_asked_again_only_once(self):
        self.server.acts = ["close"] * 9
        with self.assertRaisesMessage(supplier.SupplierError, "The supplier does not answer: "):
            self.ask()
        self.assertEqual(len(self.server.asked), 2)

    def test_who_does_not_answer_in_time_is_not_asked_again(self):
        self.server.acts = ["hang"]
        with patch.object(supplier, "TIMEOUT", 0.2), self.assertRaisesMessage(supplier.SupplierError, "timed out"):
            self.ask()
        self.assertEqual(len(self.server.asked), 1)

    def test_a_failure_of_his_is_no_answer(self):
        self.server.acts = ["fail"]
        with self.assertRaisesMessage(supplier.SupplierError, "The supplier does not answer: 503"):
            self.ask()


class StandIn(SimpleTestCase):
    def setUp(self):
        command = [sys.executable, "manage.py", "slowservice", "0", "--ms", "0"]
        service = subprocess.Popen(command, cwd=settings.BASE_DIR, stdout=subprocess.PIPE, text=True)  # noqa: S603  (ours)
        self.enterContext(service)
        self.addCleanup(service.terminate)
        port = int(service.stdout.readline().rstrip("/\n").rpartition(":")[2])
        self.connection = self.enterContext(socket.create_connection(("127.0.0.1", port), timeout=30))
        self.received = self.enterContext(self.connection.makefile("rb"))

    def ask(self, *fields, version="1.1"):
        """Ask; his header lines."""
        lines = [f"GET /delivery?product=tea HTTP/{version}", *fields, "", ""]
        self.connection.sendall("\r\n".join(lines).encode())
        head = list(iter(self.received.readline, b"\r\n"))
        self.assertEqual(self.received.read(len(ANSWER)), ANSWER)
        return head

    def test_a_connection_is_kept(self):
        for _ in range(3):
            self.assertNotIn(b"Connection: close\r\n", self.ask("Host: supplier"))

    def test_a_connection_is_closed_for_whoever_asks_for_it(self):
        self.ask()
        self.assertIn(b"Connection: close\r\n", self.ask("connection: Close"))
        self.assertEqual(self.received.read(), b"")

    def test_a_connection_of_http_1_0_is_closed(self):
        self.assertIn(b"Connection: close\r\n", self.ask(version="1.0"))
        self.assertEqual(self.received.read(), b"")
