"""The banks of a gateway: who may take part is in the ledger, who is here is in memory, and every bank is told both.

A bank's link is its seat. A second link of the same bank takes the seat over unless it is of an older epoch of that
bank's pair: then the node that dials is primary no longer and does not know it yet.
"""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from msgspec.structs import replace

from fortress.errors import BankRejected, BankUnreachable, Refused, Status
from fortress.gateway import messages
from fortress.gateway.links import Link
from fortress.gateway.messages import BankState, Register
from fortress.ledger import entries
from fortress.ledger.commands import ChangeAccount, ChangeBank, OpenAccount
from fortress.ledger.model import AccountKind, Actor
from fortress.ledger.model import BankState as State
from fortress.ledger.rules import Verdict
from fortress.protocol.fields import Done
from fortress.protocol.switching import (
    AddBank,
    BanksAnswer,
    BankView,
    PositionsAnswer,
    PositionView,
    SuspendBank,
)
from fortress.server.bank import Bank, accepted, derived_id, now_us
from fortress.server.switch_handlers import authority_of

PUSH_S: Final = 0.02
"""Changes within this time are told together."""
RETURN_S: Final = 3.0
"""So long a bank is expected that has just gone, or is not back yet since the gateway failed over.

Its standby takes over in less, and whoever pays it meanwhile waits."""

Fields = TypeVar("Fields")


class Seat:
    """A bank's link, and how it registered."""

    __slots__ = ("link", "register", "since_us")

    def __init__(self, link: Link, register: Register) -> None:
        self.link = link
        self.register = register
        self.since_us = now_us()


