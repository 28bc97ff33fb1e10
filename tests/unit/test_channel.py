"""Channels: real socket pairs; messages, descriptors, death."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from djworker.ipc import messages
from djworker.ipc.channel import Channel, Received


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    for end in (ours, theirs):
        end.set_blocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_both_ways_and_in_order(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    assert ours.receive() == Received([], [], eof=False)
    for number in range(3):
        assert theirs.send(messages.WorkerForked(number, number))
    assert ours.send(messages.Retire(1.5, empty_backlog=True))
    assert [ours.receive().messages for _ in range(3)] == [[messages.WorkerForked(n, n)] for n in range(3)]
    assert theirs.receive().messages == [messages.Retire(1.5, empty_backlog=True)]


def test_a_descriptor_travels(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    read, write = os.pipe()
    ours.send(messages.SpawnWorker(1, 0), [write])
    os.close(write)
    received = theirs.receive()
    assert received.messages == [messages.SpawnWorker(1, 0)]
    (copy,) = received.fds
    os.write(copy, b"hello")
    assert os.read(read, 9) == b"hello"
    os.close(copy)
    os.close(read)


def test_last_words_come_before_the_end(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    theirs.send(messages.WorkerBootFailed("boom", "Traceback"))
    theirs.close()
    assert ours.receive().messages == [messages.WorkerBootFailed("boom", "Traceback")]
    assert ours.receive().eof
    assert not ours.send(messages.ReopenLogs())


def test_an_end_with_unread_words(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    ours.send(messages.ReopenLogs())
    theirs.close()
    assert ours.receive().eof


def test_a_full_buffer_blocks_nobody(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    sent = 0
    while ours.send(messages.FilesChanged(["x" * 1000])):
        sent += 1
        assert sent < 100_000
    got = 0
    while theirs.receive().messages:
        got += 1
    assert got == sent
    assert ours.send(messages.ReopenLogs())


def test_the_longest_message_fits(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    message = messages.MoldFailed("setup", "m", "e", "\N{SNOWMAN}" * messages.TRACEBACK_LIMIT)
    assert ours.send(message)
    assert theirs.receive().messages == [message]


def test_both_ends_close_on_exec(pair: tuple[Channel, Channel]) -> None:
    assert not any(os.get_inheritable(end.fileno()) for end in pair)


def test_the_descriptor_can_be_given_away() -> None:
    ours, theirs = Channel.pair()
    again = Channel.from_fd(theirs.detach())
    assert theirs.fileno() == -1
    again.send(messages.WorkerReady())
    assert ours.receive().messages == [messages.WorkerReady()]
    ours.close()
    again.close()
    assert again.fileno() == -1
