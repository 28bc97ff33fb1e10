"""Which messages of its children the arbiter believes.

Molds and workers run the project's code, and may have been taken over by a client. The arbiter may be root where they
are not, so a message is a claim: it is taken in only where this child may make it, as often as it may, and where the kernel
confirms who speaks and whose process it is about. A child that claims anything else is ended, and the log says why. That also
bounds a child that never stops talking: a packet costs, and the purse fills slowly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from djworker.ipc import messages

#: What a child of the arbiter is. A helper is the reloader, or the status process.
Kind = Literal["mold", "worker", "helper"]

#: Packets that a child may send at once: a mold answers a request for each slot of the largest fleet.
BURST: Final = 4096.0
#: Packets a second that it may send for ever. A worker says three things in its life, a reloader two in a second.
RATE: Final = 64.0
#: Bytes that cost as much as a packet.
BYTES_PER_PACKET: Final = 1024

#: What the answer to one question may cost beside that: as much text as ``questions.MOST_TEXT``, in small parts.
GRANT: Final = 2048.0

_ONCE: Final = True
_OFTEN: Final = False
#: What each kind of child may say, and whether more than once. A message that is not known here is another version's.
MAY_SAY: Final[Mapping[Kind, Mapping[type, bool]]] = {
    "mold": {
        messages.MoldReady: _ONCE,
        messages.LoadsAlone: _ONCE,
        messages.MoldFailed: _ONCE,
        messages.Probed: _OFTEN,  # asked once for itself, then for each newer generation
        messages.WorkerForked: _OFTEN,  # each about one worker of its generation
        messages.ForkFailed: _OFTEN,
    },
    "worker": {
        messages.MoldFailed: _ONCE,  # where there is no subreaper, a worker has been its own mold
        messages.WorkerReady: _ONCE,
        messages.WorkerBootFailed: _ONCE,
        messages.RecycleWanted: _ONCE,
        messages.ListenersClosed: _ONCE,
        messages.WorkerAnswered: _OFTEN,  # in parts, to what it was asked; what it was not asked is let pass
    },
    "helper": {messages.FilesChanged: _OFTEN},
}


class MessageRefusedError(Exception):
    """A child has said what it may not say; the text says what is wrong with it."""


@dataclass(slots=True)
class Intake:
    """[arbiter] What one child has said so far, and what it may say yet."""

    kind: Kind
    said: set[type] = field(default_factory=set)
    purse: float = BURST
    filled_at: float = 0.0
    granted: float = 0.0

    def grant(self) -> None:
        """It has been asked: its answer costs it nothing. What is left of an earlier grant is not added."""
        self.granted = GRANT

    def pay(self, size: int, now: float) -> None:
        """Take the price of a packet of *size* bytes, from what was granted first.

        Raises:
            MessageRefusedError: the child speaks faster than it may.
        """
        self.purse = min(BURST, self.purse + RATE * (now - self.filled_at))
        self.filled_at = now
        price = 1 + size // BYTES_PER_PACKET
        from_grant = min(price, self.granted)
        self.granted -= from_grant
        self.purse -= price - from_grant
        if self.purse < 0:
            raise MessageRefusedError(f"a flood: more than {BURST:.0f} packets, and more than {RATE:.0f} in a second")

    def admit(self, message: messages.Message) -> bool:
        """Whether to act on *message*. What another version says is not acted on, and told of once.

        Raises:
            MessageRefusedError: this child may not say it, or not once more, or it is no message.
        """
        if isinstance(message, messages.Garbled):
            raise MessageRefusedError(f"no message: {message.reason}")
        first = type(message) not in self.said
        self.said.add(type(message))
        if isinstance(message, messages.Unknown):
            return first
        once = MAY_SAY[self.kind].get(type(message))
        if once is None:
            raise MessageRefusedError(f"a {self.kind} may not say {type(message).__name__}")
        if once and not first:
            raise MessageRefusedError(f"{type(message).__name__} is said once")
        return True
