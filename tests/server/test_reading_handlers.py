"""What reads, over the wire: only what is durable, only to those it concerns, as of any time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fortress.client.me import Me
from fortress.client.money import Money
from fortress.client.payments import moment
from fortress.client.reading import Filter
from fortress.client.receipts import entry_fields
from fortress.errors import (
    Busy,
    DiskFull,
    FortressError,
    JournalWriteFailed,
    MessageInvalid,
    OutcomeUnknown,
    Refused,
    Status,
)
from fortress.protocol.accounts import GetAccount, ListAccounts, OpenAccount, Profile, Resolve
from fortress.protocol.administration import GetUser
from fortress.protocol.fields import Request
from fortress.protocol.money import GetHold, Hold, ListHolds
from fortress.protocol.reading import GetTransfer, History, Receipt, Statement, Subscribe
from fortress.server.bank import new_id, now_us
from tests.server.banks import Held, World, banking, until

NOW = datetime(2100, 1, 1, tzinfo=UTC)


async def refused(status: Status, work: Awaitable[Any]) -> None:
    with pytest.raises(Refused) as caught:
        await work
    assert caught.value.status is status


class Town:
    """Alice, Bob and Tess signed in, and the numbers of Alice's and Bob's accounts."""

    def __init__(self, world: World, alice: Me, bob: Me, tess: Me, a: int, b: int) -> None:
        self.world, self.alice, self.bob, self.tess, self.a, self.b = world, alice, bob, tess, a, b


async def town(world: World) -> Town:
    people = [await world.sign_in(name) for name in ("alice", "bob", "tess")]
    return Town(world, *people, await world.account_of("alice"), await world.account_of("bob"))


# --- Accounts --------------------------------------------------------------------------------------------------------
async def test_one_reads_ones_own_accounts_and_staff_reads_anybodys(tmp_path: Path) -> None:
    """Somebody else's account is as unknown as none."""
    async with banking(tmp_path) as world:
        t = await town(world)
        assert (await t.alice.account()).number == t.a
        assert (await t.alice.account(t.a)).owner == "alice"
        for number in (t.b, 4711):
            await refused(Status.account_unknown, t.alice.account(number))
        assert (await t.tess.account(t.b)).owner == "bob"
        await refused(Status.account_unknown, t.tess.account())
        assert (await t.tess.account(world.bank.state.currencies["EUR"])).owner == "bank"


async def test_accounts_are_listed_to_their_owner_and_to_staff(tmp_path: Path) -> None:
    """A customer lists their own, staff a customer's or page by page everybody's."""
    async with banking(tmp_path) as world:
        t = await town(world)
        dollars = await t.alice.open_account("USD")
        assert [view.number for view in await t.alice.accounts()] == [t.a, dollars.number]
        assert await t.tess.accounts() == []
        by_tess = await t.tess.administration.accounts("alice")
        assert [(view.number, view.owner) for view in by_tess.accounts] == [(t.a, "alice"), (dollars.number, "alice")]
        page = await t.tess.administration.accounts(all=True, limit=5)
        assert [view.owner for view in page.accounts] == ["bank", "bank", "bank", "bank", "alice"]
        assert [view.kind for view in page.accounts] == ["cash", "cash", "settlement", "settlement", "customer"]
        rest = await t.tess.administration.accounts(all=True, after=page.next_after)
        assert [view.owner for view in rest.accounts] == ["bob", "alice"]
        assert rest.next_after == 0
        await refused(Status.account_unknown, t.alice.ask("list_accounts", ListAccounts(all=True)))
        await refused(Status.customer_unknown, t.alice.ask("list_accounts", ListAccounts("bob")))
        await refused(Status.customer_unknown, t.tess.ask("list_accounts", ListAccounts("nobody")))


async def test_an_account_is_opened_once(tmp_path: Path) -> None:
    """A repeat gives the same account; customers open their own, staff a customer's, and only known kinds."""
    async with banking(tmp_path) as world:
        t = await town(world)
        id = new_id()
        first = await t.alice.open_account("USD", id=id)
        assert (await t.alice.open_account("USD", id=id)).number == first.number
        assert (await t.tess.open_account("USD", username="bob")).owner == "bob"
        await refused(Status.customer_unknown, t.alice.open_account("USD", username="bob"))
        await refused(Status.customer_unknown, t.alice.open_account("USD", username="nobody"))
        await refused(Status.currency_unknown, t.alice.open_account("CHF"))
        await refused(Status.account_kind_not_allowed, t.alice.ask("open_account", OpenAccount(id, "USD", kind="gold")))


