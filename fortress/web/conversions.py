"""From the bank's answers to what pages are told: money as text, times as ISO 8601, ids as hex, reasons in words.

Nothing here asks or decides anything; a value that a later bank adds is passed on, or shown as what is safe to assume.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from fortress.client.payments import moment
from fortress.errors import ERRORS_BY_CODE, STATUS_SENTENCES
from fortress.protocol.accounts import AccountView
from fortress.protocol.money import HoldView
from fortress.protocol.payments import PaymentStep, PaymentView
from fortress.protocol.reading import HeadAnswer, HistoryRow, ReceiptAnswer, TransferView
from fortress.protocol.switching import BankView
from fortress.web import shapes

State = Literal["pending", "done", "refused", "given_up"]

PAYMENT_STATES: Final[Mapping[str, State]] = {
    "pending": "pending",
    "done": "done",
    "refused": "refused",
    "given_up": "given_up",
}
"""Any other state counts as pending: nobody is told that money moved, or did not, by a word that is not understood."""
TRANSFER_STATES: Final[Mapping[str, State]] = {
    "done": "done",
    "posted": "done",
    "refused": "refused",
    "voided": "given_up",
    "expired": "given_up",
}
FREED: Final[Mapping[str, str]] = {
    "voided": "What was reserved was freed again",
    "expired": "What was reserved was freed again when its time was over",
}
ACTS: Final = ("commit", "abort")


# --- Small things ----------------------------------------------------------------------------------------------------
def time_of(time_us: int) -> str:
    """Write a time of the bank's in ISO 8601, UTC."""
    return moment(time_us).isoformat(timespec="microseconds").replace("+00:00", "Z")


def time_or_none(time_us: int) -> str | None:
    """Write a time as :func:`time_of`; None for 0, which is none."""
    return time_of(time_us) if time_us else None


def minor_or_none(minor: int | None) -> str | None:
    """Write a sum in minor units; None where there is no bound."""
    return None if minor is None else str(minor)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


_SENTENCES: Final[Mapping[str, str]] = {
    **{_snake(error.__name__): (error.__doc__ or "").split("\n")[0].rstrip(".") for error in ERRORS_BY_CODE.values()},
    **{status.name: sentence for status, sentence in STATUS_SENTENCES.items()},
}


def reason_of(name: str) -> str:
    """Say in words why something was not done, as the bank names it; an unknown name stays as it is, empty too."""
    words = _SENTENCES.get(name, name.replace("_", " "))
    return words[:1].upper() + words[1:]


# --- Accounts and entries --------------------------------------------------------------------------------------------
def account_of(view: AccountView) -> shapes.Account:
    """Show an account."""
    v = view
    return shapes.Account(
        number=v.number,
        owner=v.owner,
        kind=v.kind,
        currency=v.currency,
        state=v.state,
        balance=str(v.balance_minor),
        available=str(v.available_minor),
        held=str(v.held_minor),
        incoming=str(v.incoming_minor),
        floor=minor_or_none(v.floor_minor),
        limit_payment=minor_or_none(v.limit_payment_minor),
        limit_day=minor_or_none(v.limit_day_minor),
        limit_month=minor_or_none(v.limit_month_minor),
        left_day=minor_or_none(v.left_day_minor),
        left_month=minor_or_none(v.left_month_minor),
        signed_orders_only=v.signed_orders_only,
        opened=time_of(v.opened_us),
        position=v.position,
        stale_ms=v.stale_ms,
    )


def entry_of(row: HistoryRow, bank: str) -> shapes.Entry:
    """Show an entry; ``bank`` is the account's own."""
    counterparty = row.elsewhere or (f"{bank}/{row.counterparty}" if row.counterparty else "")
    return shapes.Entry(
        position=row.position,
        time=time_of(row.time_us),
        id=row.id.hex(),
        kind=row.kind,
        amount=str(row.amount_minor),
        balance=minor_or_none(row.balance_minor),
        counterparty=counterparty,
        reference=row.reference,
    )


