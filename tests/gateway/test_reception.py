"""Who comes in at a gateway: banks with their own certificates, and nobody else, however they try."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from fortress import authority
from fortress.authority import Kind
from fortress.errors import AddressInUse, BankRejected, Busy, CertificateUnusable, NotPrimary
from fortress.gateway import reception
from fortress.gateway.messages import Directory, Ping, Register, Registered, Vote
from fortress.pair import door
from fortress.pair.link import dialing_context
from fortress.server.process import Process
from tests.gateway.switches import GATEWAY, certs_of, switching
from tests.server.banks import until


def turned_away(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Why peers were turned away, as the log has it."""
    return [r.__dict__["fields"]["reason"] for r in caplog.records if r.getMessage() == "peer turned away"]


async def test_a_bank_registers_and_is_told_who_else_is_there(tmp_path: Path) -> None:
    """It hears its currencies and the gateway's epoch, then of all banks, again at each change."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        await hub.add("bank-a", "USD")
        await hub.add("bank-b")
        a = await hub.knock("bank-a", epoch=7)
        assert await a.wait(Registered) == Registered(GATEWAY, hub.bank.engine.epoch, ("EUR", "USD"))
        directory: Directory = await a.wait(Directory)
        rows = [(row.bank, row.state, row.is_connected, row.node, row.epoch, row.addresses) for row in directory.banks]
        assert rows == [
            ("bank-a", "active", True, "one", 7, ("bank-a.example:1", "bank-a.example:2")),
            ("bank-b", "active", False, "", 0, ()),
        ]
        b = await hub.enter("bank-b")
        assert [row.is_connected for row in (await a.wait(Directory)).banks] == [True, True]
        b.link.end()
        assert [row.is_connected for row in (await a.wait(Directory)).banks] == [True, False]


async def test_a_bank_that_was_never_added_gets_no_further_than_tls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its authority is not known; nothing that it says is looked at, and the log tells."""
    async with switching(tmp_path) as hub:
        early = await hub.knock("bank-c")
        await until(lambda: early.reasons)
        await hub.add("bank-a")
        late = await hub.knock("bank-c")
        await until(lambda: late.reasons and len(turned_away(caplog)) == 2)
        assert early.heard == late.heard == [] and hub.switch.directory.connected == 0
        assert all("certificate" in reason.lower() for reason in turned_away(caplog))


async def test_an_expired_certificate_gets_no_further_than_tls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Though the bank is known and its authority has signed it."""
    async with switching(tmp_path) as hub:
        expired = certs_of("bank-x", is_expired=True)
        await hub.add("bank-x", pem=(expired / "ca.crt").read_text())
        teller = await hub.knock("bank-x", expired)
        await until(lambda: teller.reasons)
        assert teller.heard == [] and hub.switch.directory.connected == 0
        await until(lambda: turned_away(caplog))
        assert "expired" in turned_away(caplog)[0]


async def test_the_authority_of_one_bank_cannot_speak_for_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """TLS knows the authority, and the name is that of a bank; both do not belong together."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        await hub.add("bank-b")
        forged = await hub.knock("bank-a", certs_of("bank-a", "bank-b"))
        refusal = await forged.refused()
        assert (refusal.code, "not signed by" in refusal.message) == (BankRejected.code, True)
        assert forged.told(Registered) == [] and hub.switch.directory.connected == 0
        assert turned_away(caplog) == [refusal.message]


