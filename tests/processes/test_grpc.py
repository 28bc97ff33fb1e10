"""Calls of gRPC, with a real server: while the project loads, from a page that is warmed up, and in workers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from tests.processes.project import SETTINGS, URLS, Project
from tests.processes.server import Server

#: Kinds of calls that have a thread of gRPC's own, and one that has none. ``called`` has a channel that was opened while loading.
CALLS = """
import grpc
UDS = grpc.LocalConnectionType.UDS

class Token(grpc.AuthMetadataPlugin):
    def __call__(self, context, callback):
        callback((("token", "secret"),), None)

credentials = grpc.composite_channel_credentials(
    grpc.local_channel_credentials(UDS), grpc.metadata_call_credentials(Token())
)
opened = grpc.secure_channel("unix:{socket}", credentials)

def call(channel):
    grpc.channel_ready_future(channel).result(timeout=30)
    streamed = [part.decode() for part in channel.unary_stream("/shop/streams")(b"", timeout=30)]
    later = channel.unary_unary("/shop/hears").future(b"", timeout=30)
    return [*streamed, later.result().decode(), channel.unary_unary("/shop/hears")(b"", timeout=30).decode()]

def calls(request):
    from django.http import JsonResponse
    with grpc.secure_channel("unix:{socket}", credentials) as channel:
        return JsonResponse(call(channel), safe=False)

def dropped(request):
    from django.http import JsonResponse
    return JsonResponse(call(grpc.secure_channel("unix:{socket}", credentials)), safe=False)

def called(request):
    from django.http import JsonResponse
    return JsonResponse(call(opened), safe=False)

urlpatterns += [path("calls", calls), path("dropped", dropped), path("called", called)]
"""
SAID = ["one", "two", "secret", "secret"]


@pytest.fixture
def service(scratch: Path) -> Iterator[Path]:
    """The socket of a gRPC server that says what it is sent as a token."""

    def hears(_request: bytes, context: grpc.ServicerContext) -> bytes:
        return str(dict(context.invocation_metadata())["token"]).encode()

    methods = {
        "hears": grpc.unary_unary_rpc_method_handler(hears),
        "streams": grpc.unary_stream_rpc_method_handler(lambda _request, _context: iter([b"one", b"two"])),
    }
    made = grpc.server(ThreadPoolExecutor(4))
    made.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("shop", methods)])
    made.add_secure_port(f"unix:{scratch}/grpc", grpc.local_server_credentials(grpc.LocalConnectionType.UDS))
    made.start()
    yield scratch / "grpc"
    made.stop(None).wait()


@pytest.mark.parametrize("preload", ["on", "off"])
def test_pages_that_call_grpc_are_warmed_up_and_probed_and_answer(
    server: Server, project: Project, service: Path, preload: str
) -> None:
    """Dropped channels too, which gRPC counts for ever. A channel that was opened while loading works in the workers."""
    project.append(URLS, CALLS.format(socket=service))
    project.settings(WARM_UP=["/calls", "/dropped"], PROBE=["/calls", "/called"])
    server.start(workers=1, preload_mode=preload)
    for name in ("called", "calls", "dropped", "called"):
        assert server.get(f"/{name}").json() == SAID
    for name in ("not_shared", "probe_failed", "connection_left_open"):
        assert not server.events(name)


def test_settings_may_call_grpc_and_a_channel_that_they_leave_connected_is_told_of(
    server: Server, project: Project, service: Path
) -> None:
    project.append(SETTINGS, f"if 'DJWORKER_LAUNCH' in __import__('os').environ:\n{_indented(service)}")
    server.start(workers=1)
    assert server.get("/hello").status == 200
    (told,) = server.events("connection_left_open")
    assert told["peer"].endswith(str(service))
    assert not server.events("not_shared")


SERVER = """
import grpc
from concurrent.futures import ThreadPoolExecutor
served = grpc.server(ThreadPoolExecutor(1))
served.add_insecure_port("127.0.0.1:0")
served.start()
"""


def test_a_grpc_server_in_the_project_is_refused_with_its_line(server: Server, project: Project) -> None:
    """It hung until boot_timeout, in C code. Under gunicorn with gevent each worker is killed at its timeout."""
    project.append(URLS, SERVER)
    server.tracebacks_expected = True
    server.launch(workers=1)
    failed = server.wait_for("mold_failed")
    assert (failed["stage"], failed["module"]) == ("urlconf", "testproject.urls")
    assert "a server of gRPC does not run beside gevent" in failed["error"]
    assert "served.start()" in failed["traceback"]
    assert server.wait() == 3


def _indented(service: Path) -> str:
    code = CALLS.partition("def calls")[0].format(socket=service)
    return "".join(f"    {line}\n" for line in f"{code}\nassert call(opened) == {SAID}".splitlines())
