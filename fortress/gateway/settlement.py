"""Settlement windows of a gateway, and whether the banks' own books agree with them.

A window is a range of positions in the gateway's ledger: the payments that were decided there. What a bank paid and was
paid in it follows from the gateway's books alone; whether the bank's books say the same is found out by asking the bank
over its link for the Merkle root over its payments of a span of sequences, and walking down where the roots differ
(:mod:`fortress.gateway.reconcile`). So a bank agrees with a window exactly when it has carried out all payments of it
and no others, and only then the window can be closed.

While a gateway is primary it compares by itself, every few minutes and a bounded piece at a time, the window that was
closed last and the open one. A difference is an error in the log and a number in the status.

The lower half is a bank's: what it answers from its books.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Protocol, TypeVar

import msgspec
from msgspec import Meta

from fortress.errors import FortressError, MessageInvalid, Refused, RetryableError, Status
from fortress.gateway.reconcile import (
    LEAVES_MAX,
    MISSING_THERE,
    Cleared,
    Difference,
    Part,
    Question,
    Tally,
    Walk,
    cleared_at_bank,
    cleared_at_gateway,
    is_payment,
    root_of,
    sides,
)
from fortress.ledger.commands import CloseWindow as CloseWindowCommand
from fortress.ledger.entries import WindowClosed
from fortress.ledger.model import Actor, BankState
from fortress.protocol.fields import Currency, Done
from fortress.protocol.switching import (
    CloseWindow,
    GetWindow,
    ListWindows,
    WindowRow,
    WindowsAnswer,
    WindowView,
)
from fortress.server.bank import Bank, accepted, now_us
from fortress.server.logs import log_event

SPAN: Final = 65_536
"""Sequences that one question may be about: what a bank answers in a fraction of a second."""

SETTLE_S_MAX: Final = 3.0
SETTLE_STEP_S: Final = 0.1
"""How long, and how often, a bank is asked again that has not carried everything out yet."""

RECONCILE_EVERY_S: Final = 120.0
SPANS_AT_ONCE: Final = 8
TRIES: Final = 3

YES, NO, UNKNOWN = "yes", "no", "unknown"
Fields = TypeVar("Fields")
Side = tuple[str, str]
"""A bank and a currency."""

logger = logging.getLogger(__name__)


class AskBank(Protocol):
    """Asks a bank over its link."""

    def __call__(self, bank: str, about: str, fields: object, type: type[Fields]) -> Awaitable[Fields]:
        """Ask, and give the answer read as that type.

        Raises:
            RetryableError: there is no answer: BankUnreachable, DeadlinePassed, Busy.
            BankRejected: the answer is not of that type.
            FortressError: what the bank answered instead.
        """


# --- What is asked about a range -------------------------------------------------------------------------------------
class Range(msgspec.Struct, frozen=True):
    """The fields of the questions "root" and "leaves": sequences after one and up to another, in one currency."""

    after: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    to: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    currency: Currency
    limit: Annotated[int, Meta(ge=0, le=LEAVES_MAX)] = 0


class Root(msgspec.Struct, frozen=True):
    """The answer about "root"."""

    root: Annotated[bytes, Meta(min_length=32, max_length=32)]


class Leaves(msgspec.Struct, frozen=True):
    """The answer about "leaves"."""

    payments: Annotated[list[Cleared], Meta(max_length=LEAVES_MAX)]


_decode_range = msgspec.msgpack.Decoder(Range).decode


# --- The gateway's side ----------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Standing:
    """How one bank and currency compare over a range."""

    tally: Tally = field(default_factory=Tally)
    agrees: str = YES
    difference: Difference | None = None

    def note(self, agrees: str, difference: Difference | None) -> None:
        """Take over what one span came to; the first that is not a yes stays."""
        if self.agrees == YES:
            self.agrees, self.difference = agrees, difference


@dataclass(frozen=True, slots=True)
class Checked:
    """The beginning of the open window about which all banks were found to agree, so that closing a long one is short.

    Attributes:
        after: where the window begins.
        to: up to where all agreed.
        tallies: of each side up to there.
    """

    after: int = 0
    to: int = 0
    tallies: dict[Side, Tally] = field(default_factory=dict)


@dataclass(slots=True)
class Round:
    """How far the automatic comparison of the window closed last has come: it goes through it again and again."""

    after: int
    to: int
    at: int

    def spans(self) -> Iterator[tuple[int, int]]:
        """Give the next few spans; behind the last one it begins anew next time."""
        for span in spans(self.at, min(self.to, self.at + SPANS_AT_ONCE * SPAN)):
            yield span
            self.at = span[1]
        if self.at >= self.to:
            self.at = self.after


class Settlement:
    """The windows of a gateway.

    Args:
        bank: the gateway's own books.
        ask: asks a bank over its link.
    """

    def __init__(self, bank: Bank, ask: AskBank) -> None:
        self._bank = bank
        self._ask = ask
        self._chore: asyncio.Task[None] | None = None
        self._checked = Checked()
        self._round: Round | None = None
        self._differences: dict[Side, str] = {}
        self._checked_us = 0
        self._seen = 0

    # --- Windows ---------------------------------------------------------------------------------------------------
    async def windows(self, request: ListWindows) -> WindowsAnswer:
        """List the windows, newest first; the open one is the first."""
        bank = self._bank
        position = bank.committer.committed_position
        await bank.tables_hold(position)
        rows = await bank.read(bank.queries.windows, request.limit)
        views = [WindowView(0, rows[0].to if rows else 0, position)]
        views += [WindowView(row.number, row.after, row.to, row.closed_us) for row in rows]
        return WindowsAnswer(views[: request.limit])

    async def window(self, request: GetWindow) -> WindowView:
        """Report one window, compared with the banks' books as they are now.

        Raises:
            MessageInvalid: there is no such window.
        """
        found = await self._find(request.number)
        rows = await self._report(found.after, found.to)
        return msgspec.structs.replace(found, rows=rows)

    async def _find(self, number: int) -> WindowView:
        bank = self._bank
        position = bank.committer.committed_position
        await bank.tables_hold(position)
        if number == 0:
            return WindowView(0, bank.state.windows.to, position)
        row = await bank.read(bank.queries.window, number)
        if row is None:
            raise MessageInvalid(f"there is no window {number}", {"field": "number"})
        return WindowView(row.number, row.after, row.to, row.closed_us)

    async def close_window(self, actor: Actor, request: CloseWindow) -> Done:
        """End the open window here and now, once every bank has carried out all that was decided in it.

        Raises:
            Refused: ``window_not_settled``: a bank has not, or cannot be asked; nothing is written, so the same id may
                be used again. The facts name the bank.
        """
        bank = self._bank
        known = await bank.known(request.id)
        if known is not None and type(known[1]) is WindowClosed:
            return Done(position=known[0], replayed=True)
        to = bank.committer.committed_position
        await bank.tables_hold(to)
        for row in await self._report(bank.state.windows.to, to):
            if row.agrees != YES and not self._is_idle(row):
                facts = {"bank": row.bank, "currency": row.currency, "agrees": row.agrees, "differs": row.differs}
                raise Refused(Status.window_not_settled, dict(facts))
        verdict = accepted(await bank.commit(CloseWindowCommand(actor, request.id, to)))
        return Done(position=verdict.position, replayed=verdict.replayed)

    def _is_idle(self, row: WindowRow) -> bool:
        """Tell whether nobody need wait for this bank: it is suspended, paid nothing, and cannot be asked."""
        member = self._bank.state.banks[row.bank]
        return member.state == BankState.suspended and not row.payments and row.agrees == UNKNOWN

    # --- Comparing -------------------------------------------------------------------------------------------------
    def _sides(self) -> list[Side]:
        """List every bank with each currency in which it has a position."""
        state = self._bank.state
        names = {member.number: name for name, member in state.banks.items()}
        return sorted((names[number], currency) for number, currency in state.positions if number in names)

    async def _report(self, after: int, to: int) -> list[WindowRow]:
        """Compare a window from its beginning; a long open one from where all agreed before."""
        is_long = to - after > SPANS_AT_ONCE * SPAN
        standings, at = self._begun(after) if is_long else ({side: Standing() for side in self._sides()}, after)
        await self._compare_spans(after, spans(at, to), standings)
        return [_row(side, standing) for side, standing in standings.items()]

    def _begun(self, after: int) -> tuple[dict[Side, Standing], int]:
        """Give how all stand at the end of what was found to agree, and where that is."""
        known = self._checked if self._checked.after == after else Checked(after, after)
        tallies = {side: known.tallies.get(side) or Tally() for side in self._sides()}
        return {side: Standing(tally.copy()) for side, tally in tallies.items()}, known.to

    async def _compare_spans(
        self, after: int, found: Iterable[tuple[int, int]], standings: dict[Side, Standing]
    ) -> None:
        """Compare some spans of a window, and remember up to where all agree in the open one."""
        deadline = asyncio.get_running_loop().time() + SETTLE_S_MAX
        for span in found:
            await self._compare_span(span, standings, deadline)
            known = self._checked
            is_further = known.after != after or span[1] > known.to
            is_agreed = all(standing.agrees == YES for standing in standings.values())
            if is_agreed and is_further and after == self._bank.state.windows.to:
                tallies = {side: standing.tally.copy() for side, standing in standings.items()}
                self._checked = Checked(after, span[1], tallies)

    async def _compare_span(self, span: tuple[int, int], standings: dict[Side, Standing], deadline: float) -> None:
        parts = await self._parts(*span)
        nothing = Part()

        def add() -> None:
            for side, standing in standings.items():
                standing.tally.add(side[0], parts.get(side, nothing))

        await self._bank.read(add)  # on a thread: a span takes a tenth of a second
        asked = [side for side, standing in standings.items() if standing.agrees == YES]
        results = await asyncio.gather(
            *(self._settled(side, parts.get(side, nothing), span, deadline) for side in asked)
        )
        for side, result in zip(asked, results, strict=True):
            standings[side].note(*result)

    async def _parts(self, after: int, to: int) -> dict[Side, Part]:
        """Read and hash the payments of a span, on a reader thread."""
        queries = self._bank.queries

        def find() -> dict[Side, Part]:
            rows = queries.window_payments(after, to, limit=to - after)
            found = sides(cleared_at_gateway(row.position, row.entry) for row in rows)
            return {side: Part(payments) for side, payments in found.items()}

        return await self._bank.read(find)

    async def _settled(
        self, side: Side, own: Part, span: tuple[int, int], deadline: float
    ) -> tuple[str, Difference | None]:
        """Compare with a bank, and again for a while if it only has not carried everything out yet."""
        loop = asyncio.get_running_loop()
        while True:
            agrees, difference = await self._compare(side, own, span)
            is_behind = difference is not None and difference.what == MISSING_THERE
            if not is_behind or loop.time() >= deadline:
                return agrees, difference
            await asyncio.sleep(SETTLE_STEP_S)

    async def _compare(self, side: Side, own: Part, span: tuple[int, int]) -> tuple[str, Difference | None]:
        """Compare one bank's payments of a span; its books may change while it is asked, so it gets a few tries."""
        for _ in range(TRIES):
            walk = Walk(own.payments, *span, root=own.root)
            try:
                while (question := walk.question) is not None:
                    await self._put(side, question, walk)
            except FortressError as error:
                if not isinstance(error, RetryableError):
                    log_event(logger, logging.ERROR, "bank does not tell its payments", bank=side[0], reason=str(error))
                return UNKNOWN, None
            if walk.agrees or walk.difference is not None:
                return (YES if walk.agrees else NO), walk.difference
        return UNKNOWN, None

    async def _put(self, side: Side, question: Question, walk: Walk) -> None:
        bank, currency = side
        fields = Range(question.after, question.to, currency, question.limit)
        if question.limit:
            walk.leaves_told((await self._ask(bank, "leaves", fields, Leaves)).payments)
        else:
            walk.root_told((await self._ask(bank, "root", fields, Root)).root)

    # --- By itself -------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to compare by itself; for a gateway that has become primary."""
        if self._chore is None:
            self._seen = self._bank.committer.committed_position
            self._chore = asyncio.get_running_loop().create_task(self._keep_reconciling())
            self._chore.add_done_callback(_tell_fault)

    async def stop(self) -> None:
        """End that."""
        chore, self._chore = self._chore, None
        if chore is not None:
            chore.cancel()
            await asyncio.wait([chore])

    async def _keep_reconciling(self) -> None:
        while True:
            await asyncio.sleep(RECONCILE_EVERY_S)
            try:
                await self.reconcile()
            except FortressError as error:
                log_event(logger, logging.WARNING, "windows not compared", reason=str(error))

    async def reconcile(self) -> None:
        """Compare a piece of the window closed last, and of the open one what was decided a while ago and is new."""
        bank = self._bank
        await bank.tables_hold(bank.committer.committed_position)
        last, seen = bank.state.windows, self._seen
        self._seen = bank.committer.committed_position
        standings, at = self._begun(last.to)
        end = min(seen, at + SPANS_AT_ONCE * SPAN)
        await self._compare_spans(last.to, spans(at, end), standings)
        self._tell(standings)
        closed = await bank.read(bank.queries.window, last.number) if last.number else None
        if closed is not None:
            if self._round is None or self._round.after != closed.after:
                self._round = Round(closed.after, closed.to, closed.after)
            standings = {side: Standing() for side in self._sides()}
            await self._compare_spans(closed.after, self._round.spans(), standings)
            self._tell(standings)
        self._checked_us = now_us()

    def _tell(self, standings: Mapping[Side, Standing]) -> None:
        """Log each difference every time that it is found, and keep the newest of each bank for the status."""
        for (bank, currency), standing in standings.items():
            if standing.difference is not None:
                found = str(standing.difference)
                self._differences[bank, currency] = found
                log_event(
                    logger, logging.ERROR, "books differ from a bank's", bank=bank, currency=currency, difference=found
                )

    def statistics(self) -> dict[str, object]:
        """Give what the status page shows: the last window, when it was compared, and what differed since the start."""
        return {
            "window": self._bank.state.windows.number,
            "reconciled_us": self._checked_us,
            "differences": {f"{bank} {currency}": what for (bank, currency), what in self._differences.items()},
        }


