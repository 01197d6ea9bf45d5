"""Customers carried to their bank: whoever carries them sees nothing, changes nothing, and holds little."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from fortress import authority
from fortress.authority import Kind
from fortress.client.client import connect
from fortress.errors import (
    Busy,
    HandshakeFailed,
    NoPrimary,
    NotPrimary,
    OutcomeUnknown,
    RetryableError,
    SealBroken,
    ServerNotTrusted,
    TokenRejected,
)
from fortress.gateway import relay as module
from fortress.gateway.relay import End, Passage, Relay
from fortress.protocol.accounts import Profile
from fortress.protocol.administration import StatusRequest
from fortress.protocol.frames import encode_frame
from fortress.protocol.reading import History
from fortress.protocol.routes import ANY, ROUTE_LABEL, Notice, Route
from fortress.server import ports
from tests.gateway.relays import Gateway, der_of, gateway_folder, relaying, running_standby
from tests.server.world import BANK, World, ask_much, client_tls, made_folder, running, seed_of, until
from tests.server.world import Client as Speaker

NAME = Profile(name="Ada of the Relay", email="ada@example.org")


def passages(gateway: Gateway) -> list[Passage]:
    return list(gateway.relay._passages)


async def wait_gone(*worlds: World) -> None:
    """Wait until none of them has a connection left."""
    await until(lambda: not any(world.statistics.connections for world in worlds), "connections left")


def gateway_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(gateway_folder() / "certs" / "ca.crt")
    return context


async def through(gateway: Gateway, username: str = "") -> Speaker:
    """A client that speaks by hand, at its bank through the gateway."""
    speaker = await Speaker(gateway, BANK).open(tls=gateway_tls())
    await speaker.hello()
    if username:
        await speaker.login(username)
    return speaker


# --- The road --------------------------------------------------------------------------------------------------------
async def test_a_customer_who_knows_only_the_gateway_reaches_the_bank() -> None:
    """Signs in, asks, and parts; each connection is counted at the gateway as long as it lasts."""
    async with running() as bank, relaying(bank) as gateway:
        async with gateway.client() as client:
            me = await client.login_with_seed("alice", seed_of("alice"))
            assert (await me.whoami()).username == "alice"
            assert gateway.statistics.connections == bank.statistics.connections == 1
            assert gateway.relay.statistics()["relays"] == 1
        await wait_gone(bank, gateway)
        told = gateway.relay.statistics()
        assert (told["relays"], told["relays_total"], told["relays_refused"]) == (0, 1, {})
        assert told["relay_bytes"] > 500
        assert bank.statistics.sessions_ended == {}


async def test_a_logout_through_the_gateway_ends_the_session_for_good() -> None:
    """Its token is good nowhere, neither through the gateway nor at the bank itself."""
    async with running() as bank, relaying(bank) as gateway:
        async with gateway.client() as client:
            me = await client.login_with_seed("alice", seed_of("alice"))
            token = me.signed_in.token
            await me.logout()
        async with gateway.client() as client:
            with pytest.raises(TokenRejected):
                await client.resume(token)


async def test_the_gateway_serves_its_own_customers_beside() -> None:
    """Who names the gateway stays there."""
    async with running() as bank, relaying(bank) as gateway:
        async with gateway.client("gateway", ca=gateway_folder() / "certs" / "ca.crt") as client:
            assert client.bank == "gateway"
        assert gateway.relay.statistics()["relays_total"] == 0


async def test_a_false_bank_behind_the_gateway_is_not_trusted() -> None:
    """The path's authority is good for the path alone."""
    async with running() as bank, relaying(bank) as gateway:
        with pytest.raises(ServerNotTrusted):
            async with gateway.client(ca=gateway_folder() / "certs" / "ca.crt"):
                pass
        with pytest.raises(ServerNotTrusted):
            async with gateway.client(path_ca=made_folder() / "certs" / "ca.crt"):
                pass


# --- What the gateway can do -----------------------------------------------------------------------------------------
class Recording(Passage):
    """Keeps all that passes in clear, as TLS gives it."""

    seen = b""

    def carry(self, end: End, data: bytes) -> None:
        Recording.seen += data
        super().carry(end, data)


