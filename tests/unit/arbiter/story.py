"""A fleet in a story that a test tells: events and how much later each comes."""

from __future__ import annotations

from math import inf

from djworker.arbiter.commands import AdoptConfig, Announce, BootMold, Command, ForkWorker, RetireWorker
from djworker.arbiter.events import DeadlineReached, Event, Heartbeat, MoldBooted, Started, WorkerBooted, WorkerClosed
from djworker.arbiter.fleet import Fleet
from djworker.arbiter.handles import Policy
from djworker.arbiter.timing import STABLE

POLICY = Policy(workers=2, timeout=30, boot_timeout=60, graceful_timeout=30)


class Story:
    """A fleet and the clock it is told about."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.fleet = Fleet(policy)
        self.now = 100.0
        self.said: list[Announce] = []
        #: Whether workers close their listeners as soon as they are asked to retire.
        self.obedient = True

    def tell(self, event: Event, after: float = 0.0) -> list[Command]:
        """Let *event* happen *after* seconds; what the fleet wants done, without what it says."""
        self.now += after
        commands = self.fleet.handle(event, self.now)
        for command in [c for c in commands if isinstance(c, RetireWorker) and self.obedient]:
            commands += self.fleet.handle(WorkerClosed(command.worker_id), self.now)
        self.said += [c for c in commands if isinstance(c, Announce)]
        return [c for c in commands if not isinstance(c, Announce)]

    def until_due(self) -> list[Command]:
        """Sleep until the fleet's own deadline, beating for every worker like a healthy one."""
        due = self.fleet.next_deadline()
        assert due < inf
        for worker in self.fleet.processes.ready():
            self.fleet.handle(Heartbeat(worker.worker_id, due), self.now)
        self.now = max(self.now, due)
        return self.tell(DeadlineReached())

    def events(self) -> list[str]:
        return [a.event for a in self.said]

    @classmethod
    def serving(cls, policy: Policy = POLICY) -> Story:
        """Generation 1 serves, proven and stable."""
        story = cls(policy)
        assert story.tell(Started()) == [BootMold(1)]
        spawned = story.tell(MoldBooted(1, policy), 1)
        assert spawned == [AdoptConfig(1), *(ForkWorker(i + 1, i, 1) for i in range(policy.workers))]
        for i in range(policy.workers):
            assert story.tell(WorkerBooted(i + 1), 0.5) == []
        for _ in range(int(STABLE) + 1):
            assert story.tell(DeadlineReached(), 1) == []
        for worker in story.fleet.processes.ready():
            story.tell(Heartbeat(worker.worker_id, story.now))
        story.said.clear()
        return story
