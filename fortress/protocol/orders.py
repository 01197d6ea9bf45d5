"""Payment orders that a customer signs, so that nobody on the way, the bank included, can invent a debit.

What is signed, by the Ed25519 key that the customer derives beside the login key, is the msgpack array
``[b"fortress order v1", bank, id, debit, credit, amount, currency, reference, value date]``; a payment that may go to
another bank is ``[b"fortress payment v1", bank, id, debit, payee, amount, currency, reference, not after]``.
"""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ORDER_LABEL: Final = b"fortress order v1"
PAYMENT_LABEL: Final = b"fortress payment v1"
_encode = msgspec.msgpack.Encoder().encode


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A payment as its payer orders it; ``amount_minor`` in minor units, ``value_date`` empty for today."""

    bank: str
    id: bytes
    debit: int
    credit: int
    amount_minor: int
    currency: str
    reference: str = ""
    value_date: str = ""

    def statement(self) -> bytes:
        """Give the bytes that the payer signs."""
        return _encode((ORDER_LABEL, *msgspec.structs.astuple(self)))


class PaymentOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A payment to an account of any bank; ``payee`` is ``bank/number``, ``not_after_us`` 0 for no end."""

    bank: str
    id: bytes
    debit: int
    payee: str
    amount_minor: int
    currency: str
    reference: str = ""
    not_after_us: int = 0

    def statement(self) -> bytes:
        """Give the bytes that the payer signs."""
        return _encode((PAYMENT_LABEL, *msgspec.structs.astuple(self)))


def sign_order(order: Order | PaymentOrder, signing_seed: bytes) -> bytes:
    """Sign with the seed of :func:`fortress.protocol.schnorr.order_signing_seed`; 64 bytes come back."""
    return Ed25519PrivateKey.from_private_bytes(signing_seed).sign(order.statement())


def verify_order(order: Order | PaymentOrder, *, signature: bytes, signing_key: bytes) -> bool:
    """Tell whether the signature is that of the payer's signing key over this order."""
    try:
        Ed25519PublicKey.from_public_bytes(signing_key).verify(signature, order.statement())
    except (InvalidSignature, ValueError):
        return False
    return True
