"""A bank of two nodes and a witness as anybody starts them: what its customers and its operator can rely on."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import fortress
from bench.bank import ACCOUNTS_PER_CUSTOMER, Plan
from fortress.client.client import connect
from fortress.client.ids import new_id
from fortress.client.me import Me
from fortress.client.money import Money
from fortress.errors import FortressError, NotPrimary, RetryableError
from fortress.protocol.accounts import GetAccount, Profile
from fortress.protocol.money import Transfer
from fortress.protocol.sessions import Resume
from fortress.server.settings_file import change_settings
from tests.e2e.node import CURRENCY, ROOT, numbers_of, seed_of, wait_until
from tests.fault.journals import read_both
from tests.fault.pair import Layout, Member, Pair, run

OWN, SECOND = numbers_of(2)
THEIRS = numbers_of(ACCOUNTS_PER_CUSTOMER + 1)[-1]
OPENING_MINOR = 1_000_000
PATIENCE_S = 30.0
AGE_MS_MAX = 10_000
CENT = Money(1, CURRENCY)
NAME = Profile(name="Ada of the Pair", email="ada@example.org")

pytestmark = pytest.mark.timeout(150)


def layout(variables: dict[str, dict[str, str]] | None = None) -> Layout:
    return Layout(
        plan=Plan(accounts=2 * ACCOUNTS_PER_CUSTOMER, opening_minor=OPENING_MINOR),
        settings={"ledger.segment_bytes": 1024 * 1024},
        variables=variables or {},
    )


@pytest.fixture(scope="module")
def standing() -> Iterator[Pair]:
    """One pair for all tests; each leaves it running, in whatever roles."""
    with tempfile.TemporaryDirectory(prefix="fortress-pair-", dir="/var/tmp") as parent:
        with Pair(Path(parent), layout=layout()) as pair:
            yield pair
            made_whole(pair).wait_equal()
            assert set(pair.stop().values()) == {0}, pair.story()
        found = read_both(*(node.folder for node in pair.nodes.values()))
        assert found.findings == []
        assert all(len(stands) == 1 for stands in found.stands.values())


@pytest.fixture
def pair(standing: Pair) -> Pair:
    """Both nodes run, with two copies of everything."""
    return made_whole(standing)


def made_whole(pair: Pair) -> Pair:
    """Start the nodes that do not run, and wait for two copies."""
    for node in pair.nodes.values():
        if not node.is_running:
            node.kill()
            node.start()
    pair.wait_paired()
    return pair


async def start(node: Member) -> None:
    """Start a node from this thread: the process ends with the thread that made it."""
    node.kill()  # closes what is left of the process before
    node.spawn()
    await aside(node.wait_listening)


@asynccontextmanager
async def customer(pair: Pair, *, deadline_s: float = PATIENCE_S) -> AsyncIterator[Me]:
    """Sign in as the owner of the first accounts, knowing both nodes."""
    async with connect(pair.address, ca=pair.ca, deadline_s=deadline_s) as bank:
        yield await bank.login_with_seed("customer0", seed_of("customer0"))


async def aside(function: object, *arguments: object) -> object:
    """Do what blocks on a thread, so that clients go on meanwhile."""
    assert callable(function)
    return await asyncio.to_thread(function, *arguments)


class Load:
    """A few callers who move a cent each, again and again, each with an id of its own.

    Attributes:
        done: how many were answered ``done``.
        failed: everything else that came.
    """

    def __init__(self, me: Me, callers: int = 4) -> None:
        self.done: list[bytes] = []
        self.failed: list[FortressError] = []
        self._me = me
        self._is_over = False
        self._callers = [asyncio.create_task(self._call()) for _ in range(callers)]

    async def _call(self) -> None:
        while not self._is_over:
            id = new_id()
            try:
                await self._me.pay(str(SECOND), CENT, from_=OWN, id=id)
            except FortressError as error:
                self.failed.append(error)
                await asyncio.sleep(0.05)
            else:
                self.done.append(id)

    async def more(self, count: int = 10) -> None:
        """Wait until so many more are done."""
        wanted = len(self.done) + count
        async with asyncio.timeout(PATIENCE_S):
            while len(self.done) < wanted:
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        """Let all callers finish what they began."""
        self._is_over = True
        await asyncio.gather(*self._callers)


# --- Two copies ------------------------------------------------------------------------------------------------------
def test_a_founded_pair_knows_its_roles(pair: Pair) -> None:
    """``init``, ``init --join``, ``init --witness`` and three starts: one primary, one standby, two copies."""
    primary = pair.primary
    standby = pair.other(primary)
    wait_until(lambda: standby.told()["state"] == "standby.in_sync")  # once it has read the register
    told, other = primary.told(), standby.told()
    assert (told["role"], told["state"], told["copies"]) == ("primary", "primary.paired", 2)
    assert other["role"] == "standby"
    assert told["term"] == other["term"]
    assert told["register"] == {"kind": "witness", "reachable": True}
    assert "is the first primary of this pair" in run("events", pair.nodes["a"].folder)


async def test_what_was_answered_is_on_both_disks(pair: Pair) -> None:
    """Both are killed at the moment of the answer, and only the standby's disk comes back: it is there."""
    primary = pair.primary
    standby = pair.other(primary)
    async with customer(pair) as me:
        id = new_id()
        await me.pay(str(SECOND), CENT, from_=OWN, id=id)
        for node in pair.nodes.values():
            node.kill()
        await start(standby)
        found = await me.transfer_by_id(id)
        assert found.amount_minor == CENT.minor
        assert pair.find("primary") is standby
        await start(primary)
        await aside(pair.wait_paired)
        assert pair.find("standby") is primary


