"""Acts that need a second administrator: asked for by one, approved or declined by another, carried out once.

As soon as a bank has two administrators, what moves limits, roles or people is not done when it is asked for: the
request is kept in the journal, and doing it comes with the approval. The act carries an id made from the approval's, so
doing it again after a crash changes nothing, and its outcome, refusals included, is remembered under that id.

A journal forgets nothing and a person must be able to be forgotten, so a request about a person is kept sealed under
that person's own key, and in words only by customer number.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from fortress.errors import Refused, Status, UnknownOperation
from fortress.ledger.commands import AskApproval, ChangeAccount, ChangeCustomer, DecideApproval
from fortress.ledger.entries import ApprovalAsked
from fortress.ledger.model import Actor
from fortress.protocol import administration as messages
from fortress.protocol import payments, switching
from fortress.protocol.fields import Done
from fortress.protocol.messages import OPERATIONS
from fortress.server.bank import Bank, accepted, derived_id
from fortress.server.node import Node
from fortress.server.ports import Switch
from fortress.server.session import Session

_STAFF = frozenset(("teller", "administrator", "auditor"))
_NO_PROOF = bytes(32)
_ABOUT_NOBODY = frozenset(("set_limits", "add_bank", "resolve_payment"))
_encode = msgspec.msgpack.Encoder().encode
SUMMARY_LENGTH_MAX = 500


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """A request as the journal keeps it: the subject's handle and the request sealed; without a subject, as it is."""

    handle: bytes
    request: bytes


_decode_kept = msgspec.msgpack.Decoder(Kept).decode


# --- What is done ----------------------------------------------------------------------------------------------------
async def _set_role(node: Node, actor: Actor, request: messages.SetRole) -> Done:
    number = await node.bank.customer_number(request.username)
    verdict = accepted(await node.bank.commit(ChangeCustomer(actor, request.id, number, "roles", tuple(request.roles))))
    if not verdict.replayed:  # a repeat must not bring back what was changed again since
        for session in node.server.sessions_of(number):
            session.set_roles(frozenset(request.roles))
    return Done(position=verdict.position, replayed=verdict.replayed)


async def _erase(node: Node, actor: Actor, request: messages.Erase) -> Done:
    bank = node.bank
    number = await bank.customer_number(request.username)
    verdict = accepted(await bank.commit(ChangeCustomer(actor, request.id, number, "erase")))
    await bank.read(bank.vault.erase_person, node.desk.handle_of(request.username))
    node.server.end_sessions(number)
    return Done(position=verdict.position, replayed=verdict.replayed)


async def _set_limits(node: Node, actor: Actor, request: messages.SetLimits) -> Done:
    r = request
    command = ChangeAccount(
        *(actor, r.id, r.account, "limits", r.floor_minor),
        *(r.payment_minor, r.day_minor, r.month_minor, r.signed_orders_only),
    )
    verdict = accepted(await node.bank.commit(command))
    return Done(position=verdict.position, replayed=verdict.replayed)


async def _create_user(node: Node, actor: Actor, request: messages.CreateUser) -> messages.UserAnswer:
    r = request
    verdict = await node.bank.create_customer(actor, r.id, r.username, tuple(r.roles), r.key, r.profile)
    entry = verdict.entry
    return messages.UserAnswer(
        entry.customer, r.username, r.profile.name, list(r.roles), "active", entry.time_us, position=verdict.position
    )


async def _add_bank(node: Node, actor: Actor, request: switching.AddBank) -> Done:
    return await switch_of(node).add_bank(actor, request)


async def _resolve_payment(node: Node, actor: Actor, request: payments.ResolvePayment) -> Done:
    side = node.ports.payments or switch_of(node)
    return await side.resolve_payment(actor, request)


def switch_of(node: Node) -> Switch:
    """Give what makes this node a gateway.

    Raises:
        UnknownOperation: it is none.
    """
    if node.ports.switch is None:
        raise UnknownOperation("this node is a bank's; only a gateway does this")
    return node.ports.switch


# --- How it reads: to administrators with the name, in the journal without -------------------------------------------
def _roles_summary(r: messages.SetRole, who: str) -> str:
    return f"give {who} the roles {', '.join(r.roles)}"


def _erase_summary(r: messages.Erase, who: str) -> str:
    return f"erase {who} for good"


