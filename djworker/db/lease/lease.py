"""The lease: what Django sees as `connection.connection`. It decides for how long a physical connection is held.

A statement takes a connection when it runs. In autocommit mode the connection goes back at once, inside `atomic()` when
the transaction has ended, with session state on it at the end of the request. BEGIN is lazy: without a statement there is
no round trip. Both Django's mode and the wire decide, for MySQL's DDL commits on its own, and any code may send a raw BEGIN.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from gevent import getcurrent
from gevent.lock import BoundedSemaphore

from djworker.db.drivers.base import UNTOLD
from djworker.db.lease.errors import ConnectionLost, LeaseClosed, ReadBackLost, StatementRunning
from djworker.db.lease.pinning import PLAIN, PROBE, Verdict
from djworker.db.lease.raw_names import LIBRARY
from djworker.db.lease.read_backs import ReadBacks
from djworker.db.lease.session_settings import EMPTY, Profile, Setting, kept_for, read_settings
from djworker.db.observe.labels import label_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from greenlet import greenlet

    from djworker.db.lease.leased_pool import LeasedPool
    from djworker.db.lease.protocols import RawConnection

#: Seconds. A connection that came back so recently was alive then; a look at its socket costs as much as the rest of a lease.
JUST_NOW: Final = 0.002


P = ParamSpec("P")
T = TypeVar("T")


class Lease:
    """[worker] One request's right to connections of one pool.

    Not bound to a greenlet but to its Django connection; `turn` keeps two greenlets that share that from using it at once.

    `lost` says why nothing runs any more: a connection was lost with something on it, or a statement that later ones rely on
    did not run. A loss in a transaction is over with its rollback, any other with `close()`.
    """

    conn: Any = None  # the physical connection, while we hold one
    closed = False
    is_opened = False  # whether its connection was looked behind
    is_cleared = False  # whether nothing of others was left in it then
    lost = ""

    def __init__(self, leased_pool: LeasedPool) -> None:
        self.leased_pool = leased_pool
        self.pool = leased_pool.pool
        self.driver = leased_pool.driver
        self.turn = BoundedSemaphore(1)
        self.user: greenlet | None = None  # the greenlet whose turn it is, or was
        self.autocommit_mode = True  # what Django wants, and what the connection that we hold is in
        self._mode = True
        self.pins: dict[str, bool] = {}  # by reason: whether the session must be wiped for it
        self.holds = 0  # open server-side cursors, COPYs, results with more to come, and sticky blocks
        self.sticky = 0  # how many of these are sticky blocks
        self.dirty = False  # to be reset when it goes back
        self.profile: Profile = EMPTY
        self.label = label_of(getcurrent())
        self._keeps_all = leased_pool.keeps_all
        self._strict = leased_pool.strict
        self.read_backs = ReadBacks(leased_pool.contract, leased_pool.driver)
        self._ticket = 0
        self._owner: Any = None
        self._by_hand = False  # a transaction that the wire shows and Django does not know
        self._pending: list[Setting] = []  # made in the open transaction
        self._lost_in_transaction = False

    def __repr__(self) -> str:
        words = [*self.pins, *(["lost"] if self.lost else []), *(["closed"] if self.closed else [])]
        return f"<lease of {self.leased_pool.alias!r}, holds {self.conn!r}{''.join(f', {word}' for word in words)}>"

    @property
    def made(self) -> int:
        """The last number of a row that a statement has made; UNTOLD if the library does not tell it."""
        return self.read_backs.made

    # -- a statement ------------------------------------------------------------------------------------------------

    @contextmanager
    def statement(self, verdict: Verdict) -> Iterator[None]:
        """The long way to the turn: wait for it, or find that this greenlet is inside a statement already.

        Parameters that are made while they are sent may query, for instance. The statement inside gives nothing back.
        """
        if self.inside():
            self.refuse_if_sending(verdict)
            self.holds += 1
            try:
                yield
            finally:
                self.holds -= 1
            return
        try:
            self.turn.acquire()
        except BaseException:
            self.missed(verdict)
            raise
        self.user = getcurrent()
        try:
            yield
        finally:
            self.turn.release()

    def inside(self) -> bool:
        """Whether the calling greenlet is in the middle of a statement of this lease."""
        return self.turn.locked() and self.user is getcurrent()

    def refuse_if_sending(self, verdict: Verdict = PLAIN) -> None:
        """Raise StatementRunning where the library would wait for its own greenlet, for ever."""
        if self.conn is not None and self.inside() and self.driver.occupied(self.conn):
            self.missed(verdict)
            raise StatementRunning(
                "another statement of this connection is being sent or read by the same greenlet (parameters that query while"
                " they are adapted, or a query inside of copy() or stream()): run one before the other"
            )

    def take(self, verdict: Verdict = PLAIN) -> Any:
        """The physical connection for one statement, in the state that the lease has promised."""
        try:
            conn = self.conn
            if conn is None or (self._owner.dead and self.held() is None):
                conn = self._acquire(verdict)
            elif self.lost or verdict.reads:
                self._check_held(conn, verdict)
            record = conn.lease_record
            record.statements += 1  # see `long_holds`
            if verdict.writes and record.numbers != record.turn and self.leased_pool.contract.clears_numbers:
                self._forget_numbers(conn)
            if self._mode is not self.autocommit_mode:
                self._guarded(self.driver.set_autocommit, conn, self.autocommit_mode)
                self._mode = self.autocommit_mode
        except BaseException:
            self.missed(verdict)
            raise
        return conn

    def missed(self, verdict: Verdict) -> None:
        """A statement did not run. Its error may be swallowed: what relies on it is refused from now on.

        Inside a transaction that is every other statement; outside, where it was to leave something in the session, or a
        sticky block was to keep that.
        """
        if verdict is PROBE:
            return
        if not verdict.reads:
            self.read_backs.missed()
        if self._by_hand or not self.autocommit_mode:
            self._refuse_from_now("a statement of this transaction did not run")
        elif verdict.relied_on or self.sticky:
            self._refuse_from_now("a statement that was to leave something in the session did not run")

    def _refuse_from_now(self, why: str) -> None:
        if not self.lost:
            self.lost, self._lost_in_transaction = why, not self.autocommit_mode

    def done(self, verdict: Verdict, sql: object, params: object) -> None:
        """The statement succeeded: note what it left behind, and give the connection back if nothing ties us to it."""
        if verdict is not PLAIN:
            self._note(verdict, sql, params)
        if self.autocommit_mode and not self.pins and not self.holds and not self._keeps_all:
            self.release_if_free()

    def failed(self, verdict: Verdict = PLAIN) -> None:
        """A statement raised, or its greenlet was killed in it. A connection that is not at rest is never used again."""
        error = sys.exception()
        self.leased_pool.client_library.cut_error(error)
        if self.conn is None:
            return
        ended = self.driver.ended(self.conn, error)
        self._note_failure(self.conn, verdict, error, ended)
        if ended is not None and ended is not error:
            raise ended

    def _note_failure(
        self, conn: RawConnection, verdict: Verdict, error: BaseException | None, ended: BaseException | None
    ) -> None:
        suspect = self.leased_pool.heard(error, conn)
        self.leased_pool.contract.failed(conn, error)
        if self.driver.busy(conn) or self.driver.is_broken(conn) or (ended is not None and self.leased_pool.ends_late):
            self._lose(verdict)
            return
        self.dirty = self.dirty or suspect or ended is not None
        if self.lost:
            return  # it was refused before it ran, on a connection that is held
        if verdict.writes:
            if self.read_backs.number_taken(conn):
                self.pin("a number of a sequence")
            self.read_backs.made = UNTOLD  # of rows that are no more the server may tell, or not
        if ended is not None and (self._by_hand or not self.autocommit_mode):
            self._refuse_from_now("the request was ended inside this transaction")
            return
        unknown = (
            verdict.of_sequence and self.read_backs.numbers_lost and self.leased_pool.contract.has_no_number(error)
        )
        if left := self.leased_pool.contract.left_by_failed(verdict):
            self.pin(left)
        self.release_if_free()
        if unknown:
            raise self._read_back_lost(verdict)

    def release_if_free(self) -> None:
        """Give the connection back unless something ties us to it."""
        conn = self.conn
        if conn is None or self.holds or self.pins or self._keeps_all or not self.autocommit_mode:
            return
        if self.driver.in_transaction(conn):
            self._by_hand = True
            return
        if self._by_hand:
            self._by_hand = False
            self._ended(committed=None)
            if self.pins:
                return
        if not self._mode:
            self._guarded(self.driver.set_autocommit, conn, True)
        self._give_back()

    def _give_back(self) -> None:
        conn, self.conn = self.conn, None
        reset = self.dirty or self._strict
        self.dirty = False
        record = conn.lease_record
        record.used_at = monotonic()
        if record.spoilt:
            self.pool.discard(conn, ticket=self._ticket)
        else:
            self.pool.release(conn, reset=reset, ticket=self._ticket)

    # -- taking -----------------------------------------------------------------------------------------------------

    def refuse_if_over(self) -> None:
        """Raise LeaseClosed or ConnectionLost where nothing runs any more."""
        if self.closed:
            raise LeaseClosed("the connection is closed")
        if self.lost:
            raise ConnectionLost(self._why_refused())

    def _acquire(self, verdict: Verdict) -> Any:
        if self.closed or self.lost:
            self.refuse_if_over()
        if verdict.reads:
            return self._acquire_same(verdict)
        pool = self.pool
        while True:
            conn = pool.acquire(prefer=self.read_backs.last, label=self.label)
            record = conn.lease_record
            if monotonic() - record.used_at > JUST_NOW and self.driver.is_broken(conn):
                pool.discard(conn)  # it died while it was idle; the pool itself looks after a longer quiet time only
                continue
            self._took(conn)
            profile = self.profile
            if record.profile is profile or record.profile == profile or self._replayed(conn):
                return conn

    def _why_refused(self) -> str:
        remedy = "until the rollback" if self._lost_in_transaction else "until the connection is closed"
        return f"{self.lost}; nothing runs {remedy} (roll back, or close)"

    def _took(self, conn: RawConnection) -> None:
        self.conn = conn
        self._ticket = self.pool.ticket(conn)
        self._owner = getcurrent()
        self._mode = True
        self.read_backs.took(conn)

    def _acquire_same(self, verdict: Verdict) -> Any:
        """For a read-back: the session that the earlier statement ran in, or none."""
        wanted = self.read_backs.session_for(verdict)
        if wanted is not None:
            conn = self.pool.acquire(prefer=wanted, label=self.label)
            if (
                conn is wanted
                and self.read_backs.session_for(verdict) is conn
                and not self.driver.is_broken(conn)
                and self.read_backs.tells_of_us(conn, verdict)
            ):
                self._took(conn)
                if conn.lease_record.profile == self.profile or self._replayed(conn):
                    self._prove(conn, verdict)
                    return conn
            else:
                self.pool.release(conn)
        raise self._read_back_lost(verdict)

    def _check_held(self, conn: RawConnection, verdict: Verdict) -> None:
        """Raise where a statement was refused that the others rely on: in the server it would have ended its transaction."""
        if self.lost:
            raise ConnectionLost(self._why_refused())
        if verdict.reads:
            self._check_left_by_us(conn, verdict)

    def _check_left_by_us(self, conn: RawConnection, verdict: Verdict) -> None:
        """Raise unless this lease has left what the statement asks for: others have used the session before it was held."""
        if not self.read_backs.is_left_in(conn, verdict) or not self.read_backs.tells_of_us(conn, verdict):
            raise self._read_back_lost(verdict)
        self._prove(conn, verdict)

    def _prove(self, conn: RawConnection, verdict: Verdict) -> None:
        """Raise where the number that is asked for may be another lease's: no library tells whether a row has made one."""
        if not self.read_backs.unproved or not verdict.of_write or verdict.of_sequence:
            return
        # The library's number is that of an earlier statement.
        if verdict.reads.startswith(LIBRARY) or self._is_strangers(conn):
            lost = self._read_back_lost(verdict)
            self.release_if_free()
            raise lost

    def _is_strangers(self, conn: RawConnection) -> bool:
        """Whether the session's last number is not among those that our statement gave back, where who asks has seen it."""
        number_is_in = self.leased_pool.client_library.number_is_in
        if self.read_backs.unproved and number_is_in is not None:
            self.read_backs.unproved = not self._guarded(number_is_in, conn, conn.lease_record.returned)
        return self.read_backs.unproved

    def _read_back_lost(self, verdict: Verdict) -> ReadBackLost:
        self.leased_pool.counters.read_backs_lost += 1
        if verdict.of_sequence:
            self.leased_pool.asked_for_number()
            self._strict = self.leased_pool.strict
            self.read_backs.number_refused()
        elif verdict.of_write and (self.read_backs.in_doubt or self.read_backs.unproved):
            self.leased_pool.asked_behind()  # no such number is left in another session any more
        return ReadBackLost(
            f"{verdict.reads!r} asks for what an earlier statement left in its session, and other requests may have used"
            " that session since: use RETURNING or cursor.lastrowid, or run both in atomic() or djworker.db.sticky()"
        )

    def _replayed(self, conn: RawConnection) -> bool:
        """Give the connection our settings; False if a stranger's cannot be taken back, and it was given up for that."""
        leased_pool = self.leased_pool
        leased_pool.counters.replays += 1
        try:
            self._guarded(
                leased_pool.client_library.replay,
                conn,
                list(self.profile.changes_from(conn.lease_record.profile, leased_pool.base)),
            )
        except self.driver.error:
            self.lost = ""  # nothing of ours has run yet; where it matters, `missed` says so
            if not conn.lease_record.profile.settings:
                raise
            return False  # a stranger's may be in the way: it is wiped, and we try another one
        conn.lease_record.profile = self.profile
        return True

    def _guarded(self, work: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """A round trip of our own. Whatever happens in it, the connection is not used in a state between two."""
        try:
            return work(*args, **more)
        except BaseException as error:
            conn = self.conn
            ended = self.driver.ended(conn, error)
            if ended is not None or self.driver.busy(conn) or self.driver.is_broken(conn):
                self._lose()
            elif self.autocommit_mode or not self.driver.in_transaction(conn):
                self.dirty = True
                self._give_back()
            if ended is not None and ended is not error:
                raise ended from error
            raise

    def held(self) -> Any:
        """The connection that we hold, if we still do: another greenlet may have taken it, and ended."""
        if self.conn is not None and self._owner.dead:
            self._owner_died()
        return self.conn

    def _owner_died(self) -> None:
        """The greenlet that took it has ended, and the pool has taken it back. Some of it may be missed."""
        self.conn = None
        if not self.autocommit_mode or self._by_hand or self.pins or self.holds:
            self._refuse_from_now("the connection was lost with the greenlet that used it")
        self._pending = []
        self._by_hand = False

    # -- what a statement leaves ------------------------------------------------------------------------------------

    def _note(self, verdict: Verdict, sql: object, params: object) -> None:
        if verdict.writes:
            if self.read_backs.number_taken(self.conn):
                self.pin("a number of a sequence")
            if made := self.driver.inserted(self.conn, called=verdict.called or verdict.draws):
                self._number_made(made)
        if verdict.pin:
            self.pin(verdict.pin)
        elif verdict.settings:
            self._set(read_settings(str(sql), params))
        if verdict.identity:
            self.pin(verdict.identity, wipe=False)
        if verdict.begins:
            self._by_hand = self.driver.in_transaction(self.conn) is not False
            if self.driver.in_transaction(self.conn) is None:
                self.pin("BEGIN by hand, and a driver that does not tell")
        if verdict.reverts and self._pending:
            self.pin("a transaction ended or taken back by hand after SET")

    def _number_made(self, made: int) -> None:
        self.read_backs.number_made(self.conn, made, cleared=self.is_cleared)
        if made == UNTOLD and self.leased_pool.keeps_untold:
            self.pin("a number that is asked for behind the connection")

    def _forget_numbers(self, conn: RawConnection) -> None:
        """Before a statement that may take a number of a sequence, or make a row's, or may not: what is there then is ours."""
        client_library, read_backs = self.leased_pool.client_library, self.read_backs
        if read_backs.is_first(conn) or self.driver.in_failed_transaction(conn):
            return
        if client_library.forget_numbers is not None:
            self._guarded(client_library.forget_numbers, conn)
            read_backs.numbers_forgotten(conn)
        elif self.leased_pool.keeps_untold and not read_backs.wrote_in(conn):
            self._guarded(client_library.forget, conn, number=max(read_backs.made, 0), lists=False)
            read_backs.number_put_in()

    def _set(self, settings: Sequence[Setting] | None) -> None:
        if settings is None:
            self.pin("SET")
        elif reason := kept_for(settings):
            self.pin(reason)
        elif self.driver.in_transaction(self.conn):
            self._pending += settings
        elif settings:
            self._adopt(settings)

    def _adopt(self, settings: Sequence[Setting]) -> None:
        self.profile = self.profile.with_settings(settings, self.leased_pool.base)
        self.conn.lease_record.profile = self.profile

    def _ended(self, *, committed: bool | None) -> None:
        """A transaction is over: its settings hold, or they are gone; None if we cannot know."""
        pending, self._pending = self._pending, []
        if pending and self.conn is not None:
            if committed is None:
                self.pin("SET in a transaction by hand")
            elif committed:
                self._adopt(pending)

    def pin(self, reason: str, *, wipe: bool = True) -> None:
        """Keep the connection to the end of the request, and reset it then."""
        if reason not in self.pins:
            self.pins[reason] = wipe
            self.leased_pool.counters.pinned(reason, self.label)
        if self.conn is not None and reason in self.leased_pool.contract.lasting:
            self.conn.lease_record.spoilt = reason

    def hold(self) -> None:
        """Keep the connection until `unhold`. It is not reset for this."""
        self.holds += 1

    def unhold(self) -> None:
        """End of one `hold`."""
        self.holds -= 1
        if not self.holds and self.held() is not None:
            self._release_between()

    def stick(self) -> None:
        """`hold`, for a block whose statements may leave anything."""
        self.sticky += 1
        self.hold()

    def unstick(self) -> None:
        """End of one `stick`: the session is wiped."""
        self.sticky -= 1
        self.dirty = True
        self.unhold()

    def _release_between(self) -> None:
        """`release_if_free`, but a statement that is under way keeps the connection, and releases it when it has ended."""
        if not self.turn.locked():
            self.release_if_free()

    # -- a transaction ----------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """End the transaction, if there is one."""
        self.held()
        if self.is_opened:
            self.look_for_a_loss()  # psycopg takes a `transaction()` that could not begin on a lost connection for open
        if self.lost:
            raise ConnectionLost(f"{self.lost}: there is nothing to commit")
        self._end("commit")

    def rollback(self) -> None:
        """End the transaction, if there is one."""
        if self.is_opened:
            self.look_for_a_loss()  # see `commit`
        self._end("rollback")
        if self._lost_in_transaction is not self.autocommit_mode:  # its end does not heal what was lost before it
            self._heal()

    def _heal(self) -> None:
        """What was lost is over with its transaction, unless state of the session went with its connection."""
        self._lost_in_transaction = False
        if not self.pins or self.conn is not None:
            self.lost = ""

    def _end(self, verb: str) -> None:
        conn = self.held()
        if conn is None:
            return
        self.refuse_if_sending()
        # PostgreSQL answers a COMMIT of a transaction in which something failed with a ROLLBACK, and no library tells.
        committed = verb == "commit" and not (self._pending and self.driver.in_failed_transaction(conn))
        try:
            getattr(conn, verb)()
        except BaseException:
            self._pending = []
            self.failed()
            raise
        self._by_hand = False
        self._ended(committed=committed)
        self._release_between()

    def set_autocommit(self, value: bool) -> None:  # noqa: FBT001 - Django's own shape
        """Off: said to the server with the next statement, in a transaction by hand now. On: now; the connection goes back."""
        conn = self.held()
        self.refuse_if_sending()
        if value and self.lost and self._lost_in_transaction:
            if sys.exception() is None:
                raise ConnectionLost(f"{self.lost}: roll back first")
            self._heal()  # the block is left with an exception, which is not to be hidden
        elif self.lost and (self.autocommit_mode or not value):
            raise ConnectionLost(self._why_refused())  # a transaction that cannot have a statement is not begun
        if conn is not None and (not self._mode if value else self._mode and self.driver.in_transaction(conn)):
            try:
                self.driver.set_autocommit(conn, value)  # in a transaction by hand, the library may refuse
            except BaseException:
                self.failed()
                raise
            self._mode = value
        self.autocommit_mode = value
        if value:
            self._release_between()

    # -- its end ----------------------------------------------------------------------------------------------------

    def _lose(self, verdict: Verdict = PLAIN) -> None:
        """Give the connection up; verdict: of the statement in which it was lost."""
        conn, self.conn = self.conn, None
        if not self.autocommit_mode or self._by_hand:
            self._refuse_from_now("the connection was lost inside this transaction")
        elif self.pins or self.holds:
            what = ", ".join(self.pins) or "an open cursor or sticky block"
            self._refuse_from_now(f"the connection was lost with session state on it ({what})")
        else:
            self.missed(verdict)
        self._pending = []
        self._by_hand = False
        self.leased_pool.counters.lost += 1
        self.pool.discard(conn, ticket=self._ticket)

    def close(self) -> None:
        """End of the request: the connection goes back, wiped if there is anything on it.

        Raises StatementRunning inside of a statement, which would go on with a connection that is another request's.
        """
        conn, driver = self.held(), self.driver
        if conn is not None and self.turn.locked() and not driver.busy(conn):
            self._await_statement()
            conn = self.held()
        self.closed = True
        if conn is None:
            return
        if driver.busy(conn) or driver.is_broken(conn):
            self._lose()
            return
        if (
            any(self.pins.values())
            or self.holds
            or self._pending
            or driver.in_transaction(conn)
            or not driver.autocommit(conn)
        ):
            self.dirty = True
        self.pins.clear()
        self._give_back()

    def _await_statement(self) -> None:
        """Let a statement of another greenlet end that is between two round trips."""
        if self.inside():
            raise StatementRunning(
                "a statement cannot close its own connection while its parameters are made: close it later"
            )
        with self.turn:
            pass

    def __del__(self) -> None:
        """Dropped without an end. No I/O in a finalizer: the pool does it in the hub."""
        if self.conn is not None:
            self.pool.orphan(self.conn, self._ticket)

    # -- for code that wants the physical connection -----------------------------------------------------------------

    def alive(self) -> bool:
        """Ask the server on the connection that is held, or on another one. Never raises an Exception."""
        if self.lost:
            return False
        try:
            conn = self.take(PROBE)
            cursor = conn.cursor()
            try:
                cursor.execute("SELECT 1")
                cursor.fetchall()
            finally:
                cursor.close()
        except Exception:  # noqa: BLE001 - the question was whether it works
            self.failed()
            return False
        except BaseException:
            self.failed()
            raise
        self.read_backs.probed(conn)
        self.release_if_free()
        return True

    def look(self) -> Any:
        """A physical connection in our state, to read from before the next switch: not to talk with, not to be kept."""
        if self.held() is not None:
            return self.conn
        last = None if self.closed or self.lost else self.read_backs.last_of_ours()
        if last is not None and not self.driver.is_broken(last):
            return last
        conn = self.take(PROBE)
        self._release_between()
        return conn

    def look_before(self, what: str) -> Any:
        """`look`, to see whether there is what code asks for. A refusal is one of `opened`, too: code did nothing there."""
        try:
            return self.look()
        except BaseException:
            self.missed(Verdict(pin=f"raw {what}"))
            raise

    def mode(self) -> bool:
        """Whether autocommit is on."""
        return self.autocommit_mode

    def mode_was_set(self, value: bool) -> None:  # noqa: FBT001 - Django's shape
        """Code has put the connection that we hold into the mode that we want, but for the first statement."""
        if not self.is_opened:
            self._mode = value

    def opened(self, what: str) -> Any:
        """The physical connection for code that does with it what it likes: held to the end, and replaced then."""
        verdict = Verdict(pin=f"raw {what}")
        self.look_for_a_loss()
        read_backs = self.read_backs
        if self.conn is None and read_backs.made == UNTOLD:
            read_backs.return_to_number()
        held = self.conn
        last = held or read_backs.last
        # The turn of a connection that is held is ours, even where a statement was refused in it; `last_turn` says then that
        # nothing answers for us.
        turn = read_backs.last_turn if held is None else held.lease_record.turn
        conn = self.take(verdict)
        now = conn.lease_record.turn
        if read_backs.made == UNTOLD and (
            read_backs.in_doubt or not read_backs.wrote_in(conn) or self._is_strangers(conn)
        ):
            self._refuse_untold(verdict, what)
        ours = (turn,) if conn is last and now - turn <= 1 else ()
        if not self.is_opened:
            self._forget_others(conn, verdict, turn if ours else 0)
        self.leased_pool.client_library.hand_over(conn, (*ours, now))
        self.pin(verdict.pin)
        conn.lease_record.spoilt = verdict.pin
        self.__class__ = OpenedLease
        return conn

    def look_for_a_loss(self) -> None:
        """Notice a connection that was lost behind us, where no error of its came to us."""
        if self.held() is not None and self.driver.is_closed(self.conn):
            self._lose()

    def _refuse_untold(self, verdict: Verdict, what: str) -> None:
        """The last number that we have made is in another session, or gone, and cannot be put into this one."""
        if self.leased_pool.asked_behind():
            self.missed(verdict)
            self.release_if_free()
            raise self._read_back_lost(Verdict(reads=what))

    def _forget_others(self, conn: RawConnection, verdict: Verdict, turn: int) -> None:
        """Take away what other leases have left to be read back: code behind the connection asks for it unseen.

        turn: the one in which we have used it, if nothing but us has used it since; else 0.
        """
        first = self.read_backs.is_first(conn)
        if not turn and not first:
            self.read_backs.took_for_nothing(conn)
        reading = self.turn.locked() or self.holds > self.sticky  # a statement is under way, or has more to come
        if reading or self._by_hand or self.driver.in_failed_transaction(conn):
            return  # nothing can be sent: SET TRANSACTION must come before any other statement, for instance
        self.is_cleared = True
        if first and (self.made <= 0 or self.read_backs.wrote_in(conn)):
            return  # nothing of others is there, and nothing of ours elsewhere
        with self.statement(verdict):
            try:
                self._guarded(self._forget, conn, turn)
            except BaseException:
                self.missed(verdict)
                raise

    def _forget(self, conn: RawConnection, turn: int) -> None:
        client_library = self.leased_pool.client_library
        ours = conn.lease_record.numbers > 0 and conn.lease_record.numbers in (turn, conn.lease_record.turn)
        if client_library.forget_numbers is not None and not ours:
            with self._outside_a_transaction(conn):
                client_library.forget_numbers(conn)
            # Where we have made one, that is what we would ask for, and it is gone.
            conn.lease_record.numbers = 0 if self.made else conn.lease_record.turn
        client_library.forget(
            conn, number=None if self.read_backs.wrote_in(conn) else max(self.made, 0), lists=not turn
        )

    @contextmanager
    def _outside_a_transaction(self, conn: RawConnection) -> Iterator[None]:
        """Where none is open yet, none is begun: its characteristics can be set before its first statement only."""
        changed = not self._mode and not self.driver.in_transaction(conn)
        if changed:
            try:
                self.driver.set_autocommit(conn, True)
            except self.driver.error:
                changed = False  # psycopg2 does not know of a ROLLBACK by hand, and so begins nothing
        try:
            yield
        finally:
            if changed and not (
                self.driver.is_closed(conn) or self.driver.busy(conn)
            ):  # else it would hide why it is lost
                self.driver.set_autocommit(conn, self._mode)


class OpenedLease(Lease):
    """[worker] A lease whose connection was looked behind: it is Django's own engine from then on, one connection to the end.

    So the mode is that of the library's object, which code may set, too; Django's changes of it take effect at once. The last
    number that the session tells of is our own, or that of code behind the connection.
    """

    is_opened = True

    def _check_left_by_us(self, conn: RawConnection, verdict: Verdict) -> None:
        """Of others nothing is left. What the library does not tell could not be put there."""
        if not (self.is_cleared and verdict.of_write) or verdict.of_sequence or self.made == UNTOLD:
            super()._check_left_by_us(conn, verdict)

    def mode(self) -> bool:
        """The library's own answer."""
        conn = self.held()
        return self.autocommit_mode if conn is None else bool(self.driver.autocommit(conn))

    def set_autocommit(self, value: bool) -> None:  # noqa: FBT001 - Django's own shape
        """Both ways at once."""
        self.look_for_a_loss()
        conn = self.conn
        if conn is None or self.lost:
            super().set_autocommit(value)
            return
        self.refuse_if_sending()
        try:
            if callable(conn.autocommit):
                conn.autocommit(value)
            else:
                conn.autocommit = value  # which the library refuses in a transaction, even if it is that already
        except BaseException:
            self.failed()
            raise
        self._mode = self.autocommit_mode = value