# --- Failover --------------------------------------------------------------------------------------------------------
async def test_customers_go_on_when_the_primary_is_killed(pair: Pair) -> None:
    """The same session, the same ids, each done once; the old primary comes back as standby."""
    old = pair.primary
    async with customer(pair) as me:
        before = (await me.balance(OWN)).balance
        session = me.signed_in.session
        load = Load(me)
        await load.more()
        old.kill()
        new = await aside(lambda: pair.wait_primary(other_than=old))
        await load.more()
        await start(old)
        assert await aside(pair.wait_paired) is new
        await load.more()
        await load.end()
        assert load.failed == []
        assert me.signed_in.session == session
        after = (await me.balance(OWN)).balance
        assert before.minor - after.minor == len(load.done)
        again = await me.pay(str(SECOND), CENT, from_=OWN, id=load.done[0])
        assert again.replayed


# --- What an operator does -------------------------------------------------------------------------------------------
async def test_a_switchover_fails_no_request(pair: Pair) -> None:
    """``fortress switchover`` under load: held for a moment, forwarded, answered."""
    old = pair.primary
    async with customer(pair) as me:
        load = Load(me)
        await load.more()
        await aside(run, "switchover", old.folder, "--yes")
        assert await aside(pair.wait_paired) is pair.other(old)
        await load.more()
        await load.end()
        assert load.failed == []


async def test_a_primary_that_is_stopped_hands_over(pair: Pair) -> None:
    """SIGTERM is a switchover before it is an end: no request fails, and nobody waits for a time to pass."""
    old = pair.primary
    term = old.told()["term"]
    async with customer(pair) as me:
        load = Load(me)
        await load.more()
        assert await aside(old.stop) == 0
        new = pair.find("primary")
        assert new is pair.other(old)
        await load.more()
        await load.end()
        assert load.failed == []
        assert new.told()["term"] > term


async def test_two_copies_hold_writes_while_the_standby_is_gone(pair: Pair) -> None:
    """Set while the nodes run (SIGHUP); the held order is done once, when the standby is back."""
    primary = pair.primary
    standby = pair.other(primary)
    set_durability(pair, "two-copies")
    try:
        async with customer(pair) as me, customer(pair, deadline_s=3) as impatient:
            before = (await me.balance(OWN)).balance
            standby.kill()
            id = new_id()
            with pytest.raises(RetryableError):
                await impatient.pay(str(SECOND), CENT, from_=OWN, id=id)
            await start(standby)
            await aside(pair.wait_paired)
            await me.pay(str(SECOND), CENT, from_=OWN, id=id)
            assert before.minor - (await me.balance(OWN)).balance.minor == 1
    finally:
        set_durability(pair, "available")


def set_durability(pair: Pair, durability: str) -> None:
    """Change the setting of both nodes and have them read it."""
    for node in pair.nodes.values():
        change_settings(node.folder, {"pair.durability": durability})
        if node.is_running:
            count = node.log().count("settings reloaded")
            node.signal(signal.SIGHUP)
            wait_until(lambda node=node, count=count: node.log().count("settings reloaded") > count)


async def test_a_primary_that_waits_for_its_standby_can_be_stopped(pair: Pair) -> None:
    """With orders on its disk that only a standby could commit, it ends all the same, and they are not lost."""
    primary = pair.primary
    standby = pair.other(primary)
    set_durability(pair, "two-copies")
    try:
        async with customer(pair, deadline_s=2) as me:
            standby.kill()
            id = new_id()
            with pytest.raises(RetryableError):
                await me.pay(str(SECOND), CENT, from_=OWN, id=id)
        assert await aside(primary.stop) == 0
    finally:
        set_durability(pair, "available")
    await start(primary)
    await start(standby)
    await aside(pair.wait_paired)
    async with customer(pair) as me:
        payment = await me.pay(str(SECOND), CENT, from_=OWN, id=id)
        assert (await me.transfer_by_id(id)).position == payment.position


