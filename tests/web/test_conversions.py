"""What the bank answers, as pages are told it."""

from __future__ import annotations

import msgspec
import pytest

from fortress.errors import STATUS_SENTENCES, Status
from fortress.protocol.accounts import AccountView
from fortress.protocol.money import HoldView
from fortress.protocol.payments import PaymentStep, PaymentView
from fortress.protocol.reading import HistoryRow, TransferView
from fortress.protocol.switching import BankView
from fortress.web import shapes
from fortress.web.conversions import (
    account_of,
    bank_of,
    entry_of,
    hold_of,
    payment_of,
    payment_within,
    posted_at,
    reason_of,
    time_of,
)

ID = bytes(range(16))
NOON_US = 1_790_000_000_000_001
HUGE = 2**63 - 1


def checked(answer: msgspec.Struct) -> msgspec.Struct:
    """Hold an answer against its own type, as a page does."""
    return msgspec.json.decode(msgspec.json.encode(answer), type=type(answer))


def transfer(state: str, *, kind: str = "transfer", currency: str = "EUR", reference: str = "Rent") -> TransferView:
    return TransferView(ID, 0, state, 101, 202, HUGE, currency, kind, reference, 7, NOON_US)


def test_money_is_text_with_all_its_digits() -> None:
    """The largest sums of the ledger come through JSON, negative ones too; no bound is None."""
    numbers = (-HUGE, -HUGE - 1 + 1, HUGE, 0, 0, HUGE, None, 1, None, HUGE, None, 5)
    view = AccountView(
        *(101, "alice", "customer", "EUR", "open", *numbers, True, NOON_US, 3, 9),
        stale_ms=12,
    )
    answer = account_of(view)
    assert checked(answer) == answer
    assert (answer.balance, answer.held, answer.floor, answer.limit_payment) == (str(-HUGE), str(HUGE), None, "1")
    assert (answer.left_day, answer.left_month, answer.stale_ms) == (None, "5", 12)


def test_times_are_iso_8601_in_utc() -> None:
    """To the microsecond."""
    assert time_of(NOON_US) == "2026-09-21T14:13:20.000001Z"
    assert time_of(0) == "1970-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("counterparty", "elsewhere", "shown"), [(202, "", "a/202"), (9, "b/303", "b/303"), (0, "", "")]
)
def test_the_other_side_of_an_entry_has_a_bank(counterparty: int, elsewhere: str, shown: str) -> None:
    """This one, or that of a payment between banks; what has no other side shows none."""
    row = HistoryRow(7, NOON_US, ID, "transfer", -5, None, counterparty, "Rent", elsewhere=elsewhere)
    entry = entry_of(row, "a")
    assert checked(entry) == entry
    assert (entry.counterparty, entry.amount, entry.balance) == (shown, "-5", None)


def test_what_has_no_end_has_no_time() -> None:
    """A payment's hold never expires, and a bank may never have been seen."""
    hold = hold_of(HoldView(ID, 101, 202, 5, 0, "EUR", "open", 0, ""))
    bank = bank_of(BankView("b", "active", False))
    assert (checked(hold), hold.expires, bank.since) == (hold, None, None)
    assert bank_of(BankView("b", "active", True, since_us=NOON_US)).since == time_of(NOON_US)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("exceeds_available", "The amount is over what is available"),
        ("payment_unfinished", "The payment was stopped before it was decided; nothing was paid"),
        ("bank_unreachable", "The other bank is not connected to the gateway at the moment; nothing was paid"),
        ("something_of_tomorrow", "Something of tomorrow"),
        ("", ""),
    ],
)
def test_a_reason_is_told_in_words(name: str, words: str) -> None:
    """Refusals and errors have their own sentences; a name from a later version is still readable."""
    assert reason_of(name) == words


def test_every_refusal_has_words() -> None:
    """No status reaches a page as a bare name."""
    assert all(reason_of(status.name).lower() == STATUS_SENTENCES[status].lower() for status in Status)


def test_a_payment_tells_its_steps_in_the_order_of_time() -> None:
    """The booking at the bank that was asked gives its position; what an operator may do is one word."""
    steps = [
        PaymentStep("b", "posted", NOON_US + 2, 5),
        PaymentStep("a", "posted", NOON_US + 3, 9),
        PaymentStep("a", "held", NOON_US, 8),
        PaymentStep("a", "voided", NOON_US + 1, 7, "payment_unfinished"),
    ]
    view = PaymentView(
        *(ID, "done", "a/101", "b/202", 5, "EUR"),
        since_us=NOON_US,
        attempt=1,
        act="abort: nothing was paid",
        steps=steps,
    )
    answer = payment_of(view, "a")
    assert checked(answer) == answer
    assert [step.step for step in answer.steps] == ["held", "voided", "posted", "posted"]
    assert answer.steps[1].reason == "The payment was stopped before it was decided; nothing was paid"
    assert (answer.position, posted_at(view, "c"), answer.act, answer.attempt) == (9, 0, "abort", 1)


@pytest.mark.parametrize(
    ("state", "act", "shown"),
    [("pending", "none: the gateway tells", "pending"), ("given_up", "", "given_up"), ("of_tomorrow", "", "pending")],
)
def test_a_state_that_is_not_understood_decides_nothing(state: str, act: str, shown: str) -> None:
    """It is shown as pending; and what is no act is none."""
    view = PaymentView(ID, state, "a/101", "", 0, "", reason="exceeds_debit_cap", act=act, since_us=NOON_US)
    answer = payment_of(view, "a")
    assert (checked(answer), answer.state, answer.act) == (answer, shown, "")
    assert answer.reason == "The payer's bank has used up its net debit cap at the gateway"


@pytest.mark.parametrize(
    ("state", "shown", "reason", "position"),
    [
        ("done", "done", "", 7),
        ("open", "pending", "", 0),
        ("posted", "done", "", 0),
        ("voided", "given_up", "What was reserved was freed again", 0),
        ("expired", "given_up", "What was reserved was freed again when its time was over", 0),
    ],
)
def test_a_transfer_looks_like_a_payment(state: str, shown: str, reason: str, position: int) -> None:
    """Whatever became of it within one bank."""
    answer = payment_within(transfer(state), "a")
    assert checked(answer) == answer
    assert (answer.state, answer.reason, answer.position) == (shown, reason, position)
    assert (answer.payer, answer.payee, answer.amount, answer.reference) == ("a/101", "a/202", str(HUGE), "Rent")


def test_a_refused_transfer_says_why() -> None:
    """What the bank keeps of it is little."""
    view = msgspec.structs.replace(
        transfer("refused", kind="exceeds_available", currency="", reference="the amount is over what is available"),
        credit=0,
        amount_minor=0,
    )
    answer = payment_within(view, "a")
    assert checked(answer) == answer
    assert (answer.state, answer.reason_name, answer.payee) == ("refused", "exceeds_available", "")
    assert (answer.reason, answer.reference) == ("The amount is over what is available", "")
    assert isinstance(answer, shapes.Payment)