def _tell_fault(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (fault := task.exception()) is not None:
        logger.error("windows are compared no more", exc_info=fault)


def spans(after: int, to: int) -> Iterator[tuple[int, int]]:
    """Cut a range of sequences into spans that one question may be about."""
    while after < to:
        end = min(after + SPAN, to)
        yield after, end
        after = end


def _row(side: Side, standing: Standing) -> WindowRow:
    tally, difference = standing.tally, standing.difference
    differs = str(difference) if difference is not None else ""
    sums = tally.payments, tally.out_minor, tally.in_minor, tally.net_minor
    return WindowRow(*side, *sums, root=tally.root, agrees=standing.agrees, differs=differs)


# --- A bank's side ---------------------------------------------------------------------------------------------------
async def answer_root(bank: Bank, fields: msgspec.Raw) -> Root:
    """Answer the gateway's question "root" from this bank's books.

    Raises:
        MessageInvalid: the question is malformed, or about too much at once.
    """
    _, found = await _own_payments(bank, fields)
    return Root(await bank.read(root_of, found))


async def answer_leaves(bank: Bank, fields: msgspec.Raw) -> Leaves:
    """Answer the gateway's question "leaves" from this bank's books.

    Raises:
        MessageInvalid: the question is malformed, or about too much at once.
    """
    asked, found = await _own_payments(bank, fields)
    return Leaves(found[: asked.limit or LEAVES_MAX])


async def _own_payments(bank: Bank, fields: msgspec.Raw) -> tuple[Range, list[Cleared]]:
    try:
        asked = _decode_range(fields)
    except msgspec.DecodeError as error:
        raise MessageInvalid(f"a question about a window cannot be read: {error}") from error
    if asked.to - asked.after > SPAN:
        raise MessageInvalid(f"more than {SPAN} sequences in one question", {"field": "to"})
    name, queries = bank.engine.bank, bank.queries

    def find() -> list[Cleared]:
        rows = (row.entry for row in queries.window_payments(asked.after, asked.to, limit=SPAN + 1))
        return [cleared_at_bank(name, e) for e in rows if is_payment(e) and e.currency == asked.currency]

    await bank.tables_hold(bank.committer.committed_position)
    return asked, await bank.read(find)
