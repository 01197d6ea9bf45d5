"""Answer what moves money: one command to the committer, its verdict as the answer.

These are hot handlers: nothing is awaited, the committer calls back once the entry is durable. The balance told is that
of the account the money came from, or of the one it went to when that is the asker's: nobody learns another's balance.
"""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import Any

from fortress.errors import FortressError, Status
from fortress.ledger import entries as codec
from fortress.ledger.commands import MoveBatch, MoveMoney, PlaceHold, PostHold, ReleaseHold, ReverseMoney
from fortress.ledger.entries import Posted
from fortress.ledger.model import HoldState, TransferKind
from fortress.ledger.rules import Verdict
from fortress.protocol import money
from fortress.protocol.fields import Answer
from fortress.protocol.orders import Order
from fortress.server.bank import Bank, accepted, refusal
from fortress.server.handlers import Handler, hot
from fortress.server.node import Node
from fortress.server.order_signatures import check_signature
from fortress.server.session import Session

_OK = Status.ok
_DEPOSIT = int(TransferKind.deposit)
_WITHDRAWAL = int(TransferKind.withdrawal)
_TRANSFER = int(TransferKind.transfer)
_VOIDED = int(HoldState.voided)
_position = attrgetter("position")


def _answer(session: Session, request_id: int, takes_credit: bool, outcome: Verdict | FortressError) -> None:
    """Answer with where the money stands; ``takes_credit``: the balance told is the credited account's."""
    if isinstance(outcome, FortressError):
        session.refuse(request_id, outcome)
        return
    if outcome.status is not _OK:
        session.refuse(request_id, refusal(outcome))
        return
    entry = outcome.entry
    balance = entry.credit_balance if takes_credit else entry.debit_balance
    session.answer(request_id, money.TransferAnswer(outcome.position, outcome.time_us, balance, outcome.replayed))


def handle_transfer(node: Node, session: Session, request_id: int, request: money.Transfer) -> None:
    """Move money between two accounts."""
    bank: Bank = node.bank
    r = request
    command = MoveMoney(
        bank.actor(session.customer, session.roles),
        _TRANSFER,
        r.id,
        r.debit,
        r.credit,
        r.amount_minor,
        r.currency,
        r.reference,
        r.value_date,
        r.order_signature,
    )
    if r.order_signature:
        node.server.dispatcher.start(partial(_transfer_signed, command), session, request_id, r)
    else:
        bank.submit(command, partial(_answer, session, request_id, False))


async def _transfer_signed(command: MoveMoney, node: Node, session: Session, r: money.Transfer) -> money.TransferAnswer:
    """Check the customer's own signature under a payment order first; their key may have to be read.

    Raises:
        Refused: it is not theirs, or not under this order.
    """
    order = Order(
        bank=node.settings.node.bank,
        id=r.id,
        debit=r.debit,
        credit=r.credit,
        amount_minor=r.amount_minor,
        currency=r.currency,
        reference=r.reference,
        value_date=r.value_date,
    )
    await check_signature(node.bank, session.customer, order, r.order_signature)
    verdict = accepted(await node.bank.commit(command))
    return money.TransferAnswer(verdict.position, verdict.time_us, verdict.entry.debit_balance, verdict.replayed)


def handle_deposit(node: Node, session: Session, request_id: int, request: money.Deposit) -> None:
    """Pay cash in."""
    bank: Bank = node.bank
    r = request
    cash = bank.state.currencies.get(r.currency, 0)
    actor = bank.actor(session.customer, session.roles)
    command = MoveMoney(actor, _DEPOSIT, r.id, cash, r.account, r.amount_minor, r.currency, r.reference)
    bank.submit(command, partial(_answer, session, request_id, True))


def handle_withdraw(node: Node, session: Session, request_id: int, request: money.Withdraw) -> None:
    """Pay cash out."""
    bank: Bank = node.bank
    r = request
    cash = bank.state.currencies.get(r.currency, 0)
    actor = bank.actor(session.customer, session.roles)
    command = MoveMoney(actor, _WITHDRAWAL, r.id, r.account, cash, r.amount_minor, r.currency, r.reference)
    bank.submit(command, partial(_answer, session, request_id, False))


def handle_transfers(node: Node, session: Session, request_id: int, request: money.Transfers) -> None:
    """Move money many times in one request."""
    bank: Bank = node.bank
    actor = bank.actor(session.customer, session.roles)
    command = MoveBatch(actor, request.currency, request.rows, request.atomic)
    bank.submit(command, partial(_answer_batch, session, request_id))


