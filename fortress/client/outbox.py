"""Payments that are kept until they are done: written down, signed and on the disk before the first try to send them.

For whoever is not always connected. An order is stored with its id, sent in turn, and tried again and again, with the
same id, until the bank's answer is terminal: done, refused by its rules, or too late. Orders on one account are sent
one after the other: the next one waits until the one before it has its terminal answer; those on other accounts go on
meanwhile. What the bank answered is kept, with its receipt.

A process that dies anywhere in between loses nothing and pays nothing twice: it is started again and runs the outbox
again. See :mod:`fortress.client.order_file` for what is on the disk when.

    outbox = Outbox.open(Path("outbox.db"))
    outbox.add(me.payment_order("b/4711000093", parse("12.50 EUR"), from_=number, id=new_id()))
    await outbox.run(sign_in)
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fortress.client.me import Me
from fortress.client.order_file import OrderFile, OrderState, OutboxItem, Outcome, now_us
from fortress.client.payments import Payment
from fortress.client.reading import to_us
from fortress.client.receipts import entry_fields
from fortress.errors import (
    STATUS_SENTENCES,
    AuthenticationError,
    DeadlinePassed,
    DiskFull,
    FortressError,
    IntegrityFailed,
    MessageInvalid,
    NotSignedIn,
    OutcomeUnknown,
    Refused,
    RetryableError,
    Status,
    TokenRejected,
    UnknownOperation,
    UsageError,
    refusal_code,
)
from fortress.protocol.messages import decode_envelope, decode_request, encode_request
from fortress.protocol.orders import PaymentOrder
from fortress.protocol.payments import Pay
from fortress.protocol.reading import ReceiptAnswer

WAIT_S_MIN: Final = 0.5
WAIT_S_MAX: Final = 60.0
LOOK_EVERY_S: Final = 1.0
"""How often an outbox that is kept running looks for orders that other processes have added."""

SignIn = Callable[[], AbstractAsyncContextManager[Me]]
"""Connects and signs in; called again after failures, and left at the end."""
OnChange = Callable[[OutboxItem], object]

NOTHING_DONE: Final = (RetryableError, AuthenticationError, MessageInvalid, UnknownOperation)
"""With these the bank, or the way to it, says that this try did nothing, unless they are of `DOUBTFUL`."""
DOUBTFUL: Final = (OutcomeUnknown, DeadlinePassed, DiskFull)
"""Also a bank whose disk is full: what it had judged already it writes once there is space."""
SESSION_OVER: Final = (NotSignedIn, TokenRejected)


class Outbox:
    """One person's payment orders at one bank; made by :meth:`open`.

    Attributes:
        obstacle: why the last try got no terminal answer, while that lasts.
    """

    def __init__(self, file: OrderFile) -> None:
        self._file = file
        self._on_change: OnChange | None = None
        self._news: asyncio.Event | None = None
        self._has_progressed = False
        self.obstacle: FortressError | None = None

    @classmethod
    def open(cls, path: Path, *, bank: str = "", username: str = "", passphrase_file: Path | None = None) -> Self:
        """Open an outbox, made when it is missing.

        Args:
            path: of the database; its key, ``PATH.key``, lies beside it unless there is a passphrase.
            bank: at which the orders are to be carried out, and
            username: for whom; checked when given, and what a new one is bound to.
            passphrase_file: file of mode 0600 whose first line is the passphrase.

        Raises:
            KeyUnusable: it does not open with this key.
            OutboxUnusable: it cannot be opened, or is somebody else's.
        """
        file = OrderFile.open(path, passphrase_file=passphrase_file)
        if bank and username:
            try:
                file.belong(bank, username)
            except FortressError:
                file.close()
                raise
        return cls(file)

    def close(self) -> None:
        """Close the file; what was stored is on the disk already."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- orders -------------------------------------------------------------------------------------------------

    def add(self, order: PaymentOrder, signature: bytes = b"") -> OutboxItem:
        """Store an order; it is on the disk when this returns. Adding it again changes nothing.

        Args:
            order: with a new id, the debited account, and ``bank/number`` as its payee.
            signature: over it, such as of :meth:`Me.sign`; an order without one is signed before it is first sent, if
                the session can.

        Raises:
            MessageInvalid: a field is not as the bank takes it.
            UsageError: another order has this id, or it is for another bank.
        """
        _check(order, signature)
        if not order.debit:
            raise UsageError("an order in an outbox names the account to take from")
        owner = self._file.owner()
        if owner is not None and owner[0] != order.bank:
            raise UsageError(f"this outbox is for the bank {owner[0]!r}, not for {order.bank!r}")
        item = self._file.add(order, signature)
        if self._news is not None:
            self._news.set()
        return item

    def list(self) -> tuple[OutboxItem, ...]:
        """Give all orders, oldest first."""
        return tuple(self._file.items())

    def get(self, id: bytes) -> OutboxItem:
        """Give one order.

        Raises:
            UsageError: it is not in this outbox.
        """
        item = self._file.get(id)
        if item is None:
            raise UsageError("no order with this id is in the outbox", {"id": id.hex()})
        return item

    def remove(self, id: bytes) -> OutboxItem:
        """Take an order out that has its terminal answer, or that was certainly not done; give it a last time.

        Raises:
            UsageError: it is not there, or it may have been done: only the bank's answer ends that.
        """
        item = self.get(id)
        if not self._file.remove(id):
            raise UsageError("this order was sent and may have been done; its answer is waited for", {"id": id.hex()})
        return item

    def counts(self) -> Counter[OrderState]:
        """Count the orders by state."""
        return Counter(item.state for item in self._file.items())

    # --- sending ------------------------------------------------------------------------------------------------

    async def run(
        self,
        sign_in: SignIn,
        *,
        until_empty: bool = True,
        deadline_s: float | None = None,
        on_change: OnChange | None = None,
    ) -> None:
        """Send what is to be sent, and try again until each order has its terminal answer.

        May be cancelled at any time, and be run again, also after a crash.

        Args:
            sign_in: gives a session, such as an `asynccontextmanager` that connects and signs in.
            until_empty: return when nothing is open any more; else wait for more, until cancelled.
            deadline_s: return after so long at the latest; what is still open stays so.
            on_change: called after each change of an order, which is on the disk then.

        Raises:
            OutboxInUse: another process sends from this file.
            OutboxUnusable: it is somebody else's, or cannot be written.
            AuthenticationError: one cannot sign in; nothing was lost.
            IntegrityFailed: a receipt does not prove what the bank said.
            FortressError: anything else that trying again would not change.
        """
        self._on_change, self._has_progressed = on_change, False
        with self._file.sending():
            try:
                async with asyncio.timeout(deadline_s) as limit:
                    await self._run(sign_in, until_empty=until_empty)
            except TimeoutError:
                if not limit.expired():
                    raise

    async def _run(self, sign_in: SignIn, *, until_empty: bool) -> None:
        failures = 0
        while True:
            self._expire()
            if until_empty and not self._file.accounts_at_work():
                return
            try:
                async with sign_in() as me:
                    self._file.belong(me.bank, me.username)
                    failures, self.obstacle = 0, None
                    await self._serve(me, until_empty=until_empty)
                    return
            except RetryableError as error:
                self.obstacle = error
            except SESSION_OVER:
                # a session that was good for something may be followed by another; one that never was, not
                if not self._has_progressed:
                    raise
                self._has_progressed = False
            failures += 1
            await asyncio.sleep(wait_s(failures))

    async def _serve(self, me: Me, *, until_empty: bool) -> None:
        """Work on all accounts side by side, one task for each that has something to do."""
        tasks: dict[int, asyncio.Task[None]] = {}
        # of this loop: each run may have its own
        news = self._news = asyncio.Event()
        try:
            while True:
                news.clear()
                for debit in self._file.accounts_at_work():
                    if debit not in tasks:
                        tasks[debit] = asyncio.create_task(self._serve_account(me, debit))
                if not tasks and until_empty:
                    return
                await _wait(news, tasks)
                for debit, task in list(tasks.items()):
                    if task.done():
                        del tasks[debit]
                        task.result()
        finally:
            self._news = None
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _serve_account(self, me: Me, debit: int) -> None:
        """Send the orders on one account in turn, then fetch the receipts that are missing."""
        failures = 0
        while True:
            self._expire()
            item = self._file.next_open(debit)
            if item is not None:
                is_answered = await self._send(me, item)
            else:
                item = self._file.next_unproven(debit)
                if item is None:
                    return
                is_answered = await self._prove(me, item)
            failures = 0 if is_answered else failures + 1
            if not is_answered:
                await asyncio.sleep(wait_s(failures))

    async def _send(self, me: Me, item: OutboxItem) -> bool:
        """Try to have an order carried out; tells whether it has its terminal answer."""
        was_doubtful = item.state is OrderState.sent
        signature = item.signature
        if not signature or item.outcome.code == refusal_code(Status.order_signature_invalid):
            signature = me.sign(item.order) or signature  # the key was changed since
        sent = self._move(item, OrderState.sent, signature=signature)
        if sent is None:
            return True  # somebody took it out
        try:
            payment = await me.pay_order(sent.order, order_signature=signature)
        except Refused as refusal:
            if not _is_open(refusal.status, was_doubtful=was_doubtful):
                state = OrderState.expired if refusal.status is Status.order_expired else OrderState.refused
                self._move(sent, state, _outcome_of(refusal))
                return True
            error: FortressError = refusal
        except FortressError as failure:
            error = failure
        else:
            self._move(sent, OrderState.done, _outcome(payment))
            return True
        self._take_failure(sent, error, was_doubtful=was_doubtful)
        return False

    def _take_failure(self, item: OutboxItem, error: FortressError, *, was_doubtful: bool) -> None:
        """Keep why a try ended without a terminal answer; raise what trying again would not change."""
        is_certain = isinstance(error, (Refused, *NOTHING_DONE)) and not isinstance(error, DOUBTFUL)
        if is_certain and not was_doubtful:
            self._move(item, OrderState.queued, _outcome_of(error))
        else:
            # what an earlier try did is not ended by a later one that did nothing
            self._file.note(item, _outcome_of(error))
            self._tell(item.id)
        if not isinstance(error, (Refused, RetryableError)):
            raise error
        self.obstacle = error

    async def _prove(self, me: Me, item: OutboxItem) -> bool:
        """Fetch and check the receipt of a payment that was done."""
        try:
            receipt = await me.receipt(item.id, position=item.outcome.position)
            _check_receipt(item, receipt)
        except Refused:
            self._file.keep_receipt(item.id, None)
        except RetryableError:
            return False
        else:
            self._file.keep_receipt(item.id, receipt)
        self._tell(item.id)
        return True

    def _expire(self) -> None:
        """End what was certainly not done and may not be sent any more; what is in doubt only the bank can end."""
        now = now_us()
        for item in self._file.items_to_expire(now):
            facts = {"not_after_us": item.order.not_after_us}
            outcome = Outcome(refusal_code(Status.order_expired), STATUS_SENTENCES[Status.order_expired], {**facts})
            self._move(item, OrderState.expired, outcome)

    def _move(
        self, item: OutboxItem, state: OrderState, outcome: Outcome | None = None, *, signature: bytes = b""
    ) -> OutboxItem | None:
        moved = self._file.move(item, state, outcome, signature=signature)
        if moved is not None:
            if moved.is_terminal:
                self._has_progressed, self.obstacle = True, None
            self._tell(item.id)
        return moved

    def _tell(self, id: bytes) -> None:
        item = self._file.get(id) if self._on_change is not None else None
        if self._on_change is not None and item is not None:
            self._on_change(item)