def hold_of(view: HoldView) -> shapes.Hold:
    """Show what is reserved."""
    return shapes.Hold(
        id=view.id.hex(),
        debit=view.debit,
        credit=view.credit,
        amount=str(view.amount_minor),
        currency=view.currency,
        reference=view.reference,
        state=view.state,
        expires=time_or_none(view.expires_us),
    )


# --- Payments --------------------------------------------------------------------------------------------------------
def payment_of(view: PaymentView, bank: str) -> shapes.Payment:
    """Show where a payment stands, its steps in the order of time; ``bank`` is the one that was asked."""
    v = view
    steps = sorted(v.steps, key=lambda step: step.time_us)
    act = v.act.partition(":")[0]
    return shapes.Payment(
        id=v.id.hex(),
        state=PAYMENT_STATES.get(v.state, "pending"),
        payer=v.payer,
        payee=v.payee,
        amount=str(v.amount_minor),
        currency=v.currency,
        reference=v.reference,
        time=time_of(v.since_us),
        reason=reason_of(v.reason),
        reason_name=v.reason,
        attempt=v.attempt,
        gateway_sequence=v.gateway_sequence,
        position=posted_at(v, bank),
        missing=list(v.missing),
        act=act if act in ACTS else "",
        steps=[step_of(step) for step in steps],
    )


def posted_at(view: PaymentView, bank: str) -> int:
    """Give the position at which a payment was booked at a bank; 0 if that is not known."""
    positions = (step.position for step in view.steps if step.bank == bank and step.step == "posted")
    return max(positions, default=0)


def step_of(step: PaymentStep) -> shapes.PaymentStep:
    """Show a step of a payment."""
    return shapes.PaymentStep(
        bank=step.bank,
        step=step.step,
        time=time_of(step.time_us),
        position=step.position,
        reason=reason_of(step.reason),
    )


def payment_within(view: TransferView, bank: str) -> shapes.Payment:
    """Show what a bank knows of an id by itself as a payment: a transfer, a hold, or a refusal."""
    v, is_refused = view, view.state == "refused"
    state = TRANSFER_STATES.get(v.state, "pending")
    name = v.kind if is_refused else ""
    reason = reason_of(name) or FREED.get(v.state, "")
    step = shapes.PaymentStep(bank, v.state, time_of(v.time_us), v.position, reason)
    return shapes.Payment(
        id=v.id.hex(),
        state=state,
        payer=f"{bank}/{v.debit}" if v.debit else "",
        payee=f"{bank}/{v.credit}" if v.credit else "",
        amount=str(v.amount_minor),
        currency=v.currency,
        reference="" if is_refused else v.reference,
        time=time_of(v.time_us),
        reason=reason,
        reason_name=name,
        position=v.position if v.state == "done" else 0,
        steps=[step],
    )


def receipt_of(answer: ReceiptAnswer, *, holds: bool) -> shapes.Receipt:
    """Show a receipt; ``holds`` is what its check said."""
    return shapes.Receipt(
        position=answer.position,
        entry=answer.entry.hex(),
        path=[step.hex() for step in answer.path],
        head=head_of(answer.head),
        holds=holds,
    )


def head_of(head: HeadAnswer) -> shapes.Head:
    """Show a signed head."""
    return shapes.Head(
        bank=head.bank,
        epoch=head.epoch,
        tree_size=head.tree_size,
        root=head.root.hex(),
        time=time_of(head.time_us),
        signature=head.signature.hex(),
        key=head.key.hex(),
    )


def bank_of(view: BankView) -> shapes.BankRow:
    """Show a bank that can be paid."""
    return shapes.BankRow(
        bank=view.bank,
        state=view.state,
        is_connected=view.is_connected,
        node=view.node,
        epoch=view.epoch,
        addresses=list(view.addresses),
        since=time_or_none(view.since_us),
    )