@pytest.mark.parametrize(
    ("certs", "says", "reason"),
    [
        (lambda: certs_of("bank-z", "bank-a"), "bank-z", "'bank-z' is not known here"),
        (lambda: certs_of("bank-a"), "bank-b", "'bank-a' registers as 'bank-b'"),
        (lambda: certs_of("bank-a", kind=Kind.bank), "bank-a", ""),
    ],
    ids=["unknown name", "another name in words", "the certificate that seals"],
)
async def test_a_name_must_be_that_of_the_certificate(tmp_path: Path, certs: Any, says: str, reason: str) -> None:
    """And the certificate must be a node's, of a bank that was added."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        await hub.add("bank-b")
        teller = await hub.knock(says, certs())
        await until(lambda: teller.reasons)
        assert teller.told(Registered) == [] and hub.switch.directory.connected == 0
        if reason:
            assert reason in (await teller.refused()).message


async def test_a_certificate_of_two_banks_is_of_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could tell for whom it speaks."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        await hub.add("bank-b")
        monkeypatch.setattr(reception, "banks_of", lambda certificate, error: ("bank-a", "bank-b"))
        refusal = await (await hub.knock("bank-a")).refused()
        assert "names one bank" in refusal.message


async def test_two_banks_may_share_an_authority(tmp_path: Path) -> None:
    """Then only the name tells them apart, which is what whoever added them wanted."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        await hub.add("bank-z", pem=(certs_of("bank-z", "bank-a") / "ca.crt").read_text())
        first, second = await hub.knock("bank-a"), await hub.knock("bank-z", certs_of("bank-z", "bank-a"))
        await first.wait(Registered)
        await second.wait(Registered)
        assert hub.switch.directory.connected == 2


async def test_a_suspended_bank_hears_that_it_is(tmp_path: Path) -> None:
    """Its link ends when it is suspended, and until it is taken back every new one is refused with the reason."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        a = await hub.enter("bank-a")
        await hub.suspend("bank-a")
        await until(lambda: a.reasons)
        assert "is suspended here" in (await (await hub.knock("bank-a")).refused()).message
        await hub.suspend("bank-a", resume=True)
        await hub.enter("bank-a")


async def test_the_newest_epoch_of_a_bank_has_its_link(tmp_path: Path) -> None:
    """A new primary takes over, an old one that does not know it yet is refused, the same one may dial anew."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        old = await hub.enter("bank-a", epoch=4)
        new = await hub.enter("bank-a", epoch=5)
        await until(lambda: old.reasons)
        late = await hub.knock("bank-a", epoch=4)
        assert "epoch 5, which is newer" in (await late.refused()).message
        again = await hub.enter("bank-a", epoch=5)
        await until(lambda: new.reasons)
        assert again.link.is_open and hub.switch.directory.connected == 1


async def test_a_standby_and_a_gateway_that_is_not_open_let_nobody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bank is told to try the other node, or again."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        hub.switch._is_open = False
        assert (await (await hub.knock("bank-a")).refused()).code == Busy.code
        with monkeypatch.context() as patched:
            patched.setattr(Process, "is_primary", False)
            assert (await (await hub.knock("bank-a")).refused()).code == NotPrimary.code
        hub.switch._is_open = True
        await hub.enter("bank-a")


@pytest.mark.parametrize("first", [Vote(bytes(16)), Register("bank-a", "one", 1, "", version=2)])
async def test_what_is_no_registration_ends_the_link(tmp_path: Path, first: Any) -> None:
    """So does one of a version that is not spoken here; what follows is not looked at."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        teller = await hub.dial("bank-a")
        teller.say(first, Register("bank-a", "one", 1, ""))
        assert (await teller.refused()).code == BankRejected.code
        assert teller.told(Registered) == [] and hub.switch.directory.connected == 0


async def test_a_guest_may_ping_but_not_ask(tmp_path: Path) -> None:
    """Questions are answered once the bank is registered."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        teller = await hub.dial("bank-a")
        teller.say(Ping(1))
        with pytest.raises(BankRejected, match="only a registered bank"):
            await teller.link.ask("resolve", ("bank-b", "ines", "EUR"), object)


