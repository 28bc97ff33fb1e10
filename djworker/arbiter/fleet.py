"""The supervisor as a pure function of (event, now): no clock, no system call, no logging in here.

Its promise, held by a random walk in the tests: **ready workers never fall below the target, whatever the new code does.**
Every event ends in one level-triggered ``_reconcile``: it looks at what is there, compares it with what is wanted, and says
what to do about it (httpcore's ``_assign_requests_to_connections`` and Kubernetes' controllers work alike).

* New before old: a worker is retired only when more workers are ready than wanted.
* Verified before trusted: a worker replaces another only after it has lived ``PROBATION`` seconds after it was ready.
  Until the roll-out is complete the old mold is kept, warm, and three failures in a row bring it back.
* Every process that is there owns exactly one deadline.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

from djworker.arbiter import commands as do
from djworker.arbiter import probing, replacement
from djworker.arbiter.canary import Canary
from djworker.arbiter.crashloop import CrashLoop
from djworker.arbiter.events import (
    DeadlineReached,
    Event,
    GenerationProbed,
    Heartbeat,
    MoldBooted,
    MoldBootFailed,
    MoldGone,
    Recycle,
    Reload,
    Resize,
    Sampled,
    Scale,
    Started,
    Stop,
    WorkerBooted,
    WorkerClosed,
    WorkerFailed,
    WorkerGone,
)
from djworker.arbiter.handles import MoldHandle, MoldState, Policy, ProcessTable, WorkerHandle, WorkerState
from djworker.arbiter.orders import Orders
from djworker.arbiter.probing import Answers, Failure
from djworker.arbiter.rollout import Rollout
from djworker.arbiter.timing import (
    KEPT_MOLDS,
    OVERSLEPT,
    PROBATION,
    PROBE_WAIT,
    STABLE,
)
from djworker.conf.table import MOST_WORKERS
from djworker.ipc.contract import EXIT_BOOT
from djworker.process import describe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djworker.arbiter.canary import Sample


@dataclass(slots=True)
class Fleet:
    """[arbiter] Molds and workers: what is there, what is wanted, what to do next."""

    policy: Policy
    processes: ProcessTable = field(default_factory=ProcessTable)
    #: The generation that new workers are forked from; 0 before the first mold was ready.
    current: int = 0
    ever_ready: bool = False
    stopping: bool = False
    #: When the stop begins that was asked for and is put off; infinity without one.
    stop_at: float = inf
    scaled: int | None = None
    #: What the load asks for; 0 where the number does not follow it, or nothing was asked yet.
    sized: int = 0
    rollout: Rollout = field(default_factory=Rollout)
    #: The first worker of a new generation, while it is watched.
    canary: Canary | None = None
    crashes: CrashLoop = field(default_factory=CrashLoop)
    _orders: Orders = field(init=False)
    #: What the generation in force answered when it was last asked: a measure where its mold is gone.
    _known: Answers | None = None
    _expected: float = inf
    _exit_code: int = 0

    def __post_init__(self) -> None:
        self._orders = Orders(self.processes)

    # -- the two calls of the loop ------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[do.Command]:
        """Take in what happened; say what to do about it. now: seconds of the monotonic clock."""
        self._forgive_suspension(now)
        self._take_in(event, now)
        self._reconcile(now)
        self._expected = self.next_deadline()
        return self._orders.take()

    def next_deadline(self) -> float:
        """When a ``DeadlineReached`` event is due, on the clock of ``now``; infinity when nothing is awaited."""
        deadlines = [process.deadline for process in self.processes]
        deadlines += [worker.proven_at for worker in self.processes.ready() if not worker.proven]
        deadlines += [worker.ready_at + STABLE for worker in self._redeemers()]
        if self._only_age_is_missing():
            deadlines.append(replacement.stable_at(self.processes, self.current))
        if self.crashes.retry_at > -inf:
            deadlines.append(self.crashes.retry_at)
        deadlines.append(self.stop_at)
        if self.canary is not None:
            deadlines.append(self.canary.look_at)
        return min(deadlines, default=inf)

    def expect(self, when: float) -> None:
        """Have the next event at *when*, as far as suspension goes; a fresh program has slept through nothing."""
        self._expected = when

    # -- what is wanted -----------------------------------------------------------------------------------------------

    @property
    def target(self) -> int:
        """Workers wanted now."""
        return self.scaled if self.scaled is not None else (self.sized or self.policy.workers)

    @property
    def may_resize(self) -> bool:
        """Whether the number of workers follows the load now. TTIN, TTOU and ``scale`` end that, until a reload."""
        steady = self.ever_ready and not (self.ending or self.rolling or self.crashes.failures)
        return bool(self.policy.most_workers) and self.scaled is None and steady

    @property
    def rolling(self) -> bool:
        """Whether a new generation is being brought in, which may still end in a rollback by itself."""
        warm = self.processes.older_mold(self.current) is not None
        return bool(self.processes.booting_molds()) or (self.rollout.begun and warm)

    @property
    def ending(self) -> bool:
        """Whether it was told to stop, be that now or a little later: nothing new is begun any more."""
        return self.stopping or self.stop_at < inf

    def ready_count(self) -> int:
        """Workers that accept."""
        return len(self.processes.ready())

    def _redeemers(self) -> list[WorkerHandle]:
        """Workers that end a crash loop by staying alive."""
        return [worker for worker in self.processes.ready(self.current) if self.crashes.is_answered_by(worker.ready_at)]

    def _exhausted(self) -> bool:
        """Whether a server that never was ready has tried all there is: its first mold, or its workers' retries."""
        if self.ever_ready or self.processes.booting_molds():
            return False
        hope = self.processes.starting() or self.processes.older_mold(self.current)
        return not self.current or (self.crashes.retries_are_over and not hope)

    # -- events -------------------------------------------------------------------------------------------------------

    def _take_in(self, event: Event, now: float) -> None:  # noqa: C901, PLR0912 - one line for each event
        match event:
            case Started():
                self._boot_mold(now)
            case Reload():
                self._on_reload(now)
            case Stop(fast):
                self._on_stop(now, fast=fast)
            case Scale(delta):
                self.scaled = min(max(1, self.target + delta), MOST_WORKERS)
                self._announce("scaled", f"{self.target} workers wanted", workers=self.target)
            case Resize(workers, reason):
                self._on_resize(workers, reason)
            case DeadlineReached():
                self._on_timer(now)
            case MoldBooted(generation, policy):
                self._on_mold_ready(generation, policy, now)
            case MoldBootFailed(generation, failure):
                self._on_mold_failed(generation, failure)
            case GenerationProbed():
                self._on_probed(event, now)
            case MoldGone(generation, status):
                self._on_mold_gone(generation, status, now)
            case WorkerBooted(worker_id):
                self._on_worker_ready(worker_id, now)
            case WorkerFailed(worker_id, failure):
                self._on_worker_failed(worker_id, failure)
            case Heartbeat(worker_id, beat):
                self._on_heartbeat(worker_id, beat)
            case Sampled(samples):
                self._on_sampled(samples, now)
            case Recycle(worker_id, _):
                self._on_recycle(worker_id)
            case WorkerClosed(worker_id):
                self._on_worker_closed(worker_id)
            case WorkerGone(worker_id, _):
                self._on_worker_gone(worker_id, now)

    def _on_resize(self, workers: int, reason: str) -> None:
        if not self.may_resize:
            return
        before, self.sized = self.target, workers
        text = f"{self.target} workers wanted, {before} before: {reason}"
        self._announce("scaled", text, workers=self.target, before=before, reason=reason)

    def _on_reload(self, now: float) -> None:
        if self.ending:
            return
        if self.rolling or not self.ever_ready:  # what is being started may be good, what is on disk by now may not be
            self._orders.tell(self.rollout.queue(first_start=not self.ever_ready))
        else:
            self._boot_mold(now)

    def _on_stop(self, now: float, *, fast: bool) -> None:
        delay = self.policy.shutdown_delay
        if delay and not fast and not self.ending and self.ready_count():
            self.stop_at = now + delay
            self._announce("stop_delayed", f"stopping in {delay:g} s; until then requests are served", seconds=delay)
        else:
            self._stop(now, fast=fast)

    def _stop(self, now: float, *, fast: bool) -> None:
        self.stop_at = inf
        fast = fast or self.stopping  # asked twice: it is meant
        if not self.stopping or fast:
            self._announce("stopping", "stopping at once" if fast else "stopping", fast=fast)
        self.stopping = True
        if fast:
            for worker in self.processes.draining():
                self._retire(worker, now, grace=0.0)
        for worker in self.processes.alive():
            self._retire(worker, now, grace=0.0 if fast else self.policy.graceful_timeout)

    def _on_timer(self, now: float) -> None:
        if now >= self.stop_at:
            self._stop(now, fast=False)
        if self.canary is not None:
            self.canary.put_off(now)
        for mold in list(self.processes.molds.values()):
            if now >= mold.deadline:
                self._on_overdue_mold(mold, now)
        for worker in list(self.processes.workers.values()):
            if now >= worker.deadline:
                self._orders.kill(worker, now, worker.overdue_reason(now))
        for worker in self.processes.ready():
            worker.proven = worker.proven or now >= worker.proven_at
        if any(now >= worker.ready_at + STABLE for worker in self._redeemers()):
            self.crashes.forget()

    def _on_overdue_mold(self, mold: MoldHandle, now: float) -> None:
        match mold.state:
            case MoldState.BOOTING if not mold.questioned:
                self._orders.question(mold, now)
            case MoldState.BOOTING:
                self._on_hung_mold(mold, now, "boot_timeout", f"not loaded within {self.policy.boot_timeout:g} s")
            case MoldState.MEASURING:  # the one in force does not say, or is of a version that cannot
                self._probe(mold, now)
            case MoldState.PROBING:
                self._on_hung_mold(mold, now, "probe", f"no word from its mold within {PROBE_WAIT:g} s")
            case _:
                self._orders.kill_mold(mold, now, "does not stop")

    def _on_hung_mold(self, mold: MoldHandle, now: float, stage: str, error: str) -> None:
        self._orders.kill_mold(mold, now, stage)
        self._boot_failed(mold, now, Failure(stage, "", error))  # it may take its time to die, the verdict does not

    def _on_mold_ready(self, generation: int, policy: Policy, now: float) -> None:
        mold = self.processes.molds.get(generation)
        if mold is None or mold.state is not MoldState.BOOTING:
            return
        mold.policy = policy
        if policy.probe and (self.ever_ready or policy.strict):
            self._measure(mold, now)
        else:
            self._trust(mold, now)
            if policy.probe:  # no worker serves yet, so no client waits for the answers
                self._orders.probe(generation, generation)

    def _on_mold_failed(self, generation: int, failure: Failure) -> None:
        mold = self.processes.molds.get(generation)
        if mold is not None:
            mold.failure = failure

    def _on_probed(self, event: GenerationProbed, now: float) -> None:
        generation, about, answers = event.generation, event.about, event.answers
        mold = self.processes.molds.get(about)
        if mold is None:
            return
        if mold.state is MoldState.MEASURING and generation != about:
            # What this generation has answered when it was trusted is a measure as well: a spare may be of the code to be judged.
            mold.measure = probing.best(self._known or {}, answers) if event.by_spare else answers
            mold.measured_by = generation
            self._probe(mold, now)
        elif mold.state is MoldState.PROBING and generation == about:
            self._judge(mold, answers, now)
        elif mold.state is MoldState.READY and generation == about:
            self._known = answers
            self._warn_of(mold, answers)

    def _on_mold_gone(self, generation: int, status: int, now: float) -> None:
        mold = self.processes.molds.pop(generation)
        if self.stopping or mold.state in (MoldState.RETIRING, MoldState.KILLED):
            return
        if mold.coming:
            asked = mold.state is MoldState.PROBING  # a page may end the process that is asked for it
            text = f"its mold ended{' while it was asked for pages' if asked else ''}: {describe(status)}"
            self._boot_failed(mold, now, Failure("probe" if asked else "boot", "", text))
        elif generation == self.current and not self.ending:  # a TERM of the whole process group has reached it
            self._announce("mold_lost", f"the mold of generation {generation} is gone", level="error", status=status)
            self._current_mold_lost(now)

    def _boot_failed(self, mold: MoldHandle, now: float, otherwise: Failure) -> None:
        """*mold* is given up, for what it said itself, or for *otherwise*."""
        if self.current and self._needs_mold():  # nothing to fork from: try again, ever more slowly
            self._orders.tell(self.crashes.fail(now))
        self._orders.tell(*self.rollout.fail(mold.generation, self.current, mold.failure or otherwise))

    def _current_mold_lost(self, now: float) -> None:
        older = self.processes.older_mold(self.current)
        if older is not None:
            self._roll_back(older, now)
        elif not self.processes.booting_molds():
            self._orders.tell(self.crashes.fail(now))
        for mold in self.processes.booting_molds():
            if mold.state is MoldState.MEASURING:  # it will not hear from the one that is gone
                self._measure(mold, now)

    def _on_worker_ready(self, worker_id: int, now: float) -> None:
        worker = self.processes.workers.get(worker_id)
        if worker is None or worker.state is not WorkerState.STARTING:
            return
        self.ever_ready = True
        worker.become(WorkerState.READY, now + self.policy.heartbeat_timeout)
        worker.ready_at, worker.proven_at = now, now + PROBATION
        if self.policy.canary and self._comes_first(worker):
            worker.proven_at = now + max(PROBATION, self.policy.canary)
            self.canary = Canary(worker.worker_id, worker.proven_at, now)
            text = f"the first worker of generation {worker.generation} is watched for {self.policy.canary:g} s"
            self._announce("canary_started", text, generation=worker.generation, seconds=self.policy.canary)

    def _comes_first(self, worker: WorkerHandle) -> bool:
        """Whether it is the first of new code, beside workers of older code that it can be compared with."""
        others = [other for other in self.processes.ready() if other is not worker]
        return self.rollout.begun and bool(others) and all(other.generation < worker.generation for other in others)

    def _on_sampled(self, samples: Mapping[int, Sample], now: float) -> None:
        canary, older = self.canary, self.processes.older_mold(self.current)
        if canary is None:
            return
        worse = canary.look(samples, now)
        if worse and older is not None:
            self.rollout.last_words = Failure("canary", "", f"its first worker is worse than the old ones: {worse}")
            self._roll_back(older, now)
        elif now >= canary.ends:
            self.canary = None
            text = f"the first worker of generation {self.current} is no worse than the old ones: {canary.numbers}"
            self._announce("canary_passed", text, generation=self.current)

    def _on_worker_failed(self, worker_id: int, failure: Failure) -> None:
        worker = self.processes.workers.get(worker_id)
        if worker is not None and worker.generation == self.current:
            self.rollout.last_words = failure

    def _on_heartbeat(self, worker_id: int, beat: float) -> None:
        worker = self.processes.workers.get(worker_id)
        if worker is not None and worker.beats:
            worker.beat(beat + self.policy.heartbeat_timeout)

    def _on_recycle(self, worker_id: int) -> None:
        worker = self.processes.workers.get(worker_id)
        if worker is not None and not self.ending:  # a TERM of the whole process group has reached the workers too
            worker.recycle = True

    def _on_worker_closed(self, worker_id: int) -> None:
        worker = self.processes.workers.get(worker_id)
        if worker is not None:
            worker.closed = True

    def _on_worker_gone(self, worker_id: int, now: float) -> None:
        worker = self.processes.workers.pop(worker_id)
        if self.canary is not None and self.canary.worker_id == worker_id:
            self.canary = None
        if self.stopping or worker.leaving or worker.generation != self.current:
            return
        if worker.ready_at == inf or now - worker.ready_at < STABLE:
            self._orders.tell(self.crashes.fail(now))

    # -- steps --------------------------------------------------------------------------------------------------------

    def _boot_mold(self, now: float) -> None:
        generation = self.processes.next_generation()
        if self.ever_ready:
            self._orders.tell(self.rollout.begin(generation))
        self._orders.boot_mold(generation, now + self.policy.boot_timeout)

    def _measure(self, mold: MoldHandle, now: float) -> None:
        """Have the generation in force answer first; where its mold is gone, what it last answered must do."""
        judge = self.processes.molds.get(self.current)
        if judge is None or judge.state is not MoldState.READY or not self.ever_ready:
            mold.measure, mold.measured_by = (self._known, self.current) if self.ever_ready else (None, 0)
            self._probe(mold, now)
            return
        if mold.state is MoldState.BOOTING:
            mold.become(MoldState.MEASURING, now + PROBE_WAIT)
        self._orders.probe(judge.generation, mold.generation)

    def _probe(self, mold: MoldHandle, now: float) -> None:
        mold.become(MoldState.PROBING, now + PROBE_WAIT)
        self._orders.probe(mold.generation, mold.generation)

    def _judge(self, mold: MoldHandle, answers: Answers, now: float) -> None:
        strict = mold.measure is None and mold.policy is not None and mold.policy.strict
        refused = probing.bad(answers) if strict else probing.worse(mold.measure, answers)
        if not refused:
            self._warn_of(mold, answers)
            self._known = answers
            self._trust(mold, now)
            return
        mold.failure = failure = probing.failure(refused, mold.measured_by)
        text = f"generation {mold.generation} does not answer as it must: {failure}"
        self._announce("mold_failed", text, level="error", generation=mold.generation, **asdict(failure))
        self._orders.stop_mold(mold, now)
        self._boot_failed(mold, now, failure)

    def _warn_of(self, mold: MoldHandle, answers: Answers) -> None:
        """Bad answers that are no reason to refuse: there is nothing better."""
        for question, answer in probing.worth_telling(answers).items():
            text = f"generation {mold.generation}, {question}: {answer.text}"
            fields = {"generation": mold.generation, "question": question, "error": answer.text}
            self._announce("probe_failed", text, level="warning", **fields, traceback=answer.traceback)

    def _trust(self, mold: MoldHandle, now: float) -> None:
        """Its workers may come."""
        mold.become(MoldState.READY, inf)
        mold.measure = None
        self._switch_to(mold)
        for older in self.processes.older_molds(mold.generation)[
            :-KEPT_MOLDS
        ]:  # a row of HUPs does not fill the memory
            self._orders.stop_mold(older, now)

    def _switch_to(self, mold: MoldHandle) -> None:
        """New workers come from *mold* from now on."""
        self.current, self.scaled, self.canary = mold.generation, None, None
        self.crashes.forget()
        self.policy = mold.policy or self.policy
        self.sized = min(max(self.sized, self.policy.workers), self.policy.most_workers)
        self._orders.given.append(do.AdoptConfig(mold.generation))

    def _roll_back(self, older: MoldHandle, now: float) -> None:
        failed = self.current
        self._announce(
            "rollback",
            f"generation {failed} failed; generation {older.generation} goes on",
            level="error",
            generation=failed,
            to=older.generation,
        )
        bad = self.processes.molds.get(failed)
        self._switch_to(older)
        if bad is not None:
            self._orders.stop_mold(bad, now)
        words = self.rollout.last_words or Failure("workers", "", "its workers die")
        self._orders.tell(*self.rollout.fail(failed, self.current, words))

    def _retire(self, worker: WorkerHandle, now: float, *, grace: float) -> None:
        self._orders.retire(worker, now, grace, empty_backlog=self.stopping)

    def _announce(self, name: str, message: str, level: str = "info", **fields: Any) -> None:
        self._orders.tell(do.Announce(name, level, message, fields))

    def _give_up(self, now: float) -> None:
        self.stopping = True
        self._exit_code = EXIT_BOOT
        self._wind_down(now)

    def _forgive_suspension(self, now: float) -> None:
        """A laptop that slept, a stopped process group: no time has passed for our children either."""
        lost = now - self._expected
        if lost > OVERSLEPT:
            for process in self.processes:
                process.forgive(lost + OVERSLEPT)  # and a moment to beat

    # -- policy -------------------------------------------------------------------------------------------------------

    def _needs_mold(self) -> bool:
        mold = self.processes.molds.get(self.current)
        return mold is None or mold.state is not MoldState.READY

    def _reconcile(self, now: float) -> None:
        if self.stopping:
            self._wind_down(now)
        elif self._exhausted() and not self.rollout.queued:
            self._give_up(now)
        else:
            self._approach_target(now)

    def _approach_target(self, now: float) -> None:
        if self._exhausted():  # and newer code was asked for meanwhile
            self._boot_queued(now)
        self._bring_back_old_code(now)
        self._shrink(now)
        if self.crashes.may_try(now):
            self._grow(now)
        self._complete_rollout(now)
        if self.rollout.queued and self.ever_ready and not self.rolling:
            self._boot_queued(now)

    def _boot_queued(self, now: float) -> None:
        self.rollout.queued = False
        self._boot_mold(now)

    def _bring_back_old_code(self, now: float) -> None:
        older = self.processes.older_mold(self.current)
        if self.crashes.retries_are_over and older is not None:
            self._roll_back(older, now)
        for worker in self.processes.starting():
            if worker.generation != self.current:  # of a generation that was given up
                self._retire(worker, now, grace=0.0)

    def _grow(self, now: float) -> None:
        if self._needs_mold():
            if not self.processes.booting_molds() and not self.ending:
                self._boot_mold(now)
            return
        while self._may_spawn():
            self._orders.spawn(self.current, now + self.policy.boot_timeout)

    def _may_spawn(self) -> bool:
        if self.crashes.failures and self.processes.starting():  # in a crash loop, one at a time
            return False
        if self.policy.canary and self.rollout.begun and self.processes.outdated(self.current) and self._has_new():
            return False  # it is watched by itself, however many are wanted
        return replacement.may_spawn(self.processes, self.current, self.target)

    def _has_new(self) -> bool:
        """Whether there is new code that has not proved itself yet."""
        new = [worker for worker in self.processes.alive() if worker.generation == self.current]
        return bool(new) and not any(worker.proven for worker in new)

    def _shrink(self, now: float) -> None:
        for worker in replacement.surplus(self.processes, self.current, self.target):
            self._retire(worker, now, grace=self.policy.graceful_timeout)

    def _complete_rollout(self, now: float) -> None:
        """Say so; keep the old mold until the new workers are stable, for code that dies late."""
        if not self._all_new():
            return
        if self.rollout.begun and not self.processes.booting_molds():
            self._orders.tell(self.rollout.finish(self.current))
        if self._only_age_is_missing() and now >= replacement.stable_at(self.processes, self.current):
            for mold in self.processes.older_molds(self.current):
                self._orders.stop_mold(mold, now)

    def _all_new(self) -> bool:
        """Whether only new workers accept. Until then the old mold is kept, so that the next reload waits for this one."""
        complete = replacement.is_complete(self.processes, self.current, self.target)
        return complete and not self.processes.half_closed(self.current)

    def _only_age_is_missing(self) -> bool:
        return not self.crashes.failures and bool(self.processes.older_molds(self.current)) and self._all_new()

    def _wind_down(self, now: float) -> None:
        self.crashes.put_off_nothing()
        for worker in self.processes.alive():
            self._retire(worker, now, grace=self.policy.graceful_timeout)
        for mold in self.processes.molds.values():
            if mold.coming:
                self._orders.kill_mold(mold, now, "stopping")
            elif mold.state is MoldState.READY:
                self._orders.stop_mold(mold, now)
        if not self.processes.workers and not self.processes.molds:
            self._orders.given.append(do.Exit(self._exit_code))
