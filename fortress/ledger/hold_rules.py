"""Judge holds and reversals: money reserved, taken, freed; a transfer undone.

The same law as :mod:`fortress.ledger.rules`: look, decide, change nothing. A hold is posted, voided or expired once;
all entries of one hold carry its id, so posting and voiding need no id of their own and are repeatable by nature.
The hold of a payment between banks was promised to other books as well: nobody ends or undoes it here
(:mod:`fortress.ledger.payment_rules`).
"""

from __future__ import annotations

from typing import NamedTuple

from fortress.errors import Status
from fortress.ledger.commands import PlaceHold, PostHold, ReleaseHold, ReverseMoney
from fortress.ledger.entries import AnyEntry, FactPairs, HoldPlaced, HoldReleased, Posted
from fortress.ledger.model import DAY_US, Actor, Hold, HoldState, TransferKind
from fortress.ledger.rules import (
    Books,
    Verdict,
    check_money,
    check_parties,
    check_states,
    content_digest,
    is_too_far_ahead,
    refuse,
    replay_refusal,
)

HOLD_SPAN_US_MAX = 366 * DAY_US
_OK = Status.ok
_TRANSFER = int(TransferKind.transfer)
_REVERSAL = int(TransferKind.reversal)


# --- Holds ---------------------------------------------------------------------------------------------------------
def judge_place_hold(books: Books, command: PlaceHold, now_us: int) -> Verdict:
    """Judge the placing of a hold."""
    c = command
    digest = content_digest("hold", c.debit, c.credit, c.amount, c.currency, c.expires_us, c.reference)
    known = books.known(c.id)
    if known is not None:
        return _replay_hold(known, command, digest)
    if is_too_far_ahead(c.id, books.id_ahead):
        return Verdict(Status.id_too_far_ahead)
    debit, credit = books.account(c.debit), books.account(c.credit)
    status = check_parties(books, c.actor, c, debit, credit, _TRANSFER)
    facts: FactPairs = ()
    if status is _OK:
        assert debit is not None and credit is not None
        if not now_us < c.expires_us <= now_us + HOLD_SPAN_US_MAX:
            status, facts = Status.expiry_in_the_past, (("latest_us", now_us + HOLD_SPAN_US_MAX),)
        elif debit.signed_orders_only:
            status = Status.order_signature_required
        else:
            status, facts = check_money(debit, credit, c.amount, now_us, held=True)
    if status is not _OK:
        return refuse(c, status, digest, now_us, operation="hold", account=c.debit, facts=facts)
    assert debit is not None and credit is not None
    pending = (debit.debits_pending + c.amount, credit.credits_pending + c.amount)
    entry = HoldPlaced(
        now_us, c.id, c.debit, c.credit, c.amount, c.currency, c.expires_us, c.reference, *pending, c.actor.customer
    )
    return Verdict(_OK, entry)


def _replay_hold(known: tuple[int, AnyEntry], command: PlaceHold, digest: bytes) -> Verdict:
    position, e = known
    if type(e) is HoldPlaced:
        c = command
        same = (e.debit, e.credit, e.amount, e.currency, e.expires_us, e.reference, e.actor) == (
            c.debit,
            c.credit,
            c.amount,
            c.currency,
            c.expires_us,
            c.reference,
            c.actor.customer,
        )
        return Verdict(_OK, e, replayed=True, position=position) if same else Verdict(Status.id_reused)
    return replay_refusal(known, digest, command.actor) or Verdict(Status.id_reused)


_FINAL_HOLD_STATUS = {
    int(HoldState.posted): Status.hold_already_posted,
    int(HoldState.voided): Status.hold_already_voided,
    int(HoldState.expired): Status.hold_expired,
}


def _may_act_on_hold(hold: Hold, books: Books, actor: Actor, *, as_payee: bool) -> bool:
    if actor.is_cashier:
        return True
    account = books.account(hold.credit if as_payee else hold.debit)
    return account is not None and account.owner == actor.customer


def judge_post_hold(books: Books, command: PostHold, now_us: int) -> Verdict:
    """Judge the taking of held money: by the payee or a cashier, before expiry, once, at most what was held.

    Freezing after the hold was placed does not stop it: the money was promised before.
    """
    hold = books.hold(command.id)
    if hold is None or not (
        _may_act_on_hold(hold, books, command.actor, as_payee=True)
        or _may_act_on_hold(hold, books, command.actor, as_payee=False)
    ):
        return Verdict(Status.hold_unknown)
    if hold.is_payment:
        return Verdict(Status.hold_of_payment)
    amount = command.amount or hold.amount
    if hold.state == HoldState.posted and hold.posted == amount:
        return Verdict(_OK, None, replayed=True, position=hold.position)
    if hold.state != HoldState.open:
        return Verdict(_FINAL_HOLD_STATUS[hold.state])
    if now_us >= hold.expires_us:
        return Verdict(Status.hold_expired, facts=(("expired_us", hold.expires_us),))
    if amount > hold.amount:
        return Verdict(Status.exceeds_hold, facts=(("held_minor", hold.amount),))
    debit, credit = books.account(hold.debit), books.account(hold.credit)
    assert debit is not None and credit is not None
    entry = Posted(
        now_us,
        hold.id,
        hold.debit,
        hold.credit,
        amount,
        hold.currency,
        _TRANSFER,
        hold.reference,
        debit.balance - amount,
        credit.balance + amount,
        command.actor.customer,
        hold.amount,
    )
    return Verdict(_OK, entry)


