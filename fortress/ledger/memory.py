"""What the ledger holds in memory: bounded working sets over the tables, and the few things that are always here.

Reading goes in three steps, since the tables are read on another thread: :mod:`fortress.ledger.wanted` tells what is
missing, the store reads it, :meth:`Memory.fill` takes it. In between others may go on changing memory, so what was
read may be older than what memory has, or has had and forgot: ``fill`` takes only what cannot be older.

A customer object lives in one place only, under the number; a handle leads to the number. Two places could forget
separately, and a customer read again would then exist twice.
"""

from __future__ import annotations

from operator import attrgetter, itemgetter

from fortress.ledger.entries import AnyEntry
from fortress.ledger.model import Account, Approval, Customer, Hold, Invitation, MemberBank, WindowEnd
from fortress.ledger.working_set import WorkingSet

ID_NONE = bytes(16)
TIME_ORDERED = 0x70  # the version bits of a UUIDv7, in its seventh byte
NUMBER_FIRST = 10_001  # the sequence in the first account number
ID_SIZE_BYTES = 16
_TIME_ORDERED = frozenset(range(TIME_ORDERED, TIME_ORDERED + 16))
_CACHED_MAX = 65_536  # holds, customers, handles, reversals


class Wanted:
    """Keys that must be read from the tables before judging can go on, as of a state of the working sets."""

    __slots__ = ("accounts", "customers", "handles", "holds", "ids", "reversals", "turns")
    KINDS = ("accounts", "customers", "handles", "holds", "ids", "reversals")

    def __init__(self, turns: tuple[int, ...]) -> None:
        self.turns = turns
        self.accounts: set[int] = set()
        self.ids: set[bytes] = set()
        self.holds: set[bytes] = set()
        self.customers: set[int] = set()
        self.handles: set[bytes] = set()
        self.reversals: set[bytes] = set()

    def __bool__(self) -> bool:
        return bool(self.accounts or self.ids or self.holds or self.customers or self.handles or self.reversals)

    def merged(self, other: Wanted) -> Wanted:
        """Add what another command wants; return self."""
        for name in self.KINDS:
            getattr(self, name).update(getattr(other, name))
        self.turns = tuple(map(min, self.turns, other.turns))
        return self


class Loaded:
    """What was read for a :class:`Wanted`; keys that were not found are simply not here.

    ``accounts`` and ``customers`` may hold more than was asked for: the accounts of a hold, whom a handle names.
    """

    __slots__ = ("accounts", "customers", "holds", "ids", "reversals")

    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}
        self.ids: dict[bytes, tuple[int, AnyEntry]] = {}
        self.holds: dict[bytes, Hold] = {}
        self.customers: dict[int, Customer] = {}
        self.reversals: dict[bytes, tuple[int, int]] = {}


