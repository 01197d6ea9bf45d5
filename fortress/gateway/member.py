"""A bank's side of the payments between banks: plugged into its node, working while that is primary.

Owns the link to the gateway (`.dialing`), the machines of the payments and their ports (`.participant`, `.member_legs`,
`.member_ports`), what the gateway last told about all banks, and answers what the gateway asks. Where payments stand is
told by `.doubts`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final, TypeVar

import msgspec

from fortress.errors import (
    BankUnreachable,
    FortressError,
    GatewayUnreachable,
    LedgerError,
    MessageInvalid,
    Refused,
    Status,
    UnknownOperation,
)
from fortress.gateway import settlement
from fortress.gateway.dialing import Dialer
from fortress.gateway.directory import RETURN_S
from fortress.gateway.doubts import BankDoubts
from fortress.gateway.links import Link
from fortress.gateway.member_ports import MemberPorts
from fortress.gateway.messages import BankState, Directory, Message, Outcome, Prepare, Register
from fortress.gateway.participant import Leg
from fortress.gateway.questions import LEAVES, RESOLVE, ROOT, STEPS, StepsOf, WhoIs
from fortress.ledger.commands import PlacePayment
from fortress.ledger.model import Actor
from fortress.ledger.model import BankState as State
from fortress.protocol.accounts import ResolveAnswer
from fortress.protocol.fields import Done
from fortress.protocol.payments import GetPayment, ListPayments, PaymentsAnswer, PaymentView, ResolvePayment
from fortress.protocol.switching import BanksAnswer, BankView
from fortress.server.logs import log_event
from fortress.server.ports import Paid
from fortress.server.process import Process
from fortress.server.reading_handlers import resolve_own

TICK_S: Final = 0.1
LOAD_EVERY_S: Final = 30.0
LOAD_RETRY_S: Final = 0.5
SUSPENDED: Final = State.suspended.name

Fields = TypeVar("Fields")

logger = logging.getLogger(__name__)


class _Banks:
    """The banks as the gateway last told.

    Args:
        own: this bank's name.

    Attributes:
        states: by name; empty while nothing was told.
    """

    def __init__(self, own: str) -> None:
        self._own = own
        self._gone_s: dict[str, float] = {}
        self.states: dict[str, BankState] = {}

    def told(self, message: Directory) -> None:
        """Take what the gateway tells; who is not there is gone since it was first told so."""
        now_s = asyncio.get_running_loop().time()
        self.states = {bank.bank: bank for bank in message.banks}
        gone = [name for name, bank in self.states.items() if not bank.is_connected]
        self._gone_s = {name: self._gone_s.get(name, now_s) for name in gone}

    def expects(self, bank: str) -> bool:
        """Tell whether a bank that is not there ought to be back any moment."""
        gone_s = self._gone_s.get(bank)
        return gone_s is not None and asyncio.get_running_loop().time() - gone_s < RETURN_S

    def objection_to(self, bank: str) -> FortressError | None:
        """Tell why nothing can be paid to a bank now; None if that is not known."""
        own, found = self.states.get(self._own), self.states.get(bank)
        if not self.states:
            return None
        if found is None:
            return Refused(Status.payee_bank_unknown, {"bank": bank})
        if found.state == SUSPENDED:
            return Refused(Status.bank_suspended, {"bank": bank})
        if own is not None and own.state == SUSPENDED:
            return Refused(Status.bank_suspended, {"bank": self._own})
        return None if found.is_connected else BankUnreachable("", {"bank": bank})


class Member:
    """This node as a bank of its gateway (`fortress.server.process.Part`, `fortress.server.ports.Payments`).

    Args:
        process: the node; its settings name the gateway, and it is plugged into its ports from here on.
    """

    def __init__(self, process: Process) -> None:
        settings = process.folder.settings
        self._process = process
        self._settings = settings
        self._bank = process.node.bank
        self._name = settings.node.bank
        self._banks = _Banks(self._name)
        self._disputes = 0
        self._is_on_duty = False
        self._lost_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loading: asyncio.Task[None] | None = None
        self._dialer = Dialer(
            settings,
            introduce=self._introduce,
            on_registered=lambda link: self._ports.connected(),
            on_message=self._heard,
            on_lost=self._lost,
            answer=self._answer,
            on_fault=self._fail,
        )
        self._ports = MemberPorts(
            self._bank,
            link=lambda: self._dialer.link,
            objection=self._objection,
            is_passing=lambda command: self._banks.expects(command.counterparty.partition("/")[0]),
            on_dispute=self._disputed,
            log=lambda: process.server.request_log,
            flush=process.server.flush,
            wait_us=settings.gateway.wait_ms * 1_000,
        )
        self._doubts = BankDoubts(
            self._bank,
            gateway=settings.gateway.bank,
            ask=self._ask,
            away_s=self._away_s,
            drop=lambda id: self._ports.legs.pop(id, None),
        )
        process.node.ports.payments = self

    # --- A part of the node ------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Work whenever this node is primary."""
        self._process.attend(self._take_up, self._lay_down)

    async def stop(self) -> None:
        """End the link; whoever still waits is answered."""
        self._lay_down()
        await self._dialer.stop()
        await self._ports.close()

    def statistics(self) -> dict[str, object]:
        """Tell of the link and of what is under way."""
        registered, since_s = self._dialer.registered, self._dialer.since_s
        return {
            "gateway": {
                "bank": self._settings.gateway.bank,
                "connected": self._ports.is_connected,
                "since_s": None if since_s is None else round(since_s, 3),
                "epoch": registered.epoch if registered is not None else 0,
                "payments_open": len(self._ports.legs),
                "payers_waiting": len(self._ports.orders),
                "disputes": self._disputes,
            }
        }

    def _take_up(self) -> None:
        """Begin to answer for the bank: find what is open, link to the gateway."""
        if not self._is_on_duty:
            self._is_on_duty = True
            self._lost_s = asyncio.get_running_loop().time()
            self._loading = asyncio.get_running_loop().create_task(self._keep_loaded())
            self._loading.add_done_callback(self._loading_ended)
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
            self._dialer.start()

    def _lay_down(self) -> None:
        """Another node answers for the bank from now on, or none."""
        if self._is_on_duty:
            self._is_on_duty = False
            if self._timer is not None:
                self._timer.cancel()
            if self._loading is not None:
                self._loading.cancel()
            self._dialer.hang_up()
            self._ports.leave()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self._ports.tick()

    async def _keep_loaded(self) -> None:
        """Find the open payments, at first and again and again: nothing that is open may be out of sight."""
        while True:
            wait_s = LOAD_EVERY_S * random.uniform(0.5, 1.0)
            try:
                await self._ports.load()
            except FortressError as error:
                log_event(logger, logging.WARNING, "open payments not read", reason=error.message)
                wait_s = LOAD_RETRY_S
            await asyncio.sleep(wait_s)

    def _loading_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._fail(fault)

    def _fail(self, fault: BaseException) -> None:
        """End the node after a fault in this part: left like this it would leave payments open for ever."""
        logger.error("the bank's part in payments failed", exc_info=fault)
        self._process.fail(LedgerError(f"this node's part in payments between banks failed: {fault!r}"))

    # --- The link ----------------------------------------------------------------------------------------------------
    def _introduce(self) -> Register:
        settings, epoch = self._settings, self._bank.engine.epoch
        here = f"{settings.server.host}:{self._process.server.port}"
        own, other = here, settings.pair.peer_clients
        told = [address.strip() for address in settings.gateway.clients.split(",") if address.strip()]
        if told:
            own, other = told[0], told[1] if len(told) > 1 else other
        return Register(self._name, settings.node.name, epoch, own, other)

    def _lost(self) -> None:
        self._lost_s = asyncio.get_running_loop().time()

    def _away_s(self) -> float:
        """Tell for how long the gateway was not there; 0 while it is, and on a node that does not look for it."""
        if not self._is_on_duty or self._ports.is_connected:
            return 0.0
        return asyncio.get_running_loop().time() - self._lost_s

    def _heard(self, link: Link, message: Message) -> None:
        if isinstance(message, Outcome):
            self._ports.outcome(message)
        elif isinstance(message, Prepare):
            self._ports.prepare(message)
        elif isinstance(message, Directory):
            self._banks.told(message)
            self._ports.look_again()
        else:
            log_event(logger, logging.WARNING, "gateway says what only banks say", message=type(message).__name__)

    def _objection(self, command: PlacePayment) -> FortressError | None:
        """Tell that a payment could not arrive now, as far as the gateway told.

        What it would refuse for good it refuses itself: only a refusal that is in the books repeats.
        """
        objection = self._objection_to(command.counterparty.partition("/")[0])
        return objection if isinstance(objection, BankUnreachable) else None

    def _objection_to(self, bank: str) -> FortressError | None:
        return self._banks.objection_to(bank) if self._ports.is_connected else None

    def _disputed(self, leg: Leg, status: Status) -> None:
        """Keep for operators that the gateway decided what these books contradict; nothing is done to them."""
        self._disputes += 1
        if status is Status.payment_unknown:
            log_event(logger, logging.ERROR, "gateway commits a payment that is not known here", id=leg.id.hex())
        else:
            self._doubts.contradicted(leg.id, sequence=leg.sequence, reason=leg.reason)

    # --- Questions ---------------------------------------------------------------------------------------------------
    async def _ask(self, about: str, fields: object, type: type[Fields]) -> Fields:
        link = self._dialer.link
        if link is None:
            raise GatewayUnreachable()
        return await link.ask(about, fields, type)

    async def _answer(self, link: Link, about: str, fields: msgspec.Raw) -> object:
        """Answer the gateway's question.

        Raises:
            MessageInvalid: it cannot be read.
            FortressError: the answer is no.
        """
        bank = self._bank
        try:
            if about == RESOLVE:
                asked = msgspec.msgpack.decode(fields, type=WhoIs)
                if asked.bank != self._name:
                    raise Refused(Status.bank_unknown, {"bank": asked.bank})
                return await resolve_own(bank, asked.payee, asked.currency)
            if about == STEPS:
                return await self._doubts.steps(msgspec.msgpack.decode(fields, type=StepsOf))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise MessageInvalid(f"the question {about!r} cannot be read: {error}") from error
        if about == ROOT:
            return await settlement.answer_root(bank, fields)
        if about == LEAVES:
            return await settlement.answer_leaves(bank, fields)
        raise UnknownOperation(f"unknown question {about!r}")

    # --- What customers ask ------------------------------------------------------------------------------------------
    def pay(self, command: PlacePayment, answered: Paid) -> None:
        """Carry out a payment whose payee is at another bank; ``answered`` is called on the loop, once.

        Raises:
            Busy: too many wait already.
        """
        self._ports.pay(command, answered)

    async def resolve(self, bank: str, payee: str, currency: str) -> ResolveAnswer:
        """Ask another bank for the name and account of a payee.

        Raises:
            Refused: there is no such payee, or bank.
            GatewayUnreachable, BankUnreachable, DeadlinePassed: nobody could be asked.
        """
        while (objection := self._objection_to(bank)) is not None:
            if not isinstance(objection, BankUnreachable) or not self._banks.expects(bank):
                raise objection
            await asyncio.sleep(TICK_S)
        return await self._ask(RESOLVE, WhoIs(bank, payee, currency), ResolveAnswer)

    async def banks(self) -> BanksAnswer:
        """List the banks as the gateway last told.

        Raises:
            GatewayUnreachable: it has not told yet.
        """
        states = self._banks.states
        if not states:
            raise GatewayUnreachable("the gateway has not answered yet")
        return BanksAnswer([_view(each) for each in states.values()])

    async def payment(self, actor: Actor, request: GetPayment) -> PaymentView:
        """Read a payment of the actor's own, or for staff anybody's."""
        return await self._doubts.payment(actor, request)

    async def payments(self, actor: Actor, request: ListPayments) -> PaymentsAnswer:
        """List payments between banks."""
        return await self._doubts.payments(actor, request)

    async def resolve_payment(self, actor: Actor, request: ResolvePayment) -> Done:
        """End a payment by hand; approved already."""
        return await self._doubts.resolve_payment(actor, request)


def _view(b: BankState) -> BankView:
    return BankView(b.bank, b.state, b.is_connected, b.node, b.epoch, list(b.addresses), b.since_us)
