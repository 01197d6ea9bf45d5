"""What administrators, auditors and tellers do and see besides approvals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fortress.client.me import Me
from fortress.errors import LockedOut, LoginFailed, NotAllowed, NotSignedIn, Refused, Status
from fortress.ledger.commands import ChangeBank, CloseWindow, OpenAccount
from fortress.ledger.model import BANK_ACTOR, AccountKind
from fortress.protocol.administration import CreateUser
from fortress.protocol.sessions import KeyMaterial
from fortress.server.administration_handlers import _code
from fortress.server.bank import new_id, now_us
from tests.server.banks import World, banking, seed_of, until

PASSWORD = "a phrase of many words"


async def refused(status: Status, work: Any) -> None:
    with pytest.raises(Refused) as caught:
        await work
    assert caught.value.status is status


async def ada(world: World) -> Me:
    return await world.sign_in("ada")


async def register(world: World, code: str, username: str) -> Me:
    return await (await world.connect()).register(code, username, PASSWORD, "Carl C.")


# --- Invitations -----------------------------------------------------------------------------------------------------
async def test_a_person_registers_with_an_invitation_once(tmp_path: Path) -> None:
    """The code gives one registration with the role it was made for; after that it is worth nothing."""
    async with banking(tmp_path) as world:
        invitation = await (await ada(world)).administration.invite("teller")
        assert re.fullmatch(r"([2-9a-z]{4}-){5}[2-9a-z]{4}", invitation.code)
        carl = await register(world, invitation.code, "carl")
        assert carl.signed_in.roles == ["teller"]
        assert (await carl.get_profile()).name == "Carl C."
        await refused(Status.invitation_invalid, register(world, invitation.code, "dora"))
        position = world.committer.committed_position
        await refused(Status.invitation_invalid, register(world, "2222-2222", "dora"))
        assert world.committer.committed_position == position  # guesses leave no trace in the journal


async def test_an_invitation_is_made_for_known_roles_and_shown_once(tmp_path: Path) -> None:
    """Its code is kept nowhere, so a repeat is refused rather than answered with another code."""
    async with banking(tmp_path) as world:
        administration = (await ada(world)).administration
        id = new_id()
        await administration.invite(id=id)
        await refused(Status.id_reused, administration.invite(id=id))
        await refused(Status.role_invalid, administration.invite("king"))
        await administration.set_roles("alice", ["administrator"])
        await refused(Status.role_invalid, administration.invite("teller"))
        assert (await administration.invite()).code


async def test_a_taken_username_is_refused_and_the_code_stays_good(tmp_path: Path) -> None:
    """Who chose a name that is taken chooses another."""
    async with banking(tmp_path) as world:
        invitation = await (await ada(world)).administration.invite()
        await refused(Status.username_taken, register(world, invitation.code, "alice"))
        assert (await register(world, invitation.code, "carl")).username == "carl"


def test_codes_are_easy_to_copy() -> None:
    """No letter or digit that looks like another, and every bit counts."""
    assert _code(bytes(15)) == "2222-2222-2222-2222-2222-2222"
    codes = {_code(bytes([1 << bit]) + bytes(14)) for bit in range(7)}
    assert len(codes) == 7
    assert not set("".join(codes)) & set("01ilo")


# --- People ----------------------------------------------------------------------------------------------------------
async def test_a_customer_made_by_hand_brings_a_key_that_is_theirs(tmp_path: Path) -> None:
    """A key without proof on this channel is refused."""
    async with banking(tmp_path) as world:
        administration = (await ada(world)).administration
        made = await administration.create_user("carl", seed=seed_of("carl"))
        assert (made.username, made.roles, made.state) == ("carl", ["customer"], "active")
        assert (await world.sign_in("carl")).username == "carl"
        key = KeyMaterial(bytes(16), 0, 0, 0, *[bytes([1]) + bytes(31)] * 4)
        request = CreateUser(new_id(), "eve", key)
        await refused(Status.key_proof_invalid, administration._calls.call("create_user", request))


async def test_people_are_shown_to_staff(tmp_path: Path) -> None:
    """One by one and page by page; to customers not at all."""
    async with banking(tmp_path) as world:
        tess = await world.sign_in("tess")
        user = await tess.administration.user("bob")
        assert (user.username, user.name, user.roles, user.state) == ("bob", "Bob", ["customer"], "active")
        page = await tess.administration.users(limit=3)
        assert [row.username for row in page.users] == ["ada", "alice", "bob"]
        rest = await tess.administration.users(after=page.next_after)
        assert ([row.username for row in rest.users], rest.next_after) == (["tess", "audrey"], 0)
        await refused(Status.customer_unknown, tess.administration.user("nobody"))
        with pytest.raises(NotAllowed):
            await (await world.sign_in("alice")).administration.users()


async def test_a_locked_customer_is_out_until_unlocked(tmp_path: Path) -> None:
    """Their sessions end and logins fail; unlocked, they are as before."""
    async with banking(tmp_path) as world:
        administration = (await ada(world)).administration
        alice = await world.sign_in("alice")
        token = alice.signed_in.token
        await administration.lock("alice")
        await until(lambda: not world.node.server.sessions_of(alice.signed_in.customer))
        with pytest.raises(LockedOut):
            await world.sign_in("alice")
        with pytest.raises(Exception, match="token"):
            await (await world.connect()).resume(token)
        assert (await administration.user("alice")).state == "locked"
        await administration.unlock("alice")
        assert (await (await world.sign_in("alice")).account()).owner == "alice"
        until_us = now_us() + 3_600_000_000
        await administration.lock("alice", until_us=until_us)
        assert (await administration.user("alice")).locked_until_us == until_us
        await refused(Status.customer_unknown, administration.lock("nobody"))
        await refused(Status.last_administrator, administration.lock("ada"))


async def test_failed_logins_do_not_shorten_a_lock(tmp_path: Path) -> None:
    """A lockout after failures ends by itself; a lock that an administrator set must not end with it."""
    async with banking(tmp_path, login__failures_before_lockout="2", login__failures_before_delay="5") as world:
        administration = (await ada(world)).administration
        await administration.lock("alice")
        for _ in range(2):
            with pytest.raises(LoginFailed):
                await (await world.connect()).login_with_seed("alice", seed_of("somebody"))
        with pytest.raises(LoginFailed):
            await (await world.connect()).login_with_seed("bob", seed_of("somebody"))
        with pytest.raises(LoginFailed):
            await (await world.connect()).login_with_seed("bob", seed_of("somebody"))
        # the lockout is written beside the answer
        await until(lambda: world.bank.state.customer_by_handle(world.node.desk.handle_of("bob")).state == 2)
        assert (await administration.user("bob")).locked_until_us > now_us()
        alice = await administration.user("alice")
        assert (alice.state, alice.locked_until_us) == ("locked", 0)


# --- Accounts --------------------------------------------------------------------------------------------------------
async def test_accounts_are_frozen_and_opened_again(tmp_path: Path) -> None:
    """Frozen for debits nothing leaves, frozen nothing comes in either."""
    async with banking(tmp_path) as world:
        administration = (await ada(world)).administration
        alice, bob = await world.sign_in("alice"), await world.sign_in("bob")
        number = (await alice.account()).number
        await administration.freeze(number, debits_only=True)
        await refused(Status.debit_account_frozen, alice.pay("bob", "1.00 EUR"))
        await bob.pay("alice", "1.00 EUR")
        await administration.freeze(number)
        await refused(Status.credit_account_frozen, bob.pay("alice", "1.00 EUR"))
        await refused(Status.account_state_conflict, administration.freeze(number))
        await administration.unfreeze(number)
        await alice.pay("bob", "1.00 EUR")
        await refused(Status.account_unknown, administration.freeze(4711))


async def test_an_empty_account_is_closed_by_its_owner(tmp_path: Path) -> None:
    """Only an empty one, only one's own; an administrator opens it again."""
    async with banking(tmp_path) as world:
        administration = (await ada(world)).administration
        alice, bob = await world.sign_in("alice"), await world.sign_in("bob")
        number = (await alice.account()).number
        await refused(Status.account_not_empty, alice.close_account(number))
        await refused(Status.account_unknown, bob.close_account(number))
        await alice.pay("bob", "100.00 EUR")
        await alice.close_account(number)
        await refused(Status.credit_account_closed, bob.pay(str(number), "1.00 EUR"))
        await administration.reopen(number)
        await bob.pay("alice", "1.00 EUR")


