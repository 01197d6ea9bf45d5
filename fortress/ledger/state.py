"""The working state: what is judged and not yet in the tables lives here, on top of a bounded cache of what is.

``missing`` tells what must be read before a command can be judged, ``fill`` takes what was read, ``apply`` changes
the state by one entry and notes in a :class:`Delta` what the tables must learn. The same ``apply`` serves the node
that judges and the node that follows or recovers, and it checks as it goes: balances continue, or the books are
broken and the node stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fortress.errors import BooksBroken
from fortress.ledger.commands import (
    ChangeAccount,
    ChangeCustomer,
    ChangeKey,
    ChangeProfile,
    CreateCustomer,
    MoveMoney,
    OpenAccount,
    PlaceHold,
    PostHold,
    ReleaseHold,
    ReverseMoney,
)
from fortress.ledger.delta import Delta
from fortress.ledger.entries import (
    AccountChanged,
    AccountOpened,
    AnyEntry,
    ApprovalAsked,
    ApprovalDecided,
    CustomerChanged,
    CustomerCreated,
    HoldPlaced,
    HoldReleased,
    Invited,
    KeyChanged,
    LedgerOpened,
    Posted,
    ProfileChanged,
    Refused,
    SessionEnded,
)
from fortress.ledger.model import (
    BANK,
    Account,
    AccountKind,
    Approval,
    Customer,
    CustomerState,
    Hold,
    HoldState,
    Invitation,
    TransferKind,
    day_of,
    is_account_number,
    month_of,
)
from fortress.ledger.working_set import WorkingSet

ID_NONE = bytes(16)
MARK_EVERY = 256  # an account's every 256th entry is marked, so that old entries are found without an index of all
_SPENDING = frozenset((int(TransferKind.transfer), int(TransferKind.withdrawal), int(TransferKind.payment_out)))
_TIME_ORDERED = 0x70


class Wanted:
    """Keys that must be read from the tables before judging can go on."""

    __slots__ = ("accounts", "customers", "handles", "holds", "ids", "reversals")

    def __init__(self) -> None:
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
        for name in self.__slots__:
            getattr(self, name).update(getattr(other, name))
        return self


class Loaded:
    """What was read for a :class:`Wanted`; keys that were not found are simply not here."""

    __slots__ = ("accounts", "customers", "holds", "ids", "reversals")

    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}
        self.ids: dict[bytes, tuple[int, AnyEntry]] = {}
        self.holds: dict[bytes, Hold] = {}
        self.customers: dict[int, Customer] = {}
        self.reversals: dict[bytes, tuple[int, int]] = {}


class State:
    """What the rules look at; changed only by :meth:`apply`."""

    def __init__(self, *, account_cache_max: int = 131_072, id_cache_max: int = 131_072) -> None:
        self.currencies: dict[str, int] = {}
        self.administrators: set[int] = set()
        self.approvals: dict[bytes, Approval] = {}
        self.invitations: dict[bytes, Invitation] = {}
        self.next_customer = 1
        self.next_account = 10_001
        self.position = 0
        self.id_ahead = b"\xff" * 16
        self.id_seen = ID_NONE  # time-ordered ids after this one are in memory or new
        self.accounts: WorkingSet[int, Account] = WorkingSet(account_cache_max, lambda a: a.last_position)
        self.ids: WorkingSet[bytes, tuple[int, AnyEntry]] = WorkingSet(id_cache_max, lambda known: known[0])
        self.holds: WorkingSet[bytes, Hold] = WorkingSet(65_536, lambda hold: hold.position)
        self.customers: WorkingSet[int, Customer] = WorkingSet(65_536, lambda customer: customer.position)
        self.handles: WorkingSet[bytes, Customer] = WorkingSet(65_536, lambda customer: customer.position)
        self.reversals: WorkingSet[bytes, tuple[int, int]] = WorkingSet(65_536, lambda pair: pair[1])
        self.account = self.accounts.get
        self.known = self.ids.get
        self.hold = self.holds.get
        self.customer = self.customers.get
        self.customer_by_handle = self.handles.get
        self._appliers: dict[type, Callable[[Any, int, Delta], None]] = {
            Posted: self._apply_posted,
            HoldPlaced: self._apply_hold_placed,
            HoldReleased: self._apply_hold_released,
            Refused: self._apply_refused,
            AccountOpened: self._apply_account_opened,
            AccountChanged: self._apply_account_changed,
            CustomerCreated: self._apply_customer_created,
            KeyChanged: self._apply_key_changed,
            ProfileChanged: self._apply_profile_changed,
            CustomerChanged: self._apply_customer_changed,
            Invited: self._apply_invited,
            ApprovalAsked: self._apply_approval_asked,
            ApprovalDecided: self._apply_approval_decided,
            SessionEnded: self._apply_session_ended,
            LedgerOpened: self._apply_ledger_opened,
        }

    def approval(self, id: bytes) -> Approval | None:
        """Give what waits for a second administrator."""
        return self.approvals.get(id)

    def invitation(self, digest: bytes) -> Invitation | None:
        """Give an invitation by the hash of its code."""
        return self.invitations.get(digest)

    def reversed_minor(self, original: bytes) -> int:
        """Tell how much of a transfer was reversed, in minor units."""
        pair = self.reversals.get(original)
        return pair[0] if pair is not None else 0

    # --- What must be read first -----------------------------------------------------------------------------------
    def lacks_move(self, id: bytes, debit: int, credit: int) -> bool:
        """Tell whether memory lacks anything a transfer names; the hot path's whole look at the cache."""
        accounts = self.accounts
        if debit not in accounts.newer and debit not in accounts.older:
            return True
        if credit not in accounts.newer and credit not in accounts.older:
            return True
        if id > self.id_seen and id[6] & 0xF0 == _TIME_ORDERED:
            return False
        return id not in self.ids

    def missing(self, command: Any) -> Wanted | None:
        """Tell what must be read before ``command`` can be judged; None when nothing is missing."""
        wanted = Wanted()
        kind = type(command)
        if kind in (MoveMoney, PlaceHold):
            self._want_move(wanted, command.id, command.debit, command.credit)
        elif kind in (PostHold, ReleaseHold):
            self._want_hold(wanted, command.id)
        elif kind is ReverseMoney:
            self._want_reversal(wanted, command)
        elif kind is OpenAccount:
            self._want_id(wanted, command.id)
            self._want_customer(wanted, command.owner)
        elif kind is ChangeAccount:
            self._want_id(wanted, command.id)
            self._want_account(wanted, command.number)
        elif kind is CreateCustomer:
            self._want_id(wanted, command.id)
            if command.handle not in self.handles:
                wanted.handles.add(command.handle)
        elif kind in (ChangeKey, ChangeProfile, ChangeCustomer):
            self._want_customer(wanted, command.customer)
        if kind not in (PostHold, ReleaseHold) and hasattr(command, "id"):
            self._want_id(wanted, command.id)
        return wanted if wanted else None

    def missing_for_batch(self, rows: Iterable[Any]) -> Wanted | None:
        """Tell what must be read before the rows of a batch can be judged."""
        wanted = Wanted()
        for row in rows:
            if self.lacks_move(row.id, row.debit, row.credit):
                self._want_move(wanted, row.id, row.debit, row.credit)
        return wanted if wanted else None

    def missing_for_entry(self, entry: AnyEntry) -> Wanted | None:
        """Tell what must be read before an entry from elsewhere (the peer, the journal) can be applied."""
        wanted = Wanted()
        e: Any = entry
        kind = type(entry)
        if kind in (Posted, HoldPlaced, HoldReleased):
            self._want_account(wanted, e.debit)
            self._want_account(wanted, e.credit)
            if kind is HoldReleased or (kind is Posted and e.held):
                self._want_hold(wanted, e.id)
            if kind is Posted and e.original and e.original not in self.reversals:
                wanted.reversals.add(e.original)
        elif kind is AccountOpened:
            self._want_customer(wanted, e.owner)
        elif kind is AccountChanged:
            self._want_account(wanted, e.number)
        elif kind in (KeyChanged, ProfileChanged, CustomerChanged):
            self._want_customer(wanted, e.customer)
        return wanted if wanted else None

    def want_account(self, number: int) -> Wanted | None:
        """Tell whether an account must be read."""
        wanted = Wanted()
        self._want_account(wanted, number)
        return wanted if wanted else None

    def want_customer(self, *, customer: int = 0, handle: bytes = b"") -> Wanted | None:
        """Tell whether a customer must be read, by number or by handle."""
        wanted = Wanted()
        if handle and handle not in self.handles:
            wanted.handles.add(handle)
        if customer:
            self._want_customer(wanted, customer)
        return wanted if wanted else None

    def _want_account(self, wanted: Wanted, number: int) -> None:
        if number not in self.accounts and is_account_number(number):
            wanted.accounts.add(number)

    def _want_customer(self, wanted: Wanted, customer: int) -> None:
        if customer != BANK and customer not in self.customers:
            wanted.customers.add(customer)

    def _want_id(self, wanted: Wanted, id: bytes) -> None:
        is_new = id > self.id_seen and id[6] & 0xF0 == _TIME_ORDERED
        if id and not is_new and id not in self.ids:
            wanted.ids.add(id)

    def _want_move(self, wanted: Wanted, id: bytes, debit: int, credit: int) -> None:
        self._want_account(wanted, debit)
        self._want_account(wanted, credit)
        self._want_id(wanted, id)

    def _want_hold(self, wanted: Wanted, id: bytes) -> None:
        if id not in self.holds:
            wanted.holds.add(id)
            return
        hold = self.holds.get(id)
        if hold is not None:
            self._want_account(wanted, hold.debit)
            self._want_account(wanted, hold.credit)

    def _want_reversal(self, wanted: Wanted, command: ReverseMoney) -> None:
        if command.original not in self.ids:
            wanted.ids.add(command.original)
        if command.original not in self.reversals:
            wanted.reversals.add(command.original)
        known = self.ids.get(command.original)
        if known is not None and type(known[1]) is Posted:
            self._want_account(wanted, known[1].debit)
            self._want_account(wanted, known[1].credit)

    def fill(self, wanted: Wanted, loaded: Loaded) -> None:
        """Take what was read; keys asked for and not found are noted as absent."""
        for number in wanted.accounts:
            self.accounts.put_if_missing(number, loaded.accounts.get(number))
        for id in wanted.ids:
            self.ids.put_if_missing(id, loaded.ids.get(id))
        for id in wanted.holds:
            self.holds.put_if_missing(id, loaded.holds.get(id))
        for original in wanted.reversals:
            self.reversals.put_if_missing(original, loaded.reversals.get(original))
        for customer in loaded.customers.values():
            held = self.customers.get(customer.customer) or customer
            self.customers.put_if_missing(customer.customer, held)
            self.handles.put_if_missing(customer.handle, held)
        for number in wanted.customers:
            self.customers.put_if_missing(number, None)
        for handle in wanted.handles:
            self.handles.put_if_missing(handle, None)

    def trim(self, applied_position: int) -> None:
        """Forget what is long unused; what the tables do not have yet stays."""
        for working_set in (self.accounts, self.holds, self.customers, self.handles, self.reversals):
            working_set.trim(applied_position)
        dropped = [id for id in self.ids.trim(applied_position) if id[6] & 0xF0 == _TIME_ORDERED]
        if dropped:
            self.id_seen = max(self.id_seen, max(dropped))

    # --- Applying --------------------------------------------------------------------------------------------------
    def apply(self, entry: AnyEntry, delta: Delta) -> int:
        """Change the state by one entry; return the entry's position.

        Raises:
            BooksBroken: the entry does not continue the balances it names; the node must stop.
        """
        self.position = position = self.position + 1
        self._appliers[type(entry)](entry, position, delta)
        return position

    def _chain(self, account: Account, position: int, delta: Delta) -> int:
        """Link the entry to the account's one before it; return that one's position."""
        before = account.last_position
        account.last_position = position
        account.entry_count = count = account.entry_count + 1
        if count % MARK_EVERY == 0:
            delta.marks.append((account.number, position))
        delta.touched[account.number] = account
        return before

    def _pair(self, entry: Any) -> tuple[Account, Account]:
        debit, credit = self.accounts.get(entry.debit), self.accounts.get(entry.credit)
        if debit is None or credit is None:
            raise BooksBroken(f"an entry names account {entry.debit} or {entry.credit}, which does not exist")
        return debit, credit

    def _apply_posted(self, entry: Posted, position: int, delta: Delta) -> None:
        debit, credit = self._pair(entry)
        amount = entry.amount
        debit.debits_posted += amount
        credit.credits_posted += amount
        if (
            debit.credits_posted - debit.debits_posted != entry.debit_balance
            or credit.credits_posted - credit.debits_posted != entry.credit_balance
        ):
            raise BooksBroken(f"the balances after position {position} do not continue the ones before")
        id = entry.id
        if entry.held:
            self._settle_hold(entry, debit, credit, position, delta)
        else:
            if entry.kind in _SPENDING:
                self._spend(debit, amount, entry.time_us)
            self.ids.newer[id] = (position, entry)
            delta.ids.append((id, position))
        if entry.original:
            total = self.reversed_minor(entry.original) + amount
            self.reversals.put(entry.original, (total, position))
            delta.reversals[entry.original] = total
        delta.chain.append(
            (
                position,
                entry.debit,
                self._chain(debit, position, delta),
                entry.credit,
                self._chain(credit, position, delta),
            )
        )

    def _spend(self, account: Account, amount: int, time_us: int) -> None:
        day = day_of(time_us)
        if account.day != day:
            month = month_of(day)
            if account.month != month:
                account.month, account.month_spent = month, 0
            account.day, account.day_spent = day, 0
        account.day_spent += amount
        account.month_spent += amount

    def _unspend(self, account: Account, amount: int, spent_us: int) -> None:
        """Give back what a hold had counted against the limits, when its day or month still runs."""
        day = day_of(spent_us)
        if account.day == day:
            account.day_spent -= amount
        if account.month == month_of(day):
            account.month_spent -= amount

    def _settle_hold(self, entry: Posted, debit: Account, credit: Account, position: int, delta: Delta) -> None:
        hold = self._open_hold(entry.id)
        debit.debits_pending -= entry.held
        credit.credits_pending -= entry.held
        if debit.debits_pending < 0 or credit.credits_pending < 0 or hold.amount != entry.held:
            raise BooksBroken(f"position {position} takes more than was held")
        self._unspend(debit, entry.held - entry.amount, hold.placed_us)
        hold.state, hold.posted, hold.position = int(HoldState.posted), entry.amount, position
        delta.holds[hold.id] = hold

    def _open_hold(self, id: bytes) -> Hold:
        hold = self.holds.get(id)
        if hold is None or hold.state != HoldState.open:
            raise BooksBroken(f"an entry ends hold {id.hex()}, which is not open")
        return hold

    def _apply_hold_placed(self, entry: HoldPlaced, position: int, delta: Delta) -> None:
        debit, credit = self._pair(entry)
        debit.debits_pending += entry.amount
        credit.credits_pending += entry.amount
        self._check_pending(entry, debit, credit, position)
        self._spend(debit, entry.amount, entry.time_us)
        e = entry
        hold = Hold(e.id, e.debit, e.credit, e.amount, e.currency, e.time_us, e.expires_us, e.reference, 1, 0, position)
        self.holds.put(e.id, hold)
        delta.holds[e.id] = hold
        self._remember(e.id, position, entry, delta)
        self._chain_pair(entry, debit, credit, position, delta)

    def _apply_hold_released(self, entry: HoldReleased, position: int, delta: Delta) -> None:
        debit, credit = self._pair(entry)
        hold = self._open_hold(entry.id)
        debit.debits_pending -= entry.amount
        credit.credits_pending -= entry.amount
        self._check_pending(entry, debit, credit, position)
        self._unspend(debit, entry.amount, hold.placed_us)
        hold.state, hold.position = entry.state, position
        delta.holds[entry.id] = hold
        self._chain_pair(entry, debit, credit, position, delta)

    def _check_pending(self, entry: Any, debit: Account, credit: Account, position: int) -> None:
        if debit.debits_pending != entry.debit_pending or credit.credits_pending != entry.credit_pending:
            raise BooksBroken(f"the held sums after position {position} do not continue the ones before")

    def _chain_pair(self, entry: Any, debit: Account, credit: Account, position: int, delta: Delta) -> None:
        before_debit = self._chain(debit, position, delta)
        before_credit = self._chain(credit, position, delta)
        delta.chain.append((position, entry.debit, before_debit, entry.credit, before_credit))

    def _remember(self, id: bytes, position: int, entry: AnyEntry, delta: Delta) -> None:
        if id:
            self.ids.put(id, (position, entry))
            delta.ids.append((id, position))

    def _note(self, position: int, delta: Delta, account: Account | None = None) -> None:
        """Put an entry that moves no money into the trail, and into its account's chain if it has one."""
        number, before = (account.number, self._chain(account, position, delta)) if account else (0, 0)
        delta.chain.append((position, number, before, 0, 0))
        delta.trail.append(position)

    def _apply_refused(self, entry: Refused, position: int, delta: Delta) -> None:
        self._remember(entry.id, position, entry, delta)
        self._note(position, delta)

    def _apply_account_opened(self, entry: AccountOpened, position: int, delta: Delta) -> None:
        self.next_account += 1
        e = entry
        account = Account(e.number, e.owner, e.kind, e.currency, floor=e.floor, opened_us=e.time_us)
        self.accounts.put(e.number, account)
        if e.kind == AccountKind.cash:
            self.currencies[e.currency] = e.number
        owner = self.customers.get(e.owner)
        if owner is not None:
            owner.default_account = owner.default_account or e.number
            owner.account_count += 1
            owner.position = position
            delta.customers[owner.customer] = owner
        delta.accounts[e.number] = account
        self._remember(e.id, position, entry, delta)
        self._note(position, delta, account)

    def _apply_account_changed(self, entry: AccountChanged, position: int, delta: Delta) -> None:
        account = self.accounts.get(entry.number)
        if account is None:
            raise BooksBroken(f"position {position} changes account {entry.number}, which does not exist")
        account.state, account.floor = entry.state, entry.floor
        account.limit_payment, account.limit_day = entry.limit_payment, entry.limit_day
        account.limit_month, account.signed_orders_only = entry.limit_month, entry.signed_orders_only
        account.version = entry.version
        delta.accounts[account.number] = account
        self._remember(entry.id, position, entry, delta)
        self._note(position, delta, account)

    def _apply_customer_created(self, entry: CustomerCreated, position: int, delta: Delta) -> None:
        e = entry
        self.next_customer = max(self.next_customer, e.customer + 1)
        key = (e.salt, e.memory_kib, e.iterations, e.lanes, e.sealed_public, e.signing)
        customer = Customer(e.customer, e.handle, e.roles, *key, e.profile, e.time_us, position=position)
        self.handles.put(e.handle, customer)
        if "administrator" in e.roles:
            self.administrators.add(e.customer)
        invitation = self.invitations.get(e.invitation)
        if invitation is not None:
            invitation.used = True
            delta.invitations[invitation.digest] = invitation
        self._remember(e.id, position, entry, delta)
        self._keep_customer(customer, position, delta)

    def _keep_customer(self, customer: Customer, position: int, delta: Delta) -> None:
        customer.position = position
        self.customers.put(customer.customer, customer)
        delta.customers[customer.customer] = customer
        self._note(position, delta)

    def _existing_customer(self, number: int) -> Customer:
        customer = self.customers.get(number)
        if customer is None:
            raise BooksBroken(f"an entry names customer {number}, who does not exist")
        return customer

    def _apply_key_changed(self, entry: KeyChanged, position: int, delta: Delta) -> None:
        customer = self._existing_customer(entry.customer)
        customer.salt, customer.memory_kib = entry.salt, entry.memory_kib
        customer.iterations, customer.lanes = entry.iterations, entry.lanes
        customer.sealed_public, customer.signing = entry.sealed_public, entry.signing
        self._keep_customer(customer, position, delta)

    def _apply_profile_changed(self, entry: ProfileChanged, position: int, delta: Delta) -> None:
        customer = self._existing_customer(entry.customer)
        customer.profile = entry.profile
        self._keep_customer(customer, position, delta)

    def _apply_customer_changed(self, entry: CustomerChanged, position: int, delta: Delta) -> None:
        customer = self._existing_customer(entry.customer)
        customer.roles, customer.state = entry.roles, entry.state
        customer.locked_until_us = entry.locked_until_us
        is_gone = entry.state == CustomerState.erased or (
            entry.state == CustomerState.locked and not entry.locked_until_us
        )
        if "administrator" in entry.roles and not is_gone:
            self.administrators.add(entry.customer)
        else:
            self.administrators.discard(entry.customer)
        if entry.state == CustomerState.erased:
            customer.profile = customer.sealed_public = b""
        self._remember(entry.id, position, entry, delta)
        self._keep_customer(customer, position, delta)

    def _apply_invited(self, entry: Invited, position: int, delta: Delta) -> None:
        invitation = Invitation(entry.digest, entry.role, entry.expires_us, position=position)
        self.invitations[entry.digest] = invitation
        delta.invitations[entry.digest] = invitation
        self._remember(entry.id, position, entry, delta)
        self._note(position, delta)

    def _apply_approval_asked(self, entry: ApprovalAsked, position: int, delta: Delta) -> None:
        e = entry
        approval = Approval(e.id, e.operation, e.command, e.summary, e.actor, e.time_us, 1, position)
        self.approvals[e.id] = approval
        delta.approvals[e.id] = approval
        self._remember(e.id, position, entry, delta)
        self._note(position, delta)

    def _apply_approval_decided(self, entry: ApprovalDecided, position: int, delta: Delta) -> None:
        approval = self.approvals.get(entry.id)
        if approval is None:
            raise BooksBroken(f"position {position} decides approval {entry.id.hex()}, which does not exist")
        approval.state, approval.position = 2 if entry.approved else 3, position
        delta.approvals[entry.id] = approval
        self._note(position, delta)

    def _apply_session_ended(self, entry: SessionEnded, position: int, delta: Delta) -> None:
        delta.sessions.append((entry.session, entry.customer, entry.until_us))
        self._note(position, delta)

    def _apply_ledger_opened(self, entry: LedgerOpened, position: int, delta: Delta) -> None:
        for currency in entry.currencies:
            self.currencies.setdefault(currency, 0)
        self._note(position, delta)
