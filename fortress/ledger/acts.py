"""Judge administrative acts: accounts opened and changed, customers, keys, invitations, approvals, sessions.

The same law as :mod:`fortress.ledger.rules`: look, decide, change nothing. ``judge`` here is the one entrance for
every command; it looks the command's judge up in a table.
"""

from __future__ import annotations

from typing import Any

from fortress.errors import Status
from fortress.ledger.bank_rules import check_opening, is_floor, judge_change_bank, judge_close_window
from fortress.ledger.commands import (
    AbortPayment,
    AskApproval,
    ChangeAccount,
    ChangeBank,
    ChangeCustomer,
    ChangeKey,
    ChangeProfile,
    CloseWindow,
    Command,
    CommitPayment,
    CreateCustomer,
    DecideApproval,
    EndSession,
    Invite,
    MoveMoney,
    OpenAccount,
    OpenLedger,
    PlaceHold,
    PlacePayment,
    PostHold,
    ReleaseHold,
    ReverseMoney,
)
from fortress.ledger.entries import (
    AccountChanged,
    AccountOpened,
    ApprovalAsked,
    ApprovalDecided,
    CustomerChanged,
    CustomerCreated,
    Invited,
    KeyChanged,
    LedgerOpened,
    ProfileChanged,
    SessionEnded,
)
from fortress.ledger.hold_rules import judge_place_hold, judge_post_hold, judge_release_hold, judge_reverse
from fortress.ledger.model import (
    BANK,
    ROLES,
    Account,
    AccountKind,
    AccountState,
    Customer,
    CustomerState,
    account_number,
)
from fortress.ledger.payment_rules import judge_abort_payment, judge_commit_payment, judge_place_payment
from fortress.ledger.rules import (
    Books,
    Judge,
    Verdict,
    content_digest,
    judge_move,
    refuse,
    replay_act,
)

ACCOUNTS_PER_CUSTOMER_MAX = 64
_OK = Status.ok
_CUSTOMER_KIND = int(AccountKind.customer)
_SETTLEMENT_KIND = int(AccountKind.settlement)
_POSITION_KIND = int(AccountKind.position)

# act -> (states it starts from, state it leads to)
ACCOUNT_ACTS: dict[str, tuple[tuple[int, ...], int]] = {
    "freeze": ((AccountState.open, AccountState.debit_frozen), AccountState.frozen),
    "freeze_debits": ((AccountState.open, AccountState.frozen), AccountState.debit_frozen),
    "unfreeze": ((AccountState.frozen, AccountState.debit_frozen), AccountState.open),
    "close": ((AccountState.open,), AccountState.closed),
    "reopen": ((AccountState.closed,), AccountState.open),
}


def judge_open_account(books: Books, command: OpenAccount, now_us: int) -> Verdict:
    """Judge the opening of an account: for oneself, by staff for a customer, by the bank for itself, for a bank."""
    c = command
    digest = content_digest("open_account", c.owner, c.kind, c.currency, c.floor)

    def is_same(entry: Any) -> bool:
        opened = type(entry) is AccountOpened
        return opened and (entry.owner, entry.kind, entry.currency, entry.floor) == (
            c.owner,
            c.kind,
            c.currency,
            c.floor,
        )

    replayed = replay_act(books, c, is_same, digest)
    if replayed is not None:
        return replayed
    status = _check_opening(books, c)
    if status is not _OK:
        return refuse(c, status, digest, now_us, operation="open_account")
    number = account_number(books.next_account)
    return Verdict(_OK, AccountOpened(now_us, c.id, number, c.owner, c.kind, c.currency, c.floor, c.actor.customer))


