"""The witness among bad peers: strangers, garbage, floods and the slow are turned away, and nodes are served on."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fortress.authority import Kind, issue
from fortress.config import WitnessSettings
from fortress.errors import AddressInUse, RegisterUnreachable, SettingInvalid, StateFileUnusable
from fortress.pair import witness as witness_module
from fortress.pair.link import listening_context
from fortress.pair.registry import Registry
from fortress.pair.slots import write_durably
from fortress.pair.witness import LINES_PER_S_MAX, Witness
from fortress.pair.witness_messages import MESSAGE_SIZE_BYTES_MAX, Get, frame
from fortress.pair.witness_register import WitnessRegister
from tests.pair.registers import CLUSTER, PATIENT_S, configuration, dialing, make_certificates, promised_nothing

NODES = 8
CONNECTIONS_MAX = 12


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certs"))


class Disk:
    """A disk that can be broken."""

    is_broken = False

    def write(self, fd: int, data: bytes, offset: int) -> None:
        if self.is_broken:
            raise OSError(errno.EIO, "gone")
        write_durably(fd, data, offset)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def witness(certificates: Path, tmp_path: Path, disk: Disk) -> AsyncIterator[Witness]:
    registry = Registry.open(tmp_path / "register", write=disk.write)
    settings = WitnessSettings(listen="127.0.0.1:0", connections_max=CONNECTIONS_MAX, handshake_s=1)
    tls = listening_context(certificates / "node.crt", certificates / "node.key", certificates / "ca.crt")
    found = await Witness.start(settings, registry, tls)
    yield found
    await found.stop()
    registry.close()


@pytest.fixture
async def node(witness: Witness, certificates: Path) -> AsyncIterator[WitnessRegister]:
    """A node's register, with the first configuration written."""
    register = register_of(witness, dialing(certificates))
    await register.compare_and_set(None, configuration())
    yield register
    await register.close()


def register_of(witness: Witness, tls: ssl.SSLContext) -> WitnessRegister:
    address = f"127.0.0.1:{witness.port}"
    return WitnessRegister(address, tls, CLUSTER, promised=promised_nothing, deadline_s=PATIENT_S)


