"""The pinning contract, what a text can tell: which statements leave something behind in their session, or ask for it.

PostgreSQL's command tags and MySQL's session tracking come from the server, so comments, CTEs and case cannot fool them.
What they do not show is looked for in the text. To see too much only costs a pin; to see too little gives one request
another's state. A text is judged once: verdicts are kept by SQL string.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from djworker.db.lease import mysql_lists, sql_text
from djworker.db.lease.session_settings import Setting, read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djworker.db.lease.protocols import RawConnection, RawCursor, RawDriver

KEPT: Final = 2048  # verdicts in each of two generations; an ORM application has some hundreds of texts
LONGEST: Final = 8192  # characters: longer texts (bulk inserts) never come twice, and would fill the memory
_BEGINNING: Final = 64  # characters of those that say what they are


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one statement does to its session.

    pin: why its connection must be kept to the end of the request; empty if it need not. reads: the function by which it
    reads back what an earlier statement of its session has left. of_write: that is the last *writing* statement, not the last
    one. of_sequence: that is the last number of a sequence, and no answer tells which statement took one. writes: it may
    leave something to read back. draws: that is the number of a sequence, and not that of a row. settings: it sets parameters
    that can be set again elsewhere. reverts: it ends a transaction, or takes back a part of it. begins: it opens a
    transaction by hand. called: the answer of the server differs from run to run, because code runs there that we do not see.
    identity: it asks for something by which the session is known, so that the session must stay the same, but need not be
    wiped. unsure: the server has not yet confirmed that the statement leaves nothing, and its first word does not rule it
    out. rounds: it consists of several that the server ends one by one, so that some of them may stay where a later one
    fails.
    """

    pin: str = ""
    reads: str = ""
    of_sequence: bool = False
    of_write: bool = False
    writes: bool = False
    draws: bool = False
    settings: bool = False
    reverts: bool = False
    begins: bool = False
    called: bool = False
    identity: str = ""
    unsure: bool = False
    rounds: bool = False

    @property
    def relied_on(self) -> bool:
        """Whether later statements may rely on it: where it did not run, they must not run either."""
        return bool(self.pin or self.settings or self.begins or self.called or self.identity or self.unsure)


PLAIN: Final = Verdict()
UNSURE: Final = Verdict(unsure=True)
PROBE: Final = Verdict(identity="a look at the connection")  # not a statement of the application's
WRITE: Final = Verdict(writes=True)
_SINGLES: Final = {verdict: verdict for verdict in (PLAIN, WRITE)}  # so that `is PLAIN` is the fast path


class Text(str):
    """[worker] A statement's text, and the same in lower case."""

    __slots__ = ("low",)

    low: str

    @classmethod
    def of(cls, sql: str) -> Text:
        """Made once for all searches."""
        text = cls(sql)
        text.low = sql.lower()
        return text


class Finder:
    """[worker] A regular expression that costs little where it finds nothing: a bulk insert has a text of 100 000 characters.

    words: in lower case; one of them must be in the text. Without words it stands at the beginning of a statement.
    """

    __slots__ = ("_match", "_search", "_words", "pattern")

    def __init__(self, pattern: str, *words: str) -> None:
        self.pattern = pattern
        regex = re.compile(pattern, re.IGNORECASE)
        self._match, self._search = regex.match, regex.search
        self._words = words

    def search(self, text: Text) -> re.Match[str] | None:
        """The first place."""
        if self._words:
            return self._search(text) if any(word in text.low for word in self._words) else None
        return self._search(text) if ";" in text else self._match(text)


class OwnFinder:
    """[worker] An expression of the application's."""

    def __init__(self, pattern: str) -> None:
        self.search = re.compile(pattern, re.IGNORECASE).search


Pattern = tuple[str, Finder | OwnFinder]

_PROCEDURE: Final = r"(?:^|;)\s*call\b"  # what it does cannot be seen