def judge_release_hold(books: Books, command: ReleaseHold, now_us: int) -> Verdict:
    """Judge the freeing of held money: voided by the payee or a cashier, or expired by the bank's clock."""
    hold = books.hold(command.id)
    if hold is None or not _may_act_on_hold(hold, books, command.actor, as_payee=True):
        return Verdict(Status.hold_unknown)
    if hold.is_payment:
        return Verdict(Status.hold_of_payment)
    if hold.state == command.state:
        return Verdict(_OK, None, replayed=True, position=hold.position)
    if hold.state != HoldState.open:
        return Verdict(_FINAL_HOLD_STATUS[hold.state])
    if command.state == HoldState.expired and now_us < hold.expires_us:
        return Verdict(Status.hold_unknown)
    debit, credit = books.account(hold.debit), books.account(hold.credit)
    assert debit is not None and credit is not None
    pending = (debit.debits_pending - hold.amount, credit.credits_pending - hold.amount)
    entry = HoldReleased(
        now_us, hold.id, command.state, hold.debit, hold.credit, hold.amount, *pending, command.actor.customer
    )
    return Verdict(_OK, entry)


# --- Reversals -----------------------------------------------------------------------------------------------------
def judge_reverse(books: Books, command: ReverseMoney, now_us: int) -> Verdict:
    """Judge the undoing of a transfer or a posted hold by a cashier: never more than it moved, never a reversal."""
    c = command
    digest = content_digest("reverse", c.original, c.amount, c.reference)
    known = books.known(c.id)
    original = books.known(c.original)
    if known is not None:
        return _replay_reverse(known, command, digest)
    if is_too_far_ahead(c.id, books.id_ahead):
        return Verdict(Status.id_too_far_ahead)
    status, moved = _moved(books, c.actor, original)
    if moved is None:
        return refuse(c, status, digest, now_us, operation="reverse")
    left = moved.amount - books.reversed_minor(c.original)
    amount = c.amount or left
    # what went from debit to credit goes back
    debit, credit = books.account(moved.credit), books.account(moved.debit)
    assert debit is not None and credit is not None
    facts: FactPairs = ()
    if amount > left or amount == 0:
        status, facts = Status.exceeds_original, (("left_minor", left),)
    else:
        status = check_states(debit.state, credit.state)
        if status is _OK:
            status, facts = check_money(debit, credit, amount, now_us, limited=False)
    if status is not _OK:
        return refuse(c, status, digest, now_us, operation="reverse", facts=facts)
    entry = Posted(
        now_us,
        c.id,
        debit.number,
        credit.number,
        amount,
        moved.currency,
        _REVERSAL,
        c.reference,
        debit.balance - amount,
        credit.balance + amount,
        c.actor.customer,
        original=c.original,
    )
    return Verdict(_OK, entry)


class _Moved(NamedTuple):
    """What a transfer or a posted hold moved."""

    debit: int
    credit: int
    amount: int
    currency: str


def _moved(books: Books, actor: Actor, original: tuple[int, AnyEntry] | None) -> tuple[Status, _Moved | None]:
    """Tell what the original moved; a posted hold is known by the entry that placed it."""
    if original is None or not actor.is_cashier:
        return Status.original_unknown, None
    entry = original[1]
    if type(entry) is Posted:
        if entry.kind == _REVERSAL:
            return Status.original_not_reversible, None
        return _OK, _Moved(entry.debit, entry.credit, entry.amount, entry.currency)
    if type(entry) is HoldPlaced:
        hold = books.hold(entry.id)
        if hold is None or hold.state != HoldState.posted or hold.is_payment:
            return Status.original_not_reversible, None
        return _OK, _Moved(hold.debit, hold.credit, hold.posted, hold.currency)
    return Status.original_unknown, None


def _replay_reverse(known: tuple[int, AnyEntry], command: ReverseMoney, digest: bytes) -> Verdict:
    position, entry = known
    if type(entry) is Posted:
        # 0 asked for all that was left then, which only the first answer knows
        same = (
            entry.original == command.original
            and entry.reference == command.reference
            and command.amount in (0, entry.amount)
            and entry.actor == command.actor.customer
        )
        return Verdict(_OK, entry, replayed=True, position=position) if same else Verdict(Status.id_reused)
    return replay_refusal(known, digest, command.actor) or Verdict(Status.id_reused)
