# ruff: noqa: ANN001, ANN201, ANN202 - an ordinary Django module
"""Views that fork in every way there is. Copied into the project, not imported by the tests."""

import asyncio
import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import pty
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import gevent
import gevent.monkey
import gevent.os
import gevent.socket
from django.db import connection, transaction
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

NAP = 0.6


def note(name):
    """Leave a line; what is written twice was done twice."""
    with Path("begun", name).open("a") as file:
        file.write(f"{os.getpid()}\n")


def charge(request):
    """Wait, then take the money."""
    Path("begun", request.GET["id"]).touch()
    time.sleep(float(request.GET.get("s", 1)))
    note(f"charged-{request.GET['id']}")
    return HttpResponse(f"charged {request.GET['id']}")


def nap():
    time.sleep(NAP)


def square(number):
    time.sleep(0.01)
    return number * number


def by_process():
    child = multiprocessing.get_context("fork").Process(target=nap)
    child.start()
    child.join()
    return child.exitcode


def by_executor():
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
        executor.submit(nap).result()
        return list(executor.map(square, range(5)))


def by_pool():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.apply(nap)
        return pool.map(square, range(5))


def by_queue():
    context = multiprocessing.get_context("fork")
    questions, answers = context.Queue(), context.Queue()

    def answer():
        nap()
        while (question := questions.get()) is not None:
            answers.put(question * 2)

    child = context.Process(target=answer)
    child.start()
    for number in (1, 2, 3):
        questions.put(number)
    questions.put(None)
    got = [answers.get() for _ in range(3)]
    child.join()
    return [got, child.exitcode]


def by_fork_and_exit():
    child = os.fork()
    if not child:
        nap()
        os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def by_fork_and_sys_exit():
    child = os.fork()
    if not child:
        nap()
        sys.exit(4)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def by_fork_and_exception():
    child = os.fork()
    if not child:
        nap()
        raise SystemExit("the child says good-bye")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def by_short_fork():
    child = os.fork()
    if not child:
        os._exit(5)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def by_pty():
    child, descriptor = pty.fork()
    if not child:
        nap()
        os.write(1, b"from the terminal")
        os._exit(0)
    os.waitpid(child, 0)
    said = os.read(descriptor, 100).decode()
    os.close(descriptor)
    return said


def by_forkpty():
    child, descriptor = os.forkpty()
    if not child:
        nap()
        os._exit(6)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(descriptor)  # earlier, it would hang the child up
    return code


def by_preexec():
    return subprocess.check_output(["echo", "executed"], preexec_fn=nap, text=True)


def by_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(by_fork_and_exit()))
    thread.start()
    thread.join()
    return found


def by_thread_that_returns():
    found = []

    def run():
        child = os.fork()
        if not child:
            nap()
            return
        found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found


def by_native_thread():
    """What a C library's thread, or gevent's own pool, does."""

    def run():
        child = gevent.monkey.get_original("os", "fork")()
        if not child:
            gevent.sleep(NAP)
            said = subprocess.check_output(["echo", "from a native thread's child"])
            os.write(out, said)
            os._exit(7)

    found, out = os.pipe()
    gevent.get_hub().threadpool.apply(run)
    gevent.socket.wait_read(found)
    said = os.read(found, 100).decode()
    os.close(found)
    os.close(out)
    return said


def by_gevent():
    child = gevent.os.fork_and_watch()
    if not child:
        gevent.sleep(NAP)
        os._exit(8)
    return os.waitstatus_to_exitcode(gevent.os.waitpid(child, 0)[1])


