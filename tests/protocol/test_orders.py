"""Payment orders: what the payer signs, and that nothing else passes for it."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from fortress.protocol import schnorr
from fortress.protocol.orders import (
    ORDER_LABEL,
    PAYMENT_LABEL,
    Order,
    PaymentOrder,
    sign_order,
    verify_order,
)

SEED = b"\x07" * 32
KEY = Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()
ORDER = Order(
    bank="bank-a",
    id=bytes(range(16)),
    debit=1000168,
    credit=1000265,
    amount_minor=12_345,
    currency="EUR",
    reference="rent",
    value_date="2026-01-31",
)


def test_the_statement_is_the_array_that_the_protocol_names() -> None:
    """A stranger makes the signed bytes with any msgpack library."""
    assert ORDER.statement() == msgpack.packb(
        [ORDER_LABEL, "bank-a", bytes(range(16)), 1000168, 1000265, 12_345, "EUR", "rent", "2026-01-31"]
    )


def test_reference_and_value_date_may_be_left_out() -> None:
    """An order without them signs empty texts, not fewer fields."""
    order = Order(bank="b", id=bytes(16), debit=1, credit=2, amount_minor=3, currency="EUR")
    assert msgpack.unpackb(order.statement())[7:] == ["", ""]


def test_the_payers_signature_is_accepted() -> None:
    """What the payer signed is the payer's."""
    assert verify_order(ORDER, signature=sign_order(ORDER, SEED), signing_key=KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"bank": "bank-b"},
        {"id": bytes(16)},
        {"debit": 1000265},
        {"credit": 1000168},
        {"amount_minor": 12_346},
        {"currency": "USD"},
        {"reference": "rent!"},
        {"value_date": ""},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_signature_covers_every_field(change: dict[str, Any]) -> None:
    """Changed in any field, it is another order."""
    assert not verify_order(replace(ORDER, **change), signature=sign_order(ORDER, SEED), signing_key=KEY)


@pytest.mark.parametrize("at", range(64))
def test_every_byte_of_a_signature_counts(at: int) -> None:
    """A flipped byte anywhere is no signature."""
    signature = bytearray(sign_order(ORDER, SEED))
    signature[at] ^= 1
    assert not verify_order(ORDER, signature=bytes(signature), signing_key=KEY)


@pytest.mark.parametrize("signature", [b"", b"x", bytes(64), bytes(65)], ids=["none", "short", "zeros", "long"])
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    """Anything else of any length is refused, not an error."""
    assert not verify_order(ORDER, signature=signature, signing_key=KEY)


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(32), b"\xff" * 32], ids=["none", "short", "zeros", "no point"])
def test_an_unusable_key_verifies_nothing(key: bytes) -> None:
    """A customer without a signing key has signed nothing."""
    assert not verify_order(ORDER, signature=sign_order(ORDER, SEED), signing_key=key)


def test_the_order_key_is_not_the_login_key() -> None:
    """The seed of orders is derived: one key never serves two protocols."""
    seed = schnorr.order_signing_seed(SEED)
    assert seed != SEED
    assert not verify_order(ORDER, signature=sign_order(ORDER, seed), signing_key=KEY)


PAYMENT = PaymentOrder(
    bank="bank-a",
    id=bytes(range(16)),
    debit=1000168,
    payee="bank-b/1000265",
    amount_minor=12_345,
    currency="EUR",
    reference="rent",
    not_after_us=7,
)


def test_a_payment_to_any_bank_has_a_statement_of_its_own() -> None:
    """Which the protocol names, and which no transfer's signature fits."""
    assert PAYMENT.statement() == msgpack.packb(
        [PAYMENT_LABEL, "bank-a", bytes(range(16)), 1000168, "bank-b/1000265", 12_345, "EUR", "rent", 7]
    )
    assert verify_order(PAYMENT, signature=sign_order(PAYMENT, SEED), signing_key=KEY)
    assert not verify_order(PAYMENT, signature=sign_order(ORDER, SEED), signing_key=KEY)


@pytest.mark.parametrize(
    "change",
    [{"payee": "bank-c/1000265"}, {"payee": "bank-b/1000168"}, {"not_after_us": 8}, {"amount_minor": 12_346}],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_payment_is_not_the_one_that_was_signed(change: dict[str, Any]) -> None:
    """Neither its payee, nor its amount, nor until when it is good."""
    assert not verify_order(replace(PAYMENT, **change), signature=sign_order(PAYMENT, SEED), signing_key=KEY)
