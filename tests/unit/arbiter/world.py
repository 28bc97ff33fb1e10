"""What a fleet's commands make: processes of which any may do, at any time, what its state allows."""

from __future__ import annotations

from dataclasses import dataclass, field

from djworker.arbiter.commands import (
    AdoptConfig,
    Announce,
    BootMold,
    Command,
    Exit,
    ForkWorker,
    KillMold,
    KillWorker,
    ProbeMold,
    QuestionMold,
    RetireWorker,
    StopMold,
)
from djworker.arbiter.events import (
    DeadlineReached,
    Event,
    GenerationProbed,
    Heartbeat,
    MoldBooted,
    MoldGone,
    Recycle,
    Reload,
    Started,
    WorkerBooted,
    WorkerClosed,
    WorkerGone,
)
from djworker.arbiter.fleet import Fleet
from djworker.arbiter.handles import Policy, WorkerState
from djworker.arbiter.probing import Answer
from djworker.arbiter.timing import PROBATION
from djworker.ipc.contract import SURGE

WORKERS = 3
POLICY = Policy(WORKERS, timeout=30, boot_timeout=60, graceful_timeout=30, probe=True)
FINE, BROKEN = ({"GET /": Answer(bad, "")} for bad in (False, True))


@dataclass
class World:
    """The processes, as the fleet's commands made them; any of them may do what its state allows, at any time."""

    fleet: Fleet = field(default_factory=lambda: Fleet(POLICY))
    now: float = 0.0
    molds: dict[int, str] = field(default_factory=dict)
    workers: dict[int, str] = field(default_factory=dict)
    generations_served: set[int] = field(default_factory=set)
    #: Which generation is asked, and for the sake of which.
    asked: set[tuple[int, int]] = field(default_factory=set)
    exit_code: int | None = None
    #: Told to leave although they served, since somebody last looked.
    retired: int = 0

    def happen(self, event: Event) -> None:
        for command in self.fleet.handle(event, self.now):
            self.carry_out(command)

    def carry_out(self, command: Command) -> None:
        match command:
            case BootMold(generation):
                self.molds[generation] = "booting"
            case ProbeMold(generation, about):
                assert self.molds[generation] == "ready", "only a loaded mold can answer"
                self.asked.add((generation, about))
            case StopMold(generation) | KillMold(generation, _):
                self.molds[generation] = "dying"
            case ForkWorker(worker_id, _, generation):
                assert self.molds[generation] == "ready", "only a warm mold can fork"
                self.workers[worker_id] = "booting"
            case RetireWorker(worker_id) | KillWorker(worker_id):
                self.retired += isinstance(command, RetireWorker) and self.workers[worker_id] == "ready"
                self.workers[worker_id] = "dying"
            case Exit(code):
                assert not self.fleet.ever_ready, "a server that has been ready never exits by itself"
                self.exit_code = code
            case AdoptConfig() | Announce() | QuestionMold():
                pass

    def possible(self) -> list[Event]:
        """All that can happen next. New code is as bad as can be, up to the end of each worker's probation."""
        events: list[Event] = [Reload(), DeadlineReached()]
        for generation, state in self.molds.items():
            if state == "booting":
                events += [MoldBooted(generation, POLICY), MoldGone(generation, 3)]
            if state == "dying":
                events.append(MoldGone(generation, 0))
        for generation, about in sorted(self.asked):
            if self.molds.get(generation) == "ready":
                events += [GenerationProbed(generation, about, FINE), GenerationProbed(generation, about, BROKEN)]
        for worker_id in self.workers:
            events += self._possible_of(worker_id)
        return events

    def _possible_of(self, worker_id: int) -> list[Event]:
        state, handle = self.workers[worker_id], self.fleet.processes.workers[worker_id]
        if state == "booting":
            return [WorkerBooted(worker_id), WorkerGone(worker_id, 1)]
        if state == "dying":
            return [WorkerClosed(worker_id), WorkerGone(worker_id, 0)]
        if handle.proven:
            return [Recycle(worker_id, "max_requests")]
        return [WorkerGone(worker_id, 0)] if self.now < handle.ready_at + PROBATION else []

    def apply(self, event: Event) -> None:
        match event:
            case MoldBooted(generation):
                self.molds[generation] = "ready"
            case MoldGone(generation):
                del self.molds[generation]
            case GenerationProbed(generation, about):
                self.asked.discard((generation, about))
            case WorkerBooted(worker_id):
                self.workers[worker_id] = "ready"
                self.generations_served.add(self.fleet.processes.workers[worker_id].generation)
            case WorkerGone(worker_id):
                del self.workers[worker_id]
        self.happen(event)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for worker_id, state in list(self.workers.items()):
            if state == "ready":
                self.happen(Heartbeat(worker_id, self.now))
        if self.fleet.next_deadline() <= self.now:
            self.happen(DeadlineReached())

    def serve(self) -> None:
        self.happen(Started())
        self.apply(MoldBooted(1, POLICY))
        for worker_id in list(self.workers):
            self.apply(WorkerBooted(worker_id))
        self.pass_time(PROBATION)

    def proven(self) -> int:
        """Workers that serve and have lived through their probation."""
        return sum(w.proven for w in self.fleet.processes.workers.values() if w.state is WorkerState.READY)

    def check_retired(self) -> None:
        """Where somebody had to leave, as many as wanted are still there."""
        assert not self.retired or self.proven() >= self.fleet.target
        self.retired = 0

    def check(self) -> None:
        assert self.proven() >= WORKERS, "the promise"
        assert len(self.fleet.processes.alive()) <= WORKERS * 2 + SURGE
        assert set(self.workers) == set(self.fleet.processes.workers), "no process is forgotten"
        assert set(self.molds) == set(self.fleet.processes.molds)


def is_expected(world: World, event: Event) -> bool:
    """Only those die that were told to."""
    match event:
        case MoldGone(generation):
            return world.molds[generation] == "dying"
        case WorkerGone(worker_id):
            return world.workers[worker_id] == "dying"
        case GenerationProbed(_, _, answers):
            return answers is FINE
    return False


def settled(world: World) -> bool:
    alive = world.fleet.processes.alive()
    return (
        not world.fleet.rolling
        and not world.fleet.rollout.queued
        and len(alive) == WORKERS == len(world.workers)
        and {w.generation for w in alive} == {world.fleet.current}
        and list(world.molds) == [world.fleet.current]
    )
