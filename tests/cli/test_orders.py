"""How orders of an outbox look: what is known, and that something is not."""

from __future__ import annotations

from typing import Any

import pytest

from fortress.cli.orders import answer_text, item_fields, item_json, items_table, state_text
from fortress.client.order_file import NOTHING_HEARD, OrderState, OutboxItem, Outcome
from fortress.errors import OutcomeUnknown, Status
from tests.cli.conftest import ID_TEXT, RECEIPT, TIME_US, order_of


def item_of(**more: Any) -> OutboxItem:
    values: dict[str, Any] = {
        "number": 3,
        "order": order_of(not_after_us=TIME_US),
        "signature": b"",
        "state": OrderState.queued,
        "tries": 0,
        "added_us": TIME_US,
        "changed_us": TIME_US,
        "outcome": NOTHING_HEARD,
        "receipt": None,
    }
    return OutboxItem(**{**values, **more})


@pytest.mark.parametrize(
    ("state", "text"),
    [("queued", "waits"), ("sent", "not known yet"), ("done", "done"), ("refused", "refused"), ("expired", "expired")],
)
def test_a_doubt_is_called_one(state: str, text: str) -> None:
    """Each state in words that promise nothing false."""
    item = item_of(state=OrderState(state))
    assert state_text(item) == text
    assert text in items_table([item]).rows[0]


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (NOTHING_HEARD, ""),
        (Outcome(1000 + Status.exceeds_available, "the amount..."), "exceeds available (FT-1016)"),
        (Outcome(OutcomeUnknown.code, "no answer"), "OutcomeUnknown (FT-3007)"),
        (Outcome(2999, "new"), "FortressError (FT-2999)"),
    ],
)
def test_what_was_last_heard_is_shown_with_its_code(outcome: Outcome, text: str) -> None:
    """So that 'fortress explain' knows it."""
    assert answer_text(item_of(outcome=outcome)) == text


def test_a_payment_that_was_done_shows_where() -> None:
    """Its place in the bank's journal, and the gateway's number between banks."""
    done = Outcome(0, "", {}, 7, TIME_US, 100, 12)
    assert answer_text(item_of(outcome=done)).startswith("entry 7, ")
    assert answer_text(item_of(outcome=done)).endswith("gateway's number 12")
    assert "gateway" not in answer_text(item_of(outcome=Outcome(0, "", {}, 7, TIME_US)))


def test_programs_get_everything() -> None:
    """What is not known is null."""
    item = item_of(signature=b"s", receipt=RECEIPT, outcome=Outcome(1016, "no", {"x": 1}))
    document = item_json(item)
    assert isinstance(document, dict)
    assert (document["id"], document["signed"], document["receipt"], document["code"]) == (
        ID_TEXT,
        True,
        True,
        "FT-1016",
    )
    assert (document["position"], document["gateway_sequence"], document["time"]) == (None, None, None)
    assert ("Receipt", "kept") in item_fields(item).pairs and ("Signed", "yes") in item_fields(item).pairs
    assert "Receipt" not in dict(item_fields(item_of()).pairs)
