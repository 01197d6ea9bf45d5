"""How the payment orders of an outbox look: as tables for people and documents for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fortress.cli.output import Fields, Json, Table
from fortress.cli.views import money_json, money_text, time_json, time_text
from fortress.client.ids import format_id
from fortress.errors import ERRORS_BY_CODE, FortressError, Status, refusal_code, status_name

if TYPE_CHECKING:
    from fortress.client.order_file import OutboxItem

STATE_TEXTS: Final = {"sent": "not known yet", "queued": "waits"}


def item_json(item: OutboxItem) -> Json:
    """One payment of an outbox for programs."""
    order, outcome = item.order, item.outcome
    return {
        "id": format_id(item.id),
        "state": str(item.state),
        "from": str(order.debit),
        "to": order.payee,
        "amount": money_json(order.amount_minor, order.currency),
        "reference": order.reference,
        "not_after": time_json(order.not_after_us),
        "signed": bool(item.signature),
        "tries": item.tries,
        "added": time_json(item.added_us),
        "code": f"FT-{outcome.code}" if outcome.code else None,
        "message": outcome.message or None,
        "position": outcome.position or None,
        "time": time_json(outcome.time_us),
        "gateway_sequence": outcome.gateway_sequence or None,
        "receipt": item.receipt is not None,
    }


def item_fields(item: OutboxItem) -> Fields:
    """One payment of an outbox for people."""
    order = item.order
    pairs = [
        ("Payment", format_id(item.id)),
        ("State", state_text(item)),
        ("From", str(order.debit)),
        ("To", order.payee),
        ("Amount", amount_text(item)),
        ("Reference", order.reference),
        ("Not after", time_text(order.not_after_us)),
        ("Signed", "yes" if item.signature else "no"),
        ("Written down", time_text(item.added_us)),
        ("Tries", str(item.tries)),
        ("Answer", answer_text(item)),
        ("Receipt", "kept" if item.receipt else ""),
    ]
    return Fields(pairs=[pair for pair in pairs if pair[1]])


def items_table(items: Sequence[OutboxItem]) -> Table:
    """Payments of an outbox for people, one a row."""
    rows = [
        (
            str(item.number),
            state_text(item),
            str(item.order.debit),
            item.order.payee,
            amount_text(item),
            str(item.tries),
            time_text(item.order.not_after_us),
            answer_text(item),
            format_id(item.id),
        )
        for item in items
    ]
    columns = (">#", "State", "From", "To", ">Amount", ">Tries", "Not after", "Answer", "Id")
    return Table(columns=columns, rows=rows, empty="the outbox is empty")


def amount_text(item: OutboxItem) -> str:
    """Write the amount of a payment."""
    return money_text(item.order.amount_minor, item.order.currency)


def state_text(item: OutboxItem) -> str:
    """Say where a payment stands."""
    return STATE_TEXTS.get(item.state, str(item.state))


def answer_text(item: OutboxItem) -> str:
    """Say what was last heard about a payment."""
    outcome = item.outcome
    if outcome.position:
        number = f", gateway's number {outcome.gateway_sequence}" if outcome.gateway_sequence else ""
        return f"entry {outcome.position}, {time_text(outcome.time_us)}{number}"
    if not outcome.code:
        return ""
    return f"{_name_of(outcome.code)} (FT-{outcome.code})"


def _name_of(code: int) -> str:
    status = code - refusal_code(Status.ok)
    if 0 < status < 1000:
        return status_name(status).replace("_", " ")
    return ERRORS_BY_CODE.get(code, FortressError).__name__
