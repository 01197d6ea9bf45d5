"""The rule by which configurations follow each other, and how a register that is too old is told from a conflict."""

from __future__ import annotations

import pytest

from fortress.errors import LocalProtocolError, RegisterStale
from fortress.pair.change import EPOCH_MAX, Conflict, check_change, check_fresh, check_held
from fortress.pair.messages import Configuration, Member

A, B, C = (Member(f"node-{number}", bytes([number]) * 16) for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("expected", "fresh"),
    [
        (None, Configuration(1, A, (A,))),
        (None, Configuration(1, A, (A, B))),
        (1, Configuration(2, B, (A, B))),
        (41, Configuration(42, B, (B,), b"w" * 32)),
        (EPOCH_MAX - 1, Configuration(EPOCH_MAX, A, (A,))),
    ],
)
def test_the_next_epoch_may_follow(expected: int | None, fresh: Configuration) -> None:
    """With one node or two in sync, the primary among them."""
    check_change(expected, fresh)


@pytest.mark.parametrize(
    ("expected", "fresh"),
    [
        (None, Configuration(0, A, (A,))),
        (None, Configuration(2, A, (A,))),
        (1, Configuration(1, A, (A,))),
        (1, Configuration(3, A, (A,))),
        (EPOCH_MAX, Configuration(EPOCH_MAX + 1, A, (A,))),
        (None, Configuration(1, A, ())),
        (None, Configuration(1, A, (B,))),
        (None, Configuration(1, A, (A, B, C))),
        (None, Configuration(1, A, (A, A))),
        (None, Configuration(1, A, (A, Member("other", A.instance)))),
        (None, Configuration(1, Member("", bytes(16)), (Member("", bytes(16)),))),
        (None, Configuration(1, Member("n" * 65, bytes(16)), (Member("n" * 65, bytes(16)),))),
        (None, Configuration(1, Member("n", bytes(15)), (Member("n", bytes(15)),))),
        (None, Configuration(1, A, (A,), bytes(33))),
    ],
)
def test_anything_else_may_not(expected: int | None, fresh: Configuration) -> None:
    """Whatever a register holds: the caller is wrong."""
    with pytest.raises(LocalProtocolError):
        check_change(expected, fresh)


def test_a_register_with_less_than_was_known_is_stale() -> None:
    """It holds nothing, or an older epoch; the facts say which."""
    held = Configuration(3, A, (A,))
    check_fresh(None, 0)
    check_fresh(held, 3)
    for found, known, epoch in ((None, 1, 0), (held, 4, 3)):
        with pytest.raises(RegisterStale) as stale:
            check_fresh(found, known)
        assert stale.value.facts == {"held": epoch, "known": known}


def test_what_is_held_must_be_what_is_replaced() -> None:
    """More is a conflict that carries it; less than was expected is stale, since it was read from it before."""
    held = Configuration(3, A, (A,))
    check_held(None, None)
    check_held(held, 3)
    for expected in (None, 1, 2):
        with pytest.raises(Conflict, match="epoch 3") as conflict:
            check_held(held, expected)
        assert conflict.value.configuration == held
    for found, expected in ((None, 1), (held, 4)):
        with pytest.raises(RegisterStale):
            check_held(found, expected)