# --- Looking ---------------------------------------------------------------------------------------------------------
async def test_the_trail_tells_who_did_what_to_whom(tmp_path: Path) -> None:
    """Acts and refusals, newest first and page by page, with names; never keys or personal data."""
    async with banking(tmp_path) as world:
        admin = await ada(world)
        alice = await world.sign_in("alice")
        number = (await alice.account()).number
        await refused(Status.exceeds_available, alice.pay("bob", "1000.00 EUR"))
        await admin.administration.set_limits(number, day_minor=500)
        await admin.administration.lock("bob")
        await alice.logout()
        audrey = await world.sign_in("audrey")
        trail = await audrey.administration.trail(limit=4)
        assert [(row.kind, row.actor, row.subject) for row in trail.rows] == [
            ("session_ended", "alice", "alice"),
            ("customer_changed", "ada", "bob"),
            ("limits", "ada", str(number)),
            ("refused", "alice", str(number)),
        ]
        assert "exceeds_available" in trail.rows[3].detail
        assert "available_minor 10000" in trail.rows[3].detail
        rest = await audrey.administration.trail(cursor=trail.cursor)
        assert rest.cursor == 0
        assert rest.rows[-1].kind == "ledger_opened"
        assert ("customer_created", "ada", "alice") in [(row.kind, row.actor, row.subject) for row in rest.rows]
        everything = " ".join(row.detail for row in (*trail.rows, *rest.rows))
        assert "example.org" not in everything
        with pytest.raises(NotAllowed):
            await (await world.sign_in("tess")).administration.trail()
        with pytest.raises(NotSignedIn):
            await alice.whoami()