# --- The standby -----------------------------------------------------------------------------------------------------
async def test_a_standby_answers_who_takes_old_answers(pair: Pair) -> None:
    """It says how old they are, never less than was seen, and shows everybody else the way to the primary."""
    primary = pair.primary
    standby = pair.other(primary)
    host, port = pair.endpoints[primary.at]
    async with customer(pair) as me:
        payment = await me.pay(str(SECOND), CENT, from_=OWN)
        link = await standby.link()
        try:
            with pytest.raises(NotPrimary) as refused:
                await link.request("resume", Resume(me.signed_in.token), 10)
            assert refused.value.facts["primary"] == f"{host}:{port}"
            await link.request("resume", Resume(me.signed_in.token, AGE_MS_MAX), 10)
            link.login_done()
            with pytest.raises(NotPrimary):
                await link.request("get_account", GetAccount(OWN), 10)
            wait_until(lambda: standby.told()["lsn"] == primary.told()["lsn"])
            read = GetAccount(OWN, min_position=payment.position, stale_ms_max=AGE_MS_MAX)
            account = await link.request("get_account", read, 10)
            assert 0 < account.stale_ms <= AGE_MS_MAX
            assert account.balance_minor == payment.balance_after.minor
            with pytest.raises(NotPrimary):
                ahead = GetAccount(OWN, min_position=payment.position + 1_000_000, stale_ms_max=AGE_MS_MAX)
                await link.request("get_account", ahead, 10)
            with pytest.raises(NotPrimary) as refused:
                await link.request("transfer", Transfer(new_id(), OWN, SECOND, 1, CURRENCY), 10)
            assert refused.value.facts["primary"] == f"{host}:{port}"
        finally:
            await link.close()


async def test_a_standby_whose_disk_was_lost_gets_everything(pair: Pair) -> None:
    """Folder deleted, made anew by ``init --join --replace``: also people's names, which no journal holds."""
    if pair.primary is not pair.nodes["a"]:
        pair.switch_over()
        pair.wait_paired()
    first, lost = pair.nodes["a"], pair.nodes["b"]
    async with customer(pair) as me:
        await me.set_profile(NAME)
        id = new_id()
        await me.pay(str(SECOND), CENT, from_=OWN, id=id)
        lost.kill()
        shutil.rmtree(lost.folder)
        await aside(pair.make_second, first.folder, lost.folder, "--replace")
        await start(lost)
        assert await aside(pair.wait_paired) is first
        first.kill()
        assert await aside(lambda: pair.wait_primary(other_than=first)) is lost
        assert await me.get_profile() == NAME
        assert (await me.transfer_by_id(id)).amount_minor == CENT.minor


# --- Upgrades --------------------------------------------------------------------------------------------------------
def newer_build(parent: Path) -> Path:
    """Copy the program and make it a later version: another form of records known, every message with a field more."""
    build = parent / "newer"
    shutil.copytree(ROOT / "fortress", build / "fortress", ignore=shutil.ignore_patterns("__pycache__"))
    edit(build / "fortress/__init__.py", rf'"{re.escape(fortress.__version__)}"', '"999.0"')
    edit(build / "fortress/pair/replication.py", r"RECORD_VERSION: Final = 1\b", "RECORD_VERSION: Final = 2")
    messages = build / "fortress/pair/messages.py"
    edit(messages, r"\bVERSION: Final = 1\b", "VERSION: Final = 2")
    for name in ("Hello", "Append", "Ack"):
        edit(messages, rf"(class {name}\(.*\n(?:.*\n)*?)\n\nclass ", r'\1    of_later: str = "later"\n\n\nclass ')
    return build


def edit(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(), count=1)
    assert count == 1, f"{pattern} is not in {path}"
    path.write_text(text)


def test_nodes_of_two_versions_are_a_pair_while_one_after_the_other_is_upgraded(tmp_path: Path) -> None:
    """Old primary and new standby, then the other way round, then both new; nothing is lost."""
    asyncio.run(upgrade_both(newer_build(tmp_path)))


async def upgrade_both(newer: Path) -> None:
    variables: dict[str, dict[str, str]] = {"a": {}, "b": {}}
    with tempfile.TemporaryDirectory(prefix="fortress-upgrade-", dir="/var/tmp") as parent:
        with Pair(Path(parent), layout=layout(variables)) as pair:
            async with customer(pair) as me:
                load = Load(me)
                old = pair.primary
                await load.more()
                for node in (pair.other(old), old):
                    if pair.primary is node:
                        await aside(run, "switchover", node.folder, "--yes")
                        await aside(pair.wait_paired)
                    assert await aside(node.stop) == 0
                    variables[node.at] = {"PYTHONPATH": str(newer), "PYTHONSAFEPATH": "1"}
                    upgraded = pair.nodes[node.at] = pair.member(node.at, node.folder)
                    await start(upgraded)
                    primary = await aside(pair.wait_paired)
                    assert primary is pair.other(upgraded)
                    assert upgraded.told()["version"] == "999.0"
                    await load.more()
                await load.end()
                assert load.failed == []
            pair.wait_equal()
            assert set(pair.stop().values()) == {0}
        found = read_both(*(node.folder for node in pair.nodes.values()))
        assert found.findings == []
        assert [len(found.stands[id.hex()]) for id in load.done] == [1] * len(load.done)
