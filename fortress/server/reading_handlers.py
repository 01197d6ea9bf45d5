"""Answer what reads: accounts, histories, statements, holds, proofs.

An answer shows only what is committed. A balance comes from memory and, if the entry it shows is still on its way to
the disk, leaves with that entry's commit; what comes from the tables waits until they hold the newest entry of the
account asked for. Objects in memory go on changing while something is awaited: the view is made first, then waited for.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from msgspec.structs import replace

from fortress.errors import Busy, MessageInvalid, Refused, Status
from fortress.ledger import entries as codec
from fortress.ledger.commands import OpenAccount
from fortress.ledger.entries import HoldPlaced, Posted
from fortress.ledger.entries import Refused as RefusedEntry
from fortress.ledger.model import Account, AccountKind, Customer, HoldState
from fortress.ledger.queries import Filters
from fortress.protocol import accounts, money, reading
from fortress.protocol.fields import Done
from fortress.server.bank import Bank, accepted, now_us
from fortress.server.handlers import Handler, hot, plain
from fortress.server.money_handlers import answer_with
from fortress.server.node import Node
from fortress.server.session import Session
from fortress.server.views import account_view, history_row, hold_view, kind_of, transfer_view

STAFF_ROLES = frozenset(("teller", "administrator", "auditor"))


def is_staff(session: Session) -> bool:
    """Tell whether this session may look at anybody's accounts."""
    return not STAFF_ROLES.isdisjoint(session.roles)


def handle_get_account(node: Node, session: Session, request_id: int, request: accounts.GetAccount) -> None:
    """Show an account; one's own from memory within the read pass, the common case."""
    bank = node.bank
    number = request.number
    if not number:
        customer = bank.state.customer(session.customer)
        number = customer.default_account if customer is not None else 0
    account = bank.state.account(number) if number else None
    is_here = request.min_position <= bank.committer.committed_position
    if account is None or request.as_of_us or not is_here or account.owner != session.customer:
        node.server.dispatcher.start(_get_account, session, request_id, request)
        return
    view = account_view(account, session.username, now_us())
    committer = bank.committer
    if account.last_position <= committer.committed_position:
        session.answer(request_id, view)
    else:
        committer.when_committed(account.last_position, partial(answer_with, session, request_id), view)


async def _get_account(node: Node, session: Session, request: accounts.GetAccount) -> accounts.AccountView:
    bank = node.bank
    await reach(bank, request.min_position)
    number = request.number or await default_account(bank, session)
    account = await own_account(bank, session, number)
    owner = session.username if account.owner == session.customer else await bank.username(account.owner)
    view = account_view(account, owner, now_us())
    await bank.committed(view.position)
    if request.as_of_us:
        view = await _as_of(bank, account, view, request.as_of_us)
    return view


async def _as_of(bank: Bank, account: Account, view: accounts.AccountView, time_us: int) -> accounts.AccountView:
    await bank.tables_hold(account.last_position)
    position = await bank.read(bank.queries.position_at, time_us)
    balance = await bank.read(bank.queries.balance_at, account.number, position)
    held, incoming = await bank.read(bank.queries.held_at, account.number, time_us, position)
    return replace(
        view,
        balance_minor=balance,
        available_minor=balance - held,
        held_minor=held,
        incoming_minor=incoming,
        position=position,
    )


async def default_account(bank: Bank, session: Session) -> int:
    """Give the number of the session's first account.

    Raises:
        Refused: they have none.
    """
    customer = await bank.customer(session.customer)
    if customer is None or not customer.default_account:
        raise Refused(Status.account_unknown)
    return customer.default_account


async def own_account(bank: Bank, session: Session, number: int) -> Account:
    """Give an account that this session may see.

    Raises:
        Refused: there is none such, or it is somebody else's: the same answer for both.
    """
    account = await bank.account(number)
    if account is None or (account.owner != session.customer and not is_staff(session)):
        raise Refused(Status.account_unknown)
    return account


