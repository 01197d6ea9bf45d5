"""Records that came are decoded once, and again if they were given up meanwhile."""

from __future__ import annotations

import pytest

from fortress.ledger.records import Record, encode, make_record
from fortress.pair import deeds
from fortress.pair.deeds import DecodedRecords
from fortress.pair.messages import Mark, Shipped
from tests.pair.nodes import BANK, ROOT


def record() -> Record:
    """A first record."""
    return make_record([b"one"], previous=None, bank=BANK, epoch=1, time_us=1, commit_lsn=0, tree_root=ROOT)


def test_a_kept_record_is_given_as_it_is() -> None:
    """And only once: the next time it is decoded."""
    made = record()
    shipped = Shipped(Mark(made.lsn, made.hash), encode(made))
    records = DecodedRecords()
    records.keep([made])
    assert records.take(shipped) is made
    again = records.take(shipped)
    assert again == made and again is not made


@pytest.mark.parametrize("limit", ["DECODED_MAX", "DECODED_BYTES_MAX"])
def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Too many or too large ones are given up, which costs a decoding and nothing else."""
    monkeypatch.setattr(deeds, limit, 0)
    made = record()
    records = DecodedRecords()
    records.keep([made, made])
    records.keep([])
    taken = records.take(Shipped(Mark(made.lsn, made.hash), encode(made)))
    assert taken == made and taken is not made
