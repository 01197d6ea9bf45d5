"""The banks of a gateway: added, suspended and listed by operators; who is here, as every bank is told."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fortress.errors import BankRejected, BankUnreachable, MessageInvalid, Refused, Status
from fortress.gateway import directory as module
from fortress.gateway.directory import Directory
from fortress.gateway.messages import BankState, Register
from fortress.ledger.commands import AskApproval, DecideApproval
from fortress.ledger.entries import AccountChanged, AccountOpened, BankChanged, decode
from fortress.ledger.model import BANK_ACTOR, Actor
from fortress.protocol.switching import AddBank, SuspendBank
from fortress.server import approvals
from fortress.server.bank import new_id
from fortress.server.folder import open_folder
from fortress.server.process import Process
from tests.gateway.switches import CAP_MINOR, Hub, certs_of, paid, pem_of, switching
from tests.server.banks import until

ADMINISTRATOR = Actor(1, frozenset(("administrator",)))


def acts(hub: Hub) -> list[str]:
    """What was written about banks and their positions."""
    rows = hub.bank.engine.store.read("SELECT entry FROM entries ORDER BY position")
    found = [decode(row[0]) for row in rows]
    kinds = (BankChanged, AccountOpened, AccountChanged)
    return [type(e).__name__ for e in found if type(e) in kinds and getattr(e, "owner", -1) < 0]


async def rows(hub: Hub) -> list[tuple[Any, ...]]:
    """The positions: bank, currency, position, reserved, cap."""
    found = (await hub.switch.positions()).positions
    return [(row.bank, row.currency, row.position_minor, row.reserved_minor, row.cap_minor) for row in found]


async def written(hub: Hub) -> None:
    """Wait until the tables hold everything."""
    await hub.bank.tables_hold(hub.bank.state.position)


# --- Adding ----------------------------------------------------------------------------------------------------------
async def test_a_bank_is_added_with_a_position_and_a_cap(tmp_path: Path) -> None:
    """Another currency adds a position, another cap changes the floor, and its authority may be another one later."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        await hub.add("bank-a", "USD", 7, "")
        await hub.add("bank-b", cap_minor=0)
        await hub.add("bank-a", cap_minor=CAP_MINOR + 1)
        await hub.add("bank-a", "USD", 7, pem_of("bank-c"))
        assert await rows(hub) == [
            ("bank-a", "EUR", 0, 0, CAP_MINOR + 1),
            ("bank-a", "USD", 0, 0, 7),
            ("bank-b", "EUR", 0, 0, 0),
        ]
        banks = hub.bank.state.banks
        assert [(bank.number, bank.bank) for bank in banks.values()] == [(1, "bank-a"), (2, "bank-b")]
        teller = await hub.knock("bank-a", certs_of("bank-a", "bank-c"))
        await until(lambda: teller.heard)
        assert hub.switch.directory.connected == 1
    async with switching(tmp_path) as hub:
        assert len(await rows(hub)) == 3


async def test_adding_a_bank_twice_with_one_id_is_once(tmp_path: Path) -> None:
    """Also after another cap was set, and the same id with another cap is refused."""
    async with switching(tmp_path) as hub:
        request = AddBank(new_id(), "bank-a", "EUR", 5, pem_of("bank-a"))
        first = await hub.switch.add_bank(ADMINISTRATOR, request)
        await hub.add("bank-a", cap_minor=9)
        again = await hub.switch.add_bank(ADMINISTRATOR, request)
        assert (again.position, again.replayed) == (first.position, True)
        assert await rows(hub) == [("bank-a", "EUR", 0, 0, 9)]
        with pytest.raises(Refused) as refused:
            await hub.switch.add_bank(ADMINISTRATOR, AddBank(request.id, "bank-a", "EUR", 6, pem_of("bank-a")))
        assert refused.value.status is Status.id_reused


@pytest.mark.parametrize("entries", [0, 1, 2, 3])
async def test_adding_that_was_interrupted_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: int
) -> None:
    """However far it came, the same request ends with the same bank, and every entry is there once."""
    async with switching(tmp_path) as hub:
        request = AddBank(new_id(), "bank-a", "EUR", 5, pem_of("bank-a"))
        commit, left = hub.bank.commit, [entries]

        async def dying(command: Any) -> Any:
            if not left[0]:
                raise asyncio.CancelledError
            left[0] -= 1
            return await commit(command)

        with suppress(asyncio.CancelledError), monkeypatch.context() as patched:
            patched.setattr(hub.bank, "commit", dying)
            await hub.switch.add_bank(ADMINISTRATOR, request)
        await hub.switch.add_bank(ADMINISTRATOR, request)
        await written(hub)
        assert acts(hub)[-3:] == ["BankChanged", "AccountOpened", "AccountChanged"] and len(acts(hub)) == 3


