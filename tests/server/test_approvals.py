"""Two administrators: what one asks for another approves; it is done once, and forgets whom it must forget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fortress.client.credentials import NO_KDF, LoginKey, key_material
from fortress.client.me import Me
from fortress.errors import Busy, Refused, Status
from fortress.protocol.accounts import Profile
from fortress.protocol.administration import Approve, CreateUser
from fortress.server import approvals
from fortress.server.bank import new_id
from tests.server.banks import BANK, World, banking, seed_of


async def refused(status: Status, work: Any) -> None:
    with pytest.raises(Refused) as caught:
        await work
    assert caught.value.status is status


async def two_administrators(world: World) -> tuple[Me, Me]:
    """Ada, and Alice whom she made an administrator while she was the only one."""
    ada = await world.sign_in("ada")
    assert not (await ada.administration.set_roles("alice", ["administrator", "customer"])).approval
    return ada, await world.sign_in("alice")


def journaled(world: World) -> bytes:
    """Everything the journal says, in one piece."""
    return b"".join(record.payload for record in world.bank.engine.journal.records(1))


async def test_one_administrator_acts_alone(tmp_path: Path) -> None:
    """Where there is nobody to ask, nothing waits."""
    async with banking(tmp_path) as world:
        ada = await world.sign_in("ada")
        number = await world.account_of("alice")
        done = await ada.administration.set_limits(number, day_minor=500)
        assert (done.approval, done.replayed) == (b"", False)
        assert (await ada.account(number)).limit_day_minor == 500


async def test_what_is_asked_for_waits_for_another_administrator(tmp_path: Path) -> None:
    """Nobody approves their own request; approved, it is done; nobody decides twice."""
    async with banking(tmp_path) as world:
        ada, alice = await two_administrators(world)
        asked = await ada.administration.set_roles("bob", ["teller"])
        assert asked.approval
        assert [(row.asked_by, row.summary) for row in await alice.administration.approvals()] == [
            ("ada", "give bob the roles teller")
        ]
        assert (await ada.administration.user("bob")).roles == ["customer"]
        await refused(Status.approval_needs_another_person, ada.administration.approve(asked.approval))
        await alice.administration.approve(asked.approval)
        assert (await ada.administration.user("bob")).roles == ["teller"]
        assert await alice.administration.approvals() == []
        await refused(Status.approval_already_decided, alice.administration.approve(asked.approval))
        await refused(Status.approval_already_decided, alice.administration.approve(asked.approval, decline=True))
        await refused(Status.approval_unknown, alice.administration.approve(new_id()))


async def test_what_is_declined_is_not_done(tmp_path: Path) -> None:
    """Also not at the next start; one may decline one's own request."""
    async with banking(tmp_path) as world:
        ada, alice = await two_administrators(world)
        number = await world.account_of("bob")
        for decliner in (alice, ada):
            asked = await ada.administration.set_limits(number, floor_minor=-500, signed_orders_only=True)
            assert [row.summary for row in await ada.administration.approvals()] == [
                f"limits of account {number} in minor units: floor -500, payment none, day none, month none, "
                "signed orders only"
            ]
            await decliner.administration.approve(asked.approval, decline=True)
    async with banking(tmp_path) as world:
        ada = await world.sign_in("ada")
        assert (await ada.account(number)).floor_minor == 0
        assert await ada.administration.approvals() == []


async def test_a_repeated_request_asks_once(tmp_path: Path) -> None:
    """The same id and content again is the same request; other content is another one."""
    async with banking(tmp_path) as world:
        ada, alice = await two_administrators(world)
        id = new_id()
        for is_repeat in (False, True):
            done = await ada.administration.set_roles("bob", ["teller"], id=id)
            assert (done.approval, done.replayed) == (id, is_repeat)
        await refused(Status.id_reused, ada.administration.set_roles("bob", ["auditor"], id=id))
        await refused(Status.id_reused, ada.administration.erase("bob", id=id))
        await alice.administration.approve(id)
        assert (await ada.administration.set_roles("bob", ["teller"], id=id)).replayed
        assert (await ada.administration.user("bob")).roles == ["teller"]