async def test_whoever_does_not_register_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, or when there are too many of them, the oldest first."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        monkeypatch.setattr(reception, "GUESTS_MAX", 2)
        monkeypatch.setattr(reception, "REGISTER_S", 3_600.0)
        silent = [await hub.dial("bank-a") for _ in range(3)]
        await until(lambda: silent[0].reasons)
        assert not silent[1].reasons and not silent[2].reasons
        monkeypatch.setattr(reception, "REGISTER_S", 0.01)
        quick = await hub.dial("bank-a")
        await until(lambda: quick.reasons and silent[1].reasons)
        assert not silent[2].reasons


async def test_garbage_ends_the_connection_it_came_on(tmp_path: Path) -> None:
    """Before TLS, within it, and after registering; others are not touched."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        await hub.add("bank-b")
        b = await hub.enter("bank-b")
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.switch.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read()
        writer.close()
        certs = certs_of("bank-a")
        context = dialing_context(certs / "node.crt", certs / "node.key", hub.folder / "certs" / "ca.crt")
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.switch.port, ssl=context)
        writer.write(b"\x00\x00\x00\x02\xc0\xc0")
        (said,) = await asyncio.gather(reader.read(), return_exceptions=True)
        assert said == b"" or isinstance(said, ConnectionError)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        a = await hub.enter("bank-a")
        a.link.send_framed((2**31).to_bytes(4, "big"))
        await until(lambda: a.reasons)
        a = await hub.enter("bank-a")
        a.say(Registered("bank-a", 1, ()))  # which is not a bank's to say
        await until(lambda: a.reasons)
        assert b.link.is_open and b.reasons == []


async def test_connections_in_their_handshake_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers who connect and say nothing cannot keep a bank out."""
    monkeypatch.setattr(reception, "HANDSHAKES_MAX", 2)
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        strangers = [await asyncio.open_connection("127.0.0.1", hub.switch.port) for _ in range(4)]
        await hub.enter("bank-a")
        for reader, writer in strangers[:2]:
            assert await reader.read() == b""
            writer.close()
        for _, writer in strangers[2:]:
            writer.close()


async def test_a_renewed_certificate_is_shown_to_the_next_bank(tmp_path: Path) -> None:
    """The files are looked at again for each connection; one that cannot be read turns the caller away."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        first = await hub.enter("bank-a")
        serial = serial_of(first.link)
        certs = hub.folder / "certs"
        authority.renew(certs, "node")
        second = await hub.enter("bank-a")
        assert serial_of(second.link) != serial
        (certs / "node.crt").rename(certs / "away.crt")
        broken = await asyncio.gather(hub.dial("bank-a"), return_exceptions=True)
        assert isinstance(broken[0], Exception)
        (certs / "away.crt").rename(certs / "node.crt")
        await hub.enter("bank-a")


def serial_of(link: Any) -> str:
    """The serial number of the certificate at the other side."""
    return str(link._transport.get_extra_info("peercert")["serialNumber"])


async def test_a_gateway_that_cannot_listen_does_not_start(tmp_path: Path) -> None:
    """The reason is told: an address in use, or a certificate that is none."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(AddressInUse, match="for banks"):
            async with switching(tmp_path, switch__listen=f"127.0.0.1:{taken.getsockname()[1]}"):
                raise AssertionError("it has started")
    async with switching(tmp_path) as hub:
        (hub.folder / "certs" / "node.crt").write_text("none")
        with pytest.raises(CertificateUnusable):
            hub.switch._reception._tls()


async def test_it_goes_on_when_a_connection_cannot_be_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without descriptors it waits a little and tries again."""
    monkeypatch.setattr(door, "RETRY_S", 0.01)
    async with switching(tmp_path) as hub:
        await hub.add("bank-a")
        accept, left = socket.socket.accept, [1]

        def failing(listening: socket.socket) -> tuple[socket.socket, Any]:
            if left:
                left.pop()
                raise OSError(24, "Too many open files")
            return accept(listening)

        monkeypatch.setattr(socket.socket, "accept", failing)
        await hub.enter("bank-a")
        assert "Too many open files" in turned_away(caplog)