@pytest.mark.parametrize(
    ("bank", "currency", "authority", "status"),
    [
        ("bank-z", "EUR", "", Status.bank_unknown),
        ("bank-z", "XYZ", "yes", Status.currency_unknown),
        ("bank-a", "XYZ", "", Status.currency_unknown),
    ],
)
async def test_what_cannot_be_added_is_refused_under_the_requests_id(
    tmp_path: Path, bank: str, currency: str, authority: str, status: Status
) -> None:
    """So it repeats, and an approved act that was refused is not tried at every start."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        request = AddBank(new_id(), bank, currency, 5, pem_of("bank-z") if authority else "")
        for _ in range(2):
            with pytest.raises(Refused) as refused:
                await hub.switch.add_bank(ADMINISTRATOR, request)
            assert refused.value.status is status
        found = await hub.bank.known(request.id)
        assert found is not None and type(found[1]).__name__ == "Refused"


async def test_an_authority_that_is_none_is_not_added(tmp_path: Path) -> None:
    """Nothing is written."""
    async with switching(tmp_path) as hub:
        position = hub.bank.state.position
        with pytest.raises(MessageInvalid):
            await hub.switch.add_bank(ADMINISTRATOR, AddBank(new_id(), "bank-a", "EUR", 5, "PEM"))
        assert hub.bank.state.position == position


async def test_an_approved_bank_is_added_at_the_next_start_if_it_must(tmp_path: Path) -> None:
    """The gateway's part is there before what a crash left half done is finished."""
    request = AddBank(new_id(), "bank-a", "EUR", 5, pem_of("bank-a"))
    async with switching(tmp_path) as hub:
        bank = hub.bank
        kept = await approvals._keep(hub.node, "add_bank", request)
        await bank.commit(AskApproval(BANK_ACTOR, request.id, "add_bank", kept, "let it in"))
        await bank.commit(DecideApproval(ADMINISTRATOR, request.id, True))
    async with switching(tmp_path) as hub:
        assert await rows(hub) == [("bank-a", "EUR", 0, 0, 5)]
        position = hub.bank.state.position
    async with switching(tmp_path) as hub:
        assert hub.bank.state.position == position


async def test_a_node_that_is_no_gateway_any_more_starts_all_the_same(tmp_path: Path) -> None:
    """What only a gateway could have finished is left, and the log tells."""
    request = AddBank(new_id(), "bank-a", "EUR", 5, pem_of("bank-a"))
    async with switching(tmp_path) as hub:
        kept = await approvals._keep(hub.node, "add_bank", request)
        await hub.bank.commit(AskApproval(BANK_ACTOR, request.id, "add_bank", kept, "let it in"))
        await hub.bank.commit(DecideApproval(ADMINISTRATOR, request.id, True))
        folder = hub.folder
    process = await Process.start(open_folder(folder, {}, {}))
    assert process.node.bank.state.banks == {}
    await process.stop(deadline_s=1)


