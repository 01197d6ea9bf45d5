"""A gateway's part of its node: banks come in, their payments go through the coordinator, operators are answered.

Plugged into the node, it listens as long as that runs, and works while it is primary: first every payment that was left
undecided is given up, and only then banks are let in. A standby turns banks away; they try the other address.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import msgspec

from fortress.errors import (
    BankRejected,
    Busy,
    LedgerError,
    MessageInvalid,
    NotPrimary,
    Refused,
    RetryableError,
    Status,
    Throttled,
    UnknownOperation,
)
from fortress.gateway.coordinator import TICK_S, Allowances, Coordinator
from fortress.gateway.directory import Directory
from fortress.gateway.doubts import SwitchDoubts
from fortress.gateway.links import Answerer, Link
from fortress.gateway.messages import Message, Register, Registered
from fortress.gateway.questions import RESOLVE, STEPS, StepsOf, WhoIs
from fortress.gateway.reception import Reception
from fortress.gateway.relay import Relay
from fortress.gateway.settlement import Settlement
from fortress.ledger.model import BankState
from fortress.protocol.accounts import ResolveAnswer
from fortress.server.logs import log_event
from fortress.server.process import Process

RETRY_S: Final = 1.0
RESOLVES_PER_S: Final = 50
RESOLVES_AT_ONCE: Final = 200
"""Names that one bank may ask for: enough for its customers, too few to go through another bank's."""

logger = logging.getLogger(__name__)


