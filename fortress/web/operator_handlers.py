"""Handlers of the operators' pages: payments in doubt, banks, where they stand, the windows in which they settle."""

from __future__ import annotations

from typing import Final

from fortress.client.money import Money
from fortress.errors import GatewayUnreachable
from fortress.protocol.switching import PositionView, WindowRow, WindowView
from fortress.web import administration as admin
from fortress.web import shapes
from fortress.web.administration_handlers import done_of
from fortress.web.call import Call, Handler
from fortress.web.conversions import payment_of, time_or_none
from fortress.web.intake import read_minor
from fortress.web.problems import is_alone


async def handle_doubts(call: Call) -> admin.DoubtList:
    """List payments between banks that are not decided everywhere; a bank that has no gateway has none."""
    me = call.me
    try:
        views = await me.payments(in_doubt=True)
    except GatewayUnreachable as error:
        if not is_alone(error):
            raise
        return admin.DoubtList([])
    return admin.DoubtList([payment_of(view, me.bank) for view in views])


async def handle_resolve_payment(call: Call) -> shapes.Done:
    """End a payment in doubt by hand."""
    body: admin.Resolution = call.body
    payment = bytes.fromhex(call.path.id)
    return done_of(await call.me.switching.resolve_payment(payment, body.act, id=bytes.fromhex(body.id)))


async def handle_add_bank(call: Call) -> shapes.Done:
    """Let a bank register, or give one a position in one more currency."""
    body: admin.NewBank = call.body
    cap = Money(read_minor(body.cap, "cap"), body.currency)
    authority = body.authority.encode("utf-8")
    done = await call.me.switching.add_bank(body.bank, cap, authority=authority, id=bytes.fromhex(body.id))
    return done_of(done)


async def handle_suspend_bank(call: Call) -> shapes.Done:
    """Refuse a bank's payments, or take them again."""
    body: admin.Suspension = call.body
    done = await call.me.switching.suspend_bank(call.path.bank, resume=body.resume, id=bytes.fromhex(body.id))
    return done_of(done)


def position_of(view: PositionView) -> admin.BankPosition:
    """Show where a bank stands in one currency."""
    return admin.BankPosition(
        bank=view.bank,
        currency=view.currency,
        account=view.account,
        position=str(view.position_minor),
        reserved=str(view.reserved_minor),
        cap=str(view.cap_minor),
    )


async def handle_positions(call: Call) -> admin.PositionList:
    """List where the banks stand."""
    answer = await call.me.switching.positions()
    return admin.PositionList([position_of(view) for view in answer.positions], answer.position)


def _window_row(row: WindowRow) -> admin.WindowRow:
    return admin.WindowRow(
        bank=row.bank,
        currency=row.currency,
        payments=row.payments,
        paid=str(row.out_minor),
        received=str(row.in_minor),
        net=str(row.net_minor),
        root=row.root.hex(),
        agrees=row.agrees,
        differs=row.differs,
    )


def window_of(view: WindowView) -> admin.Window:
    """Show a settlement window."""
    rows = [_window_row(row) for row in view.rows]
    return admin.Window(view.number, view.after, view.to, time_or_none(view.closed_us), rows)


async def handle_windows(call: Call) -> admin.WindowList:
    """List settlement windows, newest first."""
    return admin.WindowList([window_of(view) for view in await call.me.switching.windows()])


async def handle_window(call: Call) -> admin.Window:
    """Report one window and compare it with the banks' books."""
    return window_of(await call.me.switching.window(call.path.number))


async def handle_close_window(call: Call) -> shapes.Done:
    """Close the open window."""
    return done_of(await call.me.switching.close_window(id=bytes.fromhex(call.body.id)))


HANDLERS: Final[dict[str, Handler]] = {
    "doubts": handle_doubts,
    "resolve_payment": handle_resolve_payment,
    "add_bank": handle_add_bank,
    "suspend_bank": handle_suspend_bank,
    "positions": handle_positions,
    "windows": handle_windows,
    "window": handle_window,
    "close_window": handle_close_window,
}