async def test_a_request_done_at_once_is_not_asked_for_when_repeated(tmp_path: Path) -> None:
    """A repeat goes the way of the first, though there are two administrators by then."""
    async with banking(tmp_path) as world:
        ada = await world.sign_in("ada")
        id = new_id()
        await ada.administration.set_roles("alice", ["administrator"], id=id)
        again = await ada.administration.set_roles("alice", ["administrator"], id=id)
        assert (again.replayed, again.approval) == (True, b"")


async def test_a_repeat_does_not_bring_old_roles_back(tmp_path: Path) -> None:
    """A late repeat of an old request must not raise the rights of a session that stands."""
    async with banking(tmp_path) as world:
        ada = await world.sign_in("ada")
        bob = await world.sign_in("bob")
        id = new_id()
        await ada.administration.set_roles("bob", ["teller"], id=id)
        [session] = world.node.server.sessions_of(bob.signed_in.customer)
        assert session.roles == {"teller"}
        await ada.administration.set_roles("bob", ["customer"])
        assert (await ada.administration.set_roles("bob", ["teller"], id=id)).replayed
        assert session.roles == {"customer"}


# --- People ----------------------------------------------------------------------------------------------------------
async def create(me: Me, username: str, id: bytes) -> Any:
    """Ask for a teller as the client does, with a key proven on this connection."""
    link = me._calls.route.current
    key = key_material(
        LoginKey(seed_of(username)), bytes(16), NO_KDF, channel=link.handshake_hash, bank=BANK, username=username
    )
    request = CreateUser(id, username, key, ["teller"], Profile(name="Theo T."))
    return await link.request("create_user", request, 5)


async def test_staff_is_created_with_a_second_administrator(tmp_path: Path) -> None:
    """The new teller signs in after the approval; the same name is not asked for twice."""
    async with banking(tmp_path) as world:
        ada, alice = await two_administrators(world)
        id = new_id()
        asked = await create(ada, "theo", id)
        assert (asked.state, asked.approval) == ("waiting", id)
        # a repeat over another connection proves the key anew and is the same request all the same
        other = await world.sign_in("ada")
        assert (await create(other, "theo", id)).approval == id
        assert [row.summary for row in await alice.administration.approvals()] == ["create theo with the roles teller"]
        await alice.administration.approve(id)
        assert (await (await world.sign_in("theo")).get_profile()).name == "Theo T."
        assert (await create(other, "theo", id)).approval == id
        again = ada.administration.create_user("theo", seed=seed_of("theo"), roles=("teller",))
        await refused(Status.username_taken, again)


async def test_a_customer_is_created_by_one(tmp_path: Path) -> None:
    """Only what gives power needs two."""
    async with banking(tmp_path) as world:
        ada, _ = await two_administrators(world)
        made = await ada.administration.create_user("carl", seed=seed_of("carl"))
        assert (made.state, made.approval) == ("active", b"")
        await refused(Status.username_taken, ada.administration.create_user("carl", seed=seed_of("carl")))


async def test_the_journal_holds_no_names_of_those_asked_about(tmp_path: Path) -> None:
    """Personal data is journaled only under the person's own key, and a declined one's key is destroyed."""
    async with banking(tmp_path) as world:
        ada, alice = await two_administrators(world)
        profile = Profile(name="Theodora Testwell", email="theodora@example.org")
        asked = await ada.administration.create_user(
            "theodora", seed=seed_of("theodora"), roles=("teller",), profile=profile
        )
        await ada.administration.set_roles("bob", ["teller"])
        text = journaled(world)
        for secret in (b"heodora", b"Testwell", b"bob"):
            assert secret not in text
        entry = world.bank.state.approval(asked.approval)
        await alice.administration.approve(asked.approval, decline=True)
        assert await approvals._opened(world.bank, "create_user", entry.command) is None