# --- Suspending ------------------------------------------------------------------------------------------------------
async def test_a_bank_is_suspended_and_taken_back(tmp_path: Path) -> None:
    """Both once; a repeat with the same id is answered, another one is told that it is so already."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        request = SuspendBank(new_id(), "bank-a")
        first = await hub.switch.suspend_bank(ADMINISTRATOR, request)
        assert (await hub.switch.suspend_bank(ADMINISTRATOR, request)).position == first.position
        with pytest.raises(Refused) as refused:
            await hub.suspend("bank-a")
        assert refused.value.status is Status.bank_state_conflict
        assert [row.state for row in (await hub.switch.banks()).banks] == ["suspended"]
        await hub.suspend("bank-a", resume=True)
        again = await hub.switch.suspend_bank(ADMINISTRATOR, request)  # late: the bank is active and stays so
        assert again.replayed and [row.state for row in (await hub.switch.banks()).banks] == ["active"]
        with pytest.raises(Refused) as refused:
            await hub.suspend("bank-z")
        assert refused.value.status is Status.bank_unknown


# --- Who is here -----------------------------------------------------------------------------------------------------
async def test_everybody_sees_the_banks_as_they_stand(tmp_path: Path) -> None:
    """Operators, the relay, and whoever waits for a change."""
    async with switching(tmp_path) as hub:
        directory = hub.switch.directory
        await hub.add("bank-a")
        added_us = hub.bank.state.banks["bank-a"].added_us
        assert directory.find("bank-a") == BankState("bank-a", "active", False, since_us=added_us)
        assert directory.find("bank-z") is None
        waiting = asyncio.create_task(directory.wait_change())
        await asyncio.sleep(0)
        a = await hub.enter("bank-a", epoch=3)
        await waiting
        found = directory.find("bank-a")
        assert found is not None and found.is_connected and found.addresses[0] == "bank-a.example:1"
        (row,) = (await hub.switch.banks()).banks
        assert (row.bank, row.is_connected, row.node, row.epoch) == ("bank-a", True, "one", 3)
        waiting = asyncio.create_task(directory.wait_change())
        await asyncio.sleep(0)
        a.link.end()
        await waiting
        found = directory.find("bank-a")
        assert found is not None and not found.is_connected and found.since_us > added_us


async def test_banks_are_expected_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All when this node becomes the gateway, each when it has just gone; never one that is suspended or unknown."""
    async with switching(tmp_path) as hub:
        directory = hub.switch.directory
        for name in ("bank-a", "bank-b"):
            await hub.add(name)
        await until(lambda: directory.expects("bank-a") and directory.expects("bank-b"))
        assert not directory.expects("bank-z")
        a = await hub.enter("bank-a", epoch=3)
        assert not directory.expects("bank-a")
        await hub.suspend("bank-b")
        assert not directory.expects("bank-b")
        monkeypatch.setattr(module, "RETURN_S", 0.0)
        await a.close()
        await until(lambda: directory.connected == 0)
        assert not directory.expects("bank-a")
        monkeypatch.setattr(module, "RETURN_S", 60.0)
        assert directory.expects("bank-a")


async def test_changes_of_a_moment_are_told_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Banks that come back at once do not each cause a message to each; what is not told yet ends with the node."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        a.heard = []
        monkeypatch.setattr(module, "PUSH_S", 0.05)
        for epoch in (2, 3, 4):
            b = await hub.knock("bank-b", epoch=epoch)
            await until(lambda epoch=epoch: (found := hub.switch.directory.find("bank-b")) and found.epoch == epoch)
        await until(lambda: a.heard)
        assert a.heard[-1].banks[1].epoch >= 2 and len(a.heard) <= 3
        hub.switch.directory._tell_change()
        hub.switch.directory.clear()
        assert hub.switch.directory._push_timer is None
        await until(lambda: b.reasons)


class FakeLink:
    def __init__(self) -> None:
        self.ended: list[object] = []

    def end(self, reason: object = None) -> None:
        self.ended.append(reason)

    def send(self, message: object) -> None:
        pass

    def finish(self) -> None:
        pass


async def test_a_seat_is_one_links_at_a_time(tmp_path: Path) -> None:
    """A link that was replaced cannot give up the seat that is another's by now."""
    async with switching(tmp_path) as hub:
        directory: Directory = hub.switch.directory
        await hub.add("bank-a")
        old: Any = FakeLink()
        new: Any = FakeLink()
        directory.sit(old, Register("bank-a", "one", 1, ""))
        directory.sit(new, Register("bank-a", "two", 1, ""))
        assert len(old.ended) == 1 and not directory.rise(old, "bank-a")
        assert directory.link_of("bank-a") is new
        assert directory.rise(new, "bank-a") and not directory.rise(new, "bank-a")
        with pytest.raises(BankRejected, match="not known"):
            directory.sit(new, Register("bank-z", "one", 1, ""))
        with pytest.raises(BankUnreachable):
            await directory.ask("bank-a", "steps", None, object)


async def test_positions_are_of_what_is_committed(tmp_path: Path) -> None:
    """With the position of the ledger that they show."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        outcome = await paid(a, b)
        found = await hub.switch.positions()
        assert found.position >= outcome.sequence
        assert sum(row.position_minor for row in found.positions) == 0
