"""Hold the payments of a settlement window against another side's books, down to the first one that differs.

Both sides know a decided payment by its sequence, the position of the decision in the gateway's ledger. Over the
payments of a range of sequences, in their order, stands the root of a Merkle tree (RFC 9162 2.1.1), so one question
compares any number of them. Where two roots differ the :class:`Walk` asks for that of one half, and again, and for the
payments themselves once few are left: a payment among n takes about log2(n) questions.

Pure: the walk says what to ask next and is told the answer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from copy import deepcopy
from operator import attrgetter
from typing import Final

import msgspec

from fortress.gateway.messages import Id, Name
from fortress.ledger.entries import Posted
from fortress.ledger.merkle import Tree, leaf_hash, leaf_hashes
from fortress.ledger.model import TransferKind

LEAVES_MAX: Final = 64
"""So few payments are compared one by one."""

MISSING_HERE: Final = "missing here"
MISSING_THERE: Final = "missing there"
DIFFERENT: Final = "different"
_OUT, _IN = int(TransferKind.payment_out), int(TransferKind.payment_in)
_encode = msgspec.msgpack.Encoder().encode
_sequence = attrgetter("sequence")


class Cleared(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A payment between banks that was carried out, as the gateway and both banks must know it.

    ``payer`` and ``payee`` are banks, ``amount`` minor units; its canonical bytes are its msgpack array.
    """

    sequence: int
    id: Id
    payer: Name
    payee: Name
    amount: int
    currency: Name

    def leaf(self) -> bytes:
        """Hash it as a leaf of the tree."""
        return leaf_hash(_encode(self))


def cleared_at_gateway(position: int, entry: Posted) -> Cleared:
    """Read a payment off the gateway's entry that decided it."""
    payer, _, payee = entry.counterparty.partition(">")
    return Cleared(position, entry.id, _bank_of(payer), _bank_of(payee), entry.amount, entry.currency)


def cleared_at_bank(bank: str, entry: Posted) -> Cleared:
    """Read a payment off the entry with which this bank carried out its part."""
    other = _bank_of(entry.counterparty)
    payer, payee = (other, bank) if entry.kind == _IN else (bank, other)
    return Cleared(entry.gateway_sequence, entry.id, payer, payee, entry.amount, entry.currency)


def is_payment(entry: object) -> bool:
    """Tell whether an entry carried out a bank's part of a payment that a gateway decided."""
    return type(entry) is Posted and entry.kind in (_OUT, _IN) and entry.gateway_sequence > 0


def _bank_of(account: str) -> str:
    return account.partition("/")[0]


def root_of(payments: Sequence[Cleared]) -> bytes:
    """Hash payments, which are in the order of their sequences, into the root of their tree."""
    return _root_over(_leaves_of(payments))


def _leaves_of(payments: Sequence[Cleared]) -> list[bytes]:
    return leaf_hashes([_encode(payment) for payment in payments])


def _root_over(leaves: Sequence[bytes]) -> bytes:
    tree = Tree()
    tree.append(leaves)
    return tree.root()


def within(payments: Sequence[Cleared], after: int, to: int) -> Sequence[Cleared]:
    """Give the payments with a sequence after one and up to another; they are in order."""
    return payments[bisect_right(payments, after, key=_sequence) : bisect_right(payments, to, key=_sequence)]


# --- Sums ------------------------------------------------------------------------------------------------------------
class Part:
    """The payments of one side in a span, hashed: the work for a thread of its own.

    Attributes:
        payments: in the order of their sequences.
        leaves: their hashes.
        root: of the tree over them.
    """

    __slots__ = ("leaves", "payments", "root")

    def __init__(self, payments: Sequence[Cleared] = ()) -> None:
        self.payments = payments
        self.leaves = _leaves_of(payments)
        self.root = _root_over(self.leaves)


