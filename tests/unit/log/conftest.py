"""Pipes to log into, and loggers that are as before afterwards."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from djworker.log import events as log


class Pipe:
    """A pipe whose reader may leave."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def read(self) -> str:
        try:
            return os.read(self.reader, 1 << 20).decode()
        except BlockingIOError:
            return ""

    def fill(self) -> None:
        os.set_blocking(self.writer, False)
        try:
            while True:
                os.write(self.writer, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(self.writer, True)

    def close_reader(self) -> None:
        os.close(self.reader)
        self.reader = -1

    def close(self) -> None:
        for fd in {self.reader, self.writer} - {-1}:
            os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
def loggers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a test does to the djworker loggers."""
    saved = [
        (item, item.handlers[:], item.level, item.propagate, item.disabled)
        for item in map(logging.getLogger, log.NAMES)
    ]
    monkeypatch.setattr(log, "_state", log._State())
    yield
    log.configure_access(None)
    for logger, handlers, level, propagate, disabled in saved:
        logger.handlers[:], logger.propagate, logger.disabled = handlers, propagate, disabled
        logger.setLevel(level)


@pytest.fixture
def stderr(pipe: Pipe, loggers: None, monkeypatch: pytest.MonkeyPatch) -> Pipe:
    monkeypatch.setattr(log, "STANDARD_ERROR", pipe.writer)
    return pipe
