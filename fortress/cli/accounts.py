"""``account``: open, list, freeze, limit and close accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from fortress.cli.command import current_call, group
from fortress.cli.desk import telling, visit
from fortress.cli.listings import account_fields, account_json, accounts_table
from fortress.cli.misuse import Misuse
from fortress.cli.output import show
from fortress.cli.prompts import confirm
from fortress.cli.users import show_done

if TYPE_CHECKING:
    from fortress.client.me import Me
    from fortress.protocol.accounts import AccountView

NUMBER = click.argument("account", type=int)
KINDS: Final = ("customer", "cash", "position", "fees", "settlement")
NO_BOUND: Final = "none"
PAGE_ROWS: Final = 500

account_command = group(
    "account",
    "Accounts: one's own, and as staff everybody's.",
    "fortress account open EUR",
    "fortress account list --user alice",
    "fortress account limits 4711000093 --day '500 EUR'",
)


@account_command.command("open", examples=("fortress account open EUR", "fortress account open EUR --for alice"))
@click.argument("currency")
@click.option("--for", "username", default="", metavar="USERNAME", help="Whose it shall be (staff).")
@click.option("--kind", type=click.Choice(KINDS), default="customer", show_default=True, help="What it is for.")
def open_command(currency: str, username: str, kind: str) -> None:
    """Open an account in a currency."""
    call = current_call()

    async def open_one(me: Me) -> None:
        view = await me.open_account(currency.upper(), username=username, kind=kind)
        show(call, account_json(view), account_fields(view))

    visit(call, open_one)


@account_command.command(
    "list", examples=("fortress account list", "fortress account list --user alice", "fortress account list --all")
)
@click.option("--user", "username", default="", help="Somebody's (staff).")
@click.option("--all", "everybody", is_flag=True, help="All of the bank (staff).")
def list_command(username: str, everybody: bool) -> None:
    """List accounts."""
    call = current_call()

    async def read(me: Me) -> None:
        page = await me.administration.accounts(username, all=everybody, limit=PAGE_ROWS)
        views = list(page.accounts)
        while page.next_after:
            page = await me.administration.accounts(username, all=everybody, after=page.next_after, limit=PAGE_ROWS)
            views += page.accounts
        show(call, [account_json(view) for view in views], accounts_table(views))

    visit(call, read)


@account_command.command("show", examples=("fortress account show 4711000093", "fortress account show"))
@click.argument("account", type=int, required=False, default=0)
def show_command(account: int) -> None:
    """Show an account in full, the default one if none is named."""
    call = current_call()

    async def read(me: Me) -> None:
        view = await me.account(account)
        show(call, account_json(view), account_fields(view))

    visit(call, read)


@account_command.command(
    "freeze", examples=("fortress account freeze 4711000093", "fortress account freeze 4711000093 --debits-only")
)
@NUMBER
@click.option("--debits-only", is_flag=True, help="Money may still come in.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def freeze_command(account: int, debits_only: bool, yes: bool) -> None:
    """Stop an account from paying, and from being paid unless --debits-only (administrator)."""
    call = current_call()
    confirm(call, f"Freeze account {account}?", yes=yes)

    async def freeze(me: Me) -> None:
        done = await me.administration.freeze(account, debits_only=debits_only)
        show_done(call, done, f"Account {account} is frozen.")

    visit(call, freeze)


@account_command.command("unfreeze", examples=("fortress account unfreeze 4711000093",))
@NUMBER
def unfreeze_command(account: int) -> None:
    """Open a frozen account again (administrator)."""
    call = current_call()

    async def unfreeze(me: Me) -> None:
        show_done(call, await me.administration.unfreeze(account), f"Account {account} is open.")

    visit(call, unfreeze)


@account_command.command(
    "limits",
    examples=(
        "fortress account limits 4711000093 --payment '100 EUR' --day '500 EUR'",
        "fortress account limits 4711000093 --month none --overdraft '50 EUR'",
    ),
)
@NUMBER
@click.option("--payment", metavar="AMOUNT", help="Most for one payment, or none.")
@click.option("--day", metavar="AMOUNT", help="Most for a day, or none.")
@click.option("--month", metavar="AMOUNT", help="Most for a month, or none.")
@click.option("--overdraft", metavar="AMOUNT", help="How far available may fall below zero; 0 for not at all.")
@click.option("--signed-orders-only/--any-orders", default=None, help="Whether payments must carry a signature.")
def limits_command(
    account: int,
    payment: str | None,
    day: str | None,
    month: str | None,
    overdraft: str | None,
    signed_orders_only: bool | None,
) -> None:
    """Set limits of an account; what is not named stays (administrator, with a second one's approval)."""
    call = current_call()
    given = {"payment": payment, "day": day, "month": month}
    if overdraft is None and signed_orders_only is None and not any(given.values()):
        raise Misuse("no limit was named", "name at least one of --payment, --day, --month, --overdraft")

    async def change(me: Me) -> None:
        view = await me.account(account)
        limits: dict[str, int | None] = {
            name: getattr(view, f"limit_{name}_minor") if text is None else _bound(text, view)
            for name, text in given.items()
        }
        signed = view.signed_orders_only if signed_orders_only is None else signed_orders_only
        with telling(currency=view.currency):
            done = await me.administration.set_limits(
                account,
                floor_minor=_floor(overdraft, view),
                payment_minor=limits["payment"],
                day_minor=limits["day"],
                month_minor=limits["month"],
                signed_orders_only=signed,
            )
        show_done(call, done, f"The limits of account {account} are set.")

    visit(call, change)


@account_command.command("close", examples=("fortress account close 4711000093",))
@NUMBER
@click.option("--yes", is_flag=True, help="Do not ask.")
def close_command(account: int, yes: bool) -> None:
    """Close an empty account; an administrator can reopen it."""
    call = current_call()
    confirm(call, f"Close account {account}?", yes=yes)

    async def close(me: Me) -> None:
        show_done(call, await me.close_account(account), f"Account {account} is closed.")

    visit(call, close)


@account_command.command("reopen", examples=("fortress account reopen 4711000093",))
@NUMBER
def reopen_command(account: int) -> None:
    """Open a closed account again (administrator)."""
    call = current_call()

    async def reopen(me: Me) -> None:
        show_done(call, await me.administration.reopen(account), f"Account {account} is open again.")

    visit(call, reopen)


def _bound(text: str, view: AccountView) -> int | None:
    """Read a limit; None is none."""
    from fortress.client.money import parse

    if text == NO_BOUND:
        return None
    money = parse(text, view.currency)
    if money.currency != view.currency:
        raise Misuse(f"account {view.number} is in {view.currency}, not in {money.currency}", "use its currency")
    return money.minor


def _floor(overdraft: str | None, view: AccountView) -> int | None:
    if overdraft is None:
        return view.floor_minor
    if overdraft and overdraft.partition(" ")[0].strip("0.") == "":
        return 0
    bound = _bound(overdraft, view)
    return None if bound is None else -bound