class Memory:
    """The books as the rules see them (:class:`fortress.ledger.rules.Books`); changed only by applying entries."""

    def __init__(self, *, account_cache_max: int = 131_072, id_cache_max: int = 131_072) -> None:
        self.currencies: dict[str, int] = {}
        self.settlements: dict[str, int] = {}  # currency -> the settlement account
        self.banks: dict[str, MemberBank] = {}  # all that this gateway knows, by name
        self.positions: dict[tuple[int, str], int] = {}  # number of a bank, currency -> its position account
        self.windows = WindowEnd()  # the last that was closed
        self.administrators: set[int] = set()
        self.approvals: dict[bytes, Approval] = {}  # those that wait; a decided one is known by its id
        self.invitations: dict[bytes, Invitation] = {}  # those not used
        self.next_customer = 1
        self.next_account = NUMBER_FIRST
        self.position = 0
        self.id_ahead = b"\xff" * 16
        self.id_seen = ID_NONE  # time-ordered ids after this one are in memory or new
        self.accounts: WorkingSet[int, Account] = WorkingSet(account_cache_max, attrgetter("last_position"))
        self.ids: WorkingSet[bytes, tuple[int, AnyEntry]] = WorkingSet(id_cache_max, itemgetter(0))
        self.holds: WorkingSet[bytes, Hold] = WorkingSet(_CACHED_MAX, attrgetter("position"))
        self.customers: WorkingSet[int, Customer] = WorkingSet(_CACHED_MAX, attrgetter("position"))
        # handle -> customer number, position of the entry that created them (0: long ago)
        self.handles: WorkingSet[bytes, tuple[int, int]] = WorkingSet(_CACHED_MAX, itemgetter(1))
        # original -> minor units reversed, position of the last reversal
        self.reversals: WorkingSet[bytes, tuple[int, int]] = WorkingSet(_CACHED_MAX, itemgetter(1))
        self.account = self.accounts.get
        self.known = self.ids.get
        self.hold = self.holds.get
        self.customer = self.customers.get

    # --- What the rules ask ----------------------------------------------------------------------------------------
    def has_handle(self, handle: bytes) -> bool:
        """Tell whether a username is taken, by its handle."""
        return self.handles.get(handle) is not None

    def customer_by_handle(self, handle: bytes) -> Customer | None:
        """Give a customer by the handle of the username, when memory has both."""
        pair = self.handles.get(handle)
        return None if pair is None else self.customers.get(pair[0])

    def approval(self, id: bytes) -> Approval | None:
        """Give what waits for a second administrator; None when it is decided or was never asked."""
        return self.approvals.get(id)

    def invitation(self, digest: bytes) -> Invitation | None:
        """Give an invitation by the hash of its code; None when it is used or there is none."""
        return self.invitations.get(digest)

    def reversed_minor(self, original: bytes) -> int:
        """Tell how much of a transfer was reversed, in minor units."""
        pair = self.reversals.get(original)
        return pair[0] if pair is not None else 0

    def lacks_move(self, id: bytes, debit: int, credit: int) -> bool:
        """Tell whether memory lacks anything a transfer names; the hot path's whole look at the cache."""
        accounts = self.accounts
        if debit not in accounts.newer and debit not in accounts.older:
            return True
        if credit not in accounts.newer and credit not in accounts.older:
            return True
        if id > self.id_seen and id[6] & 0xF0 == TIME_ORDERED:
            return False
        return id not in self.ids

    def are_ids_told_by_time(self, ids: list[bytes]) -> bool:
        """Tell whether the times of all these ids say that each is in memory or new."""
        versions = frozenset(b"".join(ids)[6::ID_SIZE_BYTES])
        return versions <= _TIME_ORDERED and min(ids) > self.id_seen

    def are_ids_new(self, ids: list[bytes]) -> bool:
        """Tell whether memory knows none of these ids, each is there once, and none lies too far ahead."""
        different = set(ids)
        known = self.ids
        return (
            len(different) == len(ids)
            and known.newer.keys().isdisjoint(different)
            and known.older.keys().isdisjoint(different)
            and max(ids) < self.id_ahead
        )

    def has_accounts(self, numbers: set[int]) -> bool:
        """Tell whether memory has all these accounts, or knows that there are none."""
        newer, older = self.accounts.newer, self.accounts.older
        return newer.keys() >= numbers or all(number in newer or number in older for number in numbers)

    # --- Reading through -------------------------------------------------------------------------------------------
    def turns(self) -> tuple[int, ...]:
        """Count how often each working set has forgotten, in the order of ``Wanted.KINDS``."""
        return (
            self.accounts.turns,
            self.customers.turns,
            self.handles.turns,
            self.holds.turns,
            self.ids.turns,
            self.reversals.turns,
        )

    def fill(self, wanted: Wanted, loaded: Loaded) -> None:
        """Take what was read; keys asked for and not found are noted as absent.

        What was missing when the reading began can have come, changed and gone again only after two turns of its
        working set; what was read besides may have been there, changed and not yet applied, so one turn is too many.
        """
        turned = [now - then for now, then in zip(self.turns(), wanted.turns, strict=True)]
        ages = dict(zip(Wanted.KINDS, turned, strict=True))
        for kind in ("accounts", "customers", "holds", "ids", "reversals"):
            if ages[kind] < 2:
                working_set, found = getattr(self, kind), getattr(loaded, kind)
                for key in getattr(wanted, kind):
                    working_set.put_if_missing(key, found.get(key))
        if not ages["accounts"]:
            for account in loaded.accounts.values():
                self.accounts.put_if_missing(account.number, account)
        named = {customer.handle: customer for customer in loaded.customers.values()}
        if not ages["customers"]:
            for customer in named.values():
                self.customers.put_if_missing(customer.customer, customer)
        if ages["handles"] < 2:
            for handle in wanted.handles:
                self.handles.put_if_missing(handle, (named[handle].customer, 0) if handle in named else None)

    def trim(self, applied_position: int) -> None:
        """Forget what is long unused; what the tables do not have yet stays."""
        for working_set in (self.accounts, self.holds, self.customers, self.handles, self.reversals):
            working_set.trim(applied_position)
        dropped = self.ids.trim(applied_position)
        newest = max(dropped, default=ID_NONE)
        if newest[6] & 0xF0 != TIME_ORDERED:
            newest = max((id for id in dropped if id[6] & 0xF0 == TIME_ORDERED), default=ID_NONE)
        self.id_seen = max(self.id_seen, newest)
