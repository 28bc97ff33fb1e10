"""The arbiter's state as text, so that USR2 can replace its program in place: same pid, same sockets, same children.

``execve`` keeps descriptors and children; everything else crosses as one JSON text in the environment. The new program is
tried first, as a child that reads the same text (``rehearse``): what cannot be adopted is never executed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from math import inf
from typing import TYPE_CHECKING, Any, Final, cast

from djworker import accounts
from djworker.arbiter.child import Child
from djworker.arbiter.children import Children
from djworker.arbiter.crashloop import CrashLoop
from djworker.arbiter.fleet import Fleet
from djworker.arbiter.handles import MoldHandle, MoldState, Policy, ProcessTable, WorkerHandle, WorkerState
from djworker.arbiter.intake import Kind
from djworker.arbiter.listeners import Listener, adopt
from djworker.arbiter.rollout import Rollout
from djworker.arbiter.status import STATUS_KEY, StatusService
from djworker.conf.address import Address
from djworker.conf.table import Config
from djworker.ipc import messages
from djworker.ipc.channel import Channel
from djworker.ipc.regions import Region
from djworker.ipc.scoreboard import Row

if TYPE_CHECKING:
    from djworker.arbiter.loop import Loop
    from djworker.ipc.launch import Launch

#: Raised with every change of the text's form; a program that knows another one refuses it in the rehearsal.
VERSION: Final = 4
_PLAIN: Final = ("current", "ever_ready", "stopping", "stop_at", "scaled", "sized")


class SnapshotError(Exception):
    """The text is not of this version."""


def take(loop: Loop) -> str:
    """The state of *loop* as text."""
    children = loop.children
    state = {
        "version": VERSION,
        "fleet": _fleet_to_json(loop.fleet),
        "listeners": [_listener_to_json(item) for item in children.listeners],
        "children": [_child_to_json(child) for child in children.by_key.values()],
        "unclaimed": list(children.unclaimed.items()),
        "alone": sorted(children.alone),
        "loading": children.loading,
        "config": loop.config.to_json(),
        "offered": {generation: config.to_json() for generation, config in loop.offered.items()},
        "status": _status_to_json(loop.status) if loop.status is not None else None,
        "systemd_ready": loop.systemd.ready,
        "signals": loop.signals.noted(),
        "deaths": [asdict(death) for death in loop.deaths.waiting],
        "control": _listener_to_json(loop.control.listener) if loop.control is not None else None,
        "log_level": loop.log_level,
        "last_reload": loop.verbs.verdicts.last,
        "paused": loop.verbs.paused,
        "observer": loop.observer.to_json(),
    }
    return json.dumps(state)


def descriptors(loop: Loop) -> list[int]:
    """What must stay open across the exec."""
    children = loop.children.by_key.values()
    channels = [child.channel.fileno() for child in children if child.channel is not None]
    rows = [child.row.fileno() for child in children if child.row is not None]
    control = [loop.control.listener.sock.fileno()] if loop.control is not None else []
    status = loop.status.descriptors() if loop.status is not None else []
    history = loop.observer.history.fileno()
    return [*(item.sock.fileno() for item in loop.children.listeners), history, *control, *channels, *rows, *status]


class Snapshot:
    """[arbiter] What an earlier program of this process has left."""

    def __init__(self, text: str) -> None:
        """Read the text, touching no descriptor yet.

        Raises:
            SnapshotError: another version, or no snapshot at all.
        """
        try:
            state = json.loads(text)
            if state["version"] != VERSION:
                msg = f"the state is of version {state['version']}, this program reads {VERSION}"
                raise SnapshotError(msg)
            self.fleet = _fleet_from_json(state["fleet"])
            self.config = Config.from_json(state["config"])
            self.offered = {int(number): Config.from_json(data) for number, data in state["offered"].items()}
            self.systemd_ready: bool = state["systemd_ready"]
            self.signals: list[int] = state["signals"]
            self.deaths = [messages.ProcessGone(**death) for death in state.get("deaths", ())]
            self._state: dict[str, Any] = state
        except (KeyError, TypeError, ValueError) as error:
            msg = f"this is no state of an arbiter: {error!r}"
            raise SnapshotError(msg) from error

    def children(self, launch: Launch, *, subreaper: bool) -> Children:
        """Take the sockets and the children over."""
        listeners = [_listener_from_json(item, launch) for item in self._state["listeners"]]
        children = Children(launch, listeners, subreaper)
        for data in self._state["children"]:
            child = _child_from_json(data)
            children.by_key[child.key] = child
        if status := self._state.get("status"):
            children.status = _status_from_json(status, launch)
            if STATUS_KEY in children.by_key:
                children.status.adopted()
        children.unclaimed.update(self._state["unclaimed"])
        children.alone.update(self._state.get("alone", ()))  # an older program knows none
        children.loading.update({int(number): end for number, end in self._state.get("loading", {}).items()})
        return children

    def control(self, launch: Launch) -> Listener | None:
        """Take the control socket over; nothing where the earlier program had none."""
        found = self._state.get("control")
        return _listener_from_json(found, launch) if found else None

    def tell(self, loop: Loop) -> None:
        """Have *loop* know what control clients had asked of the earlier program, where that had any."""
        loop.log_level = str(self._state.get("log_level", ""))
        loop.verbs.verdicts.last = self._state.get("last_reload")
        loop.verbs.paused.update(self._state.get("paused", {}))
        observer = self._state.get("observer", {})
        if observer:
            os.set_inheritable(observer["history"], False)
        loop.observer.adopt(observer, loop.children.workers())


def _listener_to_json(listener: Listener) -> tuple[int, str, tuple[str, int] | None]:
    return listener.sock.fileno(), str(listener.address), listener.unlink


def _listener_from_json(data: tuple[int, str, tuple[str, int] | None], launch: Launch) -> Listener:
    fd, address, unlink = data
    account = accounts.service_account(launch.config.user, launch.config.group)
    return Listener(adopt(fd), Address.parse(address), (unlink[0], unlink[1]) if unlink else None, account)


def _child_to_json(child: Child) -> dict[str, Any]:
    return {
        "kind": child.key[0],
        "number": child.key[1],
        "pid": child.pid,
        "channel": child.channel.fileno() if child.channel is not None else None,
        "slot": child.slot,
        "row": child.row.fileno() if child.row is not None else None,
        "doomed": child.doomed,
        "cause": child.cause,
    }


def _child_from_json(data: dict[str, Any]) -> Child:
    for fd in (data["channel"], data["row"]):
        if fd is not None:
            os.set_inheritable(fd, False)  # a mold with a copy of the channel would hold an EOF back
    channel = Channel.from_fd(data["channel"], guarded=True) if data["channel"] is not None else None
    if channel is not None:
        channel.set_blocking(False)
    row = Row(data["row"]) if data["row"] is not None else None
    key = (cast("Kind", data["kind"]), data["number"])
    return Child(key, data["pid"], channel, data["slot"], row, data["doomed"], data.get("cause", ""))


def _status_to_json(status: StatusService) -> dict[str, Any]:
    return {
        "listeners": [_listener_to_json(item) for item in status.listeners],
        "board": status.board_region.fileno(),
        "own": status.own_region.fileno(),
        "regions": {slot: region.fileno() for slot, region in status.regions.items()},
    }


def _status_from_json(data: dict[str, Any], launch: Launch) -> StatusService:
    regions = {int(slot): fd for slot, fd in data["regions"].items()}
    for fd in (data["board"], data["own"], *regions.values()):
        os.set_inheritable(fd, False)
    listeners = [_listener_from_json(item, launch) for item in data["listeners"]]
    kept = {slot: Region(fd) for slot, fd in regions.items()}
    return StatusService(listeners, Region(data["board"]), Region(data["own"]), kept)


def _fleet_to_json(fleet: Fleet) -> dict[str, Any]:
    processes = fleet.processes
    return {
        "policy": asdict(fleet.policy),
        "plain": {name: getattr(fleet, name) for name in _PLAIN},
        "molds": [_mold_to_json(mold) for mold in processes.molds.values()],
        "workers": [{**asdict(worker), "state": worker.state.value} for worker in processes.workers.values()],
        "rollout": asdict(replace(fleet.rollout, last_words=None)),
        "crashes": asdict(fleet.crashes),
        "last": [processes.last_generation, processes.last_worker],
    }


def _fleet_from_json(data: dict[str, Any]) -> Fleet:
    processes = ProcessTable(
        molds={mold["generation"]: _mold_from_json(mold) for mold in data["molds"]},
        workers={worker["worker_id"]: _worker_from_json(worker) for worker in data["workers"]},
    )
    processes.last_generation, processes.last_worker = data["last"]
    fleet = Fleet(
        Policy(**data["policy"]), processes, rollout=Rollout(**data["rollout"]), crashes=CrashLoop(**data["crashes"])
    )
    for name in set(_PLAIN) & set(data["plain"]):  # an older program has not all of them
        setattr(fleet, name, data["plain"][name])
    fleet.expect(inf)
    return fleet


def _mold_to_json(mold: MoldHandle) -> dict[str, Any]:
    """Tracebacks stay behind: they would not fit into an environment."""
    return {**asdict(replace(mold, failure=None, measure=None)), "state": mold.state.value}


def _mold_from_json(data: dict[str, Any]) -> MoldHandle:
    policy = Policy(**data["policy"]) if data["policy"] else None
    return MoldHandle(**{**data, "state": MoldState(data["state"]), "policy": policy})


def _worker_from_json(data: dict[str, Any]) -> WorkerHandle:
    return WorkerHandle(**{**data, "state": WorkerState(data["state"])})