def _words(**patterns: Finder) -> tuple[Pattern, ...]:
    return tuple((name.replace("_", " "), finder) for name, finder in patterns.items())


class Contract(ABC):
    """[worker] The contract with one kind of server."""

    volatile = False  # whether the server must be asked again each time a known text has run
    #: Whether the application asks for the last number of a sequence: from then on, sessions that have taken one are held.
    reads_sequences = False
    clears_numbers = (
        False  # whether what others have left to be asked for is taken away before a statement that may leave it
    )
    lasting: frozenset[str] = frozenset()  # reasons to pin that no reset undoes: the connection is replaced

    _bare: Callable[[str], str]  # gives the text without comments
    _pins: tuple[Pattern, ...]
    _reads_write: Finder
    _reads_sequence: Finder
    _reads_statement: Finder | None = None
    _writes: Finder  # by its first word
    _takes: Finder  # by what is in it
    # By hand: to a savepoint, or to the beginning. A COMMIT by hand may be a ROLLBACK, too.
    _reverts = Finder(r"(?:^|;)\s*(?:rollback|abort|commit|end)\b")
    _begins = Finder(r"(?:^|;)\s*(?:begin|start\s+transaction)\b")
    _calls = Finder(r"^\s*(?:call|execute)\b")
    # Several statements, or a block that may commit in its middle.
    _rounds = Finder(r";\s*\S|^\s*do\b")
    _identity: Finder
    _procedure = "CALL {}()"
    # One statement that leaves nothing in its session, as far as its first word can tell: patterns look for the rest.
    _plain = re.compile(
        r"^\s*\(*\s*(?:select|insert|update|delete|replace|merge|with|values|table|explain|show|describe|fetch|move|close"
        r"|copy|commit|end|rollback|savepoint|release|create|alter|drop|truncate|rename|comment|grant|revoke|reindex"
        r"|refresh|analyze|vacuum|checkpoint|notify|kill|optimize)\b[^;]*;?\s*$",
        re.IGNORECASE,
    )

    def __init__(self, pin_sql: Sequence[str] = ()) -> None:
        """pin_sql: further regular expressions; a statement in which one is found pins."""
        own = tuple((f"pin_sql {text!r}", OwnFinder(text)) for text in pin_sql)
        # Of several reasons, that which costs the connection is the one to know.
        first = tuple(pattern for pattern in self._pins if pattern[0] in self.lasting)
        self._patterns = first + own + self._pins
        self._young: dict[str, Verdict] = {}
        self._old: dict[str, Verdict] = {}

    def known(self, sql: str) -> Verdict | None:
        """The final verdict, if the text has run before."""
        verdict = self._young.get(sql)
        if verdict is None and (verdict := self._old.get(sql)) is not None:
            self._young[sql] = verdict
        return verdict

    def judge(self, sql: str) -> Verdict:
        """From the text alone: for a statement that has not run yet."""
        raw, bare = Text.of(sql), self._bare(sql)
        text = raw if bare is sql else Text.of(bare)
        of_write = self._reads_write.search(text)
        found = of_write or (self._reads_statement and self._reads_statement.search(text))
        verdict = Verdict(
            pin=self._reason(raw) or (self._reason(text) if text is not raw else ""),
            reads=found.group(0).strip().lower() if found else "",
            of_sequence=of_write is not None and self._reads_sequence.search(text) is not None,
            of_write=of_write is not None,
            writes=(self._writes.search(text) or self._takes.search(text)) is not None,
            reverts=self._reverts.search(text) is not None,
            begins=self._begins.search(text) is not None,
            called=self._calls.search(text) is not None,
            identity=found.group(0).strip(" (").lower() if (found := self._identity.search(text)) else "",
            unsure=self._plain.match(text) is None,
            rounds=self._rounds.search(text) is not None,
        )
        if verdict.of_sequence:
            self.reads_sequences = self.clears_numbers = True
        return self._special(raw, text, verdict)

    def _reason(self, text: Text) -> str:
        return next((reason for reason, pattern in self._patterns if pattern.search(text)), "")

    def _special(self, sql: Text, text: Text, verdict: Verdict) -> Verdict:  # noqa: ARG002 - for the contract that has something to look at
        return verdict

    def judge_procedure(self, name: str) -> tuple[str, Verdict]:
        """The text that the library makes of `callproc(name)`, and its verdict: what a routine does cannot be seen."""
        text = self._procedure.format(name)
        verdict = self.judge(text)
        return text, verdict if verdict.pin else replace(verdict, pin="procedure")

    def left_by_failed(self, verdict: Verdict) -> str:
        """Why a connection must be kept on which the statement has failed; empty if it need not."""
        if verdict.pin:
            return verdict.pin
        return "a statement that failed half-way" if verdict.rounds and verdict.relied_on else ""

    def tells_of_last(self, verdict: Verdict, driver: RawDriver, conn: RawConnection) -> bool:  # noqa: ARG002 - for the contract that has something to look at
        """Whether what is read back is of the session's last statement, and not of one before it."""
        return True

    def failed(self, conn: RawConnection, error: BaseException | None) -> None:  # noqa: B027 - most have nothing to note
        """The connection's last statement has failed with this error."""

    def has_no_number(self, error: BaseException | None) -> bool:  # noqa: ARG002 - of a server that has something to say
        """Whether the server has refused to tell a number because the session has taken none."""
        return False

    @abstractmethod
    def confirm(self, verdict: Verdict, driver: RawDriver, conn: RawConnection, cursor: RawCursor, sql: str) -> Verdict:
        """The final verdict, now that the server has answered."""

    def keep(self, sql: str, verdict: Verdict) -> Verdict:
        """Remember a final verdict."""
        if verdict.unsure or verdict.rounds:
            verdict = replace(verdict, unsure=False, rounds=False)
        verdict = _SINGLES.get(verdict, verdict)
        if len(sql) <= LONGEST and not verdict.called:
            if len(self._young) >= KEPT:
                self._old, self._young = self._young, {}
            self._young[sql] = verdict
        return verdict


