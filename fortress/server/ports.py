"""Where the parts that know other banks are plugged into a node; the server itself knows no gateway.

A bank that pays others has ``payments``, a gateway has ``switch`` and ``relay``. Who plugs them in starts
and stops them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fortress.errors import FortressError
from fortress.ledger.commands import PlacePayment
from fortress.protocol.accounts import ResolveAnswer
from fortress.protocol.fields import Done
from fortress.protocol.payments import (
    GetPayment,
    ListPayments,
    PaymentAnswer,
    PaymentsAnswer,
    PaymentView,
    ResolvePayment,
)
from fortress.protocol.switching import (
    AddBank,
    BanksAnswer,
    CloseWindow,
    GetWindow,
    ListWindows,
    PositionsAnswer,
    SuspendBank,
    WindowsAnswer,
    WindowView,
)

if TYPE_CHECKING:
    import asyncio

    from fortress.ledger.model import Actor
    from fortress.protocol.routes import Notice, Route
    from fortress.server.tls import Tls


class Part(Protocol):
    """What a node does besides being one, such as switching payments between banks.

    It is made with the process and plugs itself into ``node.ports``, so that what a crash left half done can be
    finished through it; it is started once the node serves, and stopped when the node's customers are answered.
    """

    async def start(self) -> None:
        """Begin; `fortress.server.process.Process.attend` tells when this node is primary."""

    async def stop(self) -> None:
        """End; the ledger still takes commands."""

    def statistics(self) -> dict[str, object]:
        """Give what a monitor shows of it; cheap, no waiting."""


Paid = Callable[[PaymentAnswer | FortressError], None]


class Payments(Protocol):
    """A bank's way to other banks."""

    def pay(self, command: PlacePayment, answered: Paid) -> None:
        """Carry out a payment whose payee is at another bank; ``answered`` is called on the loop, once.

        The command's ``credit`` is the settlement account and its id the payment's; an attempt that was given up is
        followed by another under an id of its own. Raises FortressError when nothing was begun.
        """

    async def resolve(self, bank: str, payee: str, currency: str) -> ResolveAnswer:
        """Ask another bank for the name and account of a payee."""

    async def banks(self) -> BanksAnswer:
        """List the banks as the gateway last told."""

    async def payment(self, actor: Actor, request: GetPayment) -> PaymentView:
        """Read a payment of the actor's own, or for staff anybody's."""

    async def payments(self, actor: Actor, request: ListPayments) -> PaymentsAnswer:
        """List payments between banks."""

    async def resolve_payment(self, actor: Actor, request: ResolvePayment) -> Done:
        """End a payment by hand; approved already."""


class Switch(Protocol):
    """What a gateway does beside being a node; approvals are the handlers' business."""

    async def banks(self) -> BanksAnswer: ...
    async def add_bank(self, actor: Actor, request: AddBank) -> Done: ...
    async def suspend_bank(self, actor: Actor, request: SuspendBank) -> Done: ...
    async def positions(self) -> PositionsAnswer: ...
    async def windows(self, request: ListWindows) -> WindowsAnswer: ...
    async def window(self, request: GetWindow) -> WindowView: ...
    async def close_window(self, actor: Actor, request: CloseWindow) -> Done: ...
    async def payment(self, actor: Actor, request: GetPayment) -> PaymentView: ...
    async def payments(self, actor: Actor, request: ListPayments) -> PaymentsAnswer: ...
    async def resolve_payment(self, actor: Actor, request: ResolvePayment) -> Done: ...


class Relayed(Protocol):
    """A connection that a relay has taken over, as the server it came from goes on seeing it."""

    def on_time(self, now: float) -> None:
        """End it if it has been silent for too long; called about once a second."""

    def finish(self) -> None:
        """End it: the server goes down."""


class Relay(Protocol):
    """Carries the connection of a customer of another bank there; see :mod:`fortress.gateway.relay`."""

    def take(self, session: asyncio.BufferedProtocol, transport: Tls, route: Route, data: bytes) -> Relayed | Notice:
        """Take over a connection that asks for another bank, with what has arrived already; or say why not.

        Whoever takes it over tells its session when it is lost, so that it is counted as long as it lasts.
        """


@dataclass(slots=True, eq=False)
class Ports:
    """What is plugged in; nothing at a bank that knows no other."""

    payments: Payments | None = None
    switch: Switch | None = None
    relay: Relay | None = None