async def test_the_gateway_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """All it sees inside its two TLS connections: the bank's name, public keys of the moment, and sealed bytes."""
    monkeypatch.setattr(module, "Passage", Recording)
    Recording.seen = b""
    async with running() as bank, relaying(bank) as gateway, gateway.client(agent="Ada's telephone") as client:
        me = await client.login_with_seed("alice", seed_of("alice"))
        await me.set_profile(NAME)
        token, public = me.signed_in.token, bank.bank.people["alice"].public
        for secret in (b"alice", NAME.name.encode(), NAME.email.encode(), b"Ada's telephone", token.encode(), public):
            assert secret not in Recording.seen
        assert gateway.relay.carried_bytes == len(Recording.seen) > 500
        # the words of the protocol are not in it either: the handshake's answer is sealed from its second half on
        assert b"whoami" not in Recording.seen
        assert b"urn:fortress:bank" not in Recording.seen


class Tampering(Passage):
    """Flips one bit of what passes from one end, once it is told to."""

    victim = ""

    def carry(self, end: End, data: bytes) -> None:
        if Tampering.victim == ("customer" if end is self._customer else "bank"):
            Tampering.victim = ""
            data = data[:-1] + bytes([data[-1] ^ 1])
        super().carry(end, data)


@pytest.mark.parametrize("victim", ["customer", "bank"])
async def test_one_flipped_bit_ends_the_connection(monkeypatch: pytest.MonkeyPatch, victim: str) -> None:
    """Whoever gets it notices that the seal is broken, and the customer goes on by another connection."""
    monkeypatch.setattr(module, "Passage", Tampering)
    async with running() as bank, relaying(bank) as gateway, gateway.client() as client:
        me = await client.login_with_seed("alice", seed_of("alice"))
        link = client._calls.route.current
        assert link is not None
        Tampering.victim = victim
        assert (await me.whoami()).username == "alice"
        assert Tampering.victim == ""
        if victim == "bank":
            assert isinstance(link.fault, SealBroken)
        else:
            assert bank.statistics.sessions_ended == {"SealBroken": 1}
        assert gateway.relay.statistics()["relays_total"] == 2


# --- No way ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("state", ["", "suspended"])
async def test_an_unknown_bank_is_refused(state: str) -> None:
    """At once and for good; of a suspended one nobody hears that it is there."""
    async with running() as bank, relaying(bank) as gateway:
        if state:
            gateway.directory.tell("bank-x", f"127.0.0.1:{bank.server.port}", state=state)
        with pytest.raises(HandshakeFailed, match="no way to a bank 'bank-x'"):
            async with gateway.client("bank-x"):
                pass
        await wait_gone(gateway)
        assert gateway.relay.statistics()["relays_refused"] == {"bank-unknown": 1}


async def test_a_bank_that_was_down_is_waited_for() -> None:
    """The customer who came too early is carried on the moment its primary registers."""
    async with running() as bank, relaying() as gateway:
        client = gateway.client()
        entering = asyncio.create_task(client.__aenter__())
        await until(lambda: gateway.directory.waits)
        assert not entering.done()
        gateway.directory.tell(BANK, f"127.0.0.1:{bank.server.port}")
        await entering
        assert gateway.relay.statistics()["relays_total"] == 1
        await client.close()


async def test_a_bank_that_stays_down_is_told() -> None:
    """After the wait: no primary, and not that nobody answers."""
    async with relaying(switch={"relay_wait_ms": 100}) as gateway:
        with pytest.raises(NoPrimary, match="no node of bank 'bank-a'"):
            async with gateway.client(deadline_s=1.0):
                pass
        assert gateway.relay.statistics()["relays_refused"]["bank-down"] >= 1


async def test_a_customer_with_less_patience_than_the_gateway_hears_the_same() -> None:
    """The gateway says that it waits before the customer gives up."""
    async with relaying(switch={"relay_wait_ms": 60_000}) as gateway:
        with pytest.raises(NoPrimary, match="in time"):
            async with gateway.client(timeout_s=0.8, deadline_s=1.2):
                pass
        await wait_gone(gateway)  # whoever left is not waited for