class PostgresContract(Contract):
    """[worker] See `Contract`. Tags first."""

    # DISCARD ALL leaves dblink's connections open, and knows nothing of what an extension keeps for itself.
    lasting = frozenset({"dblink", "setseed", "LOAD", "replication", "extension"})
    _bare = staticmethod(sql_text.postgres)
    _procedure = 'SELECT * FROM "{}"()'  # as psycopg2 and Django's cursor for psycopg 3 do
    _pins = _words(
        advisory_lock=Finder(r"\bpg_(?:try_)?advisory_lock(?:_shared)?\"?\s*\(", "advisory_lock"),
        temporary_table=Finder(
            r"\b(?:create\s+(?:or\s+replace\s+)?(?:(?:local|global)\s+)?|into\s+(?:local\s+)?)temp(?:orary)?\s|\bpg_temp(?:_\d+)?\b",
            "temp",
        ),
        cursor_with_hold=Finder(r"\bwith\s+hold\b", "hold"),
        dblink=Finder(r"\bdblink_connect", "dblink_connect"),
        setseed=Finder(r"\bsetseed\"?\s*\(|\bset\s+(?:(?:session|local)\s+)?seed\b|'seed'", "seed"),
        replication=Finder(
            r"\bpg_replication_origin_session_setup\"?\s*\(|\bpg_create_(?:physical|logical)_replication_slot\"?\s*\(",
            "replication_origin_session",
            "_replication_slot",
        ),
        extension=Finder(
            r"\b(?:hypopg_(?:create|hide|unhide)\w*|pgv_set\w*|set_user)\"?\s*\(", "hypopg_", "pgv_set", "set_user"
        ),
        set_limit=Finder(r"\bset_limit\"?\s*\(", "set_limit"),  # pg_trgm's, a SET by another name
        escaped_name=Finder(r"\bu&\"", 'u&"'),  # may be any function's
        procedure=Finder(_PROCEDURE),
        pg_settings=Finder(
            r"^(?=[\s\S]*\bpg_settings\b)[\s\S]*\bupdate\b", "pg_settings"
        ),  # a rule makes it set_config()
        pg_prepared_transaction=Finder(r"^\s*prepare\s+transaction\b"),
    )
    _writes = Finder(r"^\s*(?:insert|replace|merge|call|with|do|copy)\b")
    _takes = Finder(r"\b(?:nextval|setval)\"?\s*\(|\breturning\b", "nextval", "setval", "returning")
    _reads_sequence = _reads_write = Finder(r"\b(?:lastval|currval)\"?\s*\(", "lastval", "currval")
    # Nothing in its arguments may be read in two ways: a comma or a parenthesis within quotes is none.
    _local_config = re.compile(
        r"\bset_config\s*\((?:'[^'\\]*'|[^'\"(),$\\])*,(?:'[^'\\]*'|[^'\"(),$\\])*,\s*true\s*\)", re.IGNORECASE
    )
    _config = Finder(r"\bset_config\"?\s*\(", "set_config")
    # They end with their transaction.
    _transient = re.compile(
        r"^\s*set\s+(?:local\b|constraints\b|transaction\b|(?:session\s+)?transaction_(?:isolation|read_only|deferrable)\b)",
        re.IGNORECASE,
    )
    _identity = Finder(
        r"\b(?:pg_backend_pid|(?:txid_current|pg_current_xact_id)(?:_if_assigned)?|pg_export_snapshot|pg_my_temp_schema"
        r"|inet_client_port)\"?\s*\(",
        *(
            "pg_backend_pid",
            "txid_current",
            "pg_current_xact_id",
            "pg_export_snapshot",
            "pg_my_temp",
            "inet_client_port",
        ),
    )
    # What is left of these when the statement has run: state of the session.
    _tags = frozenset({"SET", "RESET", "LISTEN", "PREPARE", "DEALLOCATE", "DEALLOCATE ALL", "LOAD", "DO", "CALL"})
    _tags |= {"DISCARD ALL", "DISCARD TEMP", "DISCARD SEQUENCES", "DISCARD PLANS"}

    #: SQLSTATE object_not_in_prerequisite_state: lastval() or currval() in a session that has taken no number.
    _no_number: Final = "55000"

    # One of several statements in a string, where the library knows the last one's tag only.
    _several = re.compile(
        r"(?=.*;\s*\S).*\b(?:set|reset|listen|prepare|deallocate|load|do|discard)\b", re.IGNORECASE | re.DOTALL
    )

    def _special(self, sql: Text, text: Text, verdict: Verdict) -> Verdict:
        if verdict.pin or not (self._config.search(text) or self._config.search(sql)):
            return verdict
        if read_settings(sql, None) is not None:
            return replace(verdict, settings=True)
        rest = self._local_config.sub("", text)
        return replace(verdict, pin="set_config()") if self._config.search(Text.of(rest)) else verdict

    def has_no_number(self, error: BaseException | None) -> bool:
        """The two libraries have different names for the code."""
        return self._no_number in (getattr(error, "sqlstate", ""), getattr(error, "pgcode", ""))

    def confirm(
        self,
        verdict: Verdict,
        driver: RawDriver,
        conn: RawConnection,  # noqa: ARG002 - MySQL's says more by it
        cursor: RawCursor,
        sql: str,
    ) -> Verdict:
        """Look at the command tags."""
        tags = driver.command_tags(cursor)
        state = [tag for tag in tags if tag in self._tags]
        if state and not verdict.pin and not verdict.settings:
            if len(tags) == 1 and self._transient.match(sql):
                state = []
            elif len(tags) == 1 and read_settings(sql, None) is not None:
                verdict = replace(verdict, settings=True)
            else:
                verdict = replace(verdict, pin=state[0])
        if driver.last_tag_only and not verdict.pin and self._several.match(sql):
            verdict = replace(verdict, pin="SET among other statements")
        return self.keep(sql, verdict)


