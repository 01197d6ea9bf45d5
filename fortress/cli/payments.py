"""``pay``, ``deposit`` and ``withdraw``: money that moves, each with an id that makes repeating it safe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fortress.cli.command import Call, command, current_call
from fortress.cli.desk import telling, visit
from fortress.cli.output import Fields, Json, say, show
from fortress.cli.views import money_json, money_text, time_json
from fortress.client.ids import format_id, new_id, parse_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from fortress.client.me import Me
    from fortress.client.money import Money
    from fortress.client.payments import Payment

AMOUNT = click.argument("amount", nargs=-1, required=True, metavar="AMOUNT")
REFERENCE = click.option("--reference", default="", help="A text for both sides, at most 140 characters.")
ID = click.option("--id", "id_text", metavar="ID", help="Repeat with the id of an earlier try; it is done once.")


def id_of(text: str | None) -> bytes:
    """Read the id given, or make a new one."""
    return parse_id(text) if text else new_id()


async def read_amount(me: Me, words: tuple[str, ...], account: int = 0) -> Money:
    """Read an amount like ``12.50 EUR``; without a currency the account's is meant.

    Raises:
        AmountInvalid: it is none.
    """
    from fortress.client.money import parse

    text = " ".join(words)
    has_currency = any(char.isalpha() for char in text)
    return parse(text, "" if has_currency else (await me.account(account)).currency)


async def account_of(me: Me, who: str, currency: str) -> tuple[int, str]:
    """Find an account by number or by its owner's username; gives the number and the owner's name."""
    found = await me.resolve(who, currency)
    return found.number, found.name


@command(
    "pay",
    "fortress pay bob 12.50 EUR --reference Lunch",
    "fortress pay b/ines 12.50 EUR",
    "fortress pay 4711000093 12.50 EUR --dry-run",
)
@click.argument("to", metavar="TO")
@AMOUNT
@click.option("--from", "source", type=int, metavar="ACCOUNT", help="Account to take from; the default one otherwise.")
@REFERENCE
@ID
@click.option("--dry-run", is_flag=True, help="Show what would be sent to whom; send nothing.")
def pay_command(
    to: str, amount: tuple[str, ...], source: int | None, reference: str, id_text: str | None, dry_run: bool
) -> None:
    """Send money to an account number or a username; at another bank write the bank's id before it, like b/ines."""
    call = current_call()
    id = id_of(id_text)

    async def send(me: Me) -> None:
        money = await read_amount(me, amount, source or 0)
        credit, name = await account_of(me, to, money.currency)
        if dry_run:
            await _show_plan(call, me, money, credit=credit, name=name, source=source)
            return
        bank, slash, _ = to.rpartition("/")
        payee = f"{bank}{slash}{credit}"
        say(call, f"to {name or to}, account {payee}; id {format_id(id)}")
        with telling(currency=money.currency, id=format_id(id)):
            payment = await me.pay(payee, money, reference=reference, id=id, from_=source)
        show_payment(call, payment, money, f"Sent {money} to {name or to}.", to=payee)

    visit(call, send)


@command("deposit", "fortress deposit alice 100 EUR", "fortress deposit 4711000093 100.00 EUR --reference Counter")
@click.argument("account")
@AMOUNT
@REFERENCE
@ID
def deposit_command(account: str, amount: tuple[str, ...], reference: str, id_text: str | None) -> None:
    """Pay cash in at the counter, to an account number or a username (teller)."""
    _move_cash(account, amount, reference, id_text, lambda me: me.deposit, "Paid in")


@command("withdraw", "fortress withdraw alice 20 EUR")
@click.argument("account")
@AMOUNT
@REFERENCE
@ID
def withdraw_command(account: str, amount: tuple[str, ...], reference: str, id_text: str | None) -> None:
    """Pay cash out at the counter, from an account number or a username (teller)."""
    _move_cash(account, amount, reference, id_text, lambda me: me.withdraw, "Paid out")


def _move_cash(
    account: str,
    amount: tuple[str, ...],
    reference: str,
    id_text: str | None,
    move_of: Callable[[Me], Callable[..., Any]],
    done: str,
) -> None:
    call = current_call()
    id = id_of(id_text)

    async def move(me: Me) -> None:
        from fortress.client.money import parse

        money = parse(" ".join(amount))
        number, name = await account_of(me, account, money.currency)
        with telling(currency=money.currency, id=format_id(id)):
            payment: Payment = await move_of(me)(number, money, reference=reference, id=id)
        show_payment(call, payment, money, f"{done} {money}, account {number} ({name or account}).", to=str(number))

    visit(call, move)


def show_payment(call: Call, payment: Payment, money: Money | None, sentence: str, *, to: str = "") -> None:
    """Show money that has moved: its id, when, and what is left."""
    after = payment.balance_after
    document: Json = {
        "id": format_id(payment.id),
        "status": payment.status,
        "account": to or None,
        "amount": money_json(money.minor, money.currency) if money else None,
        "balance_after": money_json(after.minor, after.currency),
        "time": time_json(_time_us(payment)),
        "position": payment.position,
        "replayed": payment.replayed,
    }
    again = [("Again", "it had been done before; this is the first answer")] if payment.replayed else []
    pairs = [("Id", format_id(payment.id)), ("Balance", money_text(after.minor, after.currency)), *again]
    show(call, document, sentence, Fields(pairs=pairs))


def _time_us(payment: Payment) -> int:
    from fortress.client.reading import to_us

    return to_us(payment.time)


async def _show_plan(call: Call, me: Me, money: Money, *, credit: int, name: str, source: int | None) -> None:
    """Tell what a payment would do, as far as one can know before it is judged."""
    accounts = [await me.account(source)] if source else await me.accounts()
    fitting = [view for view in accounts if view.currency == money.currency and view.state == "open"]
    view = fitting[0] if fitting else accounts[0]
    enough = bool(fitting) and view.available_minor - money.minor >= (view.floor_minor or 0)
    document: Json = {
        "dry_run": True,
        "from": str(view.number),
        "to": str(credit),
        "name": name,
        "amount": money_json(money.minor, money.currency),
        "available": money_json(view.available_minor, view.currency),
        "covered": enough,
    }
    pairs = [
        ("From", str(view.number)),
        ("To", f"{credit} ({name})" if name else str(credit)),
        ("Amount", str(money)),
        ("Available", money_text(view.available_minor, view.currency)),
        ("Covered", "yes" if enough else "no"),
    ]
    show(call, document, Fields(title="Nothing was sent.", pairs=pairs))
