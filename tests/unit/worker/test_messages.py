"""Messages of any content fit one packet."""

from __future__ import annotations

from djworker.ipc import messages
from djworker.ipc.channel import Channel


def test_a_thousand_failed_checks_arrive() -> None:
    ours, theirs = Channel.pair()
    error = "shop.Product.name: (fields.E120) 'é' " * 10_000
    sent = messages.MoldFailed("checks", "django.core.checks", error, messages.tail(error))
    assert ours.send(sent)
    (received,) = theirs.receive().messages
    assert isinstance(received, messages.MoldFailed)
    assert received.error.startswith("shop.Product.name")
    assert received.traceback == sent.traceback
    ours.close()
    theirs.close()
