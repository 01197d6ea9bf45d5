"""The vectors of the login that both sides are held to, Python here and the browser's code in `web/test`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fortress.protocol import schnorr
from fortress.protocol.orders import PaymentOrder, verify_order
from tests.vectors import login

VECTORS: dict[str, Any] = json.loads(login.FILE.read_text("utf-8"))


def test_the_vectors_are_what_the_bank_computes() -> None:
    """Whoever changes the protocol changes the vectors on purpose: ``python -m tests.vectors.login``."""
    assert login.computed() == VECTORS


@pytest.mark.parametrize("row", VECTORS["logins"], ids=lambda row: row["username"][:8])
def test_the_bank_accepts_the_proofs_and_signatures_of_the_vectors(row: dict[str, Any]) -> None:
    """What the browser is held to is what lets it in."""
    public, commitment = bytes.fromhex(row["public"]), bytes.fromhex(row["commitment"])
    assert schnorr.is_valid_public_key(public)
    for c, s in ((row["challenge"], row["proof"]), (row["key_challenge"], row["key_proof"])):
        assert schnorr.verify(public, commitment, bytes.fromhex(c), bytes.fromhex(s))
    order = row["order"]
    signed = PaymentOrder(
        bank=order["bank"],
        id=bytes.fromhex(order["id"]),
        debit=order["debit"],
        payee=order["payee"],
        amount_minor=int(order["amount"]),
        currency=order["currency"],
        reference=order["reference"],
        not_after_us=int(order["not_after"]),
    )
    signature, key = bytes.fromhex(row["signature"]), bytes.fromhex(row["signing"])
    assert verify_order(signed, signature=signature, signing_key=key)


def test_a_password_is_the_same_in_every_unicode_form() -> None:
    """Two rows differ only in how their password was typed: composed, and with combining marks."""
    composed, combining = VECTORS["logins"][1:3]
    assert composed["password"] != combining["password"]
    assert composed["seed"] == combining["seed"] and composed["proof"] == combining["proof"]
