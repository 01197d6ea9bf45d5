"""``payment``: payments between banks: where they stand, what is in doubt, trying again, ending by hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from fortress.cli.command import current_call, group
from fortress.cli.desk import open_contexts, telling, visit
from fortress.cli.misuse import Misuse
from fortress.cli.output import Fields, Json, Table, say, show
from fortress.cli.payments import show_payment
from fortress.cli.prompts import PASSWORD_FILE, confirm_name
from fortress.cli.signing import KEY_FILE, SIGN, key_of, visit_with
from fortress.cli.users import show_done
from fortress.cli.views import money_json, money_text, time_json, time_text
from fortress.client.ids import format_id, parse_id

if TYPE_CHECKING:
    from fortress.client.me import Me
    from fortress.protocol.payments import PaymentStep, PaymentView

ACTS: Final[dict[str | None, Literal["commit", "abort"]]] = {"commit": "commit", "abort": "abort"}
STATE_TEXTS = {"pending": "not known yet", "given_up": "given up, nothing was paid"}
UNITS = ((86400, "d"), (3600, "h"), (60, "m"))

ID = click.argument("id_text", metavar="ID")

payment_command = group(
    "payment",
    "Payments between banks: where they stand, step by step.",
    "fortress payment show ID",
    "fortress payment list --in-doubt",
    "fortress payment retry ID",
)


@payment_command.command("show", examples=("fortress payment show ID", "fortress payment show ID --json"))
@ID
def show_command(id_text: str) -> None:
    """Show a payment and its steps at both banks and the gateway, in the order of time.

    Steps of a node that cannot be asked now are missing; each node's times are by its own clock.
    """
    call = current_call()

    async def read(me: Me) -> None:
        view = await me.payment(parse_id(id_text))
        show(call, payment_json(view), payment_fields(view), steps_table(view))

    visit(call, read)


@payment_command.command(
    "list", examples=("fortress payment list", "fortress payment list --in-doubt", "fortress payment list --json")
)
@click.option("--in-doubt", is_flag=True, help="Those that are not decided everywhere, of everybody (staff).")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="The newest ones.")
def list_command(in_doubt: bool, limit: int) -> None:
    """List your payments to and from other banks, newest first; or all that are in doubt, and what to do."""
    call = current_call()

    async def read(me: Me) -> None:
        views = await me.payments(in_doubt=in_doubt, limit=limit)
        table = doubts_table(views, now_us=time.time_ns() // 1000) if in_doubt else payments_table(views)
        show(call, [payment_json(view) for view in views], table)

    visit(call, read)


@payment_command.command("retry", examples=("fortress payment retry ID", "fortress payment retry ID --sign"))
@ID
@SIGN
@KEY_FILE
@PASSWORD_FILE
def retry_command(id_text: str, sign: bool, key_file: Path | None, password_file: Path | None) -> None:
    """Try a payment again under the same id, as when its outcome was not known; it is done once."""
    call = current_call()
    id = parse_id(id_text)
    key = key_of(call, open_contexts().get(call.context), sign=sign, key_file=key_file, password_file=password_file)

    async def again(me: Me) -> None:
        from fortress.client.money import Money

        view = await me.payment(id, everywhere=False)
        bank, _, number = view.payer.partition("/")
        if bank != me.bank:
            raise Misuse(f"this payment comes from {view.payer}", f"only a customer of bank {bank} can try it again")
        money = Money(view.amount_minor, view.currency)
        order = me.payment_order(view.payee, money, from_=int(number), id=id, reference=view.reference)
        say(call, f"to {view.payee}: {money}")
        with telling(currency=view.currency, id=format_id(id), repeat="the same id"):
            payment = await me.pay_order(order)
        show_payment(call, payment, money, f"Sent {money} to {view.payee}.", to=view.payee)

    visit_with(call, key, again)


@payment_command.command(
    "resolve",
    examples=("fortress payment resolve ID --abort", "fortress payment resolve ID --commit --confirm a --json"),
)
@ID
@click.option("--commit", "act", flag_value="commit", help="It was decided to be done: do it here.")
@click.option("--abort", "act", flag_value="abort", help="It was given up: free the money here.")
@click.option("--confirm", "typed", metavar="BANK", help="The bank's name, unasked.")
def resolve_command(id_text: str, act: str | None, typed: str | None) -> None:
    """End a payment in doubt by hand, when the other side will not come back (administrator, and a second one).

    Look first what the gateway decided: 'fortress payment list --in-doubt' there and here names the safe act. Ended
    against the gateway's decision, the books of two banks no longer agree.
    """
    call = current_call()
    id = parse_id(id_text)
    if act not in ACTS:
        raise Misuse("it was not said how it shall end", "add --commit or --abort")
    chosen = ACTS[act]
    bank = open_contexts().get(call.context).bank
    words = "be done" if act == "commit" else "be given up"
    question = f"Payment {format_id(id)} shall {words} at {bank}, whatever the other nodes think of it."
    confirm_name(call, f"{question} A second administrator must approve it.", bank, typed)

    async def resolve(me: Me) -> None:
        show_done(call, await me.switching.resolve_payment(id, chosen), f"Payment {format_id(id)} is ended: {act}.")

    visit(call, resolve)


# --- how payments look ------------------------------------------------------------------------------------------------


def payment_json(view: PaymentView) -> Json:
    """One payment for programs."""
    return {
        "id": format_id(view.id),
        "state": view.state,
        "from": view.payer,
        "to": view.payee,
        "amount": money_json(view.amount_minor, view.currency),
        "reference": view.reference,
        "gateway_sequence": view.gateway_sequence or None,
        "reason": view.reason or None,
        "attempt": view.attempt,
        "since": time_json(view.since_us),
        "missing": list(view.missing),
        "act": view.act or None,
        "steps": [
            {
                "bank": step.bank,
                "step": step.step,
                "time": time_json(step.time_us),
                "position": step.position or None,
                "reason": step.reason or None,
            }
            for step in in_time(view)
        ],
    }


def payment_fields(view: PaymentView) -> Fields:
    """One payment for people."""
    pairs = [
        ("Payment", format_id(view.id)),
        ("State", state_text(view)),
        ("From", view.payer),
        ("To", view.payee),
        ("Amount", money_text(view.amount_minor, view.currency)),
        ("Reference", view.reference),
        ("Gateway's number", str(view.gateway_sequence or "")),
        ("Reason", view.reason),
        ("Attempt", str(view.attempt + 1) if view.attempt else ""),
        ("Since", time_text(view.since_us)),
        ("Waits for", ", ".join(view.missing)),
        ("Safe to do", view.act),
    ]
    return Fields(pairs=[pair for pair in pairs if pair[1]])


def steps_table(view: PaymentView) -> Table:
    """The steps of a payment at all nodes that could be asked, in the order of time."""
    rows = [
        (precise_text(step.time_us), step.bank, step.step, str(step.position or ""), step.reason)
        for step in in_time(view)
    ]
    return Table(columns=("Time", "Bank", "Step", ">Position", "Reason"), rows=rows, empty="no steps are known")


def payments_table(views: Sequence[PaymentView]) -> Table:
    """Payments for people, one a row."""
    rows = [
        (
            time_text(view.since_us),
            state_text(view),
            view.payer,
            view.payee,
            money_text(view.amount_minor, view.currency),
            view.reference,
            view.reason,
            format_id(view.id),
        )
        for view in views
    ]
    columns = ("Since", "State", "From", "To", ">Amount", "Reference", "Reason", "Id")
    return Table(columns=columns, rows=rows, empty="no payments between banks")


def doubts_table(views: Sequence[PaymentView], *, now_us: int) -> Table:
    """Payments in doubt for operators: how old, how much, who is missing, what may safely be done."""
    rows = [
        (
            age_text(now_us - view.since_us),
            view.payer,
            view.payee,
            money_text(view.amount_minor, view.currency),
            ", ".join(view.missing),
            view.act,
            format_id(view.id),
        )
        for view in views
    ]
    columns = (">Age", "From", "To", ">Amount", "Waits for", "Safe to do", "Id")
    return Table(columns=columns, rows=rows, empty="no payment is in doubt")


def state_text(view: PaymentView) -> str:
    """Say where a payment stands."""
    return STATE_TEXTS.get(view.state, view.state)


def age_text(age_us: int) -> str:
    """Write how old something is, in its largest unit."""
    seconds = max(age_us, 0) // 1_000_000
    return next((f"{seconds // size}{unit}" for size, unit in UNITS if seconds >= size), f"{seconds}s")


def precise_text(time_us: int) -> str:
    """Write a local time to the millisecond: steps follow each other faster than seconds."""
    return f"{time_text(time_us)}.{time_us // 1000 % 1000:03d}" if time_us else ""


def in_time(view: PaymentView) -> list[PaymentStep]:
    """Give the steps in the order of time; those of one moment as they came."""
    return sorted(view.steps, key=lambda step: step.time_us)
