"""The bank's answers as tables for people and documents for programs: accounts, entries, holds, people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fortress.cli.output import Fields, Json, Table
from fortress.cli.views import money_json, money_text, time_json, time_text
from fortress.client.ids import format_id

if TYPE_CHECKING:
    from fortress.protocol.accounts import AccountView
    from fortress.protocol.administration import ApprovalRow, TrailRow, TrialBalanceRow, UserAnswer
    from fortress.protocol.money import HoldView
    from fortress.protocol.reading import HistoryRow, TransferView


def account_json(view: AccountView) -> dict[str, Json]:
    """One account for programs."""
    sums = ("balance", "available", "held", "incoming", "floor")
    limits = ("limit_payment", "limit_day", "limit_month", "left_day", "left_month")
    return {
        "account": str(view.number),
        "owner": view.owner,
        "kind": view.kind,
        "currency": view.currency,
        "state": view.state,
        **{name: money_json(getattr(view, f"{name}_minor"), view.currency) for name in (*sums, *limits)},
        "signed_orders_only": view.signed_orders_only,
        "opened": time_json(view.opened_us),
        "position": view.position,
    }


def accounts_table(accounts: Sequence[AccountView]) -> Table:
    """Accounts for people, one a row."""
    rows = [
        (
            str(view.number),
            view.owner,
            view.kind,
            view.state.replace("_", " "),
            *(money_text(sum_minor, view.currency) for sum_minor in sums_of(view)),
        )
        for view in accounts
    ]
    columns = ("Account", "Owner", "Kind", "State", ">Balance", ">Available", ">On hold")
    return Table(columns=columns, rows=rows, empty="no accounts")


def sums_of(view: AccountView) -> tuple[int, int, int]:
    """Balance, available and on hold, in minor units."""
    return view.balance_minor, view.available_minor, view.held_minor


def account_fields(view: AccountView) -> Fields:
    """One account for people, in full."""
    money = [
        ("Balance", view.balance_minor),
        ("Available", view.available_minor),
        ("On hold", view.held_minor),
        ("Incoming", view.incoming_minor),
        ("Floor", view.floor_minor),
        ("Limit per payment", view.limit_payment_minor),
        ("Limit per day", view.limit_day_minor),
        ("Left today", view.left_day_minor),
        ("Limit per month", view.limit_month_minor),
        ("Left this month", view.left_month_minor),
    ]
    pairs = [
        ("Account", str(view.number)),
        ("Owner", view.owner),
        ("Kind", view.kind),
        ("State", view.state.replace("_", " ")),
        *((name, money_text(minor, view.currency)) for name, minor in money),
        ("Signed orders only", "yes" if view.signed_orders_only else "no"),
        ("Opened", time_text(view.opened_us)),
    ]
    return Fields(pairs=pairs)


def entry_json(row: HistoryRow, currency: str) -> dict[str, Json]:
    """One entry of an account for programs."""
    return {
        "id": format_id(row.id),
        "time": time_json(row.time_us),
        "kind": row.kind,
        "amount": money_json(row.amount_minor, currency),
        "balance": money_json(row.balance_minor, currency),
        "counterparty": row.elsewhere or (str(row.counterparty) if row.counterparty else None),
        "reference": row.reference,
        "value_date": row.value_date or None,
        "position": row.position,
    }


def entries_table(rows: Sequence[HistoryRow], currency: str) -> Table:
    """Entries of an account for people, one a row."""
    cells = [
        (
            time_text(row.time_us),
            row.kind.replace("_", " "),
            row.elsewhere or str(row.counterparty or ""),
            row.reference,
            # an account's opening moves nothing
            money_text(row.amount_minor, currency) if row.amount_minor else "",
            money_text(row.balance_minor, currency) if row.balance_minor is not None else "",
            format_id(row.id),
        )
        for row in rows
    ]
    columns = ("Time", "Kind", "With", "Reference", ">Amount", ">Balance", "Id")
    return Table(columns=columns, rows=cells, empty="no entries")


def hold_json(view: HoldView) -> dict[str, Json]:
    """One hold for programs."""
    return {
        "id": format_id(view.id),
        "from": str(view.debit),
        "to": str(view.credit),
        "amount": money_json(view.amount_minor, view.currency),
        "posted": money_json(view.posted_minor, view.currency),
        "state": view.state,
        "expires": time_json(view.expires_us),
        "reference": view.reference,
    }


def holds_table(holds: Sequence[HoldView]) -> Table:
    """Holds for people, one a row."""
    rows = [
        (
            format_id(view.id),
            str(view.debit),
            str(view.credit),
            money_text(view.amount_minor, view.currency),
            view.state,
            time_text(view.expires_us),
            view.reference,
        )
        for view in holds
    ]
    columns = ("Id", "From", "To", ">Amount", "State", "Expires", "Reference")
    return Table(columns=columns, rows=rows, empty="no open holds")


def transfer_json(view: TransferView) -> dict[str, Json]:
    """One transfer, hold or refusal for programs."""
    return {
        "id": format_id(view.id),
        "state": view.state,
        "status": view.status,
        "kind": view.kind,
        "from": str(view.debit),
        "to": str(view.credit),
        "amount": money_json(view.amount_minor, view.currency) if view.currency else None,
        "reference": view.reference,
        "time": time_json(view.time_us),
        "position": view.position,
    }


def user_json(user: UserAnswer) -> dict[str, Json]:
    """One person for programs."""
    return {
        "customer": user.customer,
        "username": user.username,
        "name": user.name,
        "roles": list(user.roles),
        "state": user.state,
        "created": time_json(user.created_us),
        "locked_until": time_json(user.locked_until_us),
    }


def users_table(users: Sequence[UserAnswer]) -> Table:
    """People for people, one a row."""
    rows = [
        (
            user.username,
            user.name,
            ", ".join(user.roles),
            user.state if not user.locked_until_us else f"{user.state} until {time_text(user.locked_until_us)}",
            time_text(user.created_us),
        )
        for user in users
    ]
    return Table(columns=("Username", "Name", "Roles", "State", "Since"), rows=rows, empty="no customers")


def approval_json(row: ApprovalRow) -> dict[str, Json]:
    """One request that waits for a second administrator, for programs."""
    return {
        "approval": format_id(row.approval),
        "operation": row.operation,
        "summary": row.summary,
        "asked_by": row.asked_by,
        "asked": time_json(row.asked_us),
    }


def approvals_table(rows: Sequence[ApprovalRow]) -> Table:
    """What waits for a second administrator, for people."""
    cells = [
        (format_id(row.approval), row.operation, row.summary, row.asked_by, time_text(row.asked_us)) for row in rows
    ]
    columns = ("Approval", "Operation", "What", "Asked by", "Asked")
    return Table(columns=columns, rows=cells, empty="nothing waits for approval")


def trail_json(row: TrailRow) -> dict[str, Json]:
    """One act or refusal for programs."""
    return {
        "position": row.position,
        "time": time_json(row.time_us),
        "kind": row.kind,
        "actor": row.actor,
        "subject": row.subject,
        "detail": row.detail,
    }


def trail_table(rows: Sequence[TrailRow]) -> Table:
    """Acts and refusals for people."""
    cells = [(str(row.position), time_text(row.time_us), row.kind, row.actor, row.subject, row.detail) for row in rows]
    columns = (">Position", "Time", "Kind", "By", "About", "Detail")
    return Table(columns=columns, rows=cells, empty="no acts yet")


def trial_balance_json(row: TrialBalanceRow) -> dict[str, Json]:
    """The sums of one currency for programs."""
    sums = {name: getattr(row, f"{name}_minor") for name in ("debits", "credits", "sum", "held", "holds")}
    return {
        "currency": row.currency,
        "accounts": row.accounts,
        **{name: money_json(minor, row.currency) for name, minor in sums.items()},
    }


def trial_balance_table(rows: Sequence[TrialBalanceRow]) -> Table:
    """The sums of all accounts by currency, for people."""
    cells = [
        (
            row.currency,
            str(row.accounts),
            *(
                money_text(minor, row.currency)
                for minor in (row.debits_minor, row.credits_minor, row.sum_minor, row.held_minor, row.holds_minor)
            ),
        )
        for row in rows
    ]
    columns = ("Currency", ">Accounts", ">Debits", ">Credits", ">Sum", ">On hold", ">Open holds")
    return Table(columns=columns, rows=cells, empty="no accounts")