def _check_opening(books: Books, command: OpenAccount) -> Status:
    if command.currency not in books.currencies:
        return Status.currency_unknown
    if command.kind in (_SETTLEMENT_KIND, _POSITION_KIND):
        return check_opening(books, command)
    if command.owner == BANK:
        is_bank = command.actor.customer == BANK
        return _OK if is_bank and command.kind != _CUSTOMER_KIND else Status.account_kind_not_allowed
    if command.owner != command.actor.customer and not command.actor.is_cashier:
        return Status.customer_unknown
    if command.kind != _CUSTOMER_KIND:
        return Status.account_kind_not_allowed
    owner = books.customer(command.owner)
    status = _check_customer(owner)
    if status is not _OK:
        return status
    assert owner is not None
    if owner.account_count >= ACCOUNTS_PER_CUSTOMER_MAX:
        return Status.account_limit_reached
    return _OK if command.floor == 0 else Status.floor_invalid


def _check_customer(customer: Customer | None) -> Status:
    if customer is None:
        return Status.customer_unknown
    return Status.customer_erased if customer.state == CustomerState.erased else _OK


def judge_change_account(books: Books, command: ChangeAccount, now_us: int) -> Verdict:
    """Judge a change of an account's state or limits."""
    c = command
    digest = content_digest(c.act, c.number, c.floor, c.limit_payment, c.limit_day, c.limit_month, c.signed_orders_only)

    def is_same(entry: Any) -> bool:
        if type(entry) is not AccountChanged or (entry.number, entry.act) != (c.number, c.act):
            return False
        return c.act != "limits" or _limits_of(entry) == _limits_of(c)

    replayed = replay_act(books, c, is_same, digest)
    if replayed is not None:
        return replayed
    account = books.account(c.number)
    status = _check_change(books, account, c)
    if status is not _OK:
        state = (("state", AccountState(account.state).name),) if account is not None else ()
        return refuse(c, status, digest, now_us, operation=c.act, account=c.number, facts=state)
    assert account is not None
    return Verdict(_OK, _changed_account(account, c, now_us))


def _limits_of(source: Any) -> tuple[int | None, int | None, int | None, int | None, bool]:
    """Take floor and limits of an account, a command or an entry."""
    return (source.floor, source.limit_payment, source.limit_day, source.limit_month, source.signed_orders_only)


def _changed_account(account: Account, command: ChangeAccount, now_us: int) -> AccountChanged:
    source: Any = command if command.act == "limits" else account
    state = account.state if command.act == "limits" else int(ACCOUNT_ACTS[command.act][1])
    return AccountChanged(
        now_us,
        command.id,
        account.number,
        command.act,
        state,
        *_limits_of(source),
        account.version + 1,
        command.actor.customer,
    )


def _check_change(books: Books, account: Account | None, command: ChangeAccount) -> Status:
    is_administrator = "administrator" in command.actor.roles
    if account is None or not (
        is_administrator or (account.owner == command.actor.customer and command.act == "close")
    ):
        return Status.account_unknown
    if account.kind != _CUSTOMER_KIND and command.act in ("close", "limits"):
        is_cap = account.kind == _POSITION_KIND and command.act == "limits"
        if not is_cap:
            return Status.account_kind_not_allowed
    if command.act == "limits":
        return _check_limits_set(account, command)
    if account.state not in ACCOUNT_ACTS[command.act][0]:
        return Status.account_state_conflict
    if command.act == "close":
        is_empty = account.balance == 0 and account.debits_pending == 0 and account.credits_pending == 0
        return _OK if is_empty else Status.account_not_empty
    if command.act == "reopen" and account.owner > BANK:
        return _check_customer(books.customer(account.owner))
    return _OK


def _check_limits_set(account: Account, command: ChangeAccount) -> Status:
    if account.state == AccountState.closed:
        return Status.account_state_conflict
    return _OK if is_floor(command.floor) else Status.floor_invalid


