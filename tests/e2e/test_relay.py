"""Customers who know only the gateway's address, at a bank of two nodes: whatever happens behind, they go on."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.bank import ACCOUNTS_PER_CUSTOMER, ADMINISTRATOR, BANK_ID, Plan, free_port, make_folder, numbers_of, seed_of
from fortress.cli.gateways import connect_bank, gateway_of
from fortress.client.client import Client, connect
from fortress.client.ids import new_id
from fortress.client.me import Me
from fortress.client.money import Money
from fortress.errors import HandshakeFailed, NoPrimary, Refused, SealBroken, ServerNotTrusted, Status, TokenRejected
from fortress.gateway import relay as relays
from fortress.gateway.relay import End, Passage, Relay
from fortress.protocol.accounts import Profile
from fortress.protocol.routes import Route
from fortress.protocol.schnorr import public_key, secret_from_seed
from fortress.protocol.switching import AddBank, ListBanks
from fortress.server.tls import Tls
from tests.e2e.node import CURRENCY, Node, run_cli, wait_until
from tests.fault.pair import Layout, Pair
from tests.gateway.relays import der_of, relaying

GATEWAY = "gateway"
OWN, SECOND = numbers_of(2)
OPENING_MINOR = 1_000_000
PATIENCE_S = 30.0
WAIT_MS = 4_000
CENT = Money(1, CURRENCY)
SEED = seed_of("customer0")
NAME = Profile(name="Ada behind the Gateway", email="ada@example.org")

pytestmark = pytest.mark.timeout(150)


@dataclass(frozen=True, slots=True)
class World:
    """A bank of two nodes behind a gateway of one."""

    pair: Pair
    gateway: Node

    @property
    def address(self) -> str:
        """What customers know: the gateway's address and the bank's name."""
        return f"fortress://{self.gateway.host}:{self.gateway.port}/{BANK_ID}"

    def client(self, **options: Any) -> Client:
        """A stranger who knows that, and both authorities."""
        return connect(self.address, ca=self.pair.ca, path_ca=self.gateway.ca, **{"deadline_s": PATIENCE_S, **options})

    @asynccontextmanager
    async def customer(self, **options: Any) -> AsyncIterator[Me]:
        """A customer who signs in that way."""
        async with self.client(**options) as bank:
            yield await bank.login_with_seed("customer0", SEED)

    async def wait_connected(self) -> None:
        """Wait until the bank's primary is registered."""
        link = await self.gateway.link(ADMINISTRATOR)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not any(bank.is_connected for bank in (await link.request("banks", ListBanks(), 10)).banks):
                    await asyncio.sleep(0.05)
        finally:
            await link.close()


@pytest.fixture(scope="module")
def standing() -> Iterator[World]:
    """One world for all tests; each leaves it running, in whatever roles."""
    with tempfile.TemporaryDirectory(prefix="fortress-relay-", dir="/var/tmp") as parent:
        folder = Path(parent) / GATEWAY
        switch: dict[str, str | int] = {
            "switch.listen": f"127.0.0.1:{free_port()}",
            "switch.relay_wait_ms": WAIT_MS,
            "ledger.segment_bytes": 1024 * 1024,
        }
        make_folder(folder, Plan(accounts=0, bank=GATEWAY, settings=switch))
        plan = Plan(accounts=2 * ACCOUNTS_PER_CUSTOMER, opening_minor=OPENING_MINOR)
        pair = Pair(Path(parent), layout=Layout(plan=plan, settings={"ledger.segment_bytes": 1024 * 1024}))
        connect_bank([node.folder for node in pair.nodes.values()], gateway_of([folder]))
        with Node(folder) as gateway, pair:
            world = World(pair, gateway)
            asyncio.run(let_in(world))
            yield world
            made_whole(world)
            assert set(pair.stop().values()) == {0}, pair.story()


async def let_in(world: World) -> None:
    """Do what the gateway's administrator does once."""
    link = await world.gateway.link(ADMINISTRATOR)
    try:
        authority = world.pair.ca.read_text("ascii")
        await link.request("add_bank", AddBank(new_id(), BANK_ID, CURRENCY, 1_000_000, authority), 20)
    finally:
        await link.close()


def made_whole(world: World) -> None:
    """Start the nodes that do not run, and wait for two copies."""
    start(world.pair)
    world.pair.wait_paired()


def start(pair: Pair) -> None:
    """Start the nodes that do not run; in the main thread, for they end with the thread that made them."""
    ended = [node for node in pair.nodes.values() if not node.is_running]
    for node in ended:
        node.kill()
        node.spawn()
    for node in ended:
        node.wait_listening()


@pytest.fixture
async def world(standing: World) -> World:
    """All run, and the bank is registered."""
    made_whole(standing)
    await standing.wait_connected()
    return standing


async def aside(function: Any, *arguments: Any) -> Any:
    """Do what blocks on a thread, so that clients go on meanwhile."""
    return await asyncio.to_thread(function, *arguments)


