"""Who runs a program: we, and Django's engine after us.

Ours may refuse a step: the pool has no connection in time, the session was lost. What follows then depends on the steps
that did not run. So Django's engine *follows*: where ours refused it raises a refusal in place of the step, and runs the
rest. All else must be the same. What must not be: a step that runs although the one before it, on which it relies, was
refused. That is `doom`: in a transaction until its end, after a refused SET until the rollback, `close()` or the end of the
request.
"""

from __future__ import annotations

import re
import traceback
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import gevent

from tests.db.contract.fuzz.kinds import KINDS, Kind
from tests.db.contract.fuzz.programs import Program, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.db.contract.fuzz.stage import Stage
    from tests.db.lease.site import Site

Path = tuple[int, ...]
#: How libraries say that the server has ended the session, or that they have noticed it.
GONE = re.compile(
    r"terminat|server closed|connection (?:is |was |already )*(?:closed|lost|killed)|gone away|lost connection"
    r"|connection not open|no connection to the server|cursor already closed|SSL|broken|\((?:0|2006|2013), ''\)"
    r"|Packet sequence|reset by peer|was killed",
    re.IGNORECASE,
)
#: What PostgreSQL and psycopg 3 say of a transaction in which a statement was ended.
ABORTED = re.compile("current transaction is aborted|INERROR")
#: Seconds. A program takes some tenths of one; one that takes so long hangs.
HANGS = 12.0
REFUSALS = ("PoolTimeout", "TooManyWaiting", "ServerUnavailable", "ConnectionLost", "ReadBackLost")


#: A commit that was refused: what was refused before it is known already.
UNCOMMITTED = "nothing to commit"
#: Kinds that Django always puts into a block: its COMMIT or ROLLBACK is that of a transaction by hand, too.
BLOCKS = ("delete", "updated_or_created", "bulk_created")
#: In the arguments of a kind whose other arguments leave something in the session.
LEAVES_NOTHING = re.compile(r"RELEASE_LOCK|IS_USED|_unlock|_xact_|UNLOCK|EXECUTE|DEALLOCATE|'true'|'t'|1::bool")
UNUSABLE = {"InterfaceError", "OperationalError", "TransactionManagementError"}


class Refused(Exception):
    """Django's engine, in place of a step that ours has refused."""


def _is_whole(kind: Kind) -> bool:
    """Whether its statements stand in a block of its own."""
    return "whole" in kind.run.__code__.co_names


def is_rollback(step: Step) -> bool:
    """By whatever door."""
    return step.kind == "rolled_back" or "rollback" in step.args or "ROLLBACK" in step.args


@dataclass(frozen=True)
class Outcome:
    """What a step came to.

    classes: of its exception, with all bases; empty if there was none. marked: Django will roll the block back. gone: Django
    has given up its connection, because a rollback has failed. inside: Django believes itself in a block, also where the
    savepoint at its beginning failed.
    """

    text: str
    classes: tuple[str, ...] = ()
    refused: bool = False
    marked: bool = False
    gone: bool = False
    inside: bool = False

    def same(self, stock: Outcome) -> bool:
        """Whether this, of ours, is as good as that of Django's engine."""
        if not stock.classes:
            return not self.classes and self.text == stock.text
        if stock.classes[0] in self.classes:
            return True
        # A connection that was closed: Django's engine lets the library speak, ours may say it in Django's words.
        return bool(GONE.search(stock.text)) and not UNUSABLE.isdisjoint(self.classes)

    def __str__(self) -> str:
        return f"{self.classes[0]}: {self.text}" if self.classes else self.text


