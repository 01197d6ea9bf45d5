"""Answer administrators and auditors: people, limits, states, approvals, the trail and the books.

Acts that move limits, roles or people need a second administrator as soon as the bank has two: the first one's
request is kept word for word in the journal, and doing it comes with the approval. The approved act carries an id
made from the approval's, so doing it again after a crash is harmless.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from fortress.errors import Refused, Status, status_name
from fortress.ledger.commands import AskApproval, ChangeAccount, ChangeCustomer, DecideApproval, Invite
from fortress.ledger.model import Actor, Customer, CustomerState
from fortress.protocol import administration as messages
from fortress.protocol.accounts import Profile
from fortress.protocol.fields import Done, Request
from fortress.protocol.messages import OPERATIONS
from fortress.server.bank import Bank, accepted, derived_id, new_id, now_us
from fortress.server.handlers import Handler, plain
from fortress.server.node import Node
from fortress.server.session import Session
from fortress.server.views import kind_of

_encode = msgspec.msgpack.Encoder().encode
CODE_SIZE_BYTES = 15
STAFF = frozenset(("teller", "administrator", "auditor"))
Act = Callable[[Node, Actor, Any], Awaitable[Any]]


def _actor(node: Node, session: Session) -> Actor:
    return node.bank.actor(session.customer, session.roles)


# --- Acts that may need a second administrator -----------------------------------------------------------------------
async def _set_role(node: Node, actor: Actor, request: messages.SetRole) -> Done:
    customer = await node.bank.customer_named(request.username)
    command = ChangeCustomer(actor, request.id, customer.customer, "roles", tuple(request.roles))
    verdict = accepted(await node.bank.commit(command))
    for session in node.server.sessions_of(customer.customer):
        session.set_roles(frozenset(request.roles))
    return Done(position=verdict.position, replayed=verdict.replayed)


async def _erase(node: Node, actor: Actor, request: messages.Erase) -> Done:
    bank = node.bank
    customer = await bank.customer_named(request.username)
    verdict = accepted(await bank.commit(ChangeCustomer(actor, request.id, customer.customer, "erase")))
    await bank.read(bank.vault.erase_person, customer.handle)
    node.server.end_sessions(customer.customer)
    return Done(position=verdict.position, replayed=verdict.replayed)


async def _set_limits(node: Node, actor: Actor, request: messages.SetLimits) -> Done:
    r = request
    command = ChangeAccount(
        *(actor, r.id, r.account, "limits", r.floor_minor),
        *(r.payment_minor, r.day_minor, r.month_minor, r.signed_orders_only),
    )
    await node.bank.account(r.account)
    verdict = accepted(await node.bank.commit(command))
    return Done(position=verdict.position, replayed=verdict.replayed)


async def _create_user(node: Node, actor: Actor, request: messages.CreateUser) -> messages.UserAnswer:
    r = request
    verdict = await node.bank.create_customer(actor, r.id, r.username, tuple(r.roles), r.key, r.profile)
    entry = verdict.entry
    return messages.UserAnswer(
        entry.customer, r.username, r.profile.name, list(r.roles), "active", entry.time_us, position=verdict.position
    )


async def _invite(node: Node, actor: Actor, request: messages.Invite) -> messages.InviteAnswer:
    code = _code(secrets.token_bytes(CODE_SIZE_BYTES))
    expires_us = now_us() + request.valid_s * 1_000_000
    digest = hashlib.sha256(code.encode()).digest()
    verdict = accepted(await node.bank.commit(Invite(actor, request.id, digest, request.role, expires_us)))
    if verdict.replayed:
        raise Refused(Status.id_reused)  # the code was shown once and is kept nowhere
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


def _is_staff_role(roles: list[str]) -> bool:
    return not STAFF.isdisjoint(roles)


# operation -> what does it, when a second administrator is needed, how it reads
ACTS: dict[str, tuple[Act, Callable[[Any], bool], Callable[[Any], str]]] = {
    "set_role": (_set_role, lambda r: True, lambda r: f"give {r.username} the roles {', '.join(r.roles)}"),
    "erase": (_erase, lambda r: True, lambda r: f"erase {r.username} for good"),
    "set_limits": (_set_limits, lambda r: True, lambda r: _limits_summary(r)),
    "create_user": (
        _create_user,
        lambda r: _is_staff_role(r.roles),
        lambda r: f"create {r.username} with the roles {', '.join(r.roles)}",
    ),
}


def _limits_summary(r: messages.SetLimits) -> str:
    names = (("floor", r.floor_minor), ("payment", r.payment_minor), ("day", r.day_minor), ("month", r.month_minor))
    limits = ", ".join(f"{name} {'none' if value is None else value}" for name, value in names)
    return f"limits of account {r.account} in minor units: {limits}"


async def _ask_or_act(node: Node, session: Session, operation: str, request: Any) -> Any:
    act, needs_second, summary = ACTS[operation]
    actor = _actor(node, session)
    if not needs_second(request) or len(node.bank.state.administrators) < 2:
        return await act(node, actor, request)
    if operation == "create_user":
        node.desk.check_key(request.key, request.username, session.handshake_hash)
    command = AskApproval(actor, request.id, operation, _encode(request), summary(request)[:500])
    verdict = accepted(await node.bank.commit(command))
    if OPERATIONS[operation].answer is Done:
        return Done(position=verdict.position, replayed=verdict.replayed, approval=request.id)
    return messages.UserAnswer(0, request.username, "", list(request.roles), "waiting", 0, approval=request.id)


async def handle_set_role(node: Node, session: Session, request: messages.SetRole) -> Done:
    """Replace a customer's roles."""
    answer: Done = await _ask_or_act(node, session, "set_role", request)
    return answer