async def test_a_primary_that_is_gone_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory may still name a node that was killed a moment ago."""
    async with running() as bank, relaying() as gateway:
        gateway.directory.tell(BANK, "127.0.0.1:1")
        client = gateway.client()
        entering = asyncio.create_task(client.__aenter__())
        await until(lambda: gateway.directory.waits)
        gateway.directory.tell(BANK, f"127.0.0.1:{bank.server.port}")
        await entering
        await client.close()


async def false_certificates(tmp_path: Path, bank: str, *, signed_by: Path | None = None) -> ssl.SSLContext:
    certs = tmp_path / "certs"
    if signed_by is None:
        authority.make_authority(certs, bank)
    authority.issue(certs, Kind.node, bank=bank, authority_folder=signed_by)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "node.crt", certs / "node.key")
    return context


@pytest.mark.parametrize("is_own_authority", [True, False], ids=["another-authority", "another-name"])
async def test_nothing_is_said_to_a_false_bank(tmp_path: Path, is_own_authority: bool) -> None:
    """Neither to one under another authority, nor to one of the right authority that carries another name."""
    heard = b""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        writer.write(b"\x00\x05hello")  # nothing of it reaches the customer either
        try:
            heard += await reader.read()
        except (ConnectionError, ssl.SSLError):
            pass
        writer.close()

    signer = None if is_own_authority else made_folder() / "certs"
    context = await false_certificates(tmp_path, BANK if is_own_authority else "bank-b", signed_by=signer)
    server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context)
    async with server, relaying(switch={"relay_wait_ms": 100}) as gateway:
        gateway.directory.tell(BANK, f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(NoPrimary):
            async with gateway.client(deadline_s=0.5):
                pass
        await wait_gone(gateway)
    assert heard == b""


@pytest.mark.parametrize("address", ["", "no port:x", "127.0.0.1:99999"])
async def test_an_address_that_is_none_is_as_if_nobody_answered(address: str) -> None:
    """A bank that registers nonsense harms its own customers alone."""
    async with relaying(switch={"relay_wait_ms": 0}) as gateway:
        gateway.directory.tell(BANK, address)
        with pytest.raises(NoPrimary):
            async with gateway.client(deadline_s=0.3):
                pass


async def test_an_authority_that_is_none_is_as_if_nobody_answered() -> None:
    """What is no certificate can vouch for nobody."""
    async with running() as bank, relaying(bank, switch={"relay_wait_ms": 0}) as gateway:
        gateway.authorities[BANK] = b"nonsense"
        with pytest.raises(NoPrimary):
            async with gateway.client(deadline_s=0.3):
                pass


async def test_the_authority_is_looked_up_each_time() -> None:
    """A new one counts for the next customer; the same one is not read again."""
    async with running() as bank, relaying(bank, switch={"relay_wait_ms": 0}) as gateway:
        assert gateway.relay.context(BANK) is gateway.relay.context(BANK)
        gateway.authorities[BANK] = der_of(gateway_folder() / "certs" / "ca.crt")
        with pytest.raises(NoPrimary):
            async with gateway.client(deadline_s=0.3):
                pass


async def test_no_more_are_carried_than_may_be() -> None:
    """One over the limit is told so, and gets in when another one has left."""
    async with running() as bank, relaying(bank, switch={"relays_max": 1}) as gateway:
        first = await gateway.client()
        with pytest.raises(Busy):
            async with gateway.client(deadline_s=0.3):
                pass
        await first.close()
        await wait_gone(gateway)
        async with gateway.client() as client:
            await client.login_with_seed("alice", seed_of("alice"))


async def test_a_standby_carries_nobody() -> None:
    """No bank is linked to it, so it sends customers to the other node of the gateway."""
    async with running() as bank, relaying(bank) as gateway, relaying(bank, is_second=True) as other:
        gateway.is_standby = True
        with pytest.raises(NotPrimary):
            async with gateway.client(deadline_s=0.3):
                pass
        address = f"fortress://{gateway.endpoint},{other.endpoint}/{BANK}"
        trusted = {"ca": made_folder() / "certs" / "ca.crt", "path_ca": gateway_folder() / "certs" / "ca.crt"}
        async with connect(address, **trusted) as client:
            await client.login_with_seed("alice", seed_of("alice"))


# --- Where to --------------------------------------------------------------------------------------------------------
async def test_who_takes_old_answers_is_carried_to_the_standby() -> None:
    """With the flag; everybody else to the primary."""
    async with running() as primary, running_standby() as standby, relaying(primary, standby) as gateway:
        async with gateway.client():
            assert (primary.statistics.connections, standby.statistics.connections) == (1, 0)
        await wait_gone(primary, standby)
        speaker = Speaker(gateway, BANK)
        speaker.core = type(speaker.core)(bank_id=BANK, entropy=bytes(32), verify=speaker._verify, now=0.0, flags=ANY)
        await speaker.open(tls=gateway_tls())
        await speaker.hello()
        assert (primary.statistics.connections, standby.statistics.connections) == (0, 1)
        await speaker.close()


async def test_without_a_standby_the_primary_will_do() -> None:
    """Also for who would take old answers."""
    async with running() as primary, relaying(primary) as gateway:
        gateway.directory.tell(BANK, f"127.0.0.1:{primary.server.port}", "127.0.0.1:1")
        async with gateway.client(read_from="any") as client:
            me = await client.login_with_seed("alice", seed_of("alice"))
            await me.whoami()
            await until(lambda: gateway.relay.statistics()["relays"] >= 1)


# --- The end ---------------------------------------------------------------------------------------------------------
async def test_a_bank_that_ends_a_connection_ends_it_for_the_customer() -> None:
    """With all that it said before, the closing piece included."""
    async with running() as bank, relaying(bank) as gateway:
        speaker = await through(gateway, "alice")
        bank.server.end_signed_in()
        await speaker.wait_end()
        assert speaker.core.peer_closed
        speaker.writer.close()
        await wait_gone(bank, gateway)


async def test_a_customer_who_vanishes_is_gone_at_the_bank() -> None:
    """No half of a passage is left over."""
    async with running() as bank, relaying(bank) as gateway:
        speaker = await through(gateway, "alice")
        speaker.writer.transport.abort()
        await wait_gone(bank, gateway)
        await until(lambda: passages(gateway) == [])


async def test_a_silent_passage_is_ended() -> None:
    """After as long as a silent connection of the gateway's own; what is heard from either side begins it anew."""
    async with running() as bank, relaying(bank, idle_s=30) as gateway:
        speaker = await through(gateway)
        [passage] = passages(gateway)
        now = gateway.server.now()
        passage.on_time(now)  # something was heard until now
        passage.on_time(now + 29)
        await speaker.login("alice")
        passage.on_time(now + 60)
        passage.on_time(now + 89)
        assert not passage._is_ending
        passage.on_time(now + 91)
        await speaker.wait_end()
        speaker.writer.close()
        await wait_gone(bank, gateway)