class Session:
    """[either side] One request's view while it runs a program. `number`: which of the neighbours it is."""

    strikes_after = 0.01  # seconds, until a statement that waits is cut
    was_ended = False  # whether the server has been told to end a statement, which fails its transaction

    def __init__(self, stage: Stage, number: int) -> None:
        self.stage, self.number = stage, number
        self.site: Site = stage.site
        self.model = stage.models[number]
        self.table: str = self.model._meta.db_table
        self.alias, self.database = self._place()
        self.second = {"default": "other", "stock": "stock_other"}[self.alias]
        self.cursors: dict[int, Any] = {}
        self.memory: dict[Any, Any] = {}
        self.log: list[Any] = []
        self.by_hand = False
        self.seen: Any = None  # what was in `connection.connection` after the step before
        self.running = ""
        #: Of hooks that have run, by the step in which they did and their place in it: whether it was refused.
        self.hooks: dict[tuple[Path, int], bool] = {}
        self.trace: dict[Path, Outcome] = {}
        self._path: Path = ()
        self._body: Program = ()

    def _place(self) -> tuple[str, str]:
        raise NotImplementedError

    @property
    def connection(self) -> Any:
        """Django's."""
        from django.db import connections

        return connections[self.alias]

    @property
    def rows(self) -> Any:
        """The program's own table."""
        return self.model.objects.using(self.alias)

    def forget(self) -> None:
        """A connection is over, and what belonged to it."""
        self.cursors.clear()
        self.memory.clear()
        self.by_hand = False

    def hook(self) -> None:
        """What runs after a commit. Django swallows its exception where the hook is robust, and a refusal is one."""
        place = self._path, sum(path == self._path for path, _ in self.hooks)
        self.hooks[place] = True
        self.hooks[place] = self.hook_is_refused(place)
        try:
            found = self.rows.count()
        except Exception as error:
            self.hooks[place] = self.is_refusal(error)
            raise
        self.log.append(("hook", found))

    def hook_is_refused(self, place: tuple[Path, int]) -> bool:
        """Whether this one shall not run; raises Refused if it may not."""
        return False

    def not_by_hand(self) -> None:
        """Django's transactions and a BEGIN by hand do not mix; how a library says so is its own affair."""
        if self.by_hand:
            raise ValueError("a transaction by hand is open")

    def ended(self) -> None:
        """The library has ended what was open. In autocommit psycopg2 does nothing, not even where a BEGIN was sent by hand."""
        self.by_hand = self.by_hand and self.site.driver == "psycopg2"

    def alone(self) -> bool:
        """Whether a statement that has run is committed."""
        return self.connection.get_autocommit() and not self.connection.in_atomic_block and not self.by_hand

    def whole(self) -> Any:
        """For a step of several statements: all of them, or none."""
        from django.db import transaction

        self.not_by_hand()
        return transaction.atomic(using=self.alias)

    # -- running ----------------------------------------------------------------------------------------------------------

    def play(self, program: Program) -> None:
        """Run it as a request. What it leaves behind is for the end of the request."""
        from django.core.signals import request_finished, request_started

        request_started.send(sender=None, environ={"REQUEST_METHOD": "GET", "PATH_INFO": f"/fuzz/{self.number}"})
        try:
            self.steps(program, ())
        except (Exception, gevent.GreenletExit, gevent.Timeout):  # noqa: BLE001 - it is in the trace
            pass
        finally:
            self.cursors.clear()
            request_finished.send(sender=None)

    def steps(self, program: Program, path: Path) -> None:
        """Run steps one after the other."""
        for place, step in enumerate(program):
            self.step((*path, place), step)

    def inside(self) -> None:
        """Run the steps inside the present one."""
        path, body = self._path, self._body
        try:
            self.steps(body, path)
        finally:
            self._path, self._body = path, body

    def step(self, path: Path, step: Step) -> None:
        """Run one, and note what it came to."""
        self._path, self._body = path, step.body
        self.running = f"step {path} {step.kind}{step.args}"
        try:
            outcome = Outcome(self.plain(self.run(path, step)))
        except (Exception, gevent.GreenletExit, gevent.Timeout) as error:
            outcome = self.judged(error)
            self.note(path, step, outcome)
            if not step.swallow or isinstance(error, gevent.GreenletExit):
                raise
        else:
            self.note(path, step, outcome)

    def run(self, path: Path, step: Step) -> Any:
        """The step itself."""
        return KINDS[step.kind].run(self, *step.args)

    def note(self, path: Path, step: Step, outcome: Outcome) -> None:
        """Keep it, and what Django thinks of the connection."""
        c = self.connection
        gone = self.seen is not None and c.connection is not self.seen
        self.seen = c.connection
        if step.kind in BLOCKS and not c.in_atomic_block:
            self.by_hand = False
        self.trace[path] = replace(outcome, marked=c.needs_rollback, gone=gone, inside=c.in_atomic_block)
        if gone:
            self.forget()

    def plain(self, value: Any) -> str:
        """A value as text that does not depend on the side."""
        return re.sub(r"[<(]?(\w+) at 0x[0-9a-f]+>?", r"\1", repr(value)).replace(self.database, "THE_DATABASE")

    def judged(self, error: BaseException) -> Outcome:
        """An exception as data."""
        classes = tuple(kind.__name__ for kind in type(error).__mro__)
        return Outcome(str(error)[:300], classes, self.is_refusal(error))

    def is_refusal(self, error: BaseException) -> bool:
        """Whether the step may be taken as one that did not run."""
        raise NotImplementedError

    # -- where the sides differ -------------------------------------------------------------------------------------------

    def pause(self, seconds: float) -> None:
        """Let the neighbours run."""

    def refuse_if_lost(self) -> None:
        """Where ours has lost its connection, or refuses for a step that did not run."""

    def starve(self) -> Any:
        """A context in which the pool lends nothing."""
        return nullcontext()

    def lose(self) -> None:
        """Have the server end our session."""

    def before_commit(self) -> None:
        """The end of a block that is going to be committed."""

    def usable(self, value: bool) -> bool:  # noqa: FBT001
        """The answer of `is_usable()`."""
        return value


