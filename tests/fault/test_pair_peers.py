"""Strangers on the replication socket: each is refused with an event that says why, and the pair does not notice."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from bench.bank import BANK_ID
from fortress import authority
from fortress.pair.messages import Append, Hello, Mark, Message, Nack, Shipped, decode, encode
from tests.fault.network import Network
from tests.fault.pair import Member
from tests.fault.trial import Report, Trial

Accept = Callable[[Report], None]
LENGTH = struct.Struct(">I")
TALK_S_MAX = 5.0
OTHER_CLUSTER = b"another cluster."

pytestmark = pytest.mark.timeout(180)


class Stranger:
    """Somebody who calls on a replication socket.

    Args:
        node: whose socket.
        certs: folder with the caller's ``node`` certificate and ``ca``.
    """

    def __init__(self, trial: Trial, node: Member, certs: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # whom it calls is not the question
        context.load_cert_chain(certs / "node.crt", certs / "node.key")
        plain = socket.create_connection(trial.pair.records_endpoint(node.at), timeout=TALK_S_MAX)
        self.stream = context.wrap_socket(plain)

    def send(self, message: Message) -> None:
        """Send a message as a node does."""
        data = encode(message)
        self.stream.sendall(LENGTH.pack(len(data)) + data)

    def receive(self) -> Message:
        """Take the next message.

        Raises:
            OSError: the node has ended the connection.
        """
        (size,) = LENGTH.unpack(self._exactly(LENGTH.size))
        return decode(self._exactly(size))

    def is_turned_away(self) -> bool:
        """Wait until the node ends the connection; False if it goes on."""
        try:
            while True:
                self.receive()
        except TimeoutError:
            return False
        except OSError:
            return True

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.stream.recv(size - len(data))
            if not more:
                raise ConnectionError("the node has ended the connection")
            data += more
        return data


@contextmanager
def calling(trial: Trial, node: Member, certs: Path) -> Iterator[Stranger]:
    """Call for as long as the block lasts."""
    stranger = Stranger(trial, node, certs)
    try:
        yield stranger
    finally:
        stranger.stream.close()


def make_certificates(folder: Path, bank: str, signed_by: Path | None = None) -> Path:
    """Make a node's certificate: of an authority of its own, or of a given one."""
    folder.mkdir()
    now = datetime.now(UTC)
    if signed_by is None:
        authority.make_authority(folder, "somebody", now=now)
    authority.issue(folder, authority.Kind.node, bank=bank, name="node", now=now, authority_folder=signed_by or folder)
    return folder


def hello_of(trial: Trial, node: Member, certs: Path) -> Hello:
    """Ask a node for its hello, which it gives to whoever has a certificate of the bank."""
    with calling(trial, node, certs) as stranger:
        hello = stranger.receive()
        assert isinstance(hello, Hello)
        return hello


# --- who calls ------------------------------------------------------------------------------------------------------


def plain_noise(trial: Trial, standby: Member, place: Path) -> bool:
    """Bytes that are no TLS."""
    with socket.create_connection(trial.pair.records_endpoint(standby.at), timeout=TALK_S_MAX) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)) * 16)
        try:
            while plain.recv(4096):
                continue
        except TimeoutError:
            return False
        except OSError:
            pass
        return True


def wrong_authority(trial: Trial, standby: Member, place: Path) -> bool:
    """The right bank's name in a certificate of an authority of somebody else."""
    with calling(trial, standby, make_certificates(place / "stranger", BANK_ID)) as stranger:
        return stranger.is_turned_away()


def wrong_bank(trial: Trial, standby: Member, place: Path) -> bool:
    """A node of another bank under the same authority."""
    own = trial.pair.ca.parent
    with calling(trial, standby, make_certificates(place / "stranger", "another-bank", own)) as stranger:
        return stranger.is_turned_away()


def wrong_cluster(trial: Trial, standby: Member, place: Path) -> bool:
    """The right certificate, and the id of another pair."""
    certs = trial.pair.ca.parent
    hello = hello_of(trial, trial.pair.other(standby), certs)
    with calling(trial, standby, certs) as stranger:
        stranger.send(msgspec.structs.replace(hello, cluster=OTHER_CLUSTER))
        return stranger.is_turned_away()