async def reach(bank: Bank, min_position: int) -> None:
    """Wait until this node has committed a position that the client has seen elsewhere.

    Raises:
        Busy: this node does not know of it.
    """
    if min_position > bank.state.position:
        raise Busy(f"this node is at position {bank.state.position}", {"position": bank.state.position})
    await bank.committed(min_position)


async def handle_list_accounts(node: Node, session: Session, request: accounts.ListAccounts) -> accounts.AccountsAnswer:
    """List one's accounts, or for staff a customer's or everybody's."""
    bank = node.bank
    now = now_us()
    if request.all:
        if not is_staff(session):
            raise Refused(Status.account_unknown)
        await bank.tables_hold(bank.state.position)
        page = await bank.read(bank.queries.all_accounts, request.after, request.limit)
        names = {owner: await bank.username(owner) for owner in {account.owner for account in page}}
        views = [account_view(account, names[account.owner], now) for account in page]
        return accounts.AccountsAnswer(views, page[-1].number if len(page) == request.limit else 0)
    owner, name = session.customer, session.username
    if request.username and request.username != session.username:
        if not is_staff(session):
            raise Refused(Status.customer_unknown)
        owner, name = (await bank.customer_named(request.username)).customer, request.username
    customer = await bank.customer(owner)
    if customer is not None:
        await bank.tables_hold(customer.position)
    numbers = await bank.read(bank.queries.accounts_of, owner)
    views = []
    for number in numbers:
        account = await bank.account(number)
        if account is not None:
            views.append(account_view(account, name, now))
    await bank.committed(max((view.position for view in views), default=0))
    return accounts.AccountsAnswer(views)


async def handle_open_account(node: Node, session: Session, request: accounts.OpenAccount) -> accounts.AccountView:
    """Open an account for oneself or, as staff, for a customer."""
    bank = node.bank
    owner, name = session.customer, session.username
    if request.username and request.username != session.username:
        owner, name = (await bank.customer_named(request.username)).customer, request.username
    kind = AccountKind.__members__.get(request.kind)
    if kind is None:
        raise Refused(Status.account_kind_not_allowed)
    actor = bank.actor(session.customer, session.roles)
    verdict = accepted(await bank.commit(OpenAccount(actor, request.id, owner, int(kind), request.currency)))
    account = await bank.account(verdict.entry.number)
    if account is None:
        raise Refused(Status.account_unknown)
    view = account_view(account, name, now_us())
    await bank.committed(view.position)
    return view


async def handle_resolve(node: Node, session: Session, request: accounts.Resolve) -> accounts.ResolveAnswer:
    """Answer the payee's name before money is sent: by account number, or by username for a person's account."""
    bank = node.bank
    where, _, payee = request.payee.rpartition("/")
    if where not in ("", node.settings.node.bank):
        if node.ports.payments is None:
            raise Refused(Status.credit_account_unknown)
        return await node.ports.payments.resolve(where, payee, request.currency)
    return await resolve_own(bank, payee, request.currency)


async def resolve_own(bank: Bank, payee: str, currency: str) -> accounts.ResolveAnswer:
    """Find the account and the name of a payee of this bank, by account number or username.

    Raises:
        Refused: there is none.
    """
    if payee.isascii() and payee.isdecimal():
        account = await bank.account(int(payee)) if len(payee) <= 19 else None
    else:
        customer = await bank.customer_named(payee.lower())
        account = await bank.account(customer.default_account) if customer.default_account else None
        if account is not None and currency and account.currency != currency:
            account = await _account_in(bank, customer, currency)
    if account is None or account.kind != AccountKind.customer:
        raise Refused(Status.credit_account_unknown)
    await bank.committed(account.last_position)
    owner = await bank.customer(account.owner)
    person = await bank.person(owner) if owner is not None else None
    name = (person.profile.name or person.username) if person is not None else ""
    return accounts.ResolveAnswer(account.number, name, account.currency)


async def _account_in(bank: Bank, owner: Customer, currency: str) -> Account | None:
    await bank.tables_hold(owner.position)
    for number in await bank.read(bank.queries.accounts_of, owner.customer):
        account = await bank.account(number)
        if account is not None and account.currency == currency:
            return account
    return None