async def test_a_payee_is_named_before_money_is_sent(tmp_path: Path) -> None:
    """By number or username, with or without this bank's name; another bank's payee is not somebody of this one."""
    async with banking(tmp_path) as world:
        t = await town(world)
        by_name = await t.alice.resolve("bob")
        assert (by_name.number, by_name.name, by_name.currency) == (t.b, "Bob", "EUR")
        for payee in (str(t.b), f"bank-a/{t.b}", "bank-a/bob", "bank-a/BOB"):
            assert (await t.alice.ask("resolve", Resolve(payee))).number == t.b
        dollars = await t.bob.open_account("USD")
        assert (await t.alice.resolve("bob", "USD")).number == dollars.number
        cash = world.bank.state.currencies["EUR"]
        for payee in ("bank-b/bob", "tess", str(cash), "4711", "9" * 30, "audrey"):
            await refused(Status.credit_account_unknown, t.alice.ask("resolve", Resolve(payee)))
        await refused(Status.credit_account_unknown, t.alice.resolve("bob", "CHF"))
        await refused(Status.customer_unknown, t.alice.resolve("nobody"))


async def test_a_position_is_waited_for_or_not_known(tmp_path: Path) -> None:
    """A read is never older than what the client has seen; a node that is behind says so."""
    async with banking(tmp_path) as world:
        t = await town(world)
        position = world.committer.committed_position
        assert (await t.alice.ask("get_account", GetAccount(0, position))).number == t.a
        link = t.alice._calls.route.current
        for operation, request in (
            ("get_account", GetAccount(0, position + 100)),
            ("history", History(t.a, min_position=position + 100)),
            ("subscribe", Subscribe(from_position=position + 100)),
        ):
            with pytest.raises(Busy) as behind:
                await link.request(operation, request, 5)
            assert behind.value.facts == {"position": position}


async def test_a_receipt_proves_what_came_of_an_id(tmp_path: Path) -> None:
    """Of a hold that was posted the posting; by its position any entry, to those it concerns."""
    async with banking(tmp_path) as world:
        t = await town(world)
        paid = await t.tess.transfer(t.b, t.a, "2.00 EUR")
        held = await t.alice.hold(t.a, t.b, "1.00 EUR")
        assert (await t.alice.receipt(held.id)).position == held.position
        posted = await t.bob.post(held.id)
        assert (await t.alice.receipt(held.id)).position == posted.position
        for payment in (held, posted, paid):
            found = await t.alice.receipt(held.id, position=payment.position)
            assert found.position == payment.position and payment.id in entry_fields(found)
        carl = await t.tess.open_account("EUR", username="tess")
        foreign = await t.tess.deposit(carl.number, "1.00 EUR")
        for position in (foreign.position, 1, world.bank.state.position + 1, 2**62):
            await refused(Status.original_unknown, t.alice.receipt(held.id, position=position))


# --- Nobody sees what could still be lost ----------------------------------------------------------------------------
READS: dict[str, Callable[[Town, bytes], tuple[Me, str, Request]]] = {
    "own account": lambda t, id: (t.alice, "get_account", GetAccount()),
    "account by staff": lambda t, id: (t.tess, "get_account", GetAccount(t.a)),
    "accounts": lambda t, id: (t.alice, "list_accounts", ListAccounts()),
    "payee": lambda t, id: (t.bob, "resolve", Resolve("alice")),
    "transfer by id": lambda t, id: (t.alice, "get_transfer", GetTransfer(id)),
    "history": lambda t, id: (t.alice, "history", History(t.a)),
    "statement": lambda t, id: (t.alice, "statement", Statement(t.a, 0, 0)),
    "receipt": lambda t, id: (t.alice, "receipt", Receipt(id)),
    "entry": lambda t, id: (t.alice, "receipt", Receipt(id, t.world.bank.state.position)),
    "holds": lambda t, id: (t.alice, "list_holds", ListHolds(t.a)),
    "hold": lambda t, id: (t.alice, "get_hold", GetHold(id)),
    "position": lambda t, id: (t.tess, "get_account", GetAccount(t.b, t.world.bank.state.position)),
}