class MySQLContract(Contract):
    """[worker] See `Contract`. MariaDB and MySQL say of statements without rows whether they changed the session."""

    volatile = True
    #: Whether the database has triggers that may change the session. Nothing tells where a statement has rows, or fails.
    triggers = False
    _bare = staticmethod(sql_text.mysql)
    _pins = _words(
        named_lock=Finder(r"\bget_lock\s*\(", "get_lock"),
        LOCK_TABLES=Finder(r"(?:^|;)\s*(?:lock\s+(?:tables?|instance)\b|backup\b)"),
        FLUSH_TABLES=Finder(
            r"(?:^|;)\s*flush\s+(?:(?:local|no_write_to_binlog)\s+)?tables?\b[\s\S]*\b(?:with\s+read\s+lock|for\s+export)\b"
        ),
        temporary_table=Finder(r"(?:^|;)\s*create\s+(?:or\s+replace\s+)?temporary\b"),
        user_variable=Finder(r":=|\binto\s*@", ":=", "@"),
        block=Finder(r"(?:^|;)\s*(?:begin\s+not\s+atomic|if|case|for|while|loop|repeat)\b"),
        SET=Finder(r"(?:^|;)\s*set\b"),
        USE=Finder(r"(?:^|;)\s*use\b"),
        PREPARE=Finder(r"(?:^|;)\s*(?:prepare|deallocate|execute)\b"),
        HANDLER=Finder(r"(?:^|;)\s*handler\b"),
        XA=Finder(r"(?:^|;)\s*xa\b"),
        procedure=Finder(_PROCEDURE),  # session tracking does not tell of GET_LOCK in it
        last_insert_id_of_a_value=Finder(r"\blast_insert_id\s*\(\s*[^)\s]", "last_insert_id"),
    )
    # WITH begins no INSERT here.
    _writes = Finder(r"^\s*(?:insert|replace|call|execute|do|load)\b")
    _takes = Finder(
        r"\b(?:nextval|setval)\s*\(|\bnext\s+value\s+for\b|\.\s*nextval\b|\breturning\b|\blast_insert_id\s*\(\s*[^)\s]",
        *("nextval", "setval", "next", "returning", "last_insert_id"),
    )
    _numbers = r"`?(?:identity|last_insert_id|insert_id)\b"
    _reads_sequence = Finder(
        r"\blastval\s*\(|\bprevious\s+value\s+for\b|\.\s*currval\b", "lastval", "previous", "currval"
    )
    _reads_write = Finder(
        rf"\blast_insert_id\s*\(\s*\)|@@\s*(?:`?(?:session|local)`?\s*\.\s*)?{_numbers}"
        rf"|^\s*show\s+(?:(?:session|local)\s+)?variables\b(?=[\s\S]*['\"]{_numbers})"
        rf"|\bsession_variables\b(?=[\s\S]*['\"]{_numbers})|{_reads_sequence.pattern}",
        *("last_insert_id", "identity", "insert_id", "lastval", "previous", "currval"),
    )
    _reads_statement = Finder(
        r"\b(?:found_rows|row_count)\s*\(|^\s*show\s+(?:count\s*\(\s*\*\s*\)\s*)?(?:warnings|errors)\b|^\s*get\s+(?:current\s+)?diagnostics\b"
        r"|@@\s*(?:`?(?:session|local)`?\s*\.\s*)?`?(?:warning_count|error_count)\b|\blast_query_cost\b",
        *(
            "found_rows",
            "row_count",
            "warnings",
            "errors",
            "diagnostics",
            "warning_count",
            "error_count",
            "last_query_cost",
        ),
    )
    _identity = Finder(
        r"\b(?:connection_id|ps_current_thread_id)\s*\(|@@(?:session\.)?(?:pseudo_thread_id|last_gtid)\b"
        r"|^\s*(?:show|flush)\s+(?:(?:session|local|no_write_to_binlog)\s+)?(?:status|profiles?)\b"
        r"|\b(?:information|performance)_schema\.session_(?:status|variables)\b",
        *(
            "connection_id",
            "current_thread_id",
            "pseudo_thread_id",
            "last_gtid",
            "status",
            "profile",
            "session_variables",
        ),
    )

    #: LAST_INSERT_ID() tells of these statements only.
    _makes_row = Finder(r"(?:^|;)\s*(?:insert|replace|load|call|execute|do)\b")
    _sets_number = Finder(r"\blast_insert_id\s*\(\s*[^)\s]", "last_insert_id")

    def _special(self, sql: Text, text: Text, verdict: Verdict) -> Verdict:  # noqa: ARG002 - a comment that the server runs stays in `text`
        makes = not verdict.writes or self._makes_row.search(text) or self._sets_number.search(text)
        return verdict if makes else replace(verdict, draws=True)

    def left_by_failed(self, verdict: Verdict) -> str:
        """Variables that a trigger has set stay when its statement fails."""
        return super().left_by_failed(verdict) or ("a trigger that may change the session" if self.triggers else "")

    # Transactions are flagged too, as a change of state, but leave nothing behind. BEGIN NOT ATOMIC is a block of statements.
    _transactions = re.compile(r"^\s*(?:begin(?!\s+not\b)|start|commit|rollback|savepoint|release)\b", re.IGNORECASE)

    def tells_of_last(self, verdict: Verdict, driver: RawDriver, conn: RawConnection) -> bool:
        """FOUND_ROWS() and the list of warnings outlive statements that leave them alone."""
        answered = mysql_lists.AnsweredStatement(*conn.lease_record.answered)
        if (
            answered.at != conn.lease_record.statements
        ):  # the last one has not reached the server, or was our own question
            return False
        return mysql_lists.tells(verdict.reads, answered, warned=driver.warned(conn))

    def failed(self, conn: RawConnection, error: BaseException | None) -> None:
        """The server's errors stand in its list of warnings."""
        if mysql_lists.is_of_server(error):
            conn.lease_record.answered = (None, conn.lease_record.statements)

    def confirm(self, verdict: Verdict, driver: RawDriver, conn: RawConnection, cursor: RawCursor, sql: str) -> Verdict:
        """Look at the session-state flag. Never final: a trigger or a procedure may change the session or not."""
        conn.lease_record.answered = (sql if len(sql) <= LONGEST else sql[:_BEGINNING], conn.lease_record.statements)
        if verdict.writes:
            conn.lease_record.returned = () if cursor.description is None else _first_row(cursor)
        changed = driver.session_state_changed(conn, cursor)
        if changed and not verdict.pin and not self._transactions.match(sql):
            return replace(verdict, pin="session state changed")
        if self.triggers and not verdict.pin and (verdict.rounds or (changed is None and verdict.writes)):
            return replace(verdict, pin="a trigger that may change the session")
        return verdict if sql in self._young else self.keep(sql, verdict)


def _first_row(cursor: object) -> object:
    """Of the rows that the library keeps in the cursor, in Django's wrapper or not: to fetch it would take it away."""
    try:
        row: object = getattr(cursor, "cursor", cursor)._rows[0]  # type: ignore[attr-defined]  # noqa: SLF001 - it has no public name
    except (AttributeError, LookupError, TypeError):
        return ()  # none, or not kept there
    return row


__all__ = ["PLAIN", "PROBE", "UNSURE", "WRITE", "Contract", "MySQLContract", "PostgresContract", "Setting", "Verdict"]