def _is_open(status: Status, *, was_doubtful: bool) -> bool:
    """Tell whether a refusal leaves open what becomes of an order.

    One of an id from the future ends by itself. One of the signature is given before the bank looks whether the order
    was done already, with the key that was right then.
    """
    return status is Status.id_too_far_ahead or (was_doubtful and status is Status.order_signature_invalid)


async def _wait(news: asyncio.Event, tasks: dict[int, asyncio.Task[None]]) -> None:
    """Wait until a task ends, an order is added here, or it is time to look what other processes have added."""
    added = asyncio.ensure_future(news.wait())
    try:
        await asyncio.wait([added, *tasks.values()], timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        added.cancel()


def wait_s(failures: int) -> float:
    """Give how long to wait after so many failures in a row: doubling up to a minute, each between half and whole."""
    return min(WAIT_S_MIN * 2.0 ** min(failures - 1, 32), WAIT_S_MAX) * random.uniform(0.5, 1.0)


def _check(order: PaymentOrder, signature: bytes) -> None:
    """Refuse what the bank would not even read."""
    names = ("id", "payee", "amount_minor", "currency", "debit", "reference", "not_after_us")
    request = Pay(**{name: getattr(order, name) for name in names}, order_signature=signature)
    decode_request(decode_envelope(encode_request(1, "pay", request)))


def _check_receipt(item: OutboxItem, receipt: ReceiptAnswer) -> None:
    """Check that the entry proven takes this amount from this account; its id may be that of a later attempt.

    Raises:
        IntegrityFailed: it is about something else.
    """
    fields = entry_fields(receipt)
    if item.order.debit not in fields or item.order.amount_minor not in fields:
        raise IntegrityFailed("the receipt is for another payment than the one that was done", {"id": item.id.hex()})


def _outcome(payment: Payment) -> Outcome:
    return Outcome(
        position=payment.position,
        time_us=to_us(payment.time),
        balance_minor=payment.balance_after.minor,
        gateway_sequence=payment.gateway_sequence,
    )


def _outcome_of(error: FortressError) -> Outcome:
    code = refusal_code(error.status) if isinstance(error, Refused) else error.code
    return Outcome(code, error.message, error.facts)