class Switch:
    """This node as a gateway (`fortress.server.ports.Part`, `fortress.server.ports.Switch`).

    Args:
        process: the node; it is plugged into its ports from here on.

    Attributes:
        directory: the banks.
        coordinator: the payments under way.
        port: that it listens on for banks, once started.
    """

    def __init__(self, process: Process) -> None:
        settings = process.folder.settings
        self._process = process
        self._settings = settings
        self._bank = bank = process.node.bank
        self._name = settings.node.bank
        self.port = 0
        self.directory = Directory(bank)
        self.coordinator = Coordinator(
            bank,
            link_of=self.directory.link_of,
            expects=self.directory.expects,
            log=lambda: process.server.request_log,
            deadline_us=settings.switch.deadline_ms * 1_000,
        )
        self._settlement = Settlement(bank, self.directory.ask)
        self._doubts = SwitchDoubts(bank, ask=self.directory.ask, machines=self.coordinator.machines)
        self._reception = Reception(
            settings,
            lambda: bank.state.banks,
            register=self._register,
            on_message=self._heard,
            on_lost=self._lost,
            answer=self._answerer_of,
        )
        self._relay = Relay(
            self.directory,
            authority=lambda name: bank.state.banks[name].authority,
            settings=settings.switch,
            idle_s=lambda: process.folder.settings.server.idle_s,
            is_standby=lambda: not process.is_primary,
        )
        self._is_open = False
        self._duty: asyncio.Task[None] | None = None
        self._resolves = Allowances(RESOLVES_PER_S, RESOLVES_AT_ONCE)
        self.banks = self.directory.banks
        self.add_bank = self.directory.add_bank
        self.suspend_bank = self.directory.suspend_bank
        self.positions = self.directory.positions
        self.windows = self._settlement.windows
        self.window = self._settlement.window
        self.close_window = self._settlement.close_window
        self.payment = self._doubts.payment
        self.payments = self._doubts.payments
        self.resolve_payment = self._doubts.resolve_payment
        process.node.ports.switch = self
        process.node.ports.relay = self._relay

    # --- A part of the node ------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Listen for banks, and work whenever this node is primary.

        Raises:
            AddressInUse, CertificateUnusable: it cannot listen.
        """
        self.port = self._reception.start()
        log_event(logger, logging.INFO, "gateway is listening for banks", port=self.port)
        self._process.attend(self._take_up, self._lay_down)

    async def stop(self) -> None:
        """End all links and connections; what was not decided is given up by the next primary."""
        self._lay_down()
        duty = self._duty
        if duty is not None:
            await asyncio.gather(duty, return_exceptions=True)
        await self._reception.stop()
        await self._relay.close()

    def statistics(self) -> dict[str, object]:
        """Tell of banks, payments, windows and relayed customers."""
        found = self.coordinator.statistics()
        return {
            "switch": {
                "banks": len(self._bank.state.banks),
                "banks_connected": self.directory.connected,
                **found,
                **self._settlement.statistics(),
            },
            "payments": found["payments"],
            "payments_in_doubt": found["payments_in_doubt"],
            "banks_connected": self.directory.connected,
            **self._relay.statistics(),
        }

    def _take_up(self) -> None:
        before = self._duty
        self._duty = asyncio.get_running_loop().create_task(self._be_gateway(before))
        self._duty.add_done_callback(self._off_duty)

    def _lay_down(self) -> None:
        """Another node is the gateway from now on, or none; nothing that this one has begun counts here any more."""
        self._is_open = False
        self.coordinator.leave()
        self.directory.clear()
        if self._duty is not None:
            self._duty.cancel()

    def _off_duty(self, task: asyncio.Task[None]) -> None:
        """A gateway that keeps time no longer would leave payments undecided: the node ends."""
        if not task.cancelled() and (fault := task.exception()) is not None:
            logger.error("the gateway's part failed", exc_info=fault)
            self._process.fail(LedgerError(f"the gateway's part of this node failed: {fault!r}"))

    async def _be_gateway(self, before: asyncio.Task[None] | None) -> None:
        """Give up what was left undecided, let banks in, and keep time until this node is primary no longer."""
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        try:
            await self._recover()
            self._is_open = True
            self.directory.open()
            self._settlement.start()
            log_event(logger, logging.INFO, "gateway is open", epoch=self._bank.engine.epoch)
            while True:
                await asyncio.sleep(TICK_S)
                self.coordinator.tick()
        finally:
            await self._settlement.stop()

    async def _recover(self) -> None:
        while True:
            try:
                await self.coordinator.recover()
                return
            except RetryableError as error:
                log_event(logger, logging.WARNING, "gateway is not open yet", reason=error.message)
                await asyncio.sleep(RETRY_S)

    # --- Banks -------------------------------------------------------------------------------------------------------
    def _register(self, link: Link, register: Register) -> Registered:
        """Take a bank in, and tell it what it may have missed.

        Raises:
            NotPrimary, Busy: not here, or not yet.
            BankRejected: this bank, or this node of it, is not welcome.
        """
        if not self._process.is_primary:
            raise NotPrimary("this node of the gateway is the standby; try the other one")
        if not self._is_open:
            raise Busy("this gateway has just become primary and is not open yet")
        self.directory.sit(link, register)
        bank, state = register.bank, self._bank.state
        log_event(
            *(logger, logging.INFO, "bank registered"),
            bank=bank,
            node=register.node,
            epoch=register.epoch,
            primary=register.primary,
            standby=register.standby,
        )
        # the machines' messages leave with the answer to the registration, behind it
        asyncio.get_running_loop().call_soon(self._greet, link, bank)
        number = state.banks[bank].number
        currencies = tuple(currency for owner, currency in sorted(state.positions) if owner == number)
        return Registered(self._name, self._bank.engine.epoch, currencies)

    def _greet(self, link: Link, bank: str) -> None:
        if self.directory.has_seat(link, bank):
            self.coordinator.connected(bank)

    def _heard(self, link: Link, bank: str, message: Message) -> None:
        """Take what a registered bank says.

        Raises:
            BankRejected: it is nothing that a bank says.
        """
        if not self.directory.has_seat(link, bank):
            return  # it was taken over, or this node is primary no longer
        if not self.coordinator.hear(bank, message):
            raise BankRejected(f"bank {bank!r} says {type(message).__name__}, which is the gateway's to say")

    def _lost(self, link: Link, bank: str, reason: Exception | None) -> None:
        if self.directory.rise(link, bank):
            log_event(logger, logging.WARNING, "bank lost", bank=bank, reason=str(reason or "it ended the link"))

    # --- Questions ---------------------------------------------------------------------------------------------------
    def _answerer_of(self, bank: str) -> Answerer:
        async def answer(link: Link, about: str, fields: msgspec.Raw) -> object:
            return await self._answer(bank, about, fields)

        return answer

    async def _answer(self, asking: str, about: str, fields: msgspec.Raw) -> object:
        """Answer a bank's question.

        Raises:
            MessageInvalid: it cannot be read.
            UnknownOperation: nobody answers that here.
            FortressError: the answer is no.
        """
        if not self._is_open:
            raise NotPrimary()
        if about == RESOLVE:
            return await self._resolve(asking, _read(fields, WhoIs))
        if about == STEPS:
            return await self._doubts.steps(asking, _read(fields, StepsOf))
        raise UnknownOperation(f"unknown question {about!r}")

    async def _resolve(self, asking: str, asked: WhoIs) -> ResolveAnswer:
        """Ask the payee's bank who the payee is, so many times a second for each bank that asks."""
        if not self._resolves.take(asking):
            raise Throttled("this bank asks for too many names", {"wait_ms": int(1000 / RESOLVES_PER_S) + 1})
        banks = self._bank.state.banks
        member = banks.get(asked.bank)
        if member is None or asked.bank == asking:
            raise Refused(Status.payee_bank_unknown, {"bank": asked.bank})
        suspended = [name for name in (asking, asked.bank) if banks[name].state != BankState.active]
        if suspended:
            raise Refused(Status.bank_suspended, {"bank": suspended[0]})
        return await self.directory.ask(asked.bank, RESOLVE, asked, ResolveAnswer)


def _read(fields: msgspec.Raw, type: type[Any]) -> Any:
    try:
        return msgspec.msgpack.decode(fields, type=type)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MessageInvalid(f"a question cannot be read: {error}") from error