def judge_create_customer(books: Books, command: CreateCustomer, now_us: int) -> Verdict:
    """Judge the making of a customer, by an administrator's hand or with an invitation."""
    c = command
    digest = content_digest("create_customer", c.handle, c.roles, c.invitation)

    def is_same(entry: Any) -> bool:
        if type(entry) is not CustomerCreated or (entry.handle, entry.invitation) != (c.handle, c.invitation):
            return False
        # an invitation decides the roles, and is no longer there to tell them once it is used
        return bool(c.invitation) or entry.roles == c.roles

    replayed = replay_act(books, c, is_same, digest)
    if replayed is not None:
        return replayed
    status = _check_creation(books, c, now_us)
    if status is not _OK:
        return refuse(c, status, digest, now_us, operation="create_customer")
    k = c.key
    key = (k.salt, k.memory_kib, k.iterations, k.lanes, k.sealed_public, k.signing)
    number = books.next_customer
    entry = CustomerCreated(now_us, c.id, number, c.handle, c.roles, *key, c.profile, c.invitation, c.actor.customer)
    return Verdict(_OK, entry)


def are_roles(roles: tuple[str, ...]) -> bool:
    """Tell whether these are roles a customer can have: known ones, at least one, none twice."""
    return bool(roles) and all(role in ROLES for role in roles) and len(set(roles)) == len(roles)


def _check_creation(books: Books, command: CreateCustomer, now_us: int) -> Status:
    if command.invitation:
        invitation = books.invitation(command.invitation)
        if invitation is None or now_us >= invitation.expires_us:
            return Status.invitation_invalid
        if command.roles != (invitation.role,):
            return Status.role_invalid
    if not are_roles(command.roles):
        return Status.role_invalid
    return Status.username_taken if books.has_handle(command.handle) else _OK


def judge_change_key(books: Books, command: ChangeKey, now_us: int) -> Verdict:
    """Judge the change of a login key; the proofs were checked where the channel is."""
    status = _check_customer(books.customer(command.customer))
    if status is not _OK:
        return Verdict(status)
    k = command.key
    key = (k.salt, k.memory_kib, k.iterations, k.lanes, k.sealed_public, k.signing)
    return Verdict(_OK, KeyChanged(now_us, command.customer, *key, command.actor.customer))


def judge_change_profile(books: Books, command: ChangeProfile, now_us: int) -> Verdict:
    """Judge the change of personal data."""
    status = _check_customer(books.customer(command.customer))
    if status is not _OK:
        return Verdict(status)
    return Verdict(_OK, ProfileChanged(now_us, command.customer, command.profile, command.actor.customer))


def judge_change_customer(books: Books, command: ChangeCustomer, now_us: int) -> Verdict:
    """Judge a change of roles or state.

    The last administrator cannot be taken away, and nobody is erased who still has an open account: money could
    lie on it, or be sent to it, and nobody would be left to whom it belongs.
    """
    c = command
    digest = content_digest(c.act, c.customer, c.roles, c.locked_until_us)

    def is_same(entry: Any) -> bool:
        if type(entry) is not CustomerChanged or (entry.customer, entry.act) != (c.customer, c.act):
            return False
        return (c.act != "roles" or entry.roles == c.roles) and (
            c.act != "lock" or entry.locked_until_us == c.locked_until_us
        )

    replayed = replay_act(books, c, is_same, digest)
    if replayed is not None:
        return replayed
    customer = books.customer(c.customer)
    status = _check_customer_change(books, customer, c)
    if status is not _OK:
        open_accounts = 0 if customer is None else customer.open_account_count
        facts = (("open_accounts", open_accounts),) if status is Status.account_not_empty else ()
        return refuse(c, status, digest, now_us, operation=c.act, facts=facts)
    assert customer is not None
    roles = c.roles if c.act == "roles" else customer.roles
    states = {"lock": CustomerState.locked, "unlock": CustomerState.active, "erase": CustomerState.erased}
    state = int(states.get(c.act, customer.state))
    until = c.locked_until_us if c.act == "lock" else 0
    return Verdict(_OK, CustomerChanged(now_us, c.id, c.customer, c.act, roles, state, until, c.actor.customer))


