"""Apply entries about accounts, customers, approvals, sessions and refusals to the books in memory.

The other half of :mod:`fortress.ledger.state` beside :mod:`fortress.ledger.posting`. None of these entries moves
money; each is a row of the trail.
"""

from __future__ import annotations

from fortress.errors import BooksBroken
from fortress.ledger.delta import Delta
from fortress.ledger.entries import (
    AccountChanged,
    AccountOpened,
    AnyEntry,
    ApprovalAsked,
    ApprovalDecided,
    BankChanged,
    CustomerChanged,
    CustomerCreated,
    Invited,
    KeyChanged,
    LedgerOpened,
    LedgerRestored,
    ProfileChanged,
    Refused,
    SessionEnded,
    WindowClosed,
)
from fortress.ledger.memory import Memory
from fortress.ledger.model import (
    BANK,
    Account,
    AccountKind,
    AccountState,
    Approval,
    Customer,
    CustomerState,
    Invitation,
    MemberBank,
    WindowEnd,
)

_CLOSED = int(AccountState.closed)
APPROVED, DECLINED = 2, 3


class Administration:
    """Appliers of all entries that move no money, over one memory."""

    __slots__ = ("_memory",)

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def _remember(self, id: bytes, position: int, entry: AnyEntry, delta: Delta) -> None:
        if id:
            self._memory.ids.put(id, (position, entry))
            delta.ids.append(id)
            delta.id_positions.append(position)

    def apply_ledger_opened(self, entry: LedgerOpened, position: int, delta: Delta) -> None:
        """Begin the books; only their first entry does."""
        if position != 1:
            raise BooksBroken(f"position {position} opens the ledger again")
        for currency in entry.currencies:
            self._memory.currencies.setdefault(currency, 0)
        delta.note(position)

    def apply_ledger_restored(self, entry: LedgerRestored, position: int, delta: Delta) -> None:
        """Note that the bank went on from a backup; it changes nothing else."""
        delta.note(position)

    def apply_refused(self, entry: Refused, position: int, delta: Delta) -> None:
        """Remember a refusal."""
        self._remember(entry.id, position, entry, delta)
        delta.note(position)

    # --- Accounts --------------------------------------------------------------------------------------------------
    def apply_account_opened(self, entry: AccountOpened, position: int, delta: Delta) -> None:
        """Open an account."""
        e = entry
        memory = self._memory
        memory.next_account = max(memory.next_account, e.number // 100 + 1)
        account = Account(e.number, e.owner, e.kind, e.currency, floor=e.floor, opened_us=e.time_us)
        memory.accounts.put(e.number, account)
        if e.kind == AccountKind.cash:
            memory.currencies[e.currency] = e.number
        elif e.kind == AccountKind.settlement:
            memory.settlements[e.currency] = e.number
        elif e.kind == AccountKind.position:
            memory.positions[-e.owner, e.currency] = e.number
        if e.owner > BANK:
            owner = self._existing(e.owner)
            owner.default_account = owner.default_account or e.number
            owner.account_count += 1
            owner.open_account_count += 1
            self._touch(owner, position, delta)
        delta.accounts[e.number] = account
        self._remember(e.id, position, entry, delta)
        delta.note(position, account)

    def apply_account_changed(self, entry: AccountChanged, position: int, delta: Delta) -> None:
        """Set an account's state or limits."""
        account = self._memory.accounts.get(entry.number)
        if account is None:
            raise BooksBroken(f"position {position} changes account {entry.number}, which does not exist")
        opened = (account.state == _CLOSED) - (entry.state == _CLOSED)
        if opened and account.owner > BANK:
            owner = self._existing(account.owner)
            owner.open_account_count += opened
            self._touch(owner, position, delta)
        account.state, account.floor = entry.state, entry.floor
        account.limit_payment, account.limit_day = entry.limit_payment, entry.limit_day
        account.limit_month, account.signed_orders_only = entry.limit_month, entry.signed_orders_only
        account.version = entry.version
        delta.accounts[account.number] = account
        self._remember(entry.id, position, entry, delta)
        delta.note(position, account)

    # --- Customers -------------------------------------------------------------------------------------------------
    def _existing(self, number: int) -> Customer:
        customer = self._memory.customers.get(number)
        if customer is None:
            raise BooksBroken(f"an entry names customer {number}, who does not exist")
        return customer

    def _touch(self, customer: Customer, position: int, delta: Delta) -> None:
        customer.position = position
        delta.customers[customer.customer] = customer

    def apply_customer_created(self, entry: CustomerCreated, position: int, delta: Delta) -> None:
        """Make a customer; the invitation used is gone."""
        e = entry
        memory = self._memory
        memory.next_customer = max(memory.next_customer, e.customer + 1)
        key = (e.salt, e.memory_kib, e.iterations, e.lanes, e.sealed_public, e.signing)
        customer = Customer(e.customer, e.handle, e.roles, *key, e.profile, e.time_us)
        memory.customers.put(e.customer, customer)
        memory.handles.put(e.handle, (e.customer, position))
        if "administrator" in e.roles:
            memory.administrators.add(e.customer)
        invitation = memory.invitations.pop(e.invitation, None)
        if invitation is not None:
            invitation.used, invitation.position = True, position
            delta.invitations[invitation.digest] = invitation
        self._touch(customer, position, delta)
        self._remember(e.id, position, entry, delta)
        delta.note(position)

    def apply_key_changed(self, entry: KeyChanged, position: int, delta: Delta) -> None:
        """Replace a login key."""
        customer = self._existing(entry.customer)
        customer.salt, customer.memory_kib = entry.salt, entry.memory_kib
        customer.iterations, customer.lanes = entry.iterations, entry.lanes
        customer.sealed_public, customer.signing = entry.sealed_public, entry.signing
        self._touch(customer, position, delta)
        delta.note(position)

    def apply_profile_changed(self, entry: ProfileChanged, position: int, delta: Delta) -> None:
        """Replace personal data."""
        customer = self._existing(entry.customer)
        customer.profile = entry.profile
        self._touch(customer, position, delta)
        delta.note(position)

    def apply_customer_changed(self, entry: CustomerChanged, position: int, delta: Delta) -> None:
        """Set roles or state; an erased customer's sealed data leaves the tables as well."""
        customer = self._existing(entry.customer)
        customer.roles, customer.state = entry.roles, entry.state
        customer.locked_until_us = entry.locked_until_us
        is_locked_for_good = entry.state == CustomerState.locked and not entry.locked_until_us
        is_gone = entry.state == CustomerState.erased or is_locked_for_good
        if "administrator" in entry.roles and not is_gone:
            self._memory.administrators.add(entry.customer)
        else:
            self._memory.administrators.discard(entry.customer)
        if entry.state == CustomerState.erased:
            customer.profile = customer.sealed_public = b""
        self._touch(customer, position, delta)
        self._remember(entry.id, position, entry, delta)
        delta.note(position)

    # --- Invitations, approvals, sessions --------------------------------------------------------------------------
    def apply_invited(self, entry: Invited, position: int, delta: Delta) -> None:
        """Keep an invitation until it is used."""
        invitation = Invitation(entry.digest, entry.role, entry.expires_us, position=position)
        self._memory.invitations[entry.digest] = invitation
        delta.invitations[entry.digest] = invitation
        self._remember(entry.id, position, entry, delta)
        delta.note(position)

    def apply_approval_asked(self, entry: ApprovalAsked, position: int, delta: Delta) -> None:
        """Keep what waits for a second administrator until it is decided."""
        e = entry
        approval = Approval(e.id, e.operation, e.command, e.summary, e.actor, e.time_us, 1, position)
        self._memory.approvals[e.id] = approval
        delta.approvals[e.id] = approval
        self._remember(e.id, position, entry, delta)
        delta.note(position)

    def apply_approval_decided(self, entry: ApprovalDecided, position: int, delta: Delta) -> None:
        """Let go of what was decided; its id is still known as one that was asked."""
        approval = self._memory.approvals.pop(entry.id, None)
        if approval is None:
            raise BooksBroken(f"position {position} decides approval {entry.id.hex()}, which does not wait")
        approval.state, approval.position = APPROVED if entry.approved else DECLINED, position
        delta.approvals[entry.id] = approval
        delta.note(position)

    def apply_session_ended(self, entry: SessionEnded, position: int, delta: Delta) -> None:
        """Keep that a session has ended; only the tables need it."""
        delta.sessions.append((entry.session, entry.customer, entry.until_us))
        delta.note(position)

    # --- Other banks -----------------------------------------------------------------------------------------------
    def apply_bank_changed(self, entry: BankChanged, position: int, delta: Delta) -> None:
        """Add a bank, or set its state or authority; a new one takes the next number."""
        e = entry
        banks = self._memory.banks
        bank = banks.get(e.bank)
        if e.number != (bank.number if bank is not None else len(banks) + 1):
            raise BooksBroken(f"position {position} gives bank {e.bank} the number {e.number}, which is not its own")
        added_us = bank.added_us if bank is not None else e.time_us
        banks[e.bank] = changed = MemberBank(e.number, e.bank, e.state, e.authority, added_us, position)
        delta.banks[e.number] = changed
        self._remember(e.id, position, entry, delta)
        delta.note(position)

    def apply_window_closed(self, entry: WindowClosed, position: int, delta: Delta) -> None:
        """End a settlement window; the next one begins where it ended."""
        last = self._memory.windows
        if (entry.number, entry.after) != (last.number + 1, last.to):
            raise BooksBroken(f"position {position} closes window {entry.number}, which does not follow {last.number}")
        self._memory.windows = WindowEnd(entry.number, entry.to)
        delta.windows.append((entry.number, entry.after, entry.to, entry.time_us, position))
        self._remember(entry.id, position, entry, delta)
        delta.note(position)