class Ours(Session):
    """Our engine, with neighbours."""

    def _place(self) -> tuple[str, str]:
        return "default", self.stage.site.database

    def is_refusal(self, error: BaseException) -> bool:
        """Ours, a time-out of gevent's; after a session was ended, what the library says of it."""
        if isinstance(error, gevent.Timeout | Refused):
            return True
        names = {kind.__name__ for kind in type(error).__mro__}
        if names.intersection(REFUSALS) or (
            self.was_ended and not self.connection.in_atomic_block and ABORTED.search(str(error))
        ):  # a block of Django's is refused by the lease itself
            return True
        return self.stage.sessions_ended and bool(
            names & {"OperationalError", "InterfaceError", "Error"} and GONE.search(str(error))
        )

    def run(self, path: Path, step: Step) -> Any:
        """What is read of a connection that was lost says so, or what it said last."""
        value = super().run(path, step)
        lease = self.connection.lease
        if step.kind.startswith("read_") and KINDS[step.kind].idle and lease is not None and lease.lost:
            raise Refused("of a connection that was lost")
        return value

    def usable(self, value: bool) -> bool:  # noqa: FBT001
        """It raises nothing: a refusal is False."""
        if not value and (self.stage.sessions_ended or self.stage.starved or self.connection.lease.lost):
            raise Refused("is_usable() is False")
        return value

    def refuse_if_lost(self) -> None:
        """As told by `lost`."""
        if self.connection.lease is not None and self.connection.lease.lost:
            raise Refused("the connection is lost")

    def pause(self, seconds: float) -> None:
        """Sleep: this is when others use our connection."""
        gevent.sleep(seconds)

    @contextmanager
    def starve(self) -> Iterator[None]:
        """Borrow all that comes free, and let the step wait for a moment only."""
        with self.stage.borrowed_all(), self.stage.short_patience():
            yield

    def lose(self) -> None:
        """Those that are idle are borrowed for it, so that no statement of a neighbour is cut in two."""
        lease = self.connection.lease
        held = lease.held() if lease is not None else None
        with self.stage.borrowed_all() as borrowed:
            self.stage.end_sessions([*borrowed, *([held] if held is not None else [])])


