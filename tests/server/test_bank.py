"""The bank behind the connections: people made once and sealed, ids, proofs of what is in the journal."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from fortress.client.credentials import LoginKey
from fortress.errors import Busy, MessageInvalid, Refused, Status
from fortress.ledger.commands import Invite
from fortress.ledger.merkle import EMPTY_ROOT, leaf_hash, verify_consistency, verify_inclusion
from fortress.ledger.model import BANK_ACTOR, Actor
from fortress.ledger.rules import Verdict
from fortress.protocol.accounts import Profile
from fortress.protocol.proofs import head_statement
from fortress.protocol.sessions import KeyMaterial, Register
from fortress.server import bank as banks_bank
from fortress.server.bank import Bank, accepted, derived_id, new_id, now_us, refusal
from tests.server.banks import banking, seed_of, until

CODE = "2222-3333-4444"
DIGEST = banks_bank.hashlib.sha256(CODE.encode()).digest()


def key_of(username: str) -> KeyMaterial:
    key = LoginKey(seed_of(username))
    return KeyMaterial(bytes(16), 0, 0, 0, key.public, key.signing_public(), bytes(32), bytes(32))


async def invite(bank: Bank, *, valid_us: int = 10**9, role: str = "customer") -> None:
    accepted(await bank.commit(Invite(BANK_ACTOR, new_id(), DIGEST, role, now_us() + valid_us)))


# --- Small things ----------------------------------------------------------------------------------------------------
def test_ids_carry_the_time_and_are_never_the_same() -> None:
    """UUIDv7: the millisecond first, then version, variant and chance."""
    before = time.time_ns() // 1_000_000
    ids = {new_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    for id in ids:
        assert before <= int.from_bytes(id[:6], "big") <= time.time_ns() // 1_000_000
        assert (id[6] >> 4, id[8] >> 6) == (7, 2)


def test_derived_ids_are_the_same_for_the_same_content() -> None:
    """UUIDv8 of label and content; another label makes another id."""
    id = derived_id(b"label", b"content")
    assert id == derived_id(b"label", b"content")
    assert len({id, derived_id(b"labe", b"lcontent"), derived_id(b"label", b"contents")}) == 3
    assert (len(id), id[6] >> 4, id[8] >> 6) == (16, 8, 2)


def test_a_refusal_carries_status_and_facts() -> None:
    """What the rules said is what is raised."""
    verdict = Verdict(Status.exceeds_hold, facts=(("held_minor", 5),))
    with pytest.raises(Refused) as refused:
        accepted(verdict)
    assert (refused.value.status, refused.value.facts) == (Status.exceeds_hold, {"held_minor": 5})
    assert refusal(verdict).facts == {"held_minor": 5}
    assert accepted(done := Verdict(Status.ok)) is done


async def test_actors_are_made_once_for_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same customer with the same roles is the same object; other roles make another, and memory is bounded."""
    monkeypatch.setattr(banks_bank, "ACTORS_REMEMBERED_MAX", 2)
    async with banking(tmp_path) as world:
        roles = frozenset(("customer",))
        actor = world.bank.actor(5, roles)
        assert world.bank.actor(5, roles) is actor
        assert world.bank.actor(5, frozenset(("teller",))) == Actor(5, frozenset(("teller",)))
        for number in range(10):
            world.bank.actor(number, roles)
        assert len(world.bank._actors) <= 2


async def test_settlement_accounts_are_opened_once(tmp_path: Path) -> None:
    """One for each currency when the bank is opened; at every later start those that are missing."""
    async with banking(tmp_path) as world:
        bank = world.bank
        before, position = dict(bank.state.settlements), bank.state.position
        assert set(before) == {"EUR", "USD"}
        await bank.open_settlements()
        del bank.state.settlements["USD"]  # what it does not know is still known by its id
        await bank.open_settlements()
        assert bank.state.position == position
    async with banking(tmp_path) as world:
        assert world.bank.state.settlements == before and world.bank.state.position == position


# --- People ----------------------------------------------------------------------------------------------------------
async def test_a_registration_is_done_once_and_repeats(tmp_path: Path) -> None:
    """Who repeats with the same key is the one who registered; with another key the code is used up."""
    async with banking(tmp_path) as world:
        await invite(world.bank, role="teller")
        request = Register(CODE, "carl", key_of("carl"), "Carl")
        first = await world.bank.register(request)
        assert (first.username, first.roles) == ("carl", ("teller",))
        position = world.committer.committed_position
        assert await world.bank.register(request) == first
        for other in (Register(CODE, "carl", key_of("dora")), Register(CODE, "dora", key_of("dora"))):
            with pytest.raises(Refused) as refused:
                await world.bank.register(other)
            assert refused.value.status is Status.invitation_invalid
        assert world.committer.committed_position == position