class Tally:
    """What one bank paid and was paid in one currency; grows in the order of the sequences."""

    __slots__ = ("_tree", "in_minor", "out_minor", "payments")

    def __init__(self) -> None:
        self.payments = 0
        self.out_minor = 0
        self.in_minor = 0
        self._tree = Tree()

    def add(self, bank: str, part: Part) -> None:
        """Add payments of which this bank is one side."""
        self.payments += len(part.payments)
        out = sum(payment.amount for payment in part.payments if payment.payer == bank)
        self.out_minor += out
        self.in_minor += sum(payment.amount for payment in part.payments) - out
        self._tree.append(part.leaves)
        self._tree.tiles_to_store()  # nobody proves anything from here, so nothing but the root is kept

    def copy(self) -> Tally:
        """Make one that grows by itself from here."""
        return deepcopy(self)

    @property
    def net_minor(self) -> int:
        """What the bank is owed for these payments; below zero it owes."""
        return self.in_minor - self.out_minor

    @property
    def root(self) -> bytes:
        """The root of the tree over all of them."""
        return self._tree.root()


def sides(payments: Iterable[Cleared]) -> dict[tuple[str, str], list[Cleared]]:
    """Sort payments by (bank, currency); each is in the lists of both its banks."""
    found: dict[tuple[str, str], list[Cleared]] = {}
    for payment in payments:
        for bank in (payment.payer, payment.payee):
            found.setdefault((bank, payment.currency), []).append(payment)
    return found


# --- The walk --------------------------------------------------------------------------------------------------------
class Question(msgspec.Struct, frozen=True):
    """What to ask the other side about the sequences after ``after`` and up to ``to``.

    ``limit`` 0: for the root over its payments; else for the payments themselves, at most so many, in order.
    """

    after: int
    to: int
    limit: int = 0


class Difference(msgspec.Struct, frozen=True):
    """The first payment about which both sides differ; ``what``: missing here, missing there or different."""

    what: str
    payment: Cleared
    other: Cleared | None = None

    def __str__(self) -> str:
        p = self.payment
        what = f"{self.what}: payment {p.id.hex()} of {p.amount} {p.currency} in minor units, {p.payer} to {p.payee}"
        return f"{what}, sequence {p.sequence}"


class Walk:
    """Find where two sides differ, with few questions.

    Args:
        own: this side's payments of the range, in the order of their sequences.
        after, to: the range: sequences after one and up to the other.
        root: over all of ``own``, where that is known already.

    Attributes:
        question: what to ask next; None at the end.
        agrees: at the end, whether both roots of the whole range are the same.
        difference: at the end, the first payment that differs. None though the sides do not agree: the other side's
            books changed meanwhile, such as by a payment that it carried out just now.
    """

    def __init__(self, own: Sequence[Cleared], after: int, to: int, *, root: bytes | None = None) -> None:
        self._own = own
        self._after, self._to = after, to
        self._root = root
        self.question: Question | None = Question(after, to)
        self.agrees = False
        self.difference: Difference | None = None

    def root_told(self, root: bytes) -> None:
        """Take the other side's root over the range that was asked for."""
        asked = self.question
        assert asked is not None and not asked.limit
        is_whole = (asked.after, asked.to) == (self._after, self._to)
        known = self._root if is_whole else None
        is_same = root == (known if known is not None else root_of(within(self._own, asked.after, asked.to)))
        if is_whole and is_same:
            self.agrees, self.question = True, None
            return
        if is_same:
            self._after = asked.to
        else:
            self._to = asked.to
        self._ask_on()

    def _ask_on(self) -> None:
        """Ask for one half of what is left, or, when that is little, for all of it."""
        self._own = own = within(self._own, self._after, self._to)
        if len(own) < LEAVES_MAX:
            # one more than this side has: were the rest the same, that one would be missing here
            self.question = Question(self._after, self._to, len(own) + 1)
        else:
            self.question = Question(self._after, own[len(own) // 2 - 1].sequence)

    def leaves_told(self, others: Sequence[Cleared]) -> None:
        """Take the other side's payments of the range that was asked for."""
        asked = self.question
        assert asked is not None and asked.limit
        self.question = None
        self.difference = first_difference(self._own, sorted(others, key=_sequence))


def first_difference(own: Sequence[Cleared], others: Sequence[Cleared]) -> Difference | None:
    """Compare payments one by one; both sides are in the order of their sequences."""
    for mine, other in zip(own, others, strict=False):
        if mine == other:
            continue
        if mine.sequence == other.sequence:
            return Difference(DIFFERENT, mine, other)
        if mine.sequence < other.sequence:
            return Difference(MISSING_THERE, mine)
        return Difference(MISSING_HERE, other)
    if len(own) > len(others):
        return Difference(MISSING_THERE, own[len(others)])
    if len(others) > len(own):
        return Difference(MISSING_HERE, others[len(own)])
    return None