async def handle_erase(node: Node, session: Session, request: messages.Erase) -> Done:
    """Erase a person."""
    answer: Done = await _ask_or_act(node, session, "erase", request)
    return answer


async def handle_set_limits(node: Node, session: Session, request: messages.SetLimits) -> Done:
    """Set floor and limits of an account."""
    answer: Done = await _ask_or_act(node, session, "set_limits", request)
    return answer


async def handle_create_user(node: Node, session: Session, request: messages.CreateUser) -> messages.UserAnswer:
    """Create a customer by hand."""
    node.desk.check_key(request.key, request.username, session.handshake_hash)
    answer: messages.UserAnswer = await _ask_or_act(node, session, "create_user", request)
    return answer


async def handle_invite(node: Node, session: Session, request: messages.Invite) -> messages.InviteAnswer:
    """Make an invitation; staff roles are given by set_role, with a second administrator, never by a code."""
    if _is_staff_role([request.role]) and len(node.bank.state.administrators) >= 2:
        raise Refused(Status.role_invalid)
    return await _invite(node, _actor(node, session), request)


async def handle_approve(node: Node, session: Session, request: messages.Approve) -> Done:
    """Approve and do what another administrator asked for, or decline it."""
    bank = node.bank
    decision = DecideApproval(_actor(node, session), request.approval, not request.decline)
    approval = bank.state.approval(request.approval)
    verdict = await bank.commit(decision)
    if verdict.status is not Status.ok or request.decline or approval is None:
        return Done(position=accepted(verdict).position)
    await carry_out(node, approval.id, approval.operation, approval.command, approval.asked_by)
    return Done(position=bank.committer.committed_position)


async def carry_out(node: Node, approval: bytes, operation: str, command: bytes, asked_by: int) -> None:
    """Do an approved act; doing it again changes nothing.

    Raises:
        Refused: the bank's rules do not allow it (any more).
    """
    request = msgspec.msgpack.decode(command, type=OPERATIONS[operation].request)
    id = derived_id(b"fortress approved act v1", approval)
    asked: Request = msgspec.structs.replace(request, id=id)
    actor = node.bank.actor(asked_by, frozenset(("administrator",)))
    await ACTS[operation][0](node, actor, asked)


async def handle_list_approvals(
    node: Node, session: Session, request: messages.ListApprovals
) -> messages.ApprovalsAnswer:
    """List what waits for a second administrator."""
    bank = node.bank
    waiting = [approval for approval in bank.state.approvals.values() if approval.state == 1]
    return messages.ApprovalsAnswer(
        [
            messages.ApprovalRow(a.id, a.operation, a.summary, await bank.username(a.asked_by), a.asked_us)
            for a in waiting
        ]
    )


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
    person = await bank.person(customer)
    return messages.UserAnswer(
        customer.customer,
        person.username,
        person.profile.name,
        list(customer.roles),
        CustomerState(customer.state).name,
        customer.created_us,
        customer.locked_until_us,
        customer.position,
    )


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
    return messages.TrailAnswer([await _trail_row(bank, position, entry) for position, entry in found], cursor)


async def _trail_row(bank: Bank, position: int, entry: Any) -> messages.TrailRow:
    actor = await bank.username(getattr(entry, "actor", 0))
    customer = getattr(entry, "customer", 0) or getattr(entry, "owner", 0)
    number = getattr(entry, "number", 0) or getattr(entry, "account", 0)
    subject = str(number) if number else await bank.username(customer) if customer else ""
    return messages.TrailRow(position, entry.time_us, kind_of(entry), actor, subject, _detail(entry))


def _detail(entry: Any) -> str:
    """Tell what matters of an entry, never keys or personal data."""
    parts = []
    for name in ("operation", "act", "summary", "roles", "role", "currency", "approved", "locked_until_us"):
        value = getattr(entry, name, None)
        if value not in (None, "", 0, ()):
            parts.append(f"{name} {' '.join(value) if isinstance(value, tuple) else value}")
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
    sums = await bank.read(bank.queries.trial_balance)
    rows = [
        messages.TrialBalanceRow(currency, count, debits, credits, credits - debits, held)
        for currency, count, debits, credits, held in sums
    ]
    return messages.TrialBalanceAnswer(rows, bank.engine.store.applied_position)


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
