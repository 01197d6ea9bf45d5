"""``pay``, ``deposit`` and ``withdraw``: money that moves, each with an id that makes repeating it safe."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fortress.cli.command import Call, command, current_call
from fortress.cli.desk import open_contexts, telling, visit
from fortress.cli.output import Fields, Json, say, show
from fortress.cli.prompts import PASSWORD_FILE
from fortress.cli.signing import KEY_FILE, SIGN, key_of, visit_with
from fortress.cli.views import money_json, money_text, parse_span, parse_time, time_json
from fortress.client.ids import format_id, new_id, parse_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from fortress.client.me import Me
    from fortress.client.money import Money
    from fortress.client.payments import Payment

AMOUNT = click.argument("amount", nargs=-1, required=True, metavar="AMOUNT")
REFERENCE = click.option("--reference", default="", help="A text for both sides, at most 140 characters.")
ID = click.option("--id", "id_text", metavar="ID", help="Repeat with the id of an earlier try; it is done once.")
NOT_AFTER = click.option(
    "--not-after", metavar="TIME", help="Refuse it if it comes later: a time, or a span from now like 2h."
)
YES = click.option("--yes", is_flag=True, help="Do not ask.")
SPAN: Final = re.compile(r"[0-9]+[a-z]")


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


def until_of(text: str | None) -> datetime | None:
    """Read until when an order is good: a time, or a span from now; None for no end.

    Raises:
        Misuse: it is neither.
    """
    if not text:
        return None
    return datetime.now(UTC) + parse_span(text) if SPAN.fullmatch(text) else parse_time(text)


async def payee_of(me: Me, to: str, currency: str) -> tuple[str, str]:
    """Find a payee at any bank; gives the account, after its bank's id unless it is this one, and a name."""
    number, name = await account_of(me, to, currency)
    bank = to.rpartition("/")[0]
    return (f"{bank}/{number}" if bank and bank != me.bank else str(number)), name


def check_payee(call: Call, payee: str, name: str, money: Money, *, yes: bool) -> None:
    """Ask on a terminal whether somebody at another bank is who is meant.

    Raises:
        click.Abort: it is not.
    """
    if "/" in payee and call.ask and not yes:
        click.confirm(f"Send {money} to {name or 'an unnamed person'}, {payee}?", abort=True, err=True)


@command(
    "pay",
    "fortress pay bob 12.50 EUR --reference Lunch",
    "fortress pay b/ines 12.50 EUR",
    "fortress pay 4711000093 12.50 EUR --dry-run",
    "fortress pay b/4711000190 12.50 EUR --sign --not-after 2h",
)
@click.argument("to", metavar="TO")
@AMOUNT
@click.option("--from", "source", type=int, metavar="ACCOUNT", help="Account to take from; the default one otherwise.")
@REFERENCE
@ID
@NOT_AFTER
@click.option("--dry-run", is_flag=True, help="Show what would be sent to whom; send nothing.")
@YES
@SIGN
@KEY_FILE
@PASSWORD_FILE
def pay_command(
    to: str,
    amount: tuple[str, ...],
    source: int | None,
    reference: str,
    id_text: str | None,
    not_after: str | None,
    dry_run: bool,
    yes: bool,
    sign: bool,
    key_file: Path | None,
    password_file: Path | None,
) -> None:
    """Send money to an account number or a username; at another bank write the bank's id before it, like b/ines.

    The payee's name at another bank is shown and asked for before anything is sent. An account that takes signed
    orders only needs --sign, or the file with the key or the password.
    """
    call = current_call()
    id, until = id_of(id_text), until_of(not_after)
    key = key_of(call, open_contexts().get(call.context), sign=sign, key_file=key_file, password_file=password_file)

    async def send(me: Me) -> None:
        money = await read_amount(me, amount, source or 0)
        payee, name = await payee_of(me, to, money.currency)
        if dry_run:
            await _show_plan(call, me, money, credit=payee, name=name, source=source)
            return
        check_payee(call, payee, name, money, yes=yes)
        say(call, f"to {name or to}, account {payee}; id {format_id(id)}")
        with telling(currency=money.currency, id=format_id(id)):
            payment = await me.pay(payee, money, reference=reference, id=id, from_=source, not_after=until)
        show_payment(call, payment, money, f"Sent {money} to {name or to}.", to=payee)

    visit_with(call, key, send)


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
        "gateway_sequence": payment.gateway_sequence or None,
    }
    again = [("Again", "it had been done before; this is the first answer")] if payment.replayed else []
    pairs = [("Id", format_id(payment.id)), ("Balance", money_text(after.minor, after.currency)), *again]
    show(call, document, sentence, Fields(pairs=pairs))


def _time_us(payment: Payment) -> int:
    from fortress.client.reading import to_us

    return to_us(payment.time)


async def _show_plan(call: Call, me: Me, money: Money, *, credit: str, name: str, source: int | None) -> None:
    """Tell what a payment would do, as far as one can know before it is judged."""
    accounts = [await me.account(source)] if source else await me.accounts()
    fitting = [view for view in accounts if view.currency == money.currency and view.state == "open"]
    view = fitting[0] if fitting else accounts[0]
    enough = bool(fitting) and view.available_minor - money.minor >= (view.floor_minor or 0)
    document: Json = {
        "dry_run": True,
        "from": str(view.number),
        "to": credit,
        "name": name,
        "amount": money_json(money.minor, money.currency),
        "available": money_json(view.available_minor, view.currency),
        "covered": enough,
    }
    pairs = [
        ("From", str(view.number)),
        ("To", f"{credit} ({name})" if name else credit),
        ("Amount", str(money)),
        ("Available", money_text(view.available_minor, view.currency)),
        ("Covered", "yes" if enough else "no"),
    ]
    show(call, document, Fields(title="Nothing was sent.", pairs=pairs))