async def asked_while_writing(
    world: World, t: Town, names: Iterable[str]
) -> tuple[Held, dict[str, asyncio.Future[Any]]]:
    """Hold the journal's write of a hold back and ask for what shows it, without the client's own repeating."""
    journal, id = world.hold_journal(), new_id()
    hold = Hold(id, t.a, t.b, 100, "EUR", now_us() + 3_600_000_000)
    asked = {"the hold": asyncio.ensure_future(t.tess._calls.route.current.request("hold", hold, 5))}
    await until(lambda: journal.begun)
    for name in names:
        who, operation, request = READS[name](t, id)
        asked[name] = asyncio.ensure_future(who._calls.route.current.request(operation, request, 5))
    await until(lambda: sum(len(session.waiting) for session in world.server_sessions()) == len(asked))
    return journal, asked


async def test_what_shows_an_entry_waits_until_it_is_durable(tmp_path: Path) -> None:
    """Whatever is asked, the answer leaves with the commit of the newest entry it shows."""
    async with banking(tmp_path) as world:
        t = await town(world)
        journal, asked = await asked_while_writing(world, t, READS)
        await asyncio.sleep(0.03)
        assert [name for name, answer in asked.items() if answer.done()] == []
        journal.release()
        await asyncio.gather(*asked.values())


@pytest.mark.parametrize("error", [DiskFull("no space"), JournalWriteFailed("no")], ids=["full", "broken"])
async def test_what_may_be_lost_is_not_shown_when_it_is(tmp_path: Path, error: FortressError) -> None:
    """A read that would show an entry whose write failed is refused and not left waiting."""
    async with banking(tmp_path) as world:
        t = await town(world)
        journal, asked = await asked_while_writing(world, t, READS)
        journal.errors = [error] * 1_000
        journal.release()
        outcomes = await asyncio.gather(*asked.values(), return_exceptions=True)
        expected = DiskFull if isinstance(error, DiskFull) else OutcomeUnknown
        assert {name: type(told) for name, told in zip(asked, outcomes, strict=True)} == dict.fromkeys(asked, expected)


async def test_a_view_does_not_change_while_it_waits(tmp_path: Path) -> None:
    """What was seen before is answered, though more has been judged by the time it is durable."""
    async with banking(tmp_path) as world:
        t = await town(world)
        id = (await t.alice.hold(t.a, t.b, "30.00 EUR")).id
        journal = world.hold_journal()
        first = asyncio.ensure_future(t.alice.transfer(t.a, t.b, "1.00 EUR"))
        await until(lambda: journal.begun)
        asked = [
            asyncio.ensure_future(t.alice.account()),
            asyncio.ensure_future(t.alice.accounts()),
            asyncio.ensure_future(t.alice.ask("get_hold", GetHold(id))),
        ]
        await until(lambda: world.bank.engine.tree.size)
        await asyncio.sleep(0.03)
        more = [asyncio.ensure_future(t.bob.post(id))]
        await until(lambda: world.bank.engine.pending)
        journal.hold()
        journal.release()
        account, accounts, hold = await asyncio.gather(*asked)
        assert (account.balance_minor, accounts[0].balance_minor, hold.state) == (9_900, 9_900, "open")
        await asyncio.gather(first, *more)


# --- Histories and statements ----------------------------------------------------------------------------------------
async def test_a_history_is_paged_and_filtered(tmp_path: Path) -> None:
    """Newest first, by cursor; what does not match is left out."""
    async with banking(tmp_path) as world:
        t = await town(world)
        for amount in (1, 2, 3):
            await t.alice.transfer(t.a, t.b, f"{amount}.00 EUR", reference=f"number {amount}")
        page = await t.alice.history_page(t.a, limit=2)
        assert [row.amount_minor for row in page.rows] == [-300, -200]
        assert page.position == world.committer.committed_position
        rest = await t.alice.history_page(t.a, cursor=page.cursor, limit=10)
        assert [row.kind for row in rest.rows] == ["transfer", "deposit", "opened"]
        assert rest.cursor == 0
        for only, amounts in (
            (Filter(text="NUMBER 2"), [-200]),
            (Filter(kinds=("deposit",)), [10_000]),
            (Filter(least_minor=200, most_minor=300), [-300, -200]),
            (Filter(counterparty=t.b), [-300, -200, -100]),
            (Filter(until=datetime(2001, 1, 1, tzinfo=UTC)), []),
        ):
            assert [row.amount_minor async for row in t.alice.history(t.a, only=only)] == amounts
        await refused(Status.account_unknown, t.bob.history_page(t.a))
        assert (await t.tess.history_page(t.a)).rows


