"""What a bank and its gateway ask each other over their link: the names of the questions and what stands in them.

``resolve``: who is the payee? From the payer's bank to the gateway, which asks the payee's bank the same; the answer is
a :class:`~fortress.protocol.accounts.ResolveAnswer`. ``steps``: what do you know of the payment of this id? Asked of
either side; the answer is a list of :class:`~fortress.protocol.payments.PaymentStep`, empty for nothing. ``root`` and
``leaves`` compare settlement windows (:mod:`fortress.gateway.reconcile`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from fortress.gateway.messages import Id, Name

RESOLVE: Final = "resolve"
STEPS: Final = "steps"
ROOT: Final = "root"
LEAVES: Final = "leaves"


class WhoIs(msgspec.Struct, frozen=True, array_like=True):
    """Fields of ``resolve``: ``payee`` is an account number or a username at ``bank``."""

    bank: Name
    payee: Name
    currency: Name = ""


class StepsOf(msgspec.Struct, frozen=True, array_like=True):
    """Fields of ``steps``; ``everywhere`` asks a gateway for the steps at both banks besides its own."""

    id: Id
    everywhere: bool = False