class Stock(Session):
    """Django's engine, which follows ours."""

    strikes_after = (
        5.0  # what was cut with ours does not run here, and what failed with ours before it was cut is to fail here
    )

    def __init__(self, stage: Stage, number: int, ours: Ours) -> None:
        super().__init__(stage, number)
        self.ours = ours.trace
        self.refused_hooks = {place for place, refused in ours.hooks.items() if refused}
        self.hurt = stage.sessions_ended or any(outcome.refused for outcome in self.ours.values())
        self.doom = self.why = ""
        self.was_put_inside = False
        self.differences: list[str] = []

    def _place(self) -> tuple[str, str]:
        return "stock", self.stage.twin

    def hook_is_refused(self, place: tuple[Path, int]) -> bool:
        """As ours was."""
        if place in self.refused_hooks:
            raise Refused("a hook that was refused")
        return False

    def is_refusal(self, error: BaseException) -> bool:
        """Only those that we have raised ourselves."""
        return isinstance(error, Refused)

    def in_transaction(self) -> bool:
        """As the program sees it."""
        c = self.connection
        return c.in_atomic_block or self.by_hand or (c.connection is not None and not c.get_autocommit())

    def run(self, path: Path, step: Step) -> Any:
        """As ours, unless ours has refused it."""
        ours = self.ours.get(path)
        known = KINDS[step.kind]
        if ours is None:
            return super().run(path, step)
        if step.kind == "killed" and "GreenletExit" in ours.classes:
            raise gevent.GreenletExit
        entered = known.block and any(inner[: len(path)] == path and inner != path for inner in self.ours)
        if ours.refused and not entered:
            if (known.leaves or not known.idle) and "ReadBackLost" not in ours.classes and UNCOMMITTED not in ours.text:
                self.why = f"{step.kind} ({ours})"
                leaves = known.leaves and not LEAVES_NOTHING.search(str(step.args))
                self.doom = self.doom or ("transaction" if self.in_transaction() else "session" if leaves else "")
            if step.kind == "executed_on":
                self.cursors.pop(step.args[0], None)
            if _is_whole(known) and "ConnectionLost" not in ours.classes:
                with self.whole():  # ours was in it, and psycopg2's `set_session()` is over with a transaction
                    raise Refused(ours)
            raise Refused(ours)
        if self.doom and not ours.classes:
            self._doomed(path, step, ours)
        return super().run(path, step)

    def _doomed(self, path: Path, step: Step, ours: Outcome) -> None:
        known = KINDS[step.kind]
        if is_rollback(step):
            return
        if not known.idle or (step.kind == "committed" and self.doom == "transaction"):
            self._differs(path, step, ours, f"refused: this {self.doom} relies on a step that was refused, {self.why}")
        elif step.kind == "autocommit_on" and not self.connection.in_atomic_block:
            self.connection.rollback()

    def note(self, path: Path, step: Step, outcome: Outcome) -> None:
        """Compare, and see whether a doom is over."""
        before = self.seen
        super().note(path, step, outcome)
        ours = self.ours.get(path)
        if ours is None or not (
            (outcome.refused and ours.refused) or ours.same(outcome) or self._only_closes(step, outcome)
        ):
            self._differs(path, step, ours, str(outcome))
        if ours is not None and ours.marked and self.hurt:
            # It was refused a savepoint's end, or a step that Django marks a block for.
            self.connection.needs_rollback = True
        if ours is not None and ours.refused and ours.inside is not self.connection.in_atomic_block:
            self._follow(ours.inside)
        if ours is not None and ours.gone and self.hurt and self.connection.connection is before is not None:
            self.connection.close()  # a rollback has failed with ours
            self.forget()
        if step.kind in ("closed", "next_request") or (is_rollback(step) and not outcome.classes):
            self.doom = ""
        if self.doom == "transaction" and not self.in_transaction():
            self.doom = ""

    def _follow(self, inside: bool) -> None:  # noqa: FBT001
        """A block that began or ended without autocommit, in a step that was refused: Django's flag stays as it left it."""
        if inside or self.was_put_inside:
            self.connection.in_atomic_block, self.connection.commit_on_exit = inside, False
            self.was_put_inside = inside

    @staticmethod
    def _only_closes(step: Step, outcome: Outcome) -> bool:
        """mysqlclient looks for more results when a cursor is closed, of a connection that is closed too."""
        return step.kind == "closed_cursor" and bool(GONE.search(outcome.text))

    def before_commit(self) -> None:
        """A block whose end ours has refused is rolled back."""
        ours = self.ours.get(self._path)
        if ours is None:
            return
        if ours.refused:
            raise Refused(ours)
        c = self.connection
        if self.doom == "transaction" and not ours.classes and not c.savepoint_ids and not c.needs_rollback:
            self.differences.append(
                f"neighbour {self.number}, step {self._path}: a block with a refused step was committed"
            )

    def _differs(self, path: Path, step: Step, ours: Outcome | None, right: str) -> None:
        where = f"neighbour {self.number}, step {path} {step.kind}{step.args}"
        self.differences.append(f"{where}:\n      ours:   {ours}\n      Django: {right}")


@dataclass
class Round:
    """One run of some programs, on both sides."""

    stage: Stage
    programs: tuple[Program, ...]
    differences: list[str] = field(default_factory=list)
    steps: int = 0
    refused: int = 0

    def run(self) -> list[str]:
        """What was different."""
        stage = self.stage
        stage.reset()
        ours = [Ours(stage, number) for number in range(len(self.programs))]
        running = [gevent.spawn(one.play, program) for one, program in zip(ours, self.programs, strict=True)]
        gevent.joinall(running, timeout=HANGS)
        hanging = [greenlet for greenlet in running if not greenlet.dead]
        if hanging:
            frames = "".join(traceback.format_stack(hanging[0].gr_frame, limit=8))
            steps = ", ".join(f"neighbour {one.number}, {one.running}" for one in ours)
            self.differences.append(f"{len(hanging)} of {len(running)} programs hang ({steps}), one here:\n{frames}")
            gevent.killall(hanging)
            return self.differences
        # Named locks and a time-out's abandoned query are the server's, in both databases.
        self.differences += stage.returned()
        for one, program in zip(ours, self.programs, strict=True):
            stock = Stock(stage, one.number, one)
            gevent.spawn(stock.play, program).get()
            self.differences += stock.differences
            self.steps += len(one.trace)
            self.refused += sum(outcome.refused for outcome in one.trace.values())
        self.differences += stage.left_behind()
        return self.differences