async def handle_history(node: Node, session: Session, request: reading.History) -> reading.HistoryAnswer:
    """Page through an account's entries, newest first."""
    bank = node.bank
    await reach(bank, request.min_position)
    account = await own_account(bank, session, request.account)
    await bank.tables_hold(account.last_position)
    r = request
    filters = Filters(
        frozenset(r.kinds),
        r.from_us,
        r.to_us,
        r.amount_min_minor,
        r.amount_max_minor,
        r.counterparty,
        r.text,
    )
    as_of = position = bank.engine.store.applied_position
    if r.as_of_us:
        as_of = await bank.read(bank.queries.position_at, r.as_of_us)
        if not as_of:
            return reading.HistoryAnswer([], 0, 0)
    found, cursor = await bank.read(
        bank.queries.history,
        r.account,
        limit=r.limit,
        kind_of=kind_of,
        cursor=r.cursor,
        filters=filters if filters != Filters() else None,
        as_of=as_of,
    )
    rows = [history_row(position, entry, r.account) for position, entry in found]
    return reading.HistoryAnswer(rows, cursor, position)


async def handle_statement(node: Node, session: Session, request: reading.Statement) -> reading.StatementAnswer:
    """Cut a statement: balances at both ends, sums, and a page of rows, oldest first; to 0 is until now."""
    bank = node.bank
    if request.to_us and request.to_us < request.from_us:
        raise MessageInvalid("a statement cannot end before it begins", {"field": "to_us"})
    account = await own_account(bank, session, request.account)
    await bank.tables_hold(account.last_position)
    queries = bank.queries
    after = await bank.read(queries.position_at, request.from_us - 1) if request.from_us else 0
    now = bank.engine.store.applied_position
    to = await bank.read(queries.position_at, request.to_us - 1) if request.to_us else now
    opening = await bank.read(queries.balance_at, request.account, after)
    closing = await bank.read(queries.balance_at, request.account, to)
    found = await bank.read(queries.span, request.account, after, to)
    posted = [(position, entry) for position, entry in found if type(entry) is Posted]
    debits = sum(entry.amount for _, entry in posted if entry.debit == request.account)
    credits = sum(entry.amount for _, entry in posted if entry.credit == request.account)
    page = [(position, entry) for position, entry in posted if position > request.cursor][: request.limit]
    is_more = bool(page) and page[-1][0] != posted[-1][0]
    return reading.StatementAnswer(
        opening,
        closing,
        debits,
        credits,
        [history_row(position, entry, request.account) for position, entry in page],
        page[-1][0] if is_more else 0,
        to,
        account.currency,
        await node.bank.head(),
    )


async def handle_get_transfer(node: Node, session: Session, request: reading.GetTransfer) -> reading.TransferView:
    """Tell what became of an id, to those it concerns."""
    bank = node.bank
    position, entry = await _found(bank, session, request.id)
    if type(entry) not in (Posted, HoldPlaced, RefusedEntry):
        raise Refused(Status.original_unknown)
    hold = await bank.hold(request.id) if type(entry) is HoldPlaced else None
    return transfer_view(position, entry, hold)


async def _found(bank: Bank, session: Session, id: bytes) -> tuple[int, Any]:
    known = await bank.known(id)
    if known is None or not await _may_see(bank, session, known[1]):
        raise Refused(Status.original_unknown)
    return known


async def _may_see(bank: Bank, session: Session, entry: Any) -> bool:
    if is_staff(session) or getattr(entry, "actor", None) == session.customer:
        return True
    for number in (getattr(entry, "debit", 0), getattr(entry, "credit", 0)):
        account = await bank.account(number) if number else None
        if account is not None and account.owner == session.customer:
            return True
    return False


async def handle_get_hold(node: Node, session: Session, request: money.GetHold) -> money.HoldView:
    """Show a hold to those it concerns."""
    bank = node.bank
    hold = await bank.hold(request.id)
    if hold is None or not await _may_see(bank, session, hold):
        raise Refused(Status.hold_unknown)
    return hold_view(hold, now_us())