async def test_the_trail_tells_of_other_banks(tmp_path: Path) -> None:
    """By their names; a window with where it began and ended, a position account with its bank."""
    async with banking(tmp_path) as world:
        bank = world.bank
        await bank.commit(ChangeBank(BANK_ACTOR, new_id(), "north", "add", b"certificate"))
        await bank.commit(OpenAccount(BANK_ACTOR, new_id(), -1, int(AccountKind.position), "EUR", -500))
        await bank.commit(CloseWindow(BANK_ACTOR, new_id(), 9))
        await bank.commit(ChangeBank(BANK_ACTOR, new_id(), "south", "suspend"))
        number = bank.state.positions[1, "EUR"]
        trail = await (await world.sign_in("audrey")).administration.trail(limit=4)
        assert [(row.kind, row.actor, row.subject, row.detail) for row in trail.rows] == [
            ("refused", "bank", "", "operation suspend_bank, bank_unknown"),
            ("window_closed", "bank", "1", "to 9"),
            ("opened", "bank", str(number), "currency EUR"),
            ("bank_changed", "bank", "north", "act add"),
        ]
        views = (await (await ada(world)).administration.accounts(all=True, after=number - 1)).accounts
        assert [(view.owner, view.kind, view.floor_minor) for view in views] == [("north", "position", -500)]


async def test_the_books_add_up(tmp_path: Path) -> None:
    """By currency, debits and credits are equal and their difference is zero."""
    async with banking(tmp_path) as world:
        audrey = await world.sign_in("audrey")
        alice = await world.sign_in("alice")
        paid = await alice.pay("bob", "1.00 EUR")
        await alice.hold((await alice.account()).number, await world.account_of("bob"), "2.00 EUR")
        books = await audrey.administration.trial_balance()
        euros, dollars = books.rows
        assert (euros.currency, euros.accounts, euros.sum_minor, euros.held_minor) == ("EUR", 4, 0, 200)
        assert euros.debits_minor == euros.credits_minor == 20_100
        assert (dollars.currency, dollars.accounts, dollars.credits_minor) == ("USD", 2, 0)
        assert books.position == paid.position + 1