async def test_a_cursor_of_somewhere_else_is_refused(tmp_path: Path) -> None:
    """It would lead into somebody else's entries."""
    async with banking(tmp_path) as world:
        t = await town(world)
        await t.tess.deposit(t.b, "1.00 EUR")
        for cursor in (world.committer.committed_position, 10**9):
            with pytest.raises(MessageInvalid):
                await t.alice.history_page(t.a, cursor=cursor)


async def test_the_past_is_read_as_it_was(tmp_path: Path) -> None:
    """Balance and history of a past time do not know what came later."""
    async with banking(tmp_path) as world:
        t = await town(world)
        first = await t.alice.transfer(t.a, t.b, "1.00 EUR")
        hold = await t.alice.hold(t.a, t.b, "5.00 EUR")
        await asyncio.sleep(0.002)
        await t.alice.transfer(t.a, t.b, "2.00 EUR")
        then = await t.alice.balance(t.a, as_of=hold.time + timedelta(milliseconds=1))
        assert (then.balance.minor, then.held.minor, then.available.minor) == (9_900, 500, 9_400)
        assert (await t.bob.balance(t.b, as_of=hold.time + timedelta(milliseconds=1))).incoming.minor == 500
        page = await t.alice.history_page(t.a, only=Filter(as_of=first.time + timedelta(milliseconds=1)))
        assert page.rows[0].kind in ("transfer", "hold")
        assert -200 not in [row.amount_minor for row in page.rows]
        long_ago = datetime(2001, 1, 1, tzinfo=UTC)
        assert (await t.alice.history_page(t.a, only=Filter(as_of=long_ago))).rows == []
        assert (await t.alice.balance(t.a, as_of=long_ago)).balance.minor == 0


async def test_a_statement_adds_up(tmp_path: Path) -> None:
    """Opening balance, sums, rows oldest first by page, closing balance, under a signed head."""
    async with banking(tmp_path) as world:
        t = await town(world)
        opened = moment((await t.alice.account()).opened_us)
        await asyncio.sleep(0.002)
        before = datetime.now(UTC)
        for amount in (1, 2, 3):
            await t.alice.transfer(t.a, t.b, f"{amount}.00 EUR")
        await t.bob.transfer(t.b, t.a, "0.50 EUR")
        statement = await t.alice.statement(before, NOW, limit=3)
        assert (statement.opening_minor, statement.closing_minor) == (10_000, 9_450)
        assert (statement.debits_minor, statement.credits_minor, statement.currency) == (600, 50, "EUR")
        assert [row.amount_minor for row in statement.rows] == [-100, -200, -300]
        rest = await t.alice.statement(before, NOW, cursor=statement.cursor)
        assert ([row.amount_minor for row in rest.rows], rest.cursor) == ([50], 0)
        until_now = await t.alice.ask("statement", Statement(t.a, 0, 0))
        assert (until_now.opening_minor, until_now.closing_minor, len(until_now.rows)) == (0, 9_450, 5)
        empty = await t.alice.statement(opened - timedelta(days=2), opened - timedelta(days=1))
        assert (empty.opening_minor, empty.closing_minor, empty.rows) == (0, 0, [])
        with pytest.raises(MessageInvalid):
            await t.alice.statement(NOW, before)
        await refused(Status.account_unknown, t.bob.statement(before, NOW, t.a))


# --- Single things ---------------------------------------------------------------------------------------------------
async def test_an_id_tells_what_became_of_it(tmp_path: Path) -> None:
    """A transfer, a hold, a refusal: to both sides and to staff, to nobody else; also after a restart."""
    async with banking(tmp_path) as world:
        t = await town(world)
        paid, held, too_much = new_id(), new_id(), new_id()
        await t.alice.transfer(t.a, t.b, "1.00 EUR", id=paid)
        await t.alice.hold(t.a, t.b, "5.00 EUR", id=held)
        await refused(Status.exceeds_available, t.alice.transfer(t.a, t.b, "1000.00 EUR", id=too_much))
        dollars = new_id()
        await t.alice.open_account("USD", id=dollars)
    async with banking(tmp_path) as world:
        t = await town(world)
        for me in (t.alice, t.bob, t.tess):
            assert (await me.transfer_by_id(paid)).state == "done"
            assert (await me.transfer_by_id(held)).state == "open"
            assert (await me.ask("get_hold", GetHold(held))).amount_minor == 500
        view = await t.alice.transfer_by_id(too_much)
        assert (view.state, view.kind) == ("refused", "exceeds_available")
        for stranger, id in ((t.bob, too_much), (t.alice, new_id()), (t.alice, dollars), (t.bob, dollars)):
            await refused(Status.original_unknown, stranger.ask("get_transfer", GetTransfer(id)))
        await refused(Status.hold_unknown, t.alice.ask("get_hold", GetHold(new_id())))
        await t.bob.void(held)
        assert (await t.alice.transfer_by_id(held)).state == "voided"


