"""The committer of a node of a pair: it takes commands while it is primary, and committed records while it is not.

What is in a record here need not be committed: the other node may have it too or not, and only the pair knows. So an
answer may wait for a record made elsewhere or before this node started, besides those of the open record and of the
one being written; and a node that is primary no longer cannot tell what becomes of what it put into records.
"""

from __future__ import annotations

from typing import Any

from fortress.errors import FortressError, OutcomeUnknown
from fortress.ledger.delta import Delta
from fortress.ledger.records import Record
from fortress.server.applier import ViewTaken
from fortress.server.backlog import Answered
from fortress.server.committer import Committer, closed_position


class MemberCommitter(Committer):
    """A committer that can be told to hold, to refuse, and what was committed elsewhere; made as `Committer` is."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._behind: list[tuple[int, Answered, Any]] = []  # answers that wait for records made elsewhere or before

    def when_committed(self, position: int, answered: Answered, outcome: Any = None) -> None:
        """Call ``answered(outcome)`` once the position is committed, as `Committer.when_committed`; wherever it is."""
        newest = self._closed_before if self._is_writing else closed_position(self.engine)
        is_refused = self._failure is not None or self._journal_full is not None
        if self.committed_position < position <= newest and not is_refused:
            self._behind.append((position, answered, outcome))
        else:
            super().when_committed(position, answered, outcome)

    def hold(self) -> None:
        """Keep new commands waiting from now on; what was judged goes on to the disk."""
        self._is_holding = True

    @property
    def is_quiet(self) -> bool:
        """True when everything judged is committed."""
        return not (self._is_writing or self.engine.pending or self._open)

    @property
    def is_behind(self) -> bool:
        """True when the tables have so much before them that they must come after first."""
        return self._applier.entries >= self._settings.unapplied_entries_max

    def take_commands(self) -> None:
        """Judge commands, also those kept waiting."""
        self._is_holding = False
        self._role_refusal = None
        self._note_state()
        self._judge_waiting()

    def refuse_commands(self, error: FortressError) -> None:
        """Answer commands with this error from now on, also those that wait.

        What is in a record may be on the other node's disk and is committed there: its outcome is unknown.
        """
        self._is_holding = False
        self._role_refusal = error
        self._note_state()
        self._written += self._take_behind()
        self._refuse_written(OutcomeUnknown("this node is primary no longer; whether it was done is not known here"))
        self._refuse_open(error)

    def take_committed(self, record: Record, delta: Delta) -> None:
        """Take a record as committed that was made elsewhere, or before this node started."""
        self.committed_record = record
        self.committed_lsn = record.lsn
        self.committed_position = record.first_position + record.count
        self._applier.take(delta)
        self._on_commit(delta)
        ready = [item for item in self._behind if item[0] <= self.committed_position]
        if ready:
            self._behind = [item for item in self._behind if item[0] > self.committed_position]
            self._answer([(answered, outcome) for _, answered, outcome in ready])

    def view_at(self, lsn: int, taken: ViewTaken) -> bool:
        """Take a view of the tables after exactly this record; False when they are past it (`Applier.view_at`)."""
        return self._applier.view_at(lsn, taken)

    def _refuse_open(self, error: FortressError) -> None:
        self._open += self._take_behind()
        super()._refuse_open(error)

    def _take_behind(self) -> list[tuple[Answered, Any]]:
        behind, self._behind = self._behind, []
        return [(answered, outcome) for _, answered, outcome in behind]
