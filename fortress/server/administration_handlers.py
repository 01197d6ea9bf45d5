"""Answer administrators and auditors: people, limits, states, approvals, the trail and the books.

Acts that move limits, roles or people go through :mod:`fortress.server.approvals`, which asks a second administrator.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from typing import Any

from fortress.errors import Refused, Status, status_name
from fortress.ledger.commands import ChangeAccount, ChangeCustomer, Invite
from fortress.ledger.entries import BankChanged, LedgerRestored, SessionEnded
from fortress.ledger.model import Actor, Customer, CustomerState
from fortress.protocol import administration as messages
from fortress.protocol.accounts import Profile
from fortress.protocol.fields import Done
from fortress.server.approvals import ask_or_act, carry_out, decide, is_staff_role, waiting
from fortress.server.bank import Bank, accepted, new_id, now_us
from fortress.server.handlers import Handler, plain
from fortress.server.node import Node
from fortress.server.session import Session
from fortress.server.views import kind_of

CODE_SIZE_BYTES = 15


def _actor(node: Node, session: Session) -> Actor:
    return node.bank.actor(session.customer, session.roles)


# --- People and limits -----------------------------------------------------------------------------------------------
async def _invite(node: Node, actor: Actor, request: messages.Invite) -> messages.InviteAnswer:
    code = _code(secrets.token_bytes(CODE_SIZE_BYTES))
    expires_us = now_us() + request.valid_s * 1_000_000
    digest = hashlib.sha256(code.encode()).digest()
    # a repeat is refused as another use of its id: the code was shown once and is kept nowhere
    accepted(await node.bank.commit(Invite(actor, request.id, digest, request.role, expires_us)))
    return messages.InviteAnswer(code, expires_us)


def _code(entropy: bytes) -> str:
    """Write 120 random bits as six groups of four letters and digits that are hard to confuse."""
    alphabet = "23456789abcdefghjkmnpqrstuvwxyz"
    number = int.from_bytes(entropy, "big")
    letters = []
    for _ in range(24):
        number, index = divmod(number, len(alphabet))
        letters.append(alphabet[index])
    return "-".join("".join(letters[i : i + 4]) for i in range(0, 24, 4))


async def handle_set_role(node: Node, session: Session, request: messages.SetRole) -> Done:
    """Replace a customer's roles."""
    answer: Done = await ask_or_act(node, session, "set_role", request)
    return answer


async def handle_erase(node: Node, session: Session, request: messages.Erase) -> Done:
    """Erase a person."""
    answer: Done = await ask_or_act(node, session, "erase", request)
    return answer


async def handle_set_limits(node: Node, session: Session, request: messages.SetLimits) -> Done:
    """Set floor and limits of an account."""
    answer: Done = await ask_or_act(node, session, "set_limits", request)
    return answer


async def handle_create_user(node: Node, session: Session, request: messages.CreateUser) -> messages.UserAnswer:
    """Create a customer by hand."""
    node.desk.check_key(request.key, request.username, session.handshake_hash)
    answer: messages.UserAnswer = await ask_or_act(node, session, "create_user", request)
    return answer


async def handle_invite(node: Node, session: Session, request: messages.Invite) -> messages.InviteAnswer:
    """Make an invitation; staff roles are given by set_role, with a second administrator, never by a code."""
    if is_staff_role([request.role]) and len(node.bank.state.administrators) >= 2:
        raise Refused(Status.role_invalid)
    return await _invite(node, _actor(node, session), request)


async def handle_approve(node: Node, session: Session, request: messages.Approve) -> Done:
    """Approve and do what another administrator asked for, or decline it."""
    return await decide(node, _actor(node, session), request.approval, decline=request.decline)


async def handle_list_approvals(
    node: Node, session: Session, request: messages.ListApprovals
) -> messages.ApprovalsAnswer:
    """List what waits for a second administrator."""
    return await waiting(node.bank)


# --- Acts of one administrator ---------------------------------------------------------------------------------------
async def _change_customer(node: Node, session: Session, username: str, act: str, until_us: int = 0) -> Done:
    customer = await node.bank.customer_named(username)
    command = ChangeCustomer(_actor(node, session), new_id(), customer.customer, act, (), until_us)
    verdict = accepted(await node.bank.commit(command))
    if act == "lock":
        node.tokens.revoke_customer(customer.customer, now_us())
        node.server.end_sessions(customer.customer)
    else:
        node.throttle.succeeded(customer.handle)
    return Done(position=verdict.position)


async def handle_lock(node: Node, session: Session, request: messages.Lock) -> Done:
    """Lock a customer out."""
    return await _change_customer(node, session, request.username, "lock", request.until_us)


async def handle_unlock(node: Node, session: Session, request: messages.Unlock) -> Done:
    """Let a locked customer sign in again."""
    return await _change_customer(node, session, request.username, "unlock")


async def _change_account(node: Node, session: Session, number: int, act: str) -> Done:
    verdict = accepted(await node.bank.commit(ChangeAccount(_actor(node, session), new_id(), number, act)))
    return Done(position=verdict.position)


async def handle_freeze(node: Node, session: Session, request: messages.Freeze) -> Done:
    """Freeze an account."""
    act = "freeze_debits" if request.debits_only else "freeze"
    return await _change_account(node, session, request.account, act)