async def test_others_holds_and_transfers_are_unknown(tmp_path: Path) -> None:
    """Who has no side in it learns nothing."""
    async with banking(tmp_path) as world:
        t = await town(world)
        await world.sign_in("ada")
        cash_in = await t.tess.deposit(t.a, "1.00 EUR")
        held = await t.alice.hold(t.a, t.b, "5.00 EUR")
        ada = await world.sign_in("ada")
        await ada.administration.set_roles("audrey", ["customer"])
        stranger = await world.sign_in("audrey")
        await refused(Status.original_unknown, stranger.transfer_by_id(cash_in.id))
        await refused(Status.hold_unknown, stranger.hold_by_id(held.id))
        await refused(Status.account_unknown, stranger.holds(t.a))
        await refused(Status.account_unknown, stranger.holds())


async def test_open_holds_are_listed_on_both_sides(tmp_path: Path) -> None:
    """A hold is on the payer's and the payee's list until it is over."""
    async with banking(tmp_path) as world:
        t = await town(world)
        id = (await t.alice.hold(t.a, t.b, "5.00 EUR", reference="deposit")).id
        for me in (t.alice, t.bob):
            assert [(view.id, view.reference) for view in await me.holds()] == [(id, "deposit")]
        await t.bob.post(id)
        assert await t.alice.holds() == []


async def test_an_entry_is_proven(tmp_path: Path) -> None:
    """The client checks receipt, head and consistency by itself; strangers get none."""
    async with banking(tmp_path) as world:
        t = await town(world)
        old = await t.alice.head()
        paid = await t.alice.transfer(t.a, t.b, "1.00 EUR")
        receipt = await t.bob.receipt(paid.id)
        assert receipt.position == paid.position
        await t.alice.transfer(t.a, t.b, "1.00 EUR")
        assert (await t.alice.consistency(old)).tree_size == paid.position + 1
        await refused(Status.original_unknown, t.bob.receipt(new_id()))


# --- People ----------------------------------------------------------------------------------------------------------
async def test_contact_data_is_changed_and_read(tmp_path: Path) -> None:
    """One's own, and as staff a customer's; a change that is not durable is not shown."""
    async with banking(tmp_path) as world:
        t = await town(world)
        assert (await t.alice.get_profile()).email == "alice@example.org"
        await t.alice.set_profile(Profile(name="Alice A.", phone="+49 30 1"))
        assert (await t.tess.get_profile("alice")).name == "Alice A."
        await refused(Status.customer_unknown, t.alice.get_profile("bob"))
        journal = world.hold_journal()
        changing = asyncio.ensure_future(t.alice.set_profile(Profile(name="Alice B.")))
        await until(lambda: journal.begun)
        reading = asyncio.ensure_future(t.tess.get_profile("alice"))
        user = asyncio.ensure_future(t.tess.ask("get_user", GetUser("alice")))
        await asyncio.sleep(0.03)
        assert not reading.done() and not user.done()
        journal.release()
        assert (await reading).name == (await user).name == "Alice B."
        await changing


async def test_one_subscribes_to_ones_own_accounts(tmp_path: Path) -> None:
    """All of them if none is named; nobody else's."""
    async with banking(tmp_path) as world:
        t = await town(world)
        async with t.alice.subscribe() as pushes:
            await t.tess.deposit(t.a, "3.00 EUR")
            assert (await anext(pushes)).row.amount_minor == 300
        await refused(Status.account_unknown, t.alice.ask("subscribe", Subscribe([t.a, t.b])))
        async with t.tess.subscribe([t.a, t.b, t.a]) as pushes:
            await t.alice.transfer(t.a, t.b, Money(5, "EUR"))
            assert {(await anext(pushes)).account, (await anext(pushes)).account} == {t.a, t.b}
