"""``hold``: money reserved for somebody, then taken, in part or whole, or freed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from fortress.cli.command import current_call, group
from fortress.cli.desk import telling, visit
from fortress.cli.listings import hold_json, holds_table
from fortress.cli.output import say, show
from fortress.cli.payments import AMOUNT, ID, REFERENCE, account_of, id_of, read_amount, show_payment
from fortress.cli.views import parse_span, parse_time
from fortress.client.ids import format_id, parse_id

if TYPE_CHECKING:
    from fortress.client.me import Me

hold_command = group(
    "hold",
    "Reserve money for somebody, then post or void it.",
    "fortress hold place bob 50 EUR --for 7d",
    "fortress hold list",
)


@hold_command.command("place", examples=("fortress hold place bob 50 EUR --for 7d --reference Deposit",))
@click.argument("to", metavar="TO")
@AMOUNT
@click.option("--for", "span", default="7d", show_default=True, help="How long, like 90s, 12h or 7d.")
@click.option("--expires", metavar="TIME", help="Until when instead, like 2026-03-31T14:05:00Z.")
@click.option("--from", "source", type=int, metavar="ACCOUNT", help="Account to reserve on; the default one otherwise.")
@REFERENCE
@ID
def place_command(
    to: str,
    amount: tuple[str, ...],
    span: str,
    expires: str | None,
    source: int | None,
    reference: str,
    id_text: str | None,
) -> None:
    """Reserve money for an account number or a username."""
    call = current_call()
    id = id_of(id_text)
    until = parse_time(expires) if expires else datetime.now(UTC) + parse_span(span)
    until = until.replace(microsecond=0)  # so that it can be typed again

    async def place(me: Me) -> None:
        money = await read_amount(me, amount, source or 0)
        credit, name = await account_of(me, to, money.currency)
        debit = source or (await me.account()).number
        repeat = f"--id {format_id(id)} --expires {until.astimezone(UTC).isoformat().replace('+00:00', 'Z')}"
        say(call, f"for {name or to}, account {credit}; {repeat}")
        with telling(currency=money.currency, id=format_id(id), repeat=repeat):
            payment = await me.hold(debit, credit, money, expires=until, reference=reference, id=id)
        show_payment(call, payment, money, f"Reserved {money} for {name or to}.", to=str(credit))

    visit(call, place)


@hold_command.command("post", examples=("fortress hold post ID", "fortress hold post ID 20 EUR"))
@click.argument("id_text", metavar="ID")
@click.argument("amount", nargs=-1, metavar="[AMOUNT]")
def post_command(id_text: str, amount: tuple[str, ...]) -> None:
    """Take what a hold reserved, or a part of it; the rest is freed."""
    call = current_call()
    id = parse_id(id_text)

    async def post(me: Me) -> None:
        from fortress.client.money import parse

        view = await me.hold_by_id(id)
        money = parse(" ".join(amount), view.currency) if amount else None
        with telling(currency=view.currency):
            payment = await me.post(id, money)
        show_payment(call, payment, money, f"Posted {money or 'all that was reserved'}.", to=str(view.credit))

    visit(call, post)


@hold_command.command("void", examples=("fortress hold void ID",))
@click.argument("id_text", metavar="ID")
def void_command(id_text: str) -> None:
    """Free what a hold reserved."""
    call = current_call()
    id = parse_id(id_text)

    async def void(me: Me) -> None:
        show_payment(call, await me.void(id), None, "Freed what was reserved.")

    visit(call, void)


@hold_command.command("list", examples=("fortress hold list", "fortress hold list 4711000093 --json"))
@click.argument("account", type=int, required=False, default=0)
def list_command(account: int) -> None:
    """List the open holds on an account, the default one if none is named."""
    call = current_call()

    async def read(me: Me) -> None:
        holds = await me.holds(account)
        show(call, [hold_json(view) for view in holds], holds_table(holds))

    visit(call, read)
