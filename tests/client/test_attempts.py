"""Tests of what is known about the tries of one request, and how long to wait between them."""

from __future__ import annotations

from itertools import islice

import pytest

from fortress.client.attempts import TRY_S, Attempts, waits, wanted_state
from fortress.client.ids import format_id, new_id
from fortress.errors import (
    Busy,
    DeadlinePassed,
    FortressError,
    NoPrimary,
    NotPrimary,
    OutcomeUnknown,
    Refused,
    ShuttingDown,
    Status,
    TokenRejected,
    Unreachable,
)
from fortress.protocol.administration import CloseAccount, Freeze
from fortress.protocol.fields import Request
from fortress.protocol.money import Hold, Void

SHOWN = NotPrimary(facts={"primary": "127.0.0.1:1"})


def test_waits_grow_and_differ() -> None:
    """From 50 ms to 2 s, each with a random share."""
    first, second = list(islice(waits(), 12)), list(islice(waits(), 12))
    assert first != second
    assert all(0.025 <= wait <= 2.0 for wait in first)
    assert first[-1] >= 1.0


def test_who_is_shown_the_way_goes_at_once_but_not_in_circles() -> None:
    """Two nodes that name each other are asked with waits in between."""
    attempts = Attempts("transfer")
    assert [attempts.note(SHOWN, was_sent=True) > 0 for _ in range(4)] == [False, True, False, True]
    assert Attempts("transfer").note(NotPrimary(), was_sent=True) > 0


@pytest.mark.parametrize(
    ("errors", "is_worn"),
    [
        ([Busy()], False),
        ([Busy(), Busy()], True),
        ([Busy(), Unreachable(), Busy()], True),
        ([NotPrimary()], True),
        ([NoPrimary()], True),
        ([ShuttingDown()], True),
        ([DeadlinePassed()], True),
        ([OutcomeUnknown()], True),
        ([Unreachable()], False),
    ],
)
def test_a_node_that_does_not_serve_is_left(errors: list[FortressError], *, is_worn: bool) -> None:
    """At once if it said so or nothing came, at the second time if it is only busy."""
    attempts = Attempts("transfer")
    for error in errors:
        attempts.note(error, was_sent=True)
    assert attempts.is_worn is is_worn


def test_a_first_try_is_short_where_there_is_a_choice() -> None:
    """And longer each time one was too short; where there is no other node, a try may take all of its time."""
    attempts = Attempts("transfer")
    seen = []
    for _ in range(4):
        seen.append(attempts.try_s(3 * TRY_S, has_choice=True))
        attempts.note(DeadlinePassed(), was_sent=True)
    assert seen == [TRY_S, 2 * TRY_S, 3 * TRY_S, 3 * TRY_S]
    assert Attempts("transfer").try_s(60.0, has_choice=False) == 60.0


@pytest.mark.parametrize(
    ("operation", "error", "was_sent", "is_doubtful"),
    [
        ("transfer", OutcomeUnknown(), True, True),
        ("transfer", DeadlinePassed(), True, True),
        ("transfer", OutcomeUnknown(), False, False),
        ("transfer", Busy(), True, False),
        ("get_account", OutcomeUnknown(), True, False),
        ("of_a_newer_bank", OutcomeUnknown(), True, True),
    ],
)
def test_a_write_without_an_answer_leaves_a_doubt(
    operation: str, error: FortressError, *, was_sent: bool, is_doubtful: bool
) -> None:
    """A read does not, nor does what was never sent; of an operation nobody knows, the worst is taken."""
    attempts = Attempts(operation)
    attempts.note(error, was_sent=was_sent)
    assert attempts.is_doubtful is is_doubtful


@pytest.mark.parametrize(
    ("operation", "error", "is_verdict"),
    [
        ("transfer", Refused(Status.exceeds_available), True),
        ("transfer", Refused(Status.id_reused), True),
        ("transfer", TokenRejected(), False),
        ("approve", Refused(Status.approval_already_decided), False),
        ("approve", Refused(Status.approval_unknown), True),
        ("invite", Refused(Status.id_reused), False),
        ("create_user", Refused(Status.id_reused), False),
    ],
)
def test_after_a_doubt_only_a_verdict_on_all_tries_counts(
    operation: str, error: FortressError, *, is_verdict: bool
) -> None:
    """A refusal of the repeat that the first try may have caused is none; without a doubt every error is one."""
    attempts = Attempts(operation)
    assert attempts.is_verdict(error)
    attempts.note(OutcomeUnknown(), was_sent=True)
    assert attempts.is_verdict(error) is is_verdict


def test_at_the_end_the_caller_hears_what_a_node_said() -> None:
    """That nobody could be reached after it says less; with a doubt, the doubt goes before both."""
    attempts, unreachable, busy = Attempts("transfer"), Unreachable(), Busy()
    attempts.note(unreachable, was_sent=False)
    assert attempts.end(unreachable) is unreachable
    attempts.note(busy, was_sent=True)
    attempts.note(unreachable, was_sent=False)
    assert attempts.end(unreachable) is busy
    attempts.note(OutcomeUnknown(), was_sent=True)
    end = attempts.end(unreachable)
    assert isinstance(end, OutcomeUnknown)
    assert end.__cause__ is unreachable


def test_what_must_not_be_repeated_is_final_after_a_doubt() -> None:
    """Not before it: told busy, one may ask again."""
    attempts = Attempts("register")
    attempts.note(Busy(), was_sent=True)
    assert not attempts.is_final
    attempts.note(OutcomeUnknown(), was_sent=True)
    assert attempts.is_final


def test_a_conflict_may_settle_a_repeat_only() -> None:
    """Without a lost try it is a refusal like others."""
    attempts = Attempts("freeze")
    conflict = Refused(Status.account_state_conflict)
    assert not attempts.is_settled_by(conflict)
    attempts.note(OutcomeUnknown(), was_sent=True)
    assert attempts.is_settled_by(conflict)
    assert not attempts.is_settled_by(Refused(Status.account_unknown))


def test_an_unknown_outcome_says_how_to_repeat_it() -> None:
    """With the id, and the end of a hold, which is part of its content."""
    id = new_id()
    hold = Hold(id, 1, 2, 3, "EUR", 77)
    assert Attempts("hold", hold).unknown().facts == {"operation": "hold", "id": format_id(id), "expires_us": 77}
    assert Attempts("void", Void(id)).unknown().facts == {"operation": "void", "id": format_id(id)}
    assert Attempts("create_user", id=id).unknown().facts == {"operation": "create_user", "id": format_id(id)}
    assert Attempts("login_finish").unknown().facts == {"operation": "login_finish"}


@pytest.mark.parametrize(
    ("operation", "fields", "state"),
    [
        ("freeze", Freeze(1), "frozen"),
        ("freeze", Freeze(1, debits_only=True), "debit_frozen"),
        ("close_account", CloseAccount(1), "closed"),
    ],
)
def test_each_act_on_an_account_wants_a_state(operation: str, fields: Request, state: str) -> None:
    """As the account shows it."""
    assert wanted_state(operation, fields) == state