async def test_a_gateway_that_goes_down_ends_what_it_carries() -> None:
    """Within the time of its drain, also those that wait for a bank."""
    async with running() as bank:
        async with relaying(bank) as gateway:
            speaker = await through(gateway)
            gateway.directory.tell(BANK)
            waiting = asyncio.create_task(gateway.client(deadline_s=0.5).__aenter__())
            await until(lambda: gateway.directory.waits)
            await gateway.server.drain(5)
            assert gateway.statistics.connections == 0
            await speaker.wait_end()
            speaker.writer.close()
            with pytest.raises(RetryableError):
                await waiting
        await wait_gone(bank)


async def test_a_relay_that_is_closed_waits_for_its_ends() -> None:
    """Nothing of it is left afterwards."""
    async with running() as bank, relaying(bank) as gateway:
        async with gateway.client() as client:
            await gateway.relay.close()
            assert passages(gateway) == []
            with pytest.raises((OutcomeUnknown, RetryableError)):
                gateway.directory.tell(BANK)
                await client._calls.call("status", StatusRequest(), deadline_s=0.2)
        await gateway.relay.close()


# --- What it holds ---------------------------------------------------------------------------------------------------
async def test_a_customer_who_does_not_read_fills_no_memory() -> None:
    """The bank is not read any more, so it is the bank's own limit that counts, as without a relay."""
    async with running() as bank, relaying(bank) as gateway:
        speaker = await through(gateway, "alice")
        [passage] = passages(gateway)
        speaker.writer.transport.pause_reading()
        ask_much(speaker, 12)  # 6 MB
        [session] = bank.server._sessions
        await until(lambda: session._blocked_s, "the bank is blocked")
        customer, end = passage._customer.transport, passage._bank.transport
        assert customer is not None
        assert end is not None
        assert customer.get_write_buffer_size() < 3 * module.BUFFER_BYTES + 64 * 1024
        carried = gateway.relay.carried_bytes
        speaker.writer.transport.resume_reading()
        for _ in range(12):
            await speaker.receive()
        assert gateway.relay.carried_bytes - carried > 1_000_000
        await speaker.close()
        await wait_gone(bank, gateway)