async def test_a_person_is_erased_with_all_that_was_asked_about_them(tmp_path: Path) -> None:
    """After the erasure nothing about them can be read, and a repeat finds it done."""
    async with banking(tmp_path) as world:
        ada, alice = await two_administrators(world)
        waiting = await ada.administration.set_roles("tess", ["auditor"])
        id = new_id()
        tess = await world.sign_in("tess")
        await ada.administration.erase("tess", id=id)
        await alice.administration.approve(id)
        assert (await ada.administration.erase("tess", id=id)).approval == id
        assert not world.node.server.sessions_of(tess.signed_in.customer)
        await refused(Status.customer_unknown, ada.administration.user("tess"))
        await refused(Status.customer_unknown, ada.administration.erase("tess"))
        [row] = await alice.administration.approvals()
        assert row.summary == f"give customer {tess.signed_in.customer} the roles auditor"
        await refused(Status.customer_erased, alice.administration.approve(waiting.approval))
    async with banking(tmp_path) as world:
        assert await approvals.undone(world.bank) != []  # it can never be done, and no start stumbles over it


async def test_one_administrator_erases_and_repeats(tmp_path: Path) -> None:
    """The answer that was lost comes again, though nobody has the name any more."""
    async with banking(tmp_path) as world:
        ada = await world.sign_in("ada")
        id = new_id()
        assert not (await ada.administration.erase("tess", id=id)).replayed
        assert (await ada.administration.erase("tess", id=id)).replayed
        await refused(Status.account_not_empty, ada.administration.erase("bob"))
        await refused(Status.customer_unknown, ada.administration.set_roles("nobody", ["teller"]))


# --- Once, whatever happens ------------------------------------------------------------------------------------------
async def test_what_was_approved_is_done_after_a_crash_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start does it, once; the start after that finds it done."""

    async def crash(*_: object) -> None:
        raise Busy("the node goes down here")

    number = 0
    async with banking(tmp_path) as world:
        ada, alice = await two_administrators(world)
        number = await world.account_of("bob")
        asked = await ada.administration.set_limits(number, day_minor=700)
        with monkeypatch.context() as patched:
            patched.setattr(approvals, "carry_out", crash)
            link = alice._calls.route.current
            with pytest.raises(Busy):
                await link.request("approve", Approve(asked.approval), 5)
        assert (await ada.account(number)).limit_day_minor is None
    for _ in range(2):
        async with banking(tmp_path) as world:
            ada = await world.sign_in("ada")
            account = await ada.account(number)
            assert (account.limit_day_minor, account.version) == (700, 2)
            assert await approvals.undone(world.bank) == []


async def test_what_was_approved_and_could_not_be_done_is_done_when_approved_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client repeats what was answered with busy, and the repeat completes it."""
    async with banking(tmp_path) as world:
        ada, alice = await two_administrators(world)
        number = await world.account_of("bob")
        asked = await ada.administration.set_limits(number, day_minor=700)
        whole, failures = approvals.carry_out, [Busy("not now")]

        async def carry_out(*arguments: Any) -> None:
            if failures:
                raise failures.pop()
            await whole(*arguments)

        monkeypatch.setattr(approvals, "carry_out", carry_out)
        await alice.administration.approve(asked.approval)
        assert failures == []
        assert (await ada.account(number)).limit_day_minor == 700


async def test_an_approved_act_that_is_refused_is_refused_for_good(tmp_path: Path) -> None:
    """What the rules refuse when it is approved does not succeed by surprise at a later start."""
    async with banking(tmp_path) as world:
        ada, alice = await two_administrators(world)
        number = await world.account_of("bob")
        asked = await ada.administration.set_limits(number, day_minor=700)
        bob, tess = await world.sign_in("bob"), await world.sign_in("tess")
        await tess.withdraw(number, "100.00 EUR")
        await bob.close_account(number)
        await refused(Status.account_state_conflict, alice.administration.approve(asked.approval))
        await ada.administration.reopen(number)
        await refused(Status.approval_already_decided, alice.administration.approve(asked.approval))
    async with banking(tmp_path) as world:
        ada = await world.sign_in("ada")
        assert (await ada.account(number)).limit_day_minor is None
