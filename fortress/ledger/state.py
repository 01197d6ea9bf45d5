"""The working state: what is judged and not yet in the tables lives here, on top of a bounded cache of what is.

``missing`` tells what must be read before a command can be judged, ``fill`` takes what was read, ``apply`` changes
the state by one entry and notes in a :class:`Delta` what the tables must learn. The same ``apply`` serves the node
that judges and the node that follows or recovers, and it checks as it goes: balances continue, or the books are
broken and the node stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fortress.ledger import wanted as wants
from fortress.ledger.administration import Administration
from fortress.ledger.delta import MARK_EVERY, Delta
from fortress.ledger.entries import (
    AccountChanged,
    AccountOpened,
    AnyEntry,
    ApprovalAsked,
    ApprovalDecided,
    BankChanged,
    CustomerChanged,
    CustomerCreated,
    HoldPlaced,
    HoldReleased,
    Invited,
    KeyChanged,
    LedgerOpened,
    LedgerRestored,
    Posted,
    ProfileChanged,
    Refused,
    SessionEnded,
    WindowClosed,
)
from fortress.ledger.memory import ID_NONE, Loaded, Memory, Wanted
from fortress.ledger.posting import Posting

Applier = Callable[[Any, int, Delta], None]


class State(Memory):
    """What the rules look at; changed only by :meth:`apply`."""

    def __init__(self, *, account_cache_max: int = 131_072, id_cache_max: int = 131_072) -> None:
        super().__init__(account_cache_max=account_cache_max, id_cache_max=id_cache_max)
        posting, administration = Posting(self), Administration(self)
        self._appliers: dict[type, Applier] = {
            Posted: posting.apply_posted,
            HoldPlaced: posting.apply_hold_placed,
            HoldReleased: posting.apply_hold_released,
            Refused: administration.apply_refused,
            AccountOpened: administration.apply_account_opened,
            AccountChanged: administration.apply_account_changed,
            CustomerCreated: administration.apply_customer_created,
            KeyChanged: administration.apply_key_changed,
            ProfileChanged: administration.apply_profile_changed,
            CustomerChanged: administration.apply_customer_changed,
            Invited: administration.apply_invited,
            ApprovalAsked: administration.apply_approval_asked,
            ApprovalDecided: administration.apply_approval_decided,
            SessionEnded: administration.apply_session_ended,
            LedgerOpened: administration.apply_ledger_opened,
            LedgerRestored: administration.apply_ledger_restored,
            BankChanged: administration.apply_bank_changed,
            WindowClosed: administration.apply_window_closed,
        }

    def apply(self, entry: AnyEntry, delta: Delta) -> int:
        """Change the state by one entry; return the entry's position.

        Raises:
            BooksBroken: the entry does not continue the balances it names; the node must stop.
        """
        self.position = position = self.position + 1
        self._appliers[type(entry)](entry, position, delta)
        return position

    # --- What must be read first -----------------------------------------------------------------------------------
    def missing(self, command: Any) -> Wanted | None:
        """Tell what must be read before ``command`` can be judged; None when nothing is missing."""
        return wants.missing(self, command)

    def missing_for_batch(self, rows: Sequence[Any]) -> Wanted | None:
        """Tell what must be read before the rows of a batch can be judged."""
        return wants.missing_for_batch(self, rows)

    def missing_for_entry(self, entry: AnyEntry) -> Wanted | None:
        """Tell what must be read before an entry from elsewhere (the peer, the journal) can be applied."""
        return wants.missing_for_entry(self, entry)

    def want_account(self, number: int) -> Wanted | None:
        """Tell whether an account must be read."""
        wanted = Wanted(self.turns())
        wants.want_account(self, wanted, number)
        return wanted or None

    def want_accounts(self, numbers: Iterable[int]) -> Wanted | None:
        """Tell which of these accounts must be read."""
        wanted = Wanted(self.turns())
        for number in numbers:
            wants.want_account(self, wanted, number)
        return wanted or None

    def want_customer(self, *, customer: int = 0, handle: bytes = b"") -> Wanted | None:
        """Tell whether a customer must be read, by number or by handle."""
        wanted = Wanted(self.turns())
        if handle:
            wants.want_handle(self, wanted, handle)
        if customer:
            wants.want_customer(self, wanted, customer)
        return wanted or None


__all__ = ["ID_NONE", "MARK_EVERY", "Loaded", "State", "Wanted"]
