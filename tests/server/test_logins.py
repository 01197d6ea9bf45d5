"""What logins know of customers: as they are now, quickly, and only what is durable."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from fortress.client.credentials import LoginKey
from fortress.ledger.commands import ChangeCustomer, ChangeKey
from fortress.ledger.model import BANK_ACTOR
from fortress.protocol.sessions import KeyMaterial
from fortress.server import logins
from fortress.server.bank import Bank, new_id
from tests.server.banks import banking, seed_of, until


def key_of(seed: bytes) -> KeyMaterial:
    key = LoginKey(seed)
    return KeyMaterial(bytes(16), 0, 0, 0, key.public, key.signing_public(), bytes(32), bytes(32))


async def change(bank: Bank, username: str, act: str, roles: tuple[str, ...] = (), until_us: int = 0) -> None:
    customer = await bank.customer_named(username)
    await bank.commit(ChangeCustomer(BANK_ACTOR, new_id(), customer.customer, act, roles, until_us))


async def test_a_customer_is_found_by_username_and_number(tmp_path: Path) -> None:
    """Both ways lead to one record; nobody has an unknown name or number."""
    async with banking(tmp_path) as world:
        bank = world.bank
        record = await bank.find_login("alice")
        assert record is not None
        assert (record.username, record.roles, record.state) == ("alice", ("customer",), "active")
        assert record.public == LoginKey(seed_of("alice")).public
        assert await bank.find_customer(record.customer) is record
        assert await bank.find_login("alice") is record
        assert await bank.find_login("nobody") is None
        assert await bank.find_customer(4711) is None


async def test_a_customer_found_by_number_first_has_a_username(tmp_path: Path) -> None:
    """After a restart a session is resumed by number; the name is opened from the sealed data."""
    async with banking(tmp_path) as world:
        number = (await world.bank.customer_named("bob")).customer
        record = await world.bank.find_customer(number)
        assert record is not None and record.username == "bob"


async def test_a_record_follows_every_change(tmp_path: Path) -> None:
    """Roles, lock and key are the present ones, a new key even when its salt is the old one."""
    async with banking(tmp_path) as world:
        bank = world.bank
        first = await bank.find_login("alice")
        assert first is not None
        await change(bank, "alice", "roles", ("teller",))
        record = await bank.find_login("alice")
        assert record is not None and record.roles == ("teller",)
        await change(bank, "alice", "lock", until_us=2**60)
        record = await bank.find_login("alice")
        assert record is not None and (record.state, record.locked_until_us) == ("locked", 2**60)
        await change(bank, "alice", "unlock")
        record = await bank.find_login("alice")
        assert record is not None and record.state == "active"
        await bank.change_key(first.customer, replace(key_of(seed_of("another")), salt=first.salt))
        record = await bank.find_login("alice")
        assert record is not None
        assert (record.salt, record.public) == (first.salt, LoginKey(seed_of("another")).public)


async def test_the_old_key_is_worth_nothing_after_a_change(tmp_path: Path) -> None:
    """A login with the old seed fails at once, though the old record was in use a moment ago."""
    async with banking(tmp_path) as world:
        alice = await world.sign_in("alice")
        await world.bank.change_key(alice.signed_in.customer, key_of(seed_of("another")))
        with pytest.raises(Exception, match="wrong"):
            await world.sign_in("alice")
        client = await world.connect()
        assert (await client.login_with_seed("alice", seed_of("another"))).username == "alice"


async def test_an_erased_customer_is_found_by_nobody(tmp_path: Path) -> None:
    """Neither by name nor by number."""
    async with banking(tmp_path) as world:
        record = await world.bank.find_login("tess")
        assert record is not None
        await change(world.bank, "tess", "erase")
        assert await world.bank.find_login("tess") is None
        assert await world.bank.find_customer(record.customer) is None


async def test_a_key_that_is_not_durable_signs_nobody_in(tmp_path: Path) -> None:
    """A login that shows a change waits until that is committed."""
    async with banking(tmp_path) as world:
        bank = world.bank
        alice = await bank.customer_named("alice")
        journal = world.hold_journal()
        command = ChangeKey(BANK_ACTOR, alice.customer, bank.key_data("alice", key_of(seed_of("another"))))
        changing = asyncio.ensure_future(bank.commit(command))
        await until(lambda: journal.begun)
        finding = asyncio.ensure_future(bank.find_login("alice"))
        await asyncio.sleep(0.02)
        assert not finding.done()
        journal.release()
        record = await finding
        assert record is not None and record.public == LoginKey(seed_of("another")).public
        await changing


async def test_only_so_many_records_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is made again when it is asked for."""
    monkeypatch.setattr(logins, "LOGINS_REMEMBERED_MAX", 2)
    async with banking(tmp_path) as world:
        found = [await world.bank.find_login(name) for name in ("alice", "bob", "tess")]
        assert await world.bank.find_login("tess") is found[2]
        again = await world.bank.find_login("alice")
        assert again == found[0] and again is not found[0]