def _limits_summary(r: messages.SetLimits, who: str) -> str:
    names = (("floor", r.floor_minor), ("payment", r.payment_minor), ("day", r.day_minor), ("month", r.month_minor))
    limits = ", ".join(f"{name} {'none' if value is None else value}" for name, value in names)
    orders = ", signed orders only" if r.signed_orders_only else ""
    return f"limits of account {r.account} in minor units: {limits}{orders}"


def _creation_summary(r: messages.CreateUser, who: str) -> str:
    return f"create {who} with the roles {', '.join(r.roles)}"


def _bank_summary(r: switching.AddBank, who: str) -> str:
    return f"let bank {r.bank} owe up to {r.cap_minor} {r.currency} in minor units"


def _resolution_summary(r: payments.ResolvePayment, who: str) -> str:
    return f"{r.act} payment {r.payment.hex()} by hand"


def is_staff_role(roles: list[str]) -> bool:
    """Tell whether one of the roles is more than a customer's."""
    return not _STAFF.isdisjoint(roles)


@dataclass(frozen=True, slots=True)
class Act:
    """One operation that may need a second administrator: what does it, when it needs one, how it reads."""

    perform: Callable[[Node, Actor, Any], Awaitable[Any]]
    needs_second: Callable[[Any], bool]
    summary: Callable[[Any, str], str]


ACTS: dict[str, Act] = {
    "set_role": Act(_set_role, lambda r: True, _roles_summary),
    "erase": Act(_erase, lambda r: True, _erase_summary),
    "set_limits": Act(_set_limits, lambda r: True, _limits_summary),
    "add_bank": Act(_add_bank, lambda r: True, _bank_summary),
    "resolve_payment": Act(_resolve_payment, lambda r: True, _resolution_summary),
    "create_user": Act(_create_user, lambda r: is_staff_role(r.roles), _creation_summary),
}


# --- Asking ----------------------------------------------------------------------------------------------------------
async def ask_or_act(node: Node, session: Session, operation: str, request: Any) -> Any:
    """Do what is asked, or, where a second administrator is needed, keep it until one approves.

    Raises:
        Refused: as the rules say.
    """
    bank, act = node.bank, ACTS[operation]
    actor = bank.actor(session.customer, session.roles)
    known = await bank.known(request.id)
    # a repeat goes the way of the first, however many administrators there are by now
    was_asked = known is not None and type(known[1]) is ApprovalAsked
    must_ask = act.needs_second(request) and len(bank.state.administrators) >= 2
    if not was_asked and (known is not None or not must_ask):
        return await act.perform(node, actor, request)
    kept = await _kept_before(node, operation, request, known[1]) if known is not None else b""
    summary = act.summary(request, await _subject(node, operation, request) if not kept else "")
    command = AskApproval(
        *(actor, request.id, operation),
        kept or await _keep(node, operation, request),
        summary[:SUMMARY_LENGTH_MAX],
    )
    verdict = accepted(await bank.commit(command))
    if OPERATIONS[operation].answer is Done:
        return Done(position=verdict.position, replayed=verdict.replayed, approval=request.id)
    return messages.UserAnswer(0, request.username, "", list(request.roles), "waiting", 0, approval=request.id)


async def _subject(node: Node, operation: str, request: Any) -> str:
    """Name whom an act is about without their name, and refuse early what could only be refused later.

    Raises:
        Refused: nobody has the username, or, where somebody is to get it, somebody has.
    """
    if operation == "create_user":
        if await node.bank.customer_number(request.username):
            raise Refused(Status.username_taken)
        return "a customer"
    if operation in _ABOUT_NOBODY:
        return ""
    return f"customer {(await node.bank.customer_named(request.username)).customer}"


def _plain(request: Any) -> bytes:
    """Encode a request without what differs from one try to the next: proofs are bound to a connection."""
    if isinstance(request, messages.CreateUser):
        key = replace(request.key, commitment=_NO_PROOF, proof=_NO_PROOF)
        return _encode(replace(request, key=key))
    return _encode(request)


async def _keep(node: Node, operation: str, request: Any) -> bytes:
    if operation in _ABOUT_NOBODY:
        return _encode(Kept(b"", _plain(request)))
    handle = node.desk.handle_of(request.username)
    return _encode(Kept(handle, await node.bank.read(node.bank.vault.seal_person, handle, _plain(request))))