def _check_customer_change(books: Books, customer: Customer | None, command: ChangeCustomer) -> Status:
    status = _check_customer(customer)
    if status is not _OK:
        return status
    if command.act == "roles" and not are_roles(command.roles):
        return Status.role_invalid
    takes_away = (
        command.act == "erase"
        or (command.act == "lock" and not command.locked_until_us)
        or (command.act == "roles" and "administrator" not in command.roles)
    )
    if takes_away and books.administrators == {command.customer}:
        return Status.last_administrator
    assert customer is not None
    has_account = command.act == "erase" and customer.open_account_count > 0
    return Status.account_not_empty if has_account else _OK


def judge_invite(books: Books, command: Invite, now_us: int) -> Verdict:
    """Judge the making of an invitation."""
    digest = content_digest("invite", command.digest, command.role)

    def is_same(entry: Any) -> bool:
        return type(entry) is Invited and (entry.digest, entry.role) == (command.digest, command.role)

    replayed = replay_act(books, command, is_same, digest)
    if replayed is not None:
        return replayed
    if command.role not in ROLES:
        return refuse(command, Status.role_invalid, digest, now_us, operation="invite")
    c = command
    return Verdict(_OK, Invited(now_us, c.id, c.digest, c.role, c.expires_us, c.actor.customer))


def judge_ask_approval(books: Books, command: AskApproval, now_us: int) -> Verdict:
    """Judge the asking for a second administrator's approval."""
    digest = content_digest("ask", command.operation, command.command)

    def is_same(entry: Any) -> bool:
        asked = type(entry) is ApprovalAsked
        return asked and (entry.operation, entry.command) == (command.operation, command.command)

    replayed = replay_act(books, command, is_same, digest)
    if replayed is not None:
        return replayed
    c = command
    return Verdict(_OK, ApprovalAsked(now_us, c.id, c.operation, c.command, c.summary, c.actor.customer))


def judge_decide_approval(books: Books, command: DecideApproval, now_us: int) -> Verdict:
    """Judge an approval: by another administrator than the one who asked, once."""
    approval = books.approval(command.id)
    if approval is None:
        known = books.known(command.id)
        was_asked = known is not None and type(known[1]) is ApprovalAsked
        return Verdict(Status.approval_already_decided if was_asked else Status.approval_unknown)
    if command.approved and approval.asked_by == command.actor.customer:
        return Verdict(Status.approval_needs_another_person)
    return Verdict(_OK, ApprovalDecided(now_us, command.id, command.approved, command.actor.customer))


def judge_end_session(books: Books, command: EndSession, now_us: int) -> Verdict:
    """Write down that a session has ended."""
    return Verdict(_OK, SessionEnded(now_us, command.customer, command.session, command.until_us))


def judge_open_ledger(books: Books, command: OpenLedger, now_us: int) -> Verdict:
    """Open the ledger, once."""
    if books.currencies:
        return Verdict(_OK, replayed=True)
    return Verdict(_OK, LedgerOpened(now_us, command.bank, command.currencies))


JUDGES: dict[type[Command], Judge] = {
    MoveMoney: judge_move,
    PlaceHold: judge_place_hold,
    PostHold: judge_post_hold,
    ReleaseHold: judge_release_hold,
    ReverseMoney: judge_reverse,
    PlacePayment: judge_place_payment,
    CommitPayment: judge_commit_payment,
    AbortPayment: judge_abort_payment,
    ChangeBank: judge_change_bank,
    CloseWindow: judge_close_window,
    OpenAccount: judge_open_account,
    ChangeAccount: judge_change_account,
    CreateCustomer: judge_create_customer,
    ChangeKey: judge_change_key,
    ChangeProfile: judge_change_profile,
    ChangeCustomer: judge_change_customer,
    Invite: judge_invite,
    AskApproval: judge_ask_approval,
    DecideApproval: judge_decide_approval,
    EndSession: judge_end_session,
    OpenLedger: judge_open_ledger,
}


def judge(books: Books, command: Command, now_us: int) -> Verdict:
    """Judge any single command; batches are judged row by row by their caller."""
    return JUDGES[type(command)](books, command, now_us)