def _answer_batch(session: Session, request_id: int, outcome: list[Verdict] | FortressError) -> None:
    if isinstance(outcome, FortressError):
        session.refuse(request_id, outcome)
        return
    last = max(outcome, key=_position)
    statuses = [0 if verdict.status is _OK else int(verdict.status) for verdict in outcome]  # nearly all are ok
    session.answer(request_id, money.TransfersAnswer(statuses, last.position, last.time_us))


# --- Holds -----------------------------------------------------------------------------------------------------------
def handle_hold(node: Node, session: Session, request_id: int, request: money.Hold) -> None:
    """Reserve money."""
    bank: Bank = node.bank
    r = request
    actor = bank.actor(session.customer, session.roles)
    command = PlaceHold(actor, r.id, r.debit, r.credit, r.amount_minor, r.currency, r.expires_us, r.reference)
    bank.submit(command, partial(_answer_hold, node, session, request_id))


def handle_post(node: Node, session: Session, request_id: int, request: money.Post) -> None:
    """Take what a hold reserved."""
    bank: Bank = node.bank
    command = PostHold(bank.actor(session.customer, session.roles), request.id, request.amount_minor)
    bank.submit(command, partial(_answer_hold, node, session, request_id))


def handle_void(node: Node, session: Session, request_id: int, request: money.Void) -> None:
    """Free what a hold reserved."""
    bank: Bank = node.bank
    command = ReleaseHold(bank.actor(session.customer, session.roles), request.id, _VOIDED)
    bank.submit(command, partial(_answer_hold, node, session, request_id))


def _answer_hold(node: Node, session: Session, request_id: int, outcome: Verdict | FortressError) -> None:
    """Tell where a hold stands, with the balance of the asker's side of it, which may have to be waited for."""
    if isinstance(outcome, FortressError):
        session.refuse(request_id, outcome)
    elif outcome.status is not _OK:
        session.refuse(request_id, refusal(outcome))
    elif outcome.entry is None:
        node.server.dispatcher.start(_first_hold_answer, session, request_id, outcome)
    else:
        balance, position = _balance_seen(node.bank, session, outcome.entry)
        answer = money.TransferAnswer(outcome.position, outcome.time_us, balance, outcome.replayed)
        node.bank.committer.when_committed(position, partial(answer_with, session, request_id), answer)


def _balance_seen(bank: Bank, session: Session, entry: Any) -> tuple[int, int]:
    """Give the balance that goes with an entry of a hold, and the position of the newest entry that it shows.

    Both accounts were in memory when the hold was judged, and what is not applied yet is not forgotten.
    """
    credit = bank.state.account(entry.credit)
    is_payee = credit is not None and credit.owner == session.customer
    if type(entry) is Posted:
        return (entry.credit_balance if is_payee else entry.debit_balance), 0
    own = credit if is_payee else bank.state.account(entry.debit)
    return (own.balance, own.last_position) if own is not None else (0, 0)


async def _first_hold_answer(node: Node, session: Session, verdict: Verdict) -> money.TransferAnswer:
    """Give the first answer again: posting and voiding have no id, so a repeat knows only where the first stands."""
    bank = node.bank
    await bank.tables_hold(verdict.position)
    entry: Any = codec.decode(await bank.read(bank.queries.entry_at, verdict.position))
    await bank.account(entry.debit)
    await bank.account(entry.credit)
    balance, position = _balance_seen(bank, session, entry)
    await bank.committed(position)
    return money.TransferAnswer(verdict.position, entry.time_us, balance, replayed=True)


def answer_with(session: Session, request_id: int, outcome: Answer | FortressError) -> None:
    """Give an answer that was made before and waited for, or say why it cannot be given."""
    if isinstance(outcome, FortressError):
        session.refuse(request_id, outcome)
    else:
        session.answer(request_id, outcome)


def handle_reverse(node: Node, session: Session, request_id: int, request: money.Reverse) -> None:
    """Undo a transfer."""
    bank: Bank = node.bank
    r = request
    actor = bank.actor(session.customer, session.roles)
    command = ReverseMoney(actor, r.id, r.original, r.amount_minor, r.reference)
    bank.submit(command, partial(_answer, session, request_id, False))


MONEY_HANDLERS: tuple[Handler, ...] = (
    hot("transfer", handle_transfer),
    hot("deposit", handle_deposit),
    hot("withdraw", handle_withdraw),
    hot("transfers", handle_transfers),
    hot("hold", handle_hold),
    hot("post", handle_post),
    hot("void", handle_void),
    hot("reverse", handle_reverse),
)