async def _kept_before(node: Node, operation: str, request: Any, asked: Any) -> bytes:
    """Give the bytes kept when this was asked before; sealing anew would make a repeat look like another request.

    What was asked about somebody erased since cannot be read any more; then whom it was about has to do.

    Raises:
        Refused: the id was used for something else.
    """
    before = await _opened(node.bank, asked.operation, asked.command)
    if asked.operation != operation:
        is_same = False
    elif before is not None:
        is_same = _plain(before) == _plain(request)
    else:
        is_same = _decode_kept(asked.command).handle == node.desk.handle_of(request.username)
    if not is_same:
        raise Refused(Status.id_reused)
    kept: bytes = asked.command
    return kept


async def _opened(bank: Bank, operation: str, command: bytes) -> Any:
    """Open a request that was kept; None when it was about somebody who is erased."""
    kept = _decode_kept(command)
    plain: bytes | None = kept.request
    if kept.handle:
        plain = await bank.read(bank.vault.open_person, kept.handle, kept.request)
    return None if plain is None else msgspec.msgpack.decode(plain, type=OPERATIONS[operation].request)


# --- Deciding --------------------------------------------------------------------------------------------------------
async def decide(node: Node, actor: Actor, approval: bytes, *, decline: bool) -> Done:
    """Approve and carry out what another administrator asked for, or decline it.

    Raises:
        Refused: it does not wait, or the same person asked; or it was approved, and the rules refused it then.
    """
    bank = node.bank
    verdict = await bank.commit(DecideApproval(actor, approval, not decline))
    if verdict.status is Status.approval_already_decided and not decline:
        return await _finish(node, approval)
    accepted(verdict)
    known = await bank.known(approval)
    assert known is not None and type(known[1]) is ApprovalAsked
    asked = known[1]
    if decline:
        await _forget(bank, asked)
        return Done(position=verdict.position)
    await carry_out(node, approval, asked.operation, asked.command, asked.actor)
    return Done(position=bank.committer.committed_position)


async def _finish(node: Node, approval: bytes) -> Done:
    """Carry out what was approved and could not be done then, such as for a full disk."""
    for id, operation, command, asked_by in await undone(node.bank):
        if id == approval:
            await carry_out(node, id, operation, command, asked_by)
            return Done(position=node.bank.committer.committed_position)
    raise Refused(Status.approval_already_decided)


async def _forget(bank: Bank, asked: ApprovalAsked) -> None:
    """Destroy the key made for somebody who will not become a customer."""
    handle = _decode_kept(asked.command).handle
    await bank.fill(bank.state.want_customer(handle=handle))
    if asked.operation == "create_user" and not bank.state.has_handle(handle):
        await bank.read(bank.vault.erase_person, handle)


def act_id(approval: bytes) -> bytes:
    """Give the id that an approved act is done under, always the same."""
    return derived_id(b"fortress approved act v1", approval)


async def carry_out(node: Node, approval: bytes, operation: str, command: bytes, asked_by: int) -> None:
    """Do an approved act; doing it again changes nothing.

    Raises:
        Refused: the bank's rules do not allow it (any more).
    """
    request = await _opened(node.bank, operation, command)
    if request is None:
        raise Refused(Status.customer_erased)
    actor = node.bank.actor(asked_by, frozenset(("administrator",)))
    await ACTS[operation].perform(node, actor, replace(request, id=act_id(approval)))


async def undone(bank: Bank) -> list[tuple[bytes, str, bytes, int]]:
    """List what was approved and neither done nor refused: approval, operation, request as kept, who asked."""
    await bank.tables_hold(bank.committer.committed_position)

    def find() -> list[tuple[bytes, str, bytes, int]]:
        queries = bank.queries
        return [row for row in queries.approved_acts() if queries.entry_of(act_id(row[0])) is None]

    return await bank.read(find)


async def waiting(bank: Bank) -> messages.ApprovalsAnswer:
    """List what waits for a second administrator, as administrators read it."""
    position = bank.state.position
    rows = []
    for approval in tuple(bank.state.approvals.values()):
        request = await _opened(bank, approval.operation, approval.command)
        summary = approval.summary
        if request is not None and hasattr(request, "username"):
            summary = ACTS[approval.operation].summary(request, request.username)
        asked_by = await bank.username(approval.asked_by)
        rows.append(messages.ApprovalRow(approval.id, approval.operation, summary, asked_by, approval.asked_us))
    await bank.committed(position)
    return messages.ApprovalsAnswer(rows)