def by_grandchild():
    """A child that does all the same."""
    child = os.fork()
    if not child:
        nap()
        said = subprocess.check_output(["echo", "deep"], text=True)
        os._exit(9 if said == "deep\n" and by_process() == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def by_spawned_server():
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        return pool.map(abs, [-1, -2])


def by_manager():
    """A server of multiprocessing's own, in a child, whose threads are greenlets there."""
    with multiprocessing.get_context("fork").Manager() as manager:
        shared = manager.dict(a=1)
        child = multiprocessing.get_context("fork").Process(target=shared.update, args=({"b": 2},))
        child.start()
        child.join()
        return dict(shared)


def by_greenlet():
    return gevent.spawn(by_fork_and_exit).get()


def by_async_view():
    async def main():
        nap_there = asyncio.create_task(asyncio.sleep(NAP))
        code = by_fork_and_exit()
        await nap_there
        return code

    return asyncio.run(main())


def by_lock():
    """A child has the lock that the parent waits for."""
    context = multiprocessing.get_context("fork")
    lock, has = context.Lock(), context.Event()

    def hold():
        with lock:
            has.set()
            nap()

    child = context.Process(target=hold)
    child.start()
    has.wait()
    with lock:
        child.join()
    return child.exitcode


def by_terminate():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
    child.start()
    child.terminate()
    child.join()
    return child.exitcode


def by_posix_spawn():
    child = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 2"], os.environ)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


WAYS = {name.removeprefix("by_"): way for name, way in list(globals().items()) if name.startswith("by_")}


def fork(request, way):
    """Fork in this way; the answer tells what came of it, and who gives it."""
    return JsonResponse({"found": WAYS[way](), "pid": os.getpid()})


def fork_and_return(request):
    """A child that comes back into the server's own code."""
    child = os.fork()
    if request.GET.get("raise") and not child:
        time.sleep(0.1)
        raise ValueError("a child's own mistake")
    if not child:
        time.sleep(0.1)
        return HttpResponse("answered by the child")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return HttpResponse(f"the child ended with {code}")


def fork_in_stream(request):
    """A child that comes back in the middle of an answer."""

    def pieces():
        yield "first,"
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        yield "second"

    return StreamingHttpResponse(pieces())


def look(request):
    """What a child has, in the way that it was made."""
    found, out = os.pipe()
    child = os.fork()
    if not child:
        os.write(out, json.dumps(describe()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(out)
    text = os.read(found, 65536).decode()
    os.close(found)
    return HttpResponse(text)


def describe():
    folder, links = Path("/proc/self/fd"), []
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):  # the one with which they are listed
            links.append(str(entry.readlink()))
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        "sockets": sum(link.startswith("socket:") for link in links),
        "polls": sum("eventpoll" in link or "eventfd" in link for link in links),
        "scoreboards": sum("scoreboard" in link for link in links),
        "masks": {
            name: int(mask, 16)
            for name, _, mask in (line.partition(":") for line in lines)
            if name in ("SigBlk", "SigIgn", "SigCgt")
        },
        "limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }


def execute(request):
    """What a program that a view starts has of the worker's."""
    command = ["/bin/sh", "-c", "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; ulimit -S -n"]
    if request.GET["by"] == "subprocess":
        return HttpResponse(subprocess.check_output(command))
    read, write = os.pipe()
    child = os.posix_spawn("/bin/sh", command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)])
    os.waitpid(child, 0)
    os.close(write)
    text = os.read(read, 65536)
    os.close(read)
    return HttpResponse(text)


def leave_orphan(request):
    """A child that stays when the server has gone."""
    child = multiprocessing.get_context("fork").Process(target=outlive)
    child.start()
    return HttpResponse(str(child.pid))


def outlive():
    os.close(2)
    os.close(1)
    time.sleep(30)


def leave_daemon(request):
    """What a program does to become a daemon (daemon(3)), in a view: its parent is gone, it has a session of its own."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(write, str(os.getpid()).encode())
        os.close(write)
        outlive()
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    pid = os.read(read, 100)
    os.close(read)
    return HttpResponse(pid)


def session(connection=connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()" if connection.vendor == "postgresql" else "SELECT CONNECTION_ID()")
        return cursor.fetchone()[0]


def in_child(work):
    """What a child says of this work."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            said = repr(work())
        except BaseException as error:  # noqa: BLE001
            said = repr(error)
        os.write(write, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    text = os.read(read, 65536).decode()
    os.close(read)
    os.close(write)
    return text


def fork_in_transaction(request):
    """Parent and child ask the database, in a transaction of the parent's."""
    done = []
    with transaction.atomic():
        transaction.on_commit(lambda: done.append(os.getpid()))
        before = session()
        child = in_child(lambda: (session(), session(), connection.in_atomic_block, done))
        after = session()
    return JsonResponse({"before": before, "after": after, "child": child, "done": done == [os.getpid()]})


def fork_and_leave_transaction(request):
    """A child comes back through the parent's transaction, and through Django's whole stack."""
    with transaction.atomic():
        before = session()
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        after = session()
    return JsonResponse({"before": before, "after": after})


urlpatterns = [
    path("charge", charge),
    path("by/<way>", fork),
    path("return", fork_and_return),
    path("stream", fork_in_stream),
    path("look", look),
    path("execute", execute),
    path("orphan", leave_orphan),
    path("daemon", leave_daemon),
    path("transaction", fork_in_transaction),
    path("leave-transaction", fork_and_leave_transaction),
]
