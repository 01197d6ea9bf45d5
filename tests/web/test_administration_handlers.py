"""What administrators, tellers and auditors do by their pages, at a real bank."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fortress.client.ids import new_id
from fortress.client.me import Me
from fortress.errors import IntegrityFailed, MessageInvalid, NotAllowed, Refused, Status
from fortress.web.administration_handlers import HANDLERS, FirstHead
from tests.server.banks import BANK, World, banking, seed_of
from tests.web.staff import ask as asked
from tests.web.staff import context_of

Ask = Callable[..., Awaitable[Any]]


def fresh() -> str:
    return new_id().hex()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with banking(tmp_path) as world:
        yield world


@pytest.fixture
async def ada(world: World) -> Me:
    """The administrator."""
    return await world.sign_in("ada")


@pytest.fixture
async def grace(world: World, ada: Me) -> Me:
    """A second one, without whom some acts are not done from now on."""
    await ada.administration.create_user("grace", seed=seed_of("grace"), roles=("administrator",))
    return await world.sign_in("grace")


@pytest.fixture
async def ask(world: World) -> AsyncIterator[Ask]:
    """Ask as somebody: ``ask(ada, "users")``."""
    context = context_of(BANK)

    async def ask(me: Me, name: str, **given: Any) -> Any:
        return await asked(HANDLERS[name], name, me, context, **given)

    yield ask
    await context.close()


async def test_customers_are_listed_and_read(ask: Ask, ada: Me) -> None:
    """Page by page, each with name, roles and state."""
    first = await ask(ada, "users", query={"limit": "2"})
    assert len(first.users) == 2 and first.next_after
    rest = await ask(ada, "users", query={"after": first.next_after})
    assert {user.username for user in (*first.users, *rest.users)} == {"ada", "alice", "bob", "tess", "audrey"}
    alice = await ask(ada, "user", path={"username": "alice"})
    assert (alice.name, alice.roles, alice.state, alice.locked_until) == ("Alice", ["customer"], "active", None)
    with pytest.raises(Refused) as refused:
        await ask(ada, "user", path={"username": "nobody"})
    assert refused.value.status is Status.customer_unknown


async def test_a_customer_is_locked_for_hours_and_let_in(ask: Ask, ada: Me) -> None:
    """Or until unlocked."""
    path = {"username": "bob"}
    await ask(ada, "lock", path=path, body={"hours": 2})
    locked = await ask(ada, "user", path=path)
    assert locked.state == "locked" and locked.locked_until is not None
    await ask(ada, "lock", path=path, body={})
    await ask(ada, "unlock", path=path, body={})
    assert (await ask(ada, "user", path=path)).state == "active"


async def test_people_are_invited(ask: Ask, ada: Me) -> None:
    """With a code that is told once."""
    code = await ask(ada, "invite", body={"id": fresh(), "valid_hours": 1})
    assert code.code and not code.approval


async def test_roles_wait_for_a_second_administrator(ask: Ask, ada: Me, grace: Me) -> None:
    """Who asked may not decide; who decides may decline."""
    done = await ask(ada, "set_roles", path={"username": "bob"}, body={"id": fresh(), "roles": ["auditor"]})
    assert done.approval
    (row,) = (await ask(ada, "approvals")).approvals
    assert (row.id, row.operation, row.asked_by, row.mine) == (done.approval, "set_role", "ada", True)
    assert "bob" in row.summary
    with pytest.raises(Refused):
        await ask(ada, "decide", path={"id": row.id}, body={"decline": False})
    assert not (await ask(grace, "approvals")).approvals[0].mine
    await ask(grace, "decide", path={"id": row.id}, body={"decline": False})
    assert (await ask(ada, "user", path={"username": "bob"})).roles == ["auditor"]
    erase = await ask(grace, "erase", path={"username": "bob"}, body={"id": fresh()})
    await ask(ada, "decide", path={"id": erase.approval}, body={"decline": True})
    assert (await ask(ada, "approvals")).approvals == []


async def test_an_account_is_opened_filled_and_frozen(ask: Ask, world: World, ada: Me) -> None:
    """Cash comes and goes over the counter; a frozen account takes and gives nothing."""
    tess = await world.sign_in("tess")
    opening = {"id": fresh(), "username": "alice", "currency": "EUR"}
    account = (await ask(tess, "open_account_for", body=opening)).account
    assert (await ask(tess, "open_account_for", body=opening)).account.number == account.number
    order = {"id": fresh(), "account": account.number, "amount": "500", "currency": "EUR", "reference": "Cash"}
    assert (await ask(tess, "deposit", body=order)).position
    await ask(tess, "withdraw", body={**order, "id": fresh(), "amount": "200"})
    path = {"number": account.number}
    shown = await ask(tess, "held_account", path=path)
    assert shown.account.balance == "300" and [entry.amount for entry in shown.entries[:2]] == ["-200", "500"]
    await ask(ada, "freeze", path=path, body={})
    with pytest.raises(Refused):
        await ask(tess, "deposit", body={**order, "id": fresh()})
    await ask(ada, "unfreeze", path=path, body={})
    await ask(tess, "withdraw", body={**order, "id": fresh(), "amount": "300"})
    await ask(ada, "close_account", path=path, body={})
    await ask(ada, "reopen_account", path=path, body={})
    assert (await ask(ada, "held_account", path=path)).account.state == "open"


async def test_limits_wait_for_a_second_administrator(ask: Ask, world: World, ada: Me, grace: Me) -> None:
    """Then they hold."""
    number = await world.account_of("alice")
    limits = {"floor": "-5000", "payment": "100", "day": None, "month": "20000", "signed_orders_only": False}
    done = await ask(ada, "set_limits", path={"number": number}, body={"id": fresh(), **limits})
    await ask(grace, "decide", path={"id": done.approval}, body={"decline": False})
    page = await ask(ada, "all_accounts", query={"username": "alice"})
    (account,) = page.accounts
    assert (account.floor, account.limit_payment, account.limit_day) == ("-5000", "100", None)
    assert len((await ask(ada, "all_accounts")).accounts) > 2


async def test_the_books_add_up(ask: Ask, world: World) -> None:
    """For whoever keeps them."""
    books = await ask(await world.sign_in("audrey"), "books")
    row = next(row for row in books.rows if row.currency == "EUR")
    assert (row.sum, row.debits == row.credits, books.position > 0) == ("0", True, True)


async def test_the_trail_is_told_with_its_proof(ask: Ask, ada: Me) -> None:
    """Under a head that continues the first one seen, whoever looks."""
    before = await ask(ada, "trail")
    await ask(ada, "lock", path={"username": "bob"}, body={})
    after = await ask(ada, "trail", query={"limit": "1"})
    assert before.proven and after.proven and after.tree_size > before.tree_size
    (row,) = after.rows
    assert (row.actor, row.subject, bool(row.kind)) == ("ada", "bob", True)
    assert after.cursor


async def test_a_rewritten_journal_is_not_proven(ada: Me, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that has become shorter; the head is shown as it is."""
    keeper = FirstHead(context_of(BANK))
    assert (await keeper.check(ada))[0]
    for error in (IntegrityFailed("rewritten"), MessageInvalid("the journal has 3 entries")):

        async def broken(old: object = None, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(ada, "consistency", broken)
        proven, head = await keeper.check(ada)
        assert not proven and head.tree_size


async def test_what_the_bank_does_not_allow_is_not_done(ask: Ask, world: World) -> None:
    """It decides, not the page."""
    with pytest.raises(NotAllowed):
        await ask(await world.sign_in("tess"), "lock", path={"username": "bob"}, body={})
