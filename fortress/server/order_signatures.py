"""Check the signature of a payment order: under the payer's own key, which the bank does not have.

Whoever orders signs. From an account that takes signed orders only, nobody's signature counts but its owner's, so
neither a teller nor a gateway can pay from it; what is checked here is kept in the journal with the payment.
"""

from __future__ import annotations

from fortress.errors import Refused, Status
from fortress.protocol.orders import Order, PaymentOrder, verify_order
from fortress.server.bank import Bank


async def check_signature(bank: Bank, customer: int, order: Order | PaymentOrder, signature: bytes) -> None:
    """Check what a customer signed; accounts and keys may have to be read.

    Args:
        customer: whose session it is.
        order: as it was asked for, with this bank's name.

    Raises:
        Refused: ``order_signature_invalid``.
    """
    account = await bank.account(order.debit)
    signer = account.owner if account is not None and account.signed_orders_only else customer
    person = await bank.customer(signer)
    signing_key = person.signing if person is not None else b""
    if not verify_order(order, signature=signature, signing_key=signing_key):
        raise Refused(Status.order_signature_invalid)