async def connect(witness: Witness, tls: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", witness.port, ssl=tls)


async def wait_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Read what still comes until the witness ends the connection."""
    found = b""
    async with asyncio.timeout(PATIENT_S):
        try:
            while data := await reader.read(65536):
                found += data
        except (OSError, ssl.SSLError):
            pass
    writer.transport.abort()
    return found


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENT_S):
        while not condition():
            await asyncio.sleep(0.005)


async def is_served(node: WitnessRegister) -> bool:
    held = await node.get()
    return held is not None and held.epoch == 1


async def test_many_nodes_are_served_at_once(witness: Witness, certificates: Path) -> None:
    """Each on its own connection."""
    nodes = [register_of(witness, dialing(certificates)) for _ in range(NODES)]
    await nodes[0].compare_and_set(None, configuration())
    assert await asyncio.gather(*(is_served(each) for each in nodes)) == [True] * NODES
    for each in nodes:
        await each.close()
    await wait_until(lambda: not witness._serving)


async def test_a_wrong_certificate_is_refused(witness: Witness, node: WitnessRegister, tmp_path: Path) -> None:
    """Of another authority, or none at all, either way round."""
    other = make_certificates(tmp_path / "other")
    with pytest.raises(RegisterUnreachable):
        await register_of(witness, dialing(other)).get()
    mixed = dialing(other)
    mixed.verify_mode = ssl.CERT_NONE  # a stranger does not care whom it talks to
    with pytest.raises(RegisterUnreachable):
        await register_of(witness, mixed).get()
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(RegisterUnreachable):
        await register_of(witness, nobody).get()
    assert await is_served(node)


async def test_a_banks_own_certificate_is_no_nodes(witness: Witness, node: WitnessRegister, certificates: Path) -> None:
    """The key that signs for the bank opens no connection."""
    with pytest.raises(RegisterUnreachable):
        await register_of(witness, dialing(certificates, "bank")).get()
    assert await is_served(node)


async def test_another_bank_of_the_same_authority_is_refused(
    witness: Witness, node: WitnessRegister, certificates: Path
) -> None:
    """It can keep its own pairs here and touches no others."""
    if not (certificates / "other.crt").exists():
        issue(certificates, Kind.node, bank="other", name="other")
    other = register_of(witness, dialing(certificates, "other"))
    with pytest.raises(RegisterUnreachable, match="belongs to a "):
        await other.get()
    other._cluster = b"its own"
    await other.compare_and_set(None, configuration())
    assert await is_served(node)
    await other.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 100,
        (MESSAGE_SIZE_BYTES_MAX + 1).to_bytes(4, "big"),
        b"\0\0\0\0",
        b"\0\0\0\5hello",
        frame(Get(CLUSTER, 0))[:-1] + b"\xc1",
    ],
    ids=["http", "ones", "large", "empty", "no message", "spoilt"],
)
async def test_garbage_ends_the_connection(
    witness: Witness, node: WitnessRegister, certificates: Path, garbage: bytes
) -> None:
    """Inside TLS and instead of it; nothing is answered, and nodes are served on."""
    for tls in (None, dialing(certificates)):
        reader, writer = await connect(witness, tls)
        writer.write(garbage)
        answer = await wait_end(reader, writer)
        assert b"held" not in answer
    assert await is_served(node)


async def test_the_slow_are_ended(
    witness: Witness, node: WitnessRegister, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who begins no handshake, no message, or none to its end, is ended by the witness."""
    monkeypatch.setattr(witness_module, "MESSAGE_S", 0.1)
    reader, writer = await connect(witness, None)
    assert await wait_end(reader, writer) == b""
    for part in (b"\0", b"\0\0\0\x20", frame(Get(CLUSTER, 0))[:-1]):
        reader, writer = await connect(witness, dialing(certificates))
        writer.write(part)
        assert await wait_end(reader, writer) == b""
    assert await is_served(node)
    monkeypatch.setattr(witness_module, "IDLE_S", 0.1)
    reader, writer = await connect(witness, dialing(certificates))
    assert await wait_end(reader, writer) == b""


async def test_who_takes_no_answers_is_ended(
    witness: Witness, node: WitnessRegister, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers do not pile up for a peer that asks and never reads."""
    monkeypatch.setattr(witness_module, "MESSAGE_S", 0.2)
    witness._listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", witness.port))
    _, writer = await asyncio.open_connection(sock=client, ssl=dialing(certificates), server_hostname="")
    transport: Any = writer.transport
    transport.pause_reading()
    question = frame(Get(CLUSTER, 0)) * 1000
    async with asyncio.timeout(PATIENT_S):
        while len(witness._serving) > 1:
            writer.write(question)
            await asyncio.sleep(0)
            try:
                await asyncio.wait_for(writer.drain(), 0.01)
            except TimeoutError:
                continue
            except OSError:
                break
    writer.transport.abort()
    assert await is_served(node)


async def test_a_flood_of_strangers_keeps_no_node_out(
    witness: Witness, node: WitnessRegister, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest of those without a certificate make room: a node keeps its connection, a new one gets in."""
    monkeypatch.setattr(witness_module, "HANDSHAKES_MAX", 4)
    standing = node._streams
    strangers = [await connect(witness, None) for _ in range(3 * CONNECTIONS_MAX)]
    assert await is_served(node) and node._streams is standing
    newcomer = register_of(witness, dialing(certificates))
    assert await is_served(newcomer)
    await wait_until(lambda: len(witness._serving) <= 2 + 4)
    for _, writer in strangers:
        writer.transport.abort()
    await newcomer.close()


async def test_connections_have_a_limit(witness: Witness, node: WitnessRegister, certificates: Path) -> None:
    """A further one is closed at once, and there is room again when one ends."""
    tls = dialing(certificates)
    held = [await connect(witness, tls) for _ in range(CONNECTIONS_MAX - 1)]
    with pytest.raises(RegisterUnreachable):
        await register_of(witness, tls).get()
    assert await is_served(node)
    held[0][1].transport.abort()
    await wait_until(lambda: len(witness._serving) < CONNECTIONS_MAX)
    late = register_of(witness, tls)
    assert await is_served(late)
    await late.close()
    for _, writer in held:
        writer.transport.abort()


async def test_a_failed_disk_ends_the_witness_without_an_answer(
    witness: Witness, node: WitnessRegister, disk: Disk
) -> None:
    """Whether the change was written is not known: the node is told nothing, and the process must end."""
    disk.is_broken = True
    with pytest.raises(RegisterUnreachable):
        await node.compare_and_set(1, configuration(2))
    assert witness.stopped.is_set() and isinstance(witness.failure, StateFileUnusable)


async def test_stopping_ends_every_connection(witness: Witness, node: WitnessRegister, certificates: Path) -> None:
    """Those in their handshake too; then nothing listens any more."""
    silent, standing = await connect(witness, None), await connect(witness, dialing(certificates))
    await is_served(node)
    await witness.stop()
    for each in (silent, standing):
        assert await wait_end(*each) == b""
    with pytest.raises(RegisterUnreachable):
        await node.get()


async def test_lines_about_strangers_are_bounded(
    witness: Witness, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many a second get one; the rest is counted."""
    caplog.set_level(logging.INFO, "fortress")
    turned_away = witness._turned_away
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 1000.0)
    for _ in range(3 * LINES_PER_S_MAX):
        turned_away.note("192.0.2.1", "no certificate")
    turned_away.finish()
    monkeypatch.undo()
    assert caplog.messages.count("peer turned away") == LINES_PER_S_MAX
    fields: list[Any] = [vars(record)["fields"] for record in caplog.records if record.msg == "peers turned away"]
    assert fields == [{"count": 2 * LINES_PER_S_MAX}]


async def test_the_log_says_what_a_pair_does(
    witness: Witness, node: WitnessRegister, caplog: pytest.LogCaptureFixture
) -> None:
    """Each change with its epoch and primary."""
    caplog.set_level(logging.INFO, "fortress")
    await node.compare_and_set(1, configuration(2, is_paired=True))
    [record] = [record for record in caplog.records if record.msg == "configuration changed"]
    told = {"pair": CLUSTER.hex(), "epoch": 2, "primary": "node-1", "in_sync": "node-1, node-2"}
    assert vars(record)["fields"] == told


async def test_where_it_cannot_listen_is_told(certificates: Path, tmp_path: Path) -> None:
    """Taken, not of this machine, or no port."""
    registry = Registry.open(tmp_path / "register")
    tls = listening_context(certificates / "node.crt", certificates / "node.key", certificates / "ca.crt")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addresses = {f"127.0.0.1:{taken.getsockname()[1]}": AddressInUse, "192.0.2.1:0": SettingInvalid}
        for address, error in {**addresses, "127.0.0.1:70000": SettingInvalid}.items():
            with pytest.raises(error):
                await Witness.start(WitnessSettings(listen=address), registry, tls)
    registry.close()


async def test_it_listens_on_both_kinds_of_addresses(certificates: Path, tmp_path: Path) -> None:
    """``[::]`` takes connections of either."""
    registry = Registry.open(tmp_path / "register")
    tls = listening_context(certificates / "node.crt", certificates / "node.key", certificates / "ca.crt")
    witness = await Witness.start(WitnessSettings(listen="[::]:0"), registry, tls)
    for host in ("127.0.0.1", "[::1]"):
        address = f"{host}:{witness.port}"
        register = WitnessRegister(address, dialing(certificates), CLUSTER, promised=promised_nothing)
        assert await register.get() is None
        await register.close()
    await witness.stop()
    registry.close()