class Directory:
    """The banks as they stand.

    Args:
        bank: the gateway's own books.
    """

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._seats: dict[str, Seat] = {}
        self._gone_us: dict[str, int] = {}
        self._opened_us = 0
        self._changed = asyncio.Event()
        self._push_timer: asyncio.TimerHandle | None = None

    # --- Who is here ---------------------------------------------------------------------------------------------
    def sit(self, link: Link, register: Register) -> None:
        """Give a bank's seat to a link.

        Raises:
            BankRejected: the bank is unknown or suspended, or a newer epoch of it is here.
        """
        name = register.bank
        member = self._bank.state.banks.get(name)
        if member is None:
            raise BankRejected(f"bank {name!r} is not known here")
        if member.state != State.active:
            raise BankRejected(f"bank {name!r} is suspended here")
        old = self._seats.get(name)
        if old is not None and old.register.epoch > register.epoch:
            newer = old.register
            raise BankRejected(f"node {newer.node!r} speaks for bank {name!r} in epoch {newer.epoch}, which is newer")
        self._seats[name] = Seat(link, register)
        if old is not None:
            old.link.end(BankRejected("another link of this bank has taken over"))
        self._tell_change()

    def rise(self, link: Link, bank: str) -> bool:
        """Take note that a link has ended; False when the seat is another's by now."""
        if not self.has_seat(link, bank):
            return False
        del self._seats[bank]
        self._gone_us[bank] = now_us()
        self._tell_change()
        return True

    def open(self) -> None:
        """Begin to expect all banks: this node is the gateway from now on."""
        self._opened_us = now_us()

    def expects(self, bank: str) -> bool:
        """Tell whether a bank is not here, but ought to be back any moment."""
        member = self._bank.state.banks.get(bank)
        if member is None or member.state != State.active or bank in self._seats:
            return False
        since_us = max(self._gone_us.get(bank, 0), self._opened_us)
        return now_us() - since_us < RETURN_S * 1_000_000

    def clear(self) -> None:
        """End all links: another node is the gateway now, or none."""
        seats, self._seats = self._seats, {}
        self._gone_us.clear()
        for seat in seats.values():
            seat.link.finish()
        if self._push_timer is not None:
            self._push_timer.cancel()
            self._push_timer = None

    def has_seat(self, link: Link, bank: str) -> bool:
        """Tell whether this link speaks for the bank now."""
        seat = self._seats.get(bank)
        return seat is not None and seat.link is link

    def link_of(self, bank: str) -> Link | None:
        """Give a bank's link; None while it is not here."""
        seat = self._seats.get(bank)
        return seat.link if seat is not None else None

    @property
    def connected(self) -> int:
        """How many banks are here."""
        return len(self._seats)

    async def ask(self, bank: str, about: str, fields: object, type: type[Fields]) -> Fields:
        """Ask a bank over its link, as `fortress.gateway.links.Link.ask`.

        Raises:
            BankUnreachable: it is not here, or went away.
            FortressError: there is no answer, or it is a refusal.
        """
        link = self.link_of(bank)
        if link is None:
            raise BankUnreachable("", {"bank": bank})
        return await link.ask(about, fields, type)

    # --- What is told of them ------------------------------------------------------------------------------------
    def find(self, bank: str) -> BankState | None:
        """Give a bank as it stands, with its primary's address for clients first; None if there is none."""
        member = self._bank.state.banks.get(bank)
        if member is None:
            return None
        state, seat = State(member.state).name, self._seats.get(bank)
        if seat is None:
            return BankState(bank, state, is_connected=False, since_us=self._gone_us.get(bank, member.added_us))
        r = seat.register
        addresses = tuple(address for address in (r.primary, r.standby) if address)
        return BankState(bank, state, True, r.node, r.epoch, addresses, seat.since_us)

    def states(self) -> tuple[BankState, ...]:
        """Give all banks as they stand, in the order in which they were added."""
        found = (self.find(bank) for bank in self._bank.state.banks)
        return tuple(state for state in found if state is not None)

    async def wait_change(self) -> None:
        """Wait until any bank stands otherwise than now."""
        await self._changed.wait()

    def _tell_change(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if self._push_timer is None:
            self._push_timer = asyncio.get_running_loop().call_later(PUSH_S, self._push)

    def _push(self) -> None:
        self._push_timer = None
        message = messages.Directory(self.states())
        for seat in self._seats.values():
            seat.link.send(message)

    # --- What operators ask --------------------------------------------------------------------------------------
    async def banks(self) -> BanksAnswer:
        """List the banks as they stand."""
        states = self.states()
        await self._bank.committed(self._bank.state.position)
        return BanksAnswer(
            [BankView(s.bank, s.state, s.is_connected, s.node, s.epoch, list(s.addresses), s.since_us) for s in states]
        )

    async def add_bank(self, actor: Actor, request: AddBank) -> Done:
        """Let a bank take part in a currency, down to a net debit cap; or change its cap or its authority.

        Three entries; the last one carries the request's id, so what was interrupted is done again from its beginning,
        and what was done is not.

        Raises:
            Refused: as the rules say; the refusal repeats for this id.
            MessageInvalid: the authority is none.
        """
        bank, name = self._bank, request.bank
        known = await bank.known(request.id)
        if known is not None:
            if isinstance(known[1], entries.Refused):
                raise Refused(Status(known[1].status), dict(known[1].facts))
            return await self._set_cap(actor, request)  # whose rules tell a repeat from another use of the id
        authority = authority_of(request.authority) if request.authority else b""
        change = ChangeBank(actor, derived_id(b"fortress bank v1", request.id), name, "add", authority)
        await self._begin(change, request.id)
        number = bank.state.banks[name].number
        if (number, request.currency) not in bank.state.positions:
            id = derived_id(b"fortress position v1", request.id)
            kind = int(AccountKind.position)
            await self._begin(OpenAccount(actor, id, -number, kind, request.currency, -request.cap_minor), request.id)
        done = await self._set_cap(actor, request)
        self._tell_change()
        return done

    async def _begin(self, command: ChangeBank | OpenAccount, id: bytes) -> Verdict:
        """Do a step that comes before the one with the request's id; its refusal is the request's."""
        verdict = await self._bank.commit(command)
        if verdict.status is not Status.ok:
            verdict = await self._bank.commit(replace(command, id=id))
        return accepted(verdict)

    async def _set_cap(self, actor: Actor, request: AddBank) -> Done:
        bank = self._bank
        member = bank.state.banks.get(request.bank)
        account = bank.state.positions.get((member.number, request.currency), 0) if member is not None else 0
        verdict = accepted(await bank.commit(ChangeAccount(actor, request.id, account, "limits", -request.cap_minor)))
        return Done(position=verdict.position, replayed=verdict.replayed)

    async def suspend_bank(self, actor: Actor, request: SuspendBank) -> Done:
        """Refuse a bank's payments from now on and end its link, or let it register again.

        Raises:
            Refused: the bank is unknown, or in that state already.
        """
        act = "resume" if request.resume else "suspend"
        verdict = accepted(await self._bank.commit(ChangeBank(actor, request.id, request.bank, act)))
        if not verdict.replayed:
            seat = self._seats.get(request.bank) if act == "suspend" else None
            if seat is not None:
                seat.link.finish()
            self._tell_change()
        return Done(position=verdict.position, replayed=verdict.replayed)

    async def positions(self) -> PositionsAnswer:
        """List where the banks stand with each other, as it is committed."""
        bank = self._bank
        names = {member.number: name for name, member in bank.state.banks.items()}
        rows = []
        for (number, currency), account_number in sorted(bank.state.positions.items()):
            account = await bank.account(account_number)
            if account is not None:
                cap_minor = -(account.floor or 0)
                sums = account.balance, account.debits_pending, cap_minor
                rows.append(PositionView(names[number], currency, account_number, *sums))
        position = bank.state.position
        await bank.committed(position)
        return PositionsAnswer(rows, position)
