"""Handlers of the laboratory: a demo's processes to be killed, stopped and cut off, and a payment to be watched.

What may be hit is the port's business; see :class:`fortress.web.call.Laboratory`. The payment is read from the books,
as any member of staff may: the newest one in the accounts through which payments between banks go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from fortress.client.me import Me
from fortress.errors import FortressError, Refused
from fortress.protocol.payments import PaymentView
from fortress.web import administration as admin
from fortress.web import shapes
from fortress.web.call import Call, Context, Handler, Laboratory, NotFound
from fortress.web.conversions import payment_of

PASSAGES: Final = ("settlement", "position")
"""Kinds of accounts through which payments between banks go: at a bank, and at the gateway."""
LOOK_S_MAX: Final = 1.5
ROWS: Final = 10
PAGE_ROWS: Final = 500


class NewestPayment:
    """Finds the newest payment between banks; while the books cannot be asked, the one found last is the newest."""

    def __init__(self, context: Context) -> None:
        self._passages: Sequence[int] = ()
        self._last: PaymentView | None = None

    async def close(self) -> None:
        """Nothing runs."""

    async def find(self, me: Me) -> PaymentView | None:
        """Give it with its steps at all sides that answer; takes a bounded time, also while nobody answers."""
        if not me.is_connected:
            return self._last
        try:
            async with asyncio.timeout(LOOK_S_MAX):
                self._last = await self._find(me) or self._last
        except (TimeoutError, FortressError):
            return self._last
        return self._last

    async def _find(self, me: Me) -> PaymentView | None:
        self._passages = self._passages or await _passages(me)
        pages = [await me.history_page(number, limit=ROWS) for number in self._passages]
        rows = sorted((row for page in pages for row in page.rows), key=lambda row: row.position, reverse=True)
        for id in dict.fromkeys(row.id for row in rows):
            try:
                # here first: a side that does not answer must not hide what this one knows
                self._last = await me.payment(id, everywhere=False)
            except Refused:
                continue  # no payment, or a further attempt, which has an id of its own
            return await me.payment(id)
        return None


async def _passages(me: Me) -> list[int]:
    found: list[int] = []
    after = 0
    while True:
        page = await me.administration.accounts(all=True, after=after, limit=PAGE_ROWS)
        found += [view.number for view in page.accounts if view.kind in PASSAGES]
        after = page.next_after
        if not after:
            return found


def _laboratory(call: Call) -> Laboratory:
    laboratory = call.context.laboratory
    if laboratory is None:
        raise NotFound("only a demo has a laboratory")
    return laboratory


async def handle_lab(call: Call) -> admin.LabView:
    """Show all processes of the demo, and the newest payment between banks."""
    laboratory, me = _laboratory(call), call.me
    newest = call.context.shared(NewestPayment)
    view, payment = await asyncio.gather(laboratory.view(), newest.find(me))
    return replace(view, payment=payment_of(payment, me.bank) if payment is not None else None)


async def handle_lab_act(call: Call) -> shapes.Done:
    """Kill, stop, wake up, cut off or heal a process of the demo."""
    await _laboratory(call).act(call.path.name, call.body.act)
    return shapes.Done()


HANDLERS: Final[dict[str, Handler]] = {"lab": handle_lab, "lab_act": handle_lab_act}