def noise(trial: Trial, standby: Member, place: Path) -> bool:
    """The right certificate, and then no messages."""
    with calling(trial, standby, trial.pair.ca.parent) as stranger:
        stranger.stream.sendall(LENGTH.pack(64) + bytes(64))
        return stranger.is_turned_away()


def endless(trial: Trial, standby: Member, place: Path) -> bool:
    """The right certificate, and a message that would fill the memory."""
    with calling(trial, standby, trial.pair.ca.parent) as stranger:
        stranger.stream.sendall(LENGTH.pack(2**32 - 1) + bytes(4096))
        return stranger.is_turned_away()


def no_hello(trial: Trial, standby: Member, place: Path) -> bool:
    """The right certificate, and records without a word of greeting."""
    with calling(trial, standby, trial.pair.ca.parent) as stranger:
        stranger.send(Append(10**9, Mark(), (), 0))
        return stranger.is_turned_away()


STRANGERS = {each.__name__: each for each in (plain_noise, wrong_authority, wrong_bank, wrong_cluster, noise)}
STRANGERS |= {each.__name__: each for each in (endless, no_hello)}
IN_TLS = {"plain_noise", "wrong_authority"}
"""Who does not get through TLS is closed before this pair has said anything."""


def events(node: Member, name: str) -> list[str]:
    """Give the lines of the node's log of events of this name."""
    file = node.folder / "events.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return [line for line in lines if f'"{name}"' in line]


async def test_strangers_are_turned_away(network: Network, place: Path, seed: int, accept: Accept) -> None:
    """Each of them, at both nodes, while the bank works: nobody changes roles, and no request fails."""
    async with Trial(place, network, seed=seed) as trial:
        primary = await trial.paired()
        term = primary.told()["term"]
        for node in trial.pair.nodes.values():
            for name, stranger in STRANGERS.items():
                before = len(events(node, "peer_rejected"))
                folder = place / f"{name}-{node.at}"
                folder.mkdir()
                trial.fault("stranger on the replication socket", node)
                assert await asyncio.to_thread(stranger, trial, node, folder), (
                    f"{name} was not turned away by {node.at}"
                )
                if name not in IN_TLS:
                    await trial.until(
                        lambda node=node, before=before: len(events(node, "peer_rejected")) > before,
                        f"an event of {name} at {node.at}",
                    )
        await trial.progress()
        assert await trial.paired() is primary
        assert primary.told()["term"] == term
        assert trial.failed == []
        accept(await trial.finish())


@pytest.mark.fault
async def test_a_certificate_of_another_authority_leaves_an_event(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """Whoever operates the bank learns that somebody tried, or that a certificate was exchanged on one node only."""
    async with Trial(place, network, seed=seed) as trial:
        standby = trial.pair.other(await trial.paired())
        before = len(events(standby, "peer_rejected"))
        trial.fault("stranger on the replication socket", standby)
        assert await asyncio.to_thread(wrong_authority, trial, standby, place)
        await trial.until(lambda: len(events(standby, "peer_rejected")) > before, "an event")
        accept(await trial.finish())


async def test_a_replayed_epoch_is_refused(network: Network, place: Path, seed: int, accept: Accept) -> None:
    """A former primary's words, over a good connection: told that its time is over, and nothing of it is taken."""
    async with Trial(place, network, seed=seed) as trial:
        old = await trial.paired()
        hello = await asyncio.to_thread(hello_of, trial, old, old.folder / "certs")
        await asyncio.to_thread(trial.pair.switch_over)
        standby = old if (await trial.paired()) is not old else trial.pair.other(old)
        primary = trial.pair.other(standby)
        hello = await asyncio.to_thread(hello_of, trial, primary, trial.pair.ca.parent)
        stale = hello.promised - 1
        trial.fault("replayed epoch", standby)

        def replay() -> Message:
            with calling(trial, standby, primary.folder / "certs") as stranger:
                end = hello.end
                stranger.receive()
                stranger.send(msgspec.structs.replace(hello, promised=stale))
                record = Shipped(Mark(end.lsn + 1, bytes(32)), b"what was said long ago")
                stranger.send(Append(stale, end, (record,), end.lsn + 1))
                while not isinstance(answer := stranger.receive(), Nack):
                    continue
                return answer

        answer = await asyncio.to_thread(replay)
        assert isinstance(answer, Nack)
        assert (answer.reason, answer.epoch >= hello.promised) == ("stale", True)
        await trial.progress()
        assert await trial.paired() is primary
        accept(await trial.finish())