async def test_a_bank_that_does_not_read_fills_no_memory() -> None:
    """The customer is not read any more, and goes on when the bank does."""
    async with running() as bank, relaying(bank) as gateway:
        speaker = await through(gateway, "alice")
        [passage] = passages(gateway)
        [session] = bank.server._sessions
        assert session._transport is not None
        session._transport.pause_reading()
        big = Profile(name="x" * 100)
        await until(lambda: flooded(speaker, passage, big), "the customer is blocked")
        end = passage._bank.transport
        assert end is not None
        assert end.get_write_buffer_size() < 4 * module.BUFFER_BYTES
        session._transport.resume_reading()
        await until(lambda: not end.get_write_buffer_size(), "the bank reads again")
        speaker.writer.transport.abort()
        await wait_gone(bank, gateway)


def flooded(speaker: Speaker, passage: Passage, big: Profile) -> bool:
    """Send more; True once it stays with the customer."""
    for _ in range(50):
        speaker.send("history", History(1))
        speaker.core.send_message(b"\x93\x01" + b"\xd9\xff" + b"x" * 255 + b"\x80" + b" " * 60_000)
        speaker.flush()
    return bool(speaker.writer.transport.get_write_buffer_size() > 5_000_000)


async def test_a_customer_who_talks_before_the_bank_is_there_is_bounded() -> None:
    """A handshake's first message has 32 bytes; who sends more than 64 KiB of anything is cut off."""
    async with relaying() as gateway:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", gateway.server.port, ssl=gateway_tls(), server_hostname="localhost"
        )
        writer.write(encode_frame(Route(BANK).encode()) + bytes(1000))
        await until(lambda: passages(gateway))
        [passage] = passages(gateway)
        writer.write(bytes(module.EARLY_BYTES_MAX))
        await until(lambda: passage.over.done())
        writer.close()
        await wait_gone(gateway)


async def test_what_is_taken_over_is_counted_and_limited_as_before() -> None:
    """Connections from one address are, whether they are carried on or not."""
    async with running() as bank, relaying(bank, connections_per_address_max=1) as gateway:
        speaker = await through(gateway)
        with pytest.raises((OSError, EOFError)):
            await Speaker(gateway, BANK).open(tls=gateway_tls())
        assert gateway.statistics.connections_refused == {"connections_per_address_max": 1}
        await speaker.close()
        await wait_gone(gateway)


# --- Without a relay -------------------------------------------------------------------------------------------------
async def test_a_bank_leads_to_no_other() -> None:
    """It says the same of every other bank, whether there is one or not."""
    async with running() as bank:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", bank.server.port, ssl=client_tls(), server_hostname="localhost"
        )
        writer.write(encode_frame(ROUTE_LABEL + b"bank-b\0"))
        async with asyncio.timeout(10):
            assert await reader.read() == encode_frame(Notice.bank_unknown.encode())
        writer.close()
        await wait_gone(bank)
        assert bank.statistics.sessions_ended == {"bank-unknown": 1}


def test_a_relay_is_what_the_server_asks_for() -> None:
    """By the same names as the port."""
    assert {"take"} <= {name for name in vars(ports.Relay) if not name.startswith("_")} & set(vars(Relay))
    assert {name for name in vars(ports.Relayed) if not name.startswith("_")} <= set(vars(Passage))
