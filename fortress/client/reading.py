"""Reading: balances, history, statements, transfers by id, receipts and heads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from fortress.client.calls import Calls
from fortress.client.money import Money
from fortress.client.receipts import HeadMemory, verify_receipt
from fortress.client.subscription import Subscription
from fortress.errors import IntegrityFailed
from fortress.protocol.accounts import AccountsAnswer, AccountView, GetAccount, ListAccounts
from fortress.protocol.reading import (
    Consistency,
    ConsistencyAnswer,
    GetTransfer,
    Head,
    HeadAnswer,
    History,
    HistoryAnswer,
    HistoryRow,
    Receipt,
    ReceiptAnswer,
    Statement,
    StatementAnswer,
    TransferView,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(time: datetime | None) -> int:
    """Turn a time with time zone into the bank's microseconds; None is 0."""
    return 0 if time is None else (time - EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Balance:
    """What is on an account.

    Attributes:
        available: what can be spent now: balance less what is held.
        balance: what is booked.
        held: reserved for payments that were not taken yet.
        incoming: reserved by others for this account.
        number: of the account.
        position: in the bank's journal, at which this was true.
        stale_ms: how old it may be, in milliseconds, if a standby told it; 0 from the primary.
    """

    available: Money
    balance: Money
    held: Money
    incoming: Money
    number: int
    position: int
    stale_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which entries of a history are wanted; what is not set does not matter.

    Attributes:
        kinds: such as ``transfer`` or ``deposit``.
        since: from this time on.
        until: before this time.
        least_minor: of at least this size, whatever the direction.
        most_minor: of at most this size.
        counterparty: number of the other account.
        text: part of the reference.
        as_of: as the history was known then.
    """

    kinds: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    least_minor: int = 0
    most_minor: int = 0
    counterparty: int = 0
    text: str = ""
    as_of: datetime | None = None


EVERYTHING = Filter()


class Reading:
    """The part of a session that only reads; use it through `Me`. Reads are never older than what this client wrote."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._heads = HeadMemory(calls.bank)

    async def account(self, number: int = 0, *, as_of: datetime | None = None) -> AccountView:
        """Read one account; 0 is the default account.

        Args:
            as_of: a past time, with time zone, whose state is wanted.
        """
        request = GetAccount(number, as_of_us=to_us(as_of))
        ask = self._calls.call if as_of else self._calls.read  # a standby may not know all of the past yet
        view: AccountView = await ask("get_account", request)
        return view

    async def accounts(self) -> list[AccountView]:
        """List one's own accounts."""
        accounts: list[AccountView] = []
        after = 0
        while True:
            page: AccountsAnswer = await self._calls.read("list_accounts", ListAccounts(after=after))
            accounts += [replace(view, stale_ms=page.stale_ms) for view in page.accounts]
            if not page.next_after:
                return accounts
            after = page.next_after

    async def balance(self, number: int = 0, *, as_of: datetime | None = None) -> Balance:
        """Tell what is on an account, now or at a past time; 0 is the default account."""
        view = await self.account(number, as_of=as_of)
        sums = (view.available_minor, view.balance_minor, view.held_minor, view.incoming_minor)
        available, balance, held, incoming = (Money(minor, view.currency) for minor in sums)
        return Balance(available, balance, held, incoming, view.number, view.position, view.stale_ms)

    async def history(
        self, number: int = 0, *, only: Filter = EVERYTHING, page_size: int = 100
    ) -> AsyncIterator[HistoryRow]:
        """Go through an account's entries, newest first, fetching page by page.

        Args:
            number: of the account; 0 is the default account.
            only: what is wanted.
            page_size: rows fetched at once, at most 1,000.
        """
        number = number or (await self.account()).number
        cursor = 0
        while True:
            page = await self.history_page(number, only=only, cursor=cursor, limit=page_size)
            for row in page.rows:
                yield row
            if not page.cursor:
                return
            cursor = page.cursor

    async def history_page(
        self, number: int = 0, *, only: Filter = EVERYTHING, cursor: int = 0, limit: int = 50
    ) -> HistoryAnswer:
        """Fetch one page of an account's entries, newest first.

        Args:
            cursor: 0 for the first page, then what the page before says; a page that says 0 is the last.
            limit: rows at most, up to 1,000.
        """
        request = History(
            account=number or (await self.account()).number,
            cursor=cursor,
            limit=limit,
            kinds=list(only.kinds),
            from_us=to_us(only.since),
            to_us=to_us(only.until),
            amount_min_minor=only.least_minor,
            amount_max_minor=only.most_minor,
            counterparty=only.counterparty,
            text=only.text,
            as_of_us=to_us(only.as_of),
        )
        ask = self._calls.call if only.as_of else self._calls.read
        page: HistoryAnswer = await ask("history", request)
        return page

    async def statement(
        self, since: datetime, until: datetime, number: int = 0, *, cursor: int = 0, limit: int = 500
    ) -> StatementAnswer:
        """Cut a statement, oldest entry first; its head is checked, further pages by its cursor."""
        account = number or (await self.account()).number
        request = Statement(account, to_us(since), to_us(until), cursor, limit)
        answer: StatementAnswer = await self._calls.read("statement", request)
        self._heads.see(answer.head)
        return answer

    async def transfer_by_id(self, id: bytes) -> TransferView:
        """Look up what became of an id: a transfer, a hold or a refusal."""
        view: TransferView = await self._calls.call("get_transfer", GetTransfer(id))
        return view

    # --- proofs -------------------------------------------------------------------------------------------------

    async def receipt(self, id: bytes, *, position: int = 0) -> ReceiptAnswer:
        """Fetch the receipt for an id; it has been checked when this returns.

        Args:
            position: of the entry itself, as the payment's answer said; its id may be that of a later attempt then.

        Raises:
            IntegrityFailed: the receipt does not prove the entry, or its head contradicts one seen before.
        """
        answer: ReceiptAnswer = await self._calls.call("receipt", Receipt(id, position))
        verify_receipt(answer, bank=self._calls.bank, id=b"" if position else id)
        if position and answer.position != position:
            raise IntegrityFailed(f"the receipt is for entry {answer.position}, not for {position}")
        self._heads.see(answer.head)
        return answer

    async def head(self) -> HeadAnswer:
        """Fetch the signed head of the journal; it has been checked and is remembered.

        Raises:
            IntegrityFailed: as :meth:`receipt`.
        """
        head: HeadAnswer = await self._calls.call("head", Head())
        self._heads.see(head)
        return head

    async def consistency(self, old: HeadAnswer | None = None) -> HeadAnswer:
        """Have it proven that the journal continues an earlier one, and give the new head.

        Args:
            old: a head kept from earlier; the last one this client saw if not given, the present one if none.

        Raises:
            IntegrityFailed: history was rewritten or cut, or the proof is wrong.
        """
        old = old or self._heads.last or await self.head()
        answer: ConsistencyAnswer = await self._calls.call("consistency", Consistency(old.tree_size))
        self._heads.see_next(answer.head, answer.path, old)
        return answer.head

    def subscribe(self, accounts: Sequence[int] = (), *, from_position: int | None = None) -> Subscription:
        """Be told of every entry that touches these accounts, all one's own if none are named.

        One subscription a client at a time. It goes on by itself over reconnects and failovers without a gap.

        Args:
            from_position: to go on from an earlier one: the position of the last entry seen; now if not given.
        """
        return Subscription(self._calls, accounts, from_position)
