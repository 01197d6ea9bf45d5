"""Two sides' payments of a window are compared with few questions, down to the first one that differs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fortress.gateway import reconcile
from fortress.gateway.reconcile import (
    DIFFERENT,
    LEAVES_MAX,
    MISSING_HERE,
    MISSING_THERE,
    Cleared,
    Part,
    Tally,
    Walk,
    first_difference,
    root_of,
    within,
)
from fortress.ledger.entries import HoldPlaced, Posted
from fortress.ledger.merkle import EMPTY_ROOT, leaf_hash, node_hash
from fortress.ledger.model import TransferKind


def cleared(sequence: int, amount: int = 100) -> Cleared:
    payer, payee = ("a", "b") if sequence % 3 else ("b", "a")
    return Cleared(sequence, sequence.to_bytes(16, "big"), payer, payee, amount, "EUR")


def posted(kind: TransferKind, *, counterparty: str, sequence: int = 0) -> Posted:
    id = b"payment-id-16byt"
    return Posted(5, id, 1, 2, 300, "EUR", int(kind), "", 0, 0, 0, 300, "", b"", sequence, b"", counterparty)


def compare(own: Sequence[Cleared], others: Sequence[Cleared], after: int = 0, to: int = 10**9) -> tuple[Walk, int]:
    """Walk with an honest other side that has these payments; give the walk and how many questions it took."""
    walk, questions = Walk(own, after, to), 0
    while (question := walk.question) is not None:
        questions += 1
        found = within(others, question.after, question.to)
        if question.limit:
            walk.leaves_told(found[: question.limit])
        else:
            walk.root_told(root_of(found))
    return walk, questions


# --- what is compared -------------------------------------------------------------------------------------------------


def test_a_payment_is_the_same_bytes_for_everybody() -> None:
    """The gateway and both banks read the same payment off entries of their own, and hash the same leaf."""
    at_gateway = reconcile.cleared_at_gateway(7, posted(TransferKind.clearing, counterparty="a/123>b/456"))
    at_payer = reconcile.cleared_at_bank("a", posted(TransferKind.payment_out, counterparty="b/456", sequence=7))
    at_payee = reconcile.cleared_at_bank("b", posted(TransferKind.payment_in, counterparty="a/123", sequence=7))
    assert at_gateway == at_payer == at_payee == Cleared(7, b"payment-id-16byt", "a", "b", 300, "EUR")
    canonical = msgpack.packb([7, b"payment-id-16byt", "a", "b", 300, "EUR"])
    assert at_gateway.leaf() == leaf_hash(canonical)


def test_only_what_a_gateway_decided_counts() -> None:
    """Transfers within the bank, and holds, belong to no window."""
    assert reconcile.is_payment(posted(TransferKind.payment_in, counterparty="a/1", sequence=3))
    assert not reconcile.is_payment(posted(TransferKind.transfer, counterparty="", sequence=3))
    assert not reconcile.is_payment(posted(TransferKind.payment_out, counterparty="b/1"))
    assert not reconcile.is_payment(HoldPlaced(1, bytes(16), 1, 2, 3, "EUR", 4, "", 3, 3, 0))


def test_the_root_is_that_of_the_standard() -> None:
    """Three leaves hash as RFC 9162 2.1.1 says, none to the hash of nothing."""
    one, two, three = cleared(1), cleared(2), cleared(3)
    assert root_of([]) == EMPTY_ROOT
    assert root_of([one, two, three]) == node_hash(node_hash(one.leaf(), two.leaf()), three.leaf())


def test_a_range_begins_behind_its_first_number() -> None:
    """The sequence `after` belongs to the window before, `to` to this one."""
    payments = [cleared(n) for n in (2, 4, 6, 8)]
    assert [p.sequence for p in within(payments, 2, 6)] == [4, 6]
    assert within(payments, 8, 100) == []


def test_a_tally_adds_up_what_a_bank_paid_and_was_paid() -> None:
    """Sums of both banks are each other's negative, and the root does not depend on how the payments came."""
    payments = [cleared(n, n) for n in range(1, 200)]
    sides = reconcile.sides(payments)
    whole, parts, other = Tally(), Tally(), Tally()
    whole.add("a", Part(sides["a", "EUR"]))
    parts.add("a", Part(payments[:77]))
    begun = parts.copy()
    parts.add("a", Part(payments[77:]))
    other.add("b", Part(sides["b", "EUR"]))
    assert (begun.payments, begun.root) == (77, root_of(payments[:77]))
    assert (whole.payments, whole.out_minor, whole.in_minor) == (199, other.in_minor, other.out_minor)
    assert whole.net_minor == -other.net_minor == sum(n for n in range(1, 200) if n % 3 == 0) * 2 - sum(range(1, 200))
    assert whole.root == parts.root == root_of(payments)
    assert Tally().root == EMPTY_ROOT