# --- What a customer does --------------------------------------------------------------------------------------------
async def test_a_customer_does_everything_through_the_gateway(world: World) -> None:
    """Signs in, reads the balance, pays, is refused, sees the history and hears of entries; nobody dials the bank."""
    async with world.customer() as me:
        before = await me.balance(OWN)
        heard = me.subscribe([OWN])
        async with heard:
            payment = await me.pay(str(SECOND), "12.50 EUR", reference="Lunch", from_=OWN)
            async with asyncio.timeout(PATIENCE_S):
                event = await anext(aiter(heard))
        assert event.row.amount_minor == -1250
        assert (await me.balance(OWN)).balance.minor == before.balance.minor - 1250
        rows = (await me.history_page(OWN)).rows
        assert (rows[0].amount_minor, rows[0].reference) == (-1250, "Lunch")
        with pytest.raises(Refused) as refused:
            await me.pay(str(SECOND), "10000000 EUR", from_=OWN)
        assert refused.value.status is Status.exceeds_available
        assert (await me.transfer_by_id(payment.id)).amount_minor == 1250
        link = me._calls.route.current
        assert link is not None
        assert link.endpoint == (world.gateway.host, world.gateway.port)
    told = world.gateway.status()
    assert told["relays_total"] >= 1


async def test_a_logout_ends_the_session_at_the_bank(world: World) -> None:
    """Its token is good neither through the gateway nor at the bank itself."""
    async with world.customer() as me:
        token = me.signed_in.token
        await me.logout()
    async with world.client() as bank:
        with pytest.raises(TokenRejected):
            await bank.resume(token)
    async with connect(world.pair.address, ca=world.pair.ca) as bank:
        with pytest.raises(TokenRejected):
            await bank.resume(token)


async def test_a_session_goes_on_by_its_token_on_another_way(world: World) -> None:
    """Begun at the bank itself, gone on with through the gateway."""
    async with connect(world.pair.address, ca=world.pair.ca) as bank:
        me = await bank.login_with_seed("customer0", SEED)
        token, session = me.signed_in.token, me.signed_in.session
    async with world.client() as bank:
        again = await bank.resume(token)
        assert again.signed_in.session == session
        assert (await again.whoami()).username == "customer0"


async def test_the_program_signs_in_through_a_gateway(world: World, tmp_path: Path) -> None:
    """Address and both authorities are named once; the next commands know the way."""
    key = tmp_path / "ada.key"
    key.write_text(SEED.hex())
    key.chmod(0o600)
    where = f"{world.gateway.host}:{world.gateway.port}/{BANK_ID}"
    home = {"FORTRESS_CONTEXT_HOME": str(tmp_path / "home")}
    login = ("login", "customer0", "--address", where, "--ca", world.pair.ca, "--path-ca", world.gateway.ca)
    done = await aside(lambda: run_cli(*login, "--key-file", key, **home))
    assert done.returncode == 0, done.stderr
    done = await aside(lambda: run_cli("--json", "whoami", **home))
    assert json.loads(done.stdout)["username"] == "customer0"
    done = await aside(lambda: run_cli("logout", **home))
    assert done.returncode == 0, done.stderr


async def test_reads_may_come_from_the_standby(world: World) -> None:
    """It is the gateway that chooses, since one address is all that the customer knows."""
    async with world.customer(read_from="any") as me:
        async with asyncio.timeout(PATIENCE_S):
            while not (await me.balance(OWN)).stale_ms:
                await asyncio.sleep(0.05)
        payment = await me.pay(str(SECOND), CENT, from_=OWN)
        assert (await me.balance(OWN)).balance == payment.balance_after


# --- A bank that fails over ------------------------------------------------------------------------------------------
async def test_a_killed_primary_is_a_short_wait(world: World) -> None:
    """The same session at the new primary, through the same address; each order is done once."""
    pair = world.pair
    async with world.customer() as me:
        session = me.signed_in.session
        before = (await me.balance(OWN)).balance.minor
        ids = [new_id() for _ in range(20)]
        for id in ids[:10]:
            await me.pay(str(SECOND), CENT, from_=OWN, id=id)
        old = pair.primary
        old.kill()
        for id in ids[10:]:
            await me.pay(str(SECOND), CENT, from_=OWN, id=id)
        assert pair.primary is pair.other(old)
        assert me.signed_in.session == session
        assert before - (await me.balance(OWN)).balance.minor == len(ids)
        link = me._calls.route.current
        assert link is not None
        assert link.endpoint == (world.gateway.host, world.gateway.port)
        again = await me.pay(str(SECOND), CENT, from_=OWN, id=ids[0])
        assert again.replayed


