"""Answer payments that may go to another bank; what stays within this one is an ordinary transfer."""

from __future__ import annotations

import asyncio
from functools import partial

from msgspec.structs import replace

from fortress.errors import Facts, FortressError, GatewayUnreachable, Refused, Status
from fortress.ledger.commands import MoveMoney, PlacePayment
from fortress.ledger.model import TransferKind
from fortress.ledger.rules import Verdict
from fortress.protocol.fields import Done
from fortress.protocol.orders import PaymentOrder
from fortress.protocol.payments import (
    GetPayment,
    ListPayments,
    Pay,
    PaymentAnswer,
    PaymentsAnswer,
    PaymentView,
    ResolvePayment,
)
from fortress.protocol.switching import BanksAnswer, ListBanks
from fortress.server import approvals
from fortress.server.bank import now_us, refusal
from fortress.server.handlers import Handler, hot, plain
from fortress.server.node import Node
from fortress.server.order_signatures import check_signature
from fortress.server.ports import Paid, Payments, Switch
from fortress.server.reading_handlers import default_account
from fortress.server.session import Session

_TRANSFER = int(TransferKind.transfer)


def handle_pay(node: Node, session: Session, request_id: int, request: Pay) -> None:
    """Pay an account of this or another bank."""
    if request.debit and not request.order_signature and not request.not_after_us:
        _begin(node, session, request_id, request)
    else:
        node.server.dispatcher.start(partial(_pay_checked, request_id), session, request_id, request)


async def _pay_checked(request_id: int, node: Node, session: Session, request: Pay) -> PaymentAnswer:
    """Find the account meant, and check the payer's signature and until when the order is valid, before paying."""
    bank, r = node.bank, request
    if not r.debit:
        r = replace(r, debit=await default_account(bank, session))
    if r.order_signature:
        order = PaymentOrder(
            bank=node.settings.node.bank,
            id=r.id,
            debit=r.debit,
            payee=r.payee,
            amount_minor=r.amount_minor,
            currency=r.currency,
            reference=r.reference,
            not_after_us=r.not_after_us,
        )
        await check_signature(bank, session.customer, order, r.order_signature)
    is_late = 0 < r.not_after_us < now_us() and _is_own(node, r)
    if is_late and await bank.known(r.id) is None:  # a repeat of what was done in time gets its answer
        raise Refused(Status.order_expired, {"not_after_us": r.not_after_us})
    return await _outcome(node, session, r)


async def _outcome(node: Node, session: Session, request: Pay) -> PaymentAnswer:
    """Pay, and wait for what comes of it."""
    future: asyncio.Future[PaymentAnswer] = asyncio.get_running_loop().create_future()

    def answered(outcome: PaymentAnswer | FortressError) -> None:
        if future.done():
            return
        if isinstance(outcome, FortressError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    _pay(node, session, request, answered)
    return await future


def _begin(node: Node, session: Session, request_id: int, request: Pay) -> None:
    def answered(outcome: PaymentAnswer | FortressError) -> None:
        if isinstance(outcome, FortressError):
            session.refuse(request_id, outcome)
        else:
            session.answer(request_id, outcome)

    _pay(node, session, request, answered)


def _pay(node: Node, session: Session, request: Pay, answered: Paid) -> None:
    """Pay within this bank, or hand the payment to what is plugged in for others."""
    bank, r = node.bank, request
    actor = bank.actor(session.customer, session.roles)
    if _is_own(node, r):
        credit = int(r.payee.partition("/")[2])
        move = MoveMoney(
            *(actor, _TRANSFER, r.id, r.debit, credit, r.amount_minor, r.currency, r.reference, "", r.order_signature)
        )
        bank.submit(move, lambda outcome: answered(_answer_of(outcome)))
        return
    payments = node.ports.payments
    if payments is None:
        raise GatewayUnreachable("this bank is not connected to a gateway: it pays only within itself")
    settlement = bank.state.settlements.get(r.currency, 0)
    command = PlacePayment(
        *(actor, r.id, r.debit, settlement, r.amount_minor, r.currency, r.payee, r.reference),
        order_signature=r.order_signature,
        not_after_us=r.not_after_us,
    )
    payments.pay(command, answered)


def _is_own(node: Node, request: Pay) -> bool:
    return request.payee.partition("/")[0] == node.settings.node.bank


def _answer_of(outcome: Verdict | FortressError) -> PaymentAnswer | FortressError:
    if isinstance(outcome, FortressError):
        return outcome
    if outcome.status is not Status.ok:
        return refusal(outcome)
    return PaymentAnswer(outcome.position, outcome.time_us, outcome.entry.debit_balance, 0, outcome.replayed)


def _side(node: Node) -> Payments | Switch:
    """Give what knows of payments between banks: this bank's own part, or the gateway's."""
    found = node.ports.payments or node.ports.switch
    if found is None:
        facts: Facts = {"has_gateway": False}
        raise GatewayUnreachable("this bank is not connected to a gateway: it pays only within itself", facts)
    return found


async def handle_payment(node: Node, session: Session, request: GetPayment) -> PaymentView:
    """Tell where a payment stands."""
    return await _side(node).payment(node.bank.actor(session.customer, session.roles), request)


async def handle_payments(node: Node, session: Session, request: ListPayments) -> PaymentsAnswer:
    """List payments between banks."""
    return await _side(node).payments(node.bank.actor(session.customer, session.roles), request)


async def handle_resolve_payment(node: Node, session: Session, request: ResolvePayment) -> Done:
    """End a payment in doubt by hand, once a second administrator agrees."""
    _side(node)
    answer: Done = await approvals.ask_or_act(node, session, "resolve_payment", request)
    return answer


async def handle_banks(node: Node, session: Session, request: ListBanks) -> BanksAnswer:
    """List the banks that can be paid."""
    return await _side(node).banks()


PAYMENT_HANDLERS: tuple[Handler, ...] = (
    hot("pay", handle_pay),
    plain("payment", handle_payment),
    plain("payments", handle_payments),
    plain("resolve_payment", handle_resolve_payment),
    plain("banks", handle_banks),
)