async def handle_unfreeze(node: Node, session: Session, request: messages.Unfreeze) -> Done:
    """Open a frozen account again."""
    return await _change_account(node, session, request.account, "unfreeze")


async def handle_close_account(node: Node, session: Session, request: messages.CloseAccount) -> Done:
    """Close an empty account."""
    return await _change_account(node, session, request.account, "close")


async def handle_reopen(node: Node, session: Session, request: messages.Reopen) -> Done:
    """Open a closed account again."""
    return await _change_account(node, session, request.account, "reopen")


# --- Looking ---------------------------------------------------------------------------------------------------------
async def _user(bank: Bank, customer: Customer) -> messages.UserAnswer:
    c = customer
    seen = (list(c.roles), CustomerState(c.state).name, c.created_us, c.locked_until_us, c.position)
    person = await bank.person(customer)
    return messages.UserAnswer(c.customer, person.username, person.profile.name, *seen)


async def handle_get_user(node: Node, session: Session, request: messages.GetUser) -> messages.UserAnswer:
    """Show one customer."""
    return await _user(node.bank, await node.bank.customer_named(request.username))


async def handle_list_users(node: Node, session: Session, request: messages.ListUsers) -> messages.UsersAnswer:
    """Page through the customers."""
    bank = node.bank
    await bank.tables_hold(bank.committer.committed_position)
    page = await bank.read(bank.queries.customers, request.after, request.limit)
    users = [await _user(bank, customer) for customer in page]
    return messages.UsersAnswer(users, page[-1].customer if len(page) == request.limit else 0)


async def handle_trail(node: Node, session: Session, request: messages.Trail) -> messages.TrailAnswer:
    """Page through administrative acts and refusals."""
    bank = node.bank
    await bank.tables_hold(bank.committer.committed_position)
    found, cursor = await bank.read(bank.queries.trail, request.cursor, request.limit)
    names = {number: await bank.username(number) for number in sorted({n for _, entry in found for n in _who(entry)})}
    return messages.TrailAnswer([_trail_row(names, position, entry) for position, entry in found], cursor)


def _who(entry: Any) -> tuple[int, int]:
    """Give the numbers of who acted and of whom it concerns; 0 is the bank, and nobody."""
    customer: int = getattr(entry, "customer", 0) or getattr(entry, "owner", 0)
    actor: int = entry.customer if type(entry) is SessionEnded else getattr(entry, "actor", 0)
    return actor, customer


def _trail_row(names: dict[int, str], position: int, entry: Any) -> messages.TrailRow:
    actor, customer = _who(entry)
    number = getattr(entry, "number", 0) or getattr(entry, "account", 0)
    subject = str(number) if number else names[customer] if customer else ""
    if type(entry) is BankChanged:
        subject = entry.bank
    return messages.TrailRow(position, entry.time_us, kind_of(entry), names[actor], subject, _detail(entry))


def _detail(entry: Any) -> str:
    """Tell what matters of an entry, never keys or personal data."""
    parts = []
    for name in (
        "operation",
        "act",
        "summary",
        "roles",
        "role",
        "currency",
        "approved",
        "locked_until_us",
        "after",
        "to",
    ):
        value = getattr(entry, name, None)
        if value not in (None, "", 0, ()):
            parts.append(f"{name} {' '.join(value) if isinstance(value, tuple) else value}")
    if type(entry) is LedgerRestored:
        parts.append(f"backup {datetime.fromtimestamp(entry.copied_us / 1e6, UTC):%Y-%m-%dT%H:%M:%SZ}")
    if hasattr(entry, "status"):
        parts.append(status_name(entry.status))
        parts += [f"{name} {value}" for name, value in entry.facts]
    return ", ".join(parts)


async def handle_trial_balance(
    node: Node, session: Session, request: messages.TrialBalance
) -> messages.TrialBalanceAnswer:
    """Sum all accounts by currency."""
    bank = node.bank
    await bank.tables_hold(bank.committer.committed_position)
    position = bank.engine.store.applied_position
    sums = await bank.read(bank.queries.trial_balance)
    rows = [
        messages.TrialBalanceRow(currency, count, debits, credits, credits - debits, held, holds)
        for currency, count, debits, credits, held, holds in sums
    ]
    return messages.TrialBalanceAnswer(rows, position)


ADMINISTRATION_HANDLERS: tuple[Handler, ...] = (
    plain("invite", handle_invite),
    plain("create_user", handle_create_user),
    plain("get_user", handle_get_user),
    plain("list_users", handle_list_users),
    plain("set_role", handle_set_role),
    plain("lock", handle_lock),
    plain("unlock", handle_unlock),
    plain("erase", handle_erase),
    plain("set_limits", handle_set_limits),
    plain("freeze", handle_freeze),
    plain("unfreeze", handle_unfreeze),
    plain("close_account", handle_close_account),
    plain("reopen", handle_reopen),
    plain("approve", handle_approve),
    plain("list_approvals", handle_list_approvals),
    plain("trail", handle_trail),
    plain("trial_balance", handle_trial_balance),
)
__all__ = ["ADMINISTRATION_HANDLERS", "Profile", "carry_out"]
