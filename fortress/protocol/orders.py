"""Payment orders that a customer signs, so that nobody on the way, the bank included, can invent a debit.

What is signed, by the Ed25519 key that the customer derives beside the login key, is the msgpack array
``[b"fortress order v1", bank, id, debit, credit, amount, currency, reference, value date]``.
"""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ORDER_LABEL: Final = b"fortress order v1"
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


def sign_order(order: Order, signing_seed: bytes) -> bytes:
    """Sign with the seed of :func:`fortress.protocol.schnorr.order_signing_seed`; 64 bytes come back."""
    return Ed25519PrivateKey.from_private_bytes(signing_seed).sign(order.statement())


def verify_order(order: Order, *, signature: bytes, signing_key: bytes) -> bool:
    """Tell whether the signature is that of the payer's signing key over this order."""
    try:
        Ed25519PublicKey.from_public_bytes(signing_key).verify(signature, order.statement())
    except (InvalidSignature, ValueError):
        return False
    return True
