"""Handlers of the administrators' pages: people, accounts, cash, approvals, the books and the trail.

Each is one act of :mod:`fortress.client.administration`. What one's roles do not allow the bank refuses; what needs a
second administrator answers with an ``approval``, and nothing was done yet.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, get_args

from fortress.client.me import Me
from fortress.client.money import Money
from fortress.errors import IntegrityFailed, MessageInvalid
from fortress.protocol.administration import ApprovalRow, TrailRow, TrialBalanceRow, UserAnswer
from fortress.protocol.fields import Done
from fortress.protocol.reading import Head, HeadAnswer
from fortress.web import administration as admin
from fortress.web import shapes
from fortress.web.call import Call, Context, Handler
from fortress.web.conversions import account_of, entry_of, time_of, time_or_none
from fortress.web.intake import read_minor

ENTRIES_SHOWN: Final = 50
HOUR_US: Final = 3600 * 1_000_000
ROLES: Final[Mapping[str, shapes.Role]] = {role: role for role in get_args(shapes.Role)}


def done_of(answer: Done) -> shapes.Done:
    """Tell that something was done, or waits for approval."""
    return shapes.Done(position=answer.position, approval=answer.approval.hex())


# --- people -----------------------------------------------------------------------------------------------------------


def user_of(answer: UserAnswer) -> admin.User:
    """Show a customer as staff sees one."""
    return admin.User(
        customer=answer.customer,
        username=answer.username,
        name=answer.name,
        roles=[ROLES[role] for role in answer.roles if role in ROLES],
        state=answer.state,
        created=time_of(answer.created_us),
        locked_until=time_or_none(answer.locked_until_us),
    )


async def handle_users(call: Call) -> admin.UserList:
    """Page through the customers."""
    page = await call.me.administration.users(after=call.query.after, limit=call.query.limit)
    return admin.UserList([user_of(user) for user in page.users], page.next_after)


async def handle_user(call: Call) -> admin.User:
    """Read one customer."""
    return user_of(await call.me.administration.user(call.path.username))


async def handle_invite(call: Call) -> admin.InvitationCode:
    """Make a code with which somebody registers."""
    body: admin.Invitation = call.body
    answer = await call.me.administration.invite(body.role, valid_s=body.valid_hours * 3600, id=bytes.fromhex(body.id))
    return admin.InvitationCode(answer.code, time_of(answer.expires_us), answer.approval.hex())


async def handle_set_roles(call: Call) -> shapes.Done:
    """Replace a customer's roles."""
    body: admin.Roles = call.body
    return done_of(await call.me.administration.set_roles(call.path.username, body.roles, id=bytes.fromhex(body.id)))


async def handle_lock(call: Call) -> shapes.Done:
    """Lock a customer out, for some hours or until unlocked."""
    hours = call.body.hours
    until_us = time.time_ns() // 1000 + hours * HOUR_US if hours else 0
    return done_of(await call.me.administration.lock(call.path.username, until_us=until_us))


async def handle_unlock(call: Call) -> shapes.Done:
    """Let a customer in again."""
    return done_of(await call.me.administration.unlock(call.path.username))


async def handle_erase(call: Call) -> shapes.Done:
    """Erase a person; their entries stay."""
    return done_of(await call.me.administration.erase(call.path.username, id=bytes.fromhex(call.body.id)))


# --- accounts ---------------------------------------------------------------------------------------------------------


async def handle_all_accounts(call: Call) -> shapes.AccountList:
    """Page through one customer's accounts, or all."""
    query: admin.AccountQuery = call.query
    page = await call.me.administration.accounts(
        query.username, all=not query.username, after=query.after, limit=query.limit
    )
    return shapes.AccountList([account_of(view) for view in page.accounts], page.next_after)


async def handle_open_account_for(call: Call) -> admin.OpenedAccount:
    """Open an account for a customer."""
    body: admin.NewAccount = call.body
    view = await call.me.open_account(body.currency, username=body.username, id=bytes.fromhex(body.id))
    return admin.OpenedAccount(account_of(view))


async def handle_held_account(call: Call) -> admin.AccountHistory:
    """Read an account and its newest entries."""
    me, number = call.me, call.path.number
    view = await me.account(number)
    page = await me.history_page(number, limit=ENTRIES_SHOWN)
    return admin.AccountHistory(account_of(view), [entry_of(row, me.bank) for row in page.rows])


async def handle_freeze(call: Call) -> shapes.Done:
    """Freeze an account."""
    return done_of(await call.me.administration.freeze(call.path.number, debits_only=call.body.debits_only))


async def handle_unfreeze(call: Call) -> shapes.Done:
    """Open a frozen account again."""
    return done_of(await call.me.administration.unfreeze(call.path.number))


async def handle_close_account(call: Call) -> shapes.Done:
    """Close an empty account."""
    return done_of(await call.me.close_account(call.path.number))


