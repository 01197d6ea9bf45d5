"""Tests of the messages of staff: bounds of roles, times and limits."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fortress.protocol.administration import Approve, Invite, Lock, SetLimits, SetRole, Trail, TrialBalanceRow

ID = bytes(16)
ROLES: dict[str, Any] = {"id": ID, "username": "bob", "roles": ["teller"]}
LIMITS: dict[str, Any] = {"id": ID, "account": 104}


@pytest.mark.parametrize(
    ("type_", "sample", "field", "bad"),
    [
        (Invite, {"id": ID}, "valid_s", 59),
        (Invite, {"id": ID}, "valid_s", 31 * 86400 + 1),
        (Invite, {"id": ID}, "role", ""),
        (SetRole, ROLES, "roles", []),
        (SetRole, ROLES, "roles", ["teller"] * 5),
        (SetRole, ROLES, "username", "Bob"),
        (Lock, {"username": "bob"}, "until_us", -1),
        (SetLimits, LIMITS, "floor_minor", -(2**63)),
        (SetLimits, LIMITS, "payment_minor", 0),
        (SetLimits, LIMITS, "day_minor", -1),
        (SetLimits, LIMITS, "month_minor", 1.5),
        (SetLimits, LIMITS, "signed_orders_only", 1),
        (Approve, {"approval": ID}, "approval", b""),
        (Trail, {}, "limit", 0),
    ],
)
def test_a_field_out_of_range_is_refused(
    type_: type[msgspec.Struct], sample: dict[str, Any], field: str, bad: object
) -> None:
    """The sample is taken; with one field out of range it is refused and the field is named."""
    decoder = msgspec.msgpack.Decoder(type_)
    assert decoder.decode(msgspec.msgpack.encode(sample))
    with pytest.raises(msgspec.ValidationError, match=rf"\$\.{field}"):
        decoder.decode(msgspec.msgpack.encode({**sample, field: bad}))


def test_no_limit_and_no_floor_can_be_said() -> None:
    """None is no limit; a floor that is not named is 0."""
    limits = msgspec.msgpack.decode(msgspec.msgpack.encode({**LIMITS, "floor_minor": None}), type=SetLimits)
    assert (limits.floor_minor, limits.payment_minor) == (None, None)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(LIMITS), type=SetLimits).floor_minor == 0


@pytest.mark.parametrize(
    ("changes", "adds_up"),
    [({}, True), ({"sum_minor": 1}, False), ({"debits_minor": 6}, False), ({"held_minor": 1}, False)],
)
def test_sums_are_as_they_must_be_or_not(changes: dict[str, int], adds_up: bool) -> None:
    """Debits equal credits, and what is on hold is what the holds add up to."""
    sums = {"debits_minor": 5, "credits_minor": 5, "sum_minor": 0, "held_minor": 2, "holds_minor": 2}
    assert TrialBalanceRow("EUR", 1, **{**sums, **changes}).adds_up is adds_up
