"""What questions between a bank and its gateway hold: what is put in comes out, and nonsense is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fortress.gateway.questions import StepsOf, WhoIs

ID = bytes(range(16))
encode = msgspec.msgpack.encode


@pytest.mark.parametrize("fields", [WhoIs("bank-b", "ines", "EUR"), WhoIs("b", "7"), StepsOf(ID), StepsOf(ID, True)])
def test_a_question_arrives_as_it_was_put(fields: Any) -> None:
    """All of it, and what was left out as its default."""
    assert msgspec.msgpack.decode(encode(fields), type=type(fields)) == fields


@pytest.mark.parametrize(
    ("kind", "fields"),
    [(WhoIs, ["b"]), (WhoIs, ["b", "x" * 65]), (WhoIs, ["b", 7]), (StepsOf, [ID[:15]]), (StepsOf, []), (StepsOf, 7)],
)
def test_what_is_no_question_is_refused(kind: Any, fields: Any) -> None:
    """Too little, too long, or something else."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(encode(fields), type=kind)


def test_a_question_may_grow() -> None:
    """A later version may say more; this one does not mind."""
    assert msgspec.msgpack.decode(encode(["b", "ines", "EUR", "more"]), type=WhoIs) == WhoIs("b", "ines", "EUR")
