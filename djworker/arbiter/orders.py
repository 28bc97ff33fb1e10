"""The one door to a process: no command leaves without what it makes of the handle, and no handle changes without it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from djworker.arbiter import commands as do
from djworker.arbiter.handles import MoldHandle, MoldState, WorkerState
from djworker.arbiter.timing import KILL_AGAIN, MOLD_GRACE
from djworker.ipc.contract import GRACE_MARGIN, STACKS_WITHIN

if TYPE_CHECKING:
    from djworker.arbiter.handles import ProcessTable, WorkerHandle


@dataclass(slots=True)
class Orders:
    """[arbiter] The commands of one event, in order."""

    processes: ProcessTable
    given: list[do.Command] = field(default_factory=list)

    def take(self) -> list[do.Command]:
        """What is to be carried out; the next event begins with none."""
        taken, self.given = self.given, []
        return taken

    def boot_mold(self, generation: int, deadline: float) -> None:
        """Load the code that is on disk."""
        self.processes.molds[generation] = MoldHandle(generation, MoldState.BOOTING, deadline)
        self.given.append(do.BootMold(generation))

    def probe(self, generation: int, about: int) -> None:
        """Ask a generation what *about* has to answer."""
        self.given.append(do.ProbeMold(generation, about))

    def question(self, mold: MoldHandle, now: float) -> None:
        """Where does it hang? It is killed soon, whatever it says."""
        mold.questioned, mold.deadline = True, now + STACKS_WITHIN
        self.given.append(do.QuestionMold(mold.generation))

    def stop_mold(self, mold: MoldHandle, now: float) -> None:
        """It has nothing to finish."""
        mold.become(MoldState.RETIRING, now + MOLD_GRACE)
        self.given.append(do.StopMold(mold.generation))

    def kill_mold(self, mold: MoldHandle, now: float, reason: str) -> None:
        """It did not boot, or does not stop."""
        state = MoldState.RETIRING if mold.state is MoldState.RETIRING else MoldState.KILLED
        mold.become(state, now + KILL_AGAIN)
        self.given.append(do.KillMold(mold.generation, reason))

    def spawn(self, generation: int, deadline: float) -> None:
        """One more worker, which is to be ready by *deadline*."""
        worker = self.processes.new_worker(generation, deadline)
        self.given.append(do.ForkWorker(worker.worker_id, worker.slot, generation))

    def retire(self, worker: WorkerHandle, now: float, grace: float, *, empty_backlog: bool) -> None:
        """Let it finish what runs."""
        worker.drain(now + grace + GRACE_MARGIN)
        self.given.append(do.RetireWorker(worker.worker_id, grace, empty_backlog))

    def kill(self, worker: WorkerHandle, now: float, reason: str) -> None:
        """It missed its deadline."""
        worker.become(WorkerState.KILLED, now + KILL_AGAIN)
        self.given.append(do.KillWorker(worker.worker_id, reason))

    def tell(self, *announcements: do.Announce) -> None:
        """For the operator's eyes."""
        self.given += announcements