async def handle_reopen_account(call: Call) -> shapes.Done:
    """Open a closed account again."""
    return done_of(await call.me.administration.reopen(call.path.number))


async def handle_set_limits(call: Call) -> shapes.Done:
    """Set floor and limits, all of them."""
    body: admin.Limits = call.body
    sums = {name: getattr(body, name) for name in ("floor", "payment", "day", "month")}
    minors = {f"{name}_minor": None if text is None else read_minor(text, name) for name, text in sums.items()}
    return done_of(
        await call.me.administration.set_limits(
            call.path.number,
            **minors,
            signed_orders_only=body.signed_orders_only,
            id=bytes.fromhex(body.id),
        )
    )


async def handle_deposit(call: Call) -> shapes.Done:
    """Pay cash in."""
    body: admin.CashOrder = call.body
    paid = await call.me.deposit(body.account, _cash(body), reference=body.reference, id=bytes.fromhex(body.id))
    return shapes.Done(position=paid.position)


async def handle_withdraw(call: Call) -> shapes.Done:
    """Pay cash out."""
    body: admin.CashOrder = call.body
    paid = await call.me.withdraw(body.account, _cash(body), reference=body.reference, id=bytes.fromhex(body.id))
    return shapes.Done(position=paid.position)


def _cash(order: admin.CashOrder) -> Money:
    return Money(read_minor(order.amount, "amount"), order.currency)


# --- approvals --------------------------------------------------------------------------------------------------------


def approval_of(row: ApprovalRow, username: str) -> admin.Approval:
    """Show what waits; ``username`` is who looks."""
    return admin.Approval(
        id=row.approval.hex(),
        operation=row.operation,
        summary=row.summary,
        asked_by=row.asked_by,
        asked=time_of(row.asked_us),
        mine=row.asked_by == username,
    )


async def handle_approvals(call: Call) -> admin.ApprovalList:
    """List what waits for a second administrator."""
    me = call.me
    return admin.ApprovalList([approval_of(row, me.username) for row in await me.administration.approvals()])


async def handle_decide(call: Call) -> shapes.Done:
    """Approve or decline what another one asked for."""
    return done_of(await call.me.administration.approve(bytes.fromhex(call.path.id), decline=call.body.decline))


# --- books and trail --------------------------------------------------------------------------------------------------


def _books_row(row: TrialBalanceRow) -> admin.BooksRow:
    return admin.BooksRow(
        currency=row.currency,
        accounts=row.accounts,
        debits=str(row.debits_minor),
        credits=str(row.credits_minor),
        sum=str(row.sum_minor),
        held=str(row.held_minor),
        holds=str(row.holds_minor),
    )


async def handle_books(call: Call) -> admin.Books:
    """Sum all accounts by currency."""
    answer = await call.me.administration.trial_balance()
    return admin.Books([_books_row(row) for row in answer.rows], answer.position)


def _trail_row(row: TrailRow) -> admin.TrailRow:
    return admin.TrailRow(row.position, time_of(row.time_us), row.kind, row.actor, row.subject, row.detail)


class FirstHead:
    """The first head of the journal that this process saw; every later one must continue it."""

    def __init__(self, context: Context) -> None:
        self._first: HeadAnswer | None = None

    async def close(self) -> None:
        """Nothing runs."""

    async def check(self, me: Me) -> tuple[bool, HeadAnswer]:
        """Tell whether the journal's present head is rightly signed and continues the first one; and that head."""
        try:
            head = await me.consistency(self._first)
        except (IntegrityFailed, MessageInvalid):  # the bank cannot prove it if its journal has become shorter
            shown: HeadAnswer = await me.ask("head", Head())
            return False, shown
        self._first = self._first or head
        return True, head


async def handle_trail(call: Call) -> admin.TrailPage:
    """Page through administrative acts and refusals, and have the journal proven."""
    me = call.me
    page = await me.administration.trail(cursor=call.query.cursor, limit=call.query.limit)
    proven, head = await call.context.shared(FirstHead).check(me)
    rows = [_trail_row(row) for row in page.rows]
    return admin.TrailPage(rows, page.cursor, proven, head.tree_size, head.root.hex())


HANDLERS: Final[dict[str, Handler]] = {
    "users": handle_users,
    "user": handle_user,
    "invite": handle_invite,
    "set_roles": handle_set_roles,
    "lock": handle_lock,
    "unlock": handle_unlock,
    "erase": handle_erase,
    "all_accounts": handle_all_accounts,
    "open_account_for": handle_open_account_for,
    "held_account": handle_held_account,
    "freeze": handle_freeze,
    "unfreeze": handle_unfreeze,
    "close_account": handle_close_account,
    "reopen_account": handle_reopen_account,
    "set_limits": handle_set_limits,
    "deposit": handle_deposit,
    "withdraw": handle_withdraw,
    "approvals": handle_approvals,
    "decide": handle_decide,
    "books": handle_books,
    "trail": handle_trail,
}