def test_payments_are_sorted_by_bank_and_currency() -> None:
    """A bank's payments in two currencies are two lists."""
    dollars = replace(cleared(3), currency="USD")
    found = reconcile.sides([cleared(1), cleared(2), dollars])
    assert found["a", "EUR"] == found["b", "EUR"] == [cleared(1), cleared(2)]
    assert found["b", "USD"] == [dollars]


# --- the walk ---------------------------------------------------------------------------------------------------------


def test_one_question_is_enough_where_both_agree() -> None:
    """Equal roots end the walk at once."""
    payments = [cleared(n) for n in range(1, 2000)]
    walk, questions = compare(payments, payments)
    assert (walk.agrees, walk.difference, questions) == (True, None, 1)
    assert compare([], [])[0].agrees


@pytest.mark.parametrize("place", [1, 2, 64, 65, 1000, 1998, 1999])
@pytest.mark.parametrize("what", [MISSING_HERE, MISSING_THERE, DIFFERENT])
def test_a_single_difference_is_named(place: int, what: str) -> None:
    """Whatever differs, and wherever, the payment is found in about log2(n) questions."""
    payments = [cleared(2 * n) for n in range(1, 2000)]
    lacking = payments[: place - 1] + payments[place:]
    wrong = [*payments[: place - 1], replace(payments[place - 1], amount=1), *payments[place:]]
    own = lacking if what == MISSING_HERE else payments
    others = {MISSING_HERE: payments, MISSING_THERE: lacking, DIFFERENT: wrong}[what]
    walk, questions = compare(own, others)
    assert walk.difference is not None and not walk.agrees
    assert (walk.difference.what, walk.difference.payment) == (what, payments[place - 1])
    assert (walk.difference.other is not None) == (what == DIFFERENT)
    assert questions <= math.ceil(math.log2(len(payments) / LEAVES_MAX)) + 3


def test_a_difference_reads_as_a_sentence() -> None:
    """An operator sees which payment it is, and on which side it is missing."""
    difference = compare([cleared(1)], [])[0].difference
    assert str(difference) == (f"missing there: payment {'0' * 31}1 of 100 EUR in minor units, a to b, sequence 1")


def test_many_surplus_payments_cost_no_more_than_one() -> None:
    """A side with few payments asks for few, however many the other one has."""
    others = [cleared(n) for n in range(1, 100_000)]
    walk, questions = compare([cleared(5)], others)
    assert walk.difference is not None
    assert (walk.difference.what, walk.difference.payment) == (MISSING_HERE, cleared(1))
    assert questions == 2


def test_a_root_that_is_known_is_not_made_again() -> None:
    """What was hashed elsewhere is taken for the first question, and only for that."""
    payments = [cleared(n) for n in range(1, 200)]
    walk = Walk(payments, 0, 1000, root=root_of(payments))
    walk.root_told(root_of(payments[1:]))
    assert walk.question is not None and walk.question.to < 1000
    walk.root_told(root_of(within(payments[1:], 0, walk.question.to)))
    while walk.question is not None and not walk.question.limit:
        walk.root_told(root_of(within(payments[1:], walk.question.after, walk.question.to)))
    assert walk.question is not None
    walk.leaves_told(within(payments[1:], walk.question.after, walk.question.to))
    assert walk.difference is not None and walk.difference.payment == payments[0]


def test_books_that_changed_meanwhile_are_no_difference() -> None:
    """When the roots differ and then the payments do not, nobody is accused; nor do the sides agree."""
    walk = Walk([cleared(1)], 0, 10)
    walk.root_told(EMPTY_ROOT)
    walk.leaves_told([cleared(1)])
    assert (walk.agrees, walk.difference, walk.question) == (False, None, None)


def test_an_answer_out_of_order_is_sorted_first() -> None:
    """The order of an answer is not trusted."""
    walk = Walk([cleared(1), cleared(2), cleared(3)], 0, 10)
    walk.root_told(EMPTY_ROOT)
    walk.leaves_told([cleared(3), cleared(1)])
    assert walk.difference is not None
    assert (walk.difference.what, walk.difference.payment) == (MISSING_THERE, cleared(2))


SEQUENCES = st.sets(st.integers(1, 400), max_size=200)


@given(SEQUENCES, SEQUENCES, st.sets(st.integers(1, 400), max_size=5), st.integers(0, 200), st.integers(200, 400))
def test_the_walk_finds_what_comparing_everything_finds(
    own: set[int], others: set[int], changed: set[int], after: int, to: int
) -> None:
    """For any two sides and any range, the walk ends at the first difference of all."""
    mine = [cleared(n) for n in sorted(own)]
    theirs = [cleared(n, 1 if n in changed else 100) for n in sorted(others)]
    walk, _ = compare(mine, theirs, after, to)
    wanted = first_difference(within(mine, after, to), within(theirs, after, to))
    assert walk.difference == wanted
    assert walk.agrees == (wanted is None)