async def test_a_switchover_fails_no_order(world: World) -> None:
    """Customers of the old primary are shown elsewhere, which for them is the same address again."""
    pair = world.pair
    async with world.customer() as me:
        before = (await me.balance(OWN)).balance.minor
        switching = asyncio.create_task(aside(pair.switch_over))
        count = 0
        while not switching.done() or count < 10:
            await me.pay(str(SECOND), CENT, from_=OWN)
            count += 1
        await switching
        assert before - (await me.balance(OWN)).balance.minor == count


async def test_a_bank_that_is_down_is_waited_for_and_told(world: World) -> None:
    """Who is patient goes on with the same session once it is back; who is not hears what is wrong."""
    pair = world.pair
    async with world.customer() as me:
        session = me.signed_in.session
        for node in pair.nodes.values():
            node.kill()
        with pytest.raises(NoPrimary, match=f"no node of bank '{BANK_ID}'"):
            async with world.client(deadline_s=WAIT_MS / 1000 + 2):
                pass
        waiting = asyncio.create_task(me.balance(OWN))
        await asyncio.sleep(0)
        start(pair)
        await waiting
        assert me.signed_in.session == session


# --- No way ----------------------------------------------------------------------------------------------------------
async def test_an_unknown_bank_is_refused(world: World) -> None:
    """At once."""
    address = f"fortress://{world.gateway.host}:{world.gateway.port}/elsewhere"
    with pytest.raises(HandshakeFailed, match="no way to a bank 'elsewhere'"):
        async with connect(address, ca=world.pair.ca, path_ca=world.gateway.ca):
            pass


async def test_the_gateway_cannot_pass_for_the_bank(world: World) -> None:
    """Its authority vouches for the path and for nothing behind it."""
    with pytest.raises(ServerNotTrusted):
        async with connect(world.address, ca=world.gateway.ca):
            pass


async def test_a_bank_itself_leads_nowhere_else(world: World) -> None:
    """It says the same of a gateway that exists and of a bank that does not."""
    host, port = world.pair.endpoints["a"]
    for name in (GATEWAY, "nobody"):
        with pytest.raises(HandshakeFailed, match="no way"):
            async with connect(f"fortress://{host}:{port}/{name}", ca=world.pair.ca):
                pass


# --- What the gateway sees -------------------------------------------------------------------------------------------
class Watching(Passage):
    """Keeps all that passes in clear, as TLS gives it; flips a bit from one end when told to."""

    seen = b""
    victim = ""

    def __init__(self, relay: Relay, session: Any, transport: Tls, route: Route, data: bytes) -> None:
        Watching.seen += data
        super().__init__(relay, session, transport, route, data)

    def carry(self, end: End, data: bytes) -> None:
        Watching.seen += data
        if Watching.victim == ("customer" if end is self._customer else "bank"):
            Watching.victim = ""
            data = data[:-1] + bytes([data[-1] ^ 1])
        super().carry(end, data)


async def test_the_gateway_reads_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No name, no sum, no account, no key, no token, though all of that passes; a flipped bit is noticed."""
    monkeypatch.setattr(relays, "Passage", Watching)
    Watching.seen, Watching.victim = b"", ""
    amount_minor, text = 123_457, "for the blue bicycle"
    primary = await aside(lambda: world.pair.primary)
    host, port = world.pair.endpoints[primary.at]
    async with relaying() as gateway:
        gateway.authorities[BANK_ID] = der_of(world.pair.ca)
        gateway.directory.tell(BANK_ID, f"{host}:{port}")
        async with gateway.client(BANK_ID, ca=world.pair.ca, agent="Ada's telephone") as bank:
            me = await bank.login_with_seed("customer0", SEED)
            await me.set_profile(NAME)
            assert await me.get_profile() == NAME
            id = new_id()
            await me.pay(str(SECOND), Money(amount_minor, CURRENCY), reference=text, from_=OWN, id=id)
            await me.history_page(OWN)
            await me.pay(str(OWN), Money(amount_minor, CURRENCY), from_=SECOND)
            pack = msgspec.msgpack.encode
            plain = {
                "username": b"customer0",
                "name": NAME.name.encode(),
                "mail": NAME.email.encode(),
                "agent": b"Ada's telephone",
                "token": me.signed_in.token.encode(),
                "seed": SEED,
                "secret": secret_from_seed(SEED),
                "public key": public_key(secret_from_seed(SEED)),
                "sum": pack(amount_minor),
                "account": pack(OWN),
                "reference": text.encode(),
                "payment": id,
                "operation": b"set_profile",
                "certificate": b"urn:fortress:bank",
            }
            assert [what for what, secret in plain.items() if secret in Watching.seen] == []
            assert BANK_ID.encode() in Watching.seen  # where to is all that it is told
            assert len(Watching.seen) > 2_000
            for victim in ("customer", "bank"):
                link = me._calls.route.current
                assert link is not None
                Watching.victim = victim
                assert (await me.whoami()).username == "customer0"
                if victim == "bank":
                    assert isinstance(link.fault, SealBroken)
    wait_until(lambda: primary.log().count('"SealBroken"') == 1)