async def handle_list_holds(node: Node, session: Session, request: money.ListHolds) -> money.HoldsAnswer:
    """List the open holds on an account."""
    bank = node.bank
    account = await own_account(bank, session, request.account)
    await bank.tables_hold(account.last_position)
    now = now_us()
    return money.HoldsAnswer(
        [hold_view(hold, now) for hold in await bank.read(bank.queries.open_holds, request.account)]
    )


async def handle_receipt(node: Node, session: Session, request: reading.Receipt) -> reading.ReceiptAnswer:
    """Prove an entry to those it concerns."""
    bank = node.bank
    if request.position:
        if request.position > bank.state.position:
            raise Refused(Status.original_unknown)
        await bank.tables_hold(request.position)
        entry = codec.decode(await bank.read(bank.queries.entry_at, request.position))
        if not await _may_see(bank, session, entry):
            raise Refused(Status.original_unknown)
        return await bank.receipt(request.position)
    position, entry = await _found(bank, session, request.id)
    if type(entry) is HoldPlaced:
        hold = await bank.hold(request.id)
        position = hold.position if hold is not None and hold.state == HoldState.posted else position
    return await bank.receipt(position)


async def handle_head(node: Node, session: Session, request: reading.Head) -> reading.HeadAnswer:
    """Sign the head of the journal."""
    return await node.bank.head()


async def handle_consistency(node: Node, session: Session, request: reading.Consistency) -> reading.ConsistencyAnswer:
    """Prove that the journal continues an older head."""
    return await node.bank.consistency(request.old_size)


async def handle_set_profile(node: Node, session: Session, request: accounts.SetProfile) -> Done:
    """Replace one's contact data."""
    bank = node.bank
    customer = await bank.customer(session.customer)
    if customer is None:
        raise Refused(Status.customer_unknown)
    return await bank.change_profile(bank.actor(session.customer, session.roles), customer, request.profile)


async def handle_get_profile(node: Node, session: Session, request: accounts.GetProfile) -> accounts.ProfileAnswer:
    """Read contact data: one's own, or as staff a customer's."""
    bank = node.bank
    if request.username and request.username != session.username:
        if not is_staff(session):
            raise Refused(Status.customer_unknown)
        customer = await bank.customer_named(request.username)
    else:
        own = await bank.customer(session.customer)
        if own is None:
            raise Refused(Status.customer_unknown)
        customer = own
    position = customer.position
    person = await bank.person(customer)
    return accounts.ProfileAnswer(person.username, person.profile, position)


async def handle_subscribe(node: Node, session: Session, request: reading.Subscribe) -> Done:
    """Push every entry that touches these accounts, from a position on."""
    bank = node.bank
    await reach(bank, request.from_position)
    numbers = list(dict.fromkeys(request.accounts))
    if not numbers:
        customer = await bank.customer(session.customer)
        if customer is not None:
            await bank.tables_hold(customer.position)
        numbers = await bank.read(bank.queries.accounts_of, session.customer)
    for number in numbers:
        await own_account(bank, session, number)
    return Done(position=await node.notifications.subscribe(session, numbers, request.from_position))


async def handle_unsubscribe(node: Node, session: Session, request: reading.Unsubscribe) -> Done:
    """Stop the pushes."""
    node.notifications.unsubscribe(session)
    return Done(position=node.bank.committer.committed_position)


READING_HANDLERS: tuple[Handler, ...] = (
    hot("get_account", handle_get_account),
    plain("list_accounts", handle_list_accounts),
    plain("open_account", handle_open_account),
    plain("resolve", handle_resolve),
    plain("history", handle_history),
    plain("statement", handle_statement),
    plain("get_transfer", handle_get_transfer),
    plain("get_hold", handle_get_hold),
    plain("list_holds", handle_list_holds),
    plain("receipt", handle_receipt),
    plain("head", handle_head),
    plain("consistency", handle_consistency),
    plain("set_profile", handle_set_profile),
    plain("get_profile", handle_get_profile),
    plain("subscribe", handle_subscribe),
    plain("unsubscribe", handle_unsubscribe),
)
