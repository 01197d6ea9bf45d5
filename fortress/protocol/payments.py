"""Messages of payments that may go to another bank, as the customer's own bank and their gateway take them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fortress.protocol.fields import (
    Amount,
    Answer,
    Count,
    Currency,
    Id,
    PageSize,
    Position,
    Reference,
    Request,
    TimeUs,
    check_reference,
)

Payee = Annotated[
    str,
    Meta(max_length=52, pattern=r"^[a-z][a-z0-9-]{0,31}/[1-9][0-9]{2,18}\Z", description="bank/account number"),
]


class Pay(Request, frozen=True):
    """Pay an account of any bank; a payee of this bank is paid by a transfer that never leaves it.

    ``debit`` 0 is the payer's default account; ``not_after_us`` 0 sets no end. The signature is over a
    :class:`fortress.protocol.orders.PaymentOrder`, which names the debited account, so a signed order needs it.
    """

    id: Id
    payee: Payee
    amount_minor: Amount
    currency: Currency
    debit: Count = 0
    reference: Reference = ""
    not_after_us: TimeUs = 0
    order_signature: Annotated[bytes, Meta(max_length=64)] = b""

    def __post_init__(self) -> None:
        check_reference(self.reference)


class PaymentAnswer(Answer, frozen=True):
    """A payment that was done: where it stands in the payer's bank, and the gateway's number of it (0: one bank)."""

    position: int
    time_us: int
    balance_minor: int
    gateway_sequence: int = 0
    replayed: bool = False


class GetPayment(Request, frozen=True):
    """Read a payment by its id; ``everywhere`` asks the gateway and the other bank for their steps as well."""

    id: Id
    everywhere: bool = False


class PaymentStep(Answer, frozen=True):
    """One step of a payment: ``bank`` where, ``step`` what (held, intended, prepared, decided, posted, voided...)."""

    bank: str
    step: str
    time_us: int
    position: int = 0
    reason: str = ""


class PaymentView(Answer, frozen=True):
    """Where a payment stands. ``state``: pending, done, refused (by a rule), given_up (nothing was paid, try again).

    ``payer`` and ``payee`` are ``bank/number``; ``reason`` says why it was not done; ``attempt`` counts from 0;
    ``missing`` names whoever must still act; ``act`` what an operator may safely do.
    """

    id: bytes
    state: str
    payer: str
    payee: str
    amount_minor: int
    currency: str
    reference: str = ""
    gateway_sequence: int = 0
    reason: str = ""
    attempt: int = 0
    since_us: int = 0
    missing: list[str] = []
    act: str = ""
    steps: list[PaymentStep] = []


class ListPayments(Request, frozen=True):
    """List payments between banks: one's own, newest first; or, for staff, all that are not decided everywhere."""

    in_doubt: bool = False
    cursor: Position = 0
    limit: PageSize = 100


class PaymentsAnswer(Answer, frozen=True):
    payments: list[PaymentView]
    cursor: int = 0


class ResolvePayment(Request, frozen=True):
    """End a payment in doubt by hand (administrator, second administrator): ``act`` is commit or abort.

    At a gateway only what is not decided can be ended, and only by aborting it.
    """

    id: Id
    payment: Id
    act: Annotated[str, Meta(pattern=r"^(commit|abort)\Z")]
