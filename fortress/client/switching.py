"""What a gateway's operators do: its banks, where they stand with each other, the windows in which they settle.

Acts that a second administrator must approve answer with an ``approval`` that is not empty: nothing was done yet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fortress.client.calls import Calls
from fortress.client.ids import new_id
from fortress.client.money import Money
from fortress.errors import UsageError
from fortress.protocol.fields import Done
from fortress.protocol.payments import ResolvePayment
from fortress.protocol.switching import (
    AddBank,
    BanksAnswer,
    BankView,
    CloseWindow,
    GetWindow,
    ListBanks,
    ListPositions,
    ListWindows,
    PositionsAnswer,
    SuspendBank,
    WindowsAnswer,
    WindowView,
)


class Switching:
    """The acts of operators; as `Me.switching`. At a bank that is no gateway only `resolve_payment` is known."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    # --- banks --------------------------------------------------------------------------------------------------

    async def banks(self) -> list[BankView]:
        """List the banks with their state, and their primaries as they last said."""
        answer: BanksAnswer = await self._calls.call("banks", ListBanks())
        return answer.banks

    async def add_bank(
        self, bank: str, cap: Money, *, authority: str | bytes | Path = "", id: bytes | None = None
    ) -> Done:
        """Let a bank register, or give one that may a position in one more currency (administrator, a second one).

        Args:
            bank: its id, as in its certificates.
            cap: its net debit cap in that currency, which may be zero.
            authority: certificate of the bank's own authority: a path, or the PEM itself as bytes; needed at first.

        Raises:
            UsageError: the file cannot be read; nothing was sent.
        """
        request = AddBank(id or new_id(), bank, cap.currency, cap.minor, _pem(authority))
        return await self._do("add_bank", request)

    async def suspend_bank(self, bank: str, *, resume: bool = False, id: bytes | None = None) -> Done:
        """Refuse a bank's payments from now on, or take them again (administrator)."""
        return await self._do("suspend_bank", SuspendBank(id or new_id(), bank, resume))

    # --- settlement ---------------------------------------------------------------------------------------------

    async def positions(self) -> PositionsAnswer:
        """Read where the banks stand with each other (auditor, administrator)."""
        answer: PositionsAnswer = await self._calls.call("positions", ListPositions())
        return answer

    async def windows(self, *, limit: int = 20) -> list[WindowView]:
        """List settlement windows, newest first, without what is in them (auditor, administrator)."""
        answer: WindowsAnswer = await self._calls.call("windows", ListWindows(limit))
        return answer.windows

    async def window(self, number: int = 0) -> WindowView:
        """Read the report of one window, 0 for the open one, compared with the banks (auditor, administrator)."""
        view: WindowView = await self._calls.call("window", GetWindow(number))
        return view

    async def close_window(self, *, id: bytes | None = None) -> Done:
        """Close the open window (administrator).

        Raises:
            Refused: ``window_not_settled`` while a bank has not carried out all of its payments.
        """
        return await self._do("close_window", CloseWindow(id or new_id()))

    # --- doubt --------------------------------------------------------------------------------------------------

    async def resolve_payment(
        self, payment: bytes, act: Literal["commit", "abort"], *, id: bytes | None = None
    ) -> Done:
        """End a payment in doubt by hand, at a bank or at the gateway (administrator, with a second one's approval).

        Raises:
            Refused: such as ``payment_unknown`` or ``payment_already_decided``.
        """
        return await self._do("resolve_payment", ResolvePayment(id or new_id(), payment, act))

    async def _do(self, operation: str, request: AddBank | SuspendBank | CloseWindow | ResolvePayment) -> Done:
        done: Done = await self._calls.call(operation, request)
        return done


def _pem(authority: str | bytes | Path) -> str:
    if not authority:
        return ""
    if isinstance(authority, bytes):
        return authority.decode("ascii", "replace")
    try:
        return Path(authority).read_text("ascii", "replace")
    except OSError as exc:
        raise UsageError(f"the authority's file {str(authority)!r} cannot be read: {exc.strerror}") from exc