async def test_guessed_and_expired_codes_leave_no_trace(tmp_path: Path) -> None:
    """Nobody fills journal and vault by guessing."""
    async with banking(tmp_path) as world:
        await invite(world.bank, valid_us=1)
        position = world.committer.committed_position
        for code in (CODE, "9999-9999"):
            with pytest.raises(Refused):
                await world.bank.register(Register(code, "carl", key_of("carl")))
        assert world.committer.committed_position == position
        assert await world.bank.customer_number("carl") == 0


async def test_two_with_one_code_and_two_with_one_name(tmp_path: Path) -> None:
    """Of two at the same time one is a customer and the other is refused."""
    async with banking(tmp_path) as world:
        await invite(world.bank)
        outcomes = await asyncio.gather(
            *(world.bank.register(Register(CODE, name, key_of(name))) for name in ("carl", "dora")),
            return_exceptions=True,
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LoginRecord", "Refused"]


async def test_changes_of_who_does_not_exist_are_refused(tmp_path: Path) -> None:
    """Keys and contact data belong to somebody."""
    async with banking(tmp_path) as world:
        bank = world.bank
        with pytest.raises(Refused) as refused:
            await bank.change_key(4711, key_of("carl"))
        assert refused.value.status is Status.customer_unknown
        bob = await bank.customer_named("bob")
        await bank.read(bank.vault.erase_person, bob.handle)
        with pytest.raises(Refused) as refused:
            await bank.change_profile(BANK_ACTOR, bob, Profile())
        assert refused.value.status is Status.customer_erased


async def test_a_lockout_is_written_for_whom_there_is(tmp_path: Path) -> None:
    """Once; not for a name that nobody has, and not when a longer lock stands."""
    async with banking(tmp_path) as world:
        bank = world.bank
        until_us = now_us() + 10**9
        position = world.committer.committed_position
        await bank.lock_after_failures("nobody", until_us)
        assert world.committer.committed_position == position
        await bank.lock_after_failures("alice", until_us)
        assert (await bank.customer_named("alice")).locked_until_us == until_us
        await bank.lock_after_failures("alice", until_us - 1)
        assert (await bank.customer_named("alice")).locked_until_us == until_us


async def test_an_ended_session_stays_ended_after_a_restart(tmp_path: Path) -> None:
    """Its token is refused by the node that starts next."""
    async with banking(tmp_path) as world:
        alice = await world.sign_in("alice")
        token = alice.signed_in.token
        await alice.logout()
    async with banking(tmp_path) as world:
        with pytest.raises(Exception, match="revoked|token"):
            await (await world.connect()).resume(token)


# --- Proofs ----------------------------------------------------------------------------------------------------------
async def test_heads_receipts_and_consistency_prove_themselves(tmp_path: Path) -> None:
    """Everything is checked with the tree's own rules and the head key, while the tables move on."""
    async with banking(tmp_path) as world:
        bank = world.bank
        old = await bank.head()
        alice = await world.sign_in("alice")
        paid = await alice.pay("bob", "1.00 EUR")
        for _ in range(5):
            await alice.pay("bob", "1.00 EUR")
        receipt = await bank.receipt(paid.position)
        head = receipt.head
        statement = head_statement(
            bank=head.bank, epoch=head.epoch, tree_size=head.tree_size, root=head.root, time_us=head.time_us
        )
        bank._head_key.public_key().verify(head.signature, statement)
        leaf = leaf_hash(receipt.entry)
        assert verify_inclusion(leaf, paid.position - 1, head.tree_size, receipt.path, head.root)
        answer = await bank.consistency(old.tree_size)
        assert verify_consistency(old.tree_size, old.root, answer.head.tree_size, answer.head.root, answer.path)
        with pytest.raises(MessageInvalid) as refused:
            await bank.consistency(10**6)
        assert refused.value.facts == {"field": "old_size"}


async def test_a_head_shows_only_what_is_committed(tmp_path: Path) -> None:
    """What is on its way to the disk is not signed."""
    async with banking(tmp_path) as world:
        before = await world.bank.head()
        alice = await world.sign_in("alice")
        journal = world.hold_journal()
        paying = asyncio.ensure_future(alice.pay("bob", "1.00 EUR"))
        await until(lambda: journal.begun)
        head = await world.bank.head()
        assert (head.tree_size, head.root) == (before.tree_size, before.root)
        journal.release()
        await paying
        world.committer.committed_record = None
        assert (await world.bank.head()).root == EMPTY_ROOT


async def test_a_refused_write_reaches_who_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of the committer pass through unchanged."""
    async with banking(tmp_path) as world:

        async def busy(command: object) -> Verdict:
            raise Busy("no")

        monkeypatch.setattr(world.bank, "commit", busy)
        with pytest.raises(Busy):
            await world.bank.end_session(1, bytes(16), now_us())
