"""TLS between a socket and a session: whole and cut records, large writes, goodbyes, and those who never get there."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

import pytest

from fortress.server import tls as module
from fortress.server.tls import Tls
from tests.server.world import client_tls, made_folder, until


class Tcp:
    """A TCP transport that keeps what is written."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.calls: list[str] = []
        self.limits: dict[str, int | None] = {}

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def is_closing(self) -> bool:
        return bool({"close", "abort"}.intersection(self.calls))

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def set_write_buffer_limits(self, **limits: int | None) -> None:
        self.limits = limits

    def get_write_buffer_size(self) -> int:
        return len(self.sent)


class Heard(asyncio.BufferedProtocol):
    """A session that writes down what reaches it."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(64 * 1024))
        self.reads: list[bytes] = []
        self.calls: list[str] = []
        self.transport: Any = None
        self.is_leaving = False
        self.on_read: Callable[[], object] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.reads.append(bytes(self.buffer[:nbytes]))
        if self.is_leaving:
            self.transport.abort()
        self.on_read()

    def eof_received(self) -> None:
        self.calls.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")


class Pair:
    """Both ends of one connection without a network: the server's `Tls`, the client's OpenSSL in memory."""

    def __init__(self, context: ssl.SSLContext, *, handshake_s: float = 30.0) -> None:
        self.settled: list[str] = []
        self.session = Heard()
        self.tls = Tls(
            context, self.session, handshake_s=handshake_s, on_settled=lambda tls, reason: self.settled.append(reason)
        )
        self.tcp = Tcp()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client_tls().wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def made(self) -> Pair:
        self.tls.connection_made(cast(asyncio.BaseTransport, self.tcp))
        return self

    def give(self, data: bytes, size: int = module.RECEIVED_BYTES_MAX) -> None:
        """Let bytes arrive at the server, so many in one read of the socket."""
        for start in range(0, len(data), size):
            part = data[start : start + size]
            self.tls.get_buffer(-1)[: len(part)] = part
            self.tls.buffer_updated(len(part))

    def take(self) -> None:
        """Let arrive at the client what the server wrote."""
        self.incoming.write(bytes(self.tcp.sent))
        self.tcp.sent.clear()

    def open(self) -> Pair:
        self.made()
        for _ in range(2):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                pass
            self.give(self.outgoing.read())
            self.take()
        assert self.settled == [""]
        return self

    def sealed(self, data: bytes) -> bytes:
        self.client.write(data)
        return self.outgoing.read()

    def goodbye(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self.client.unwrap()
        return self.outgoing.read()


@pytest.fixture(scope="module")
def context() -> ssl.SSLContext:
    certs = made_folder() / "certs"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certs / "node.crt", certs / "node.key")
    return context


async def test_bytes_go_both_ways(context: ssl.SSLContext) -> None:
    """After the handshake, one read of the socket is one read of the session."""
    pair = Pair(context).open()
    pair.give(pair.sealed(b"one") + pair.sealed(b"two"))
    assert pair.session.reads == [b"onetwo"]
    pair.session.transport.write(b"answer")
    pair.take()
    assert pair.client.read(100) == b"answer"


@pytest.mark.parametrize("size", [1, 7, 1000, module.RECEIVED_BYTES_MAX])
async def test_bytes_arrive_however_they_are_cut(context: ssl.SSLContext, size: int) -> None:
    """Records in pieces, many records at once, more than the session's buffer holds."""
    pair = Pair(context).open()
    sent = bytes(range(256)) * (20 if size == 1 else 800)
    pair.give(pair.sealed(sent), size)
    assert b"".join(pair.session.reads) == sent


async def test_what_fills_the_buffer_is_given_in_parts(context: ssl.SSLContext) -> None:
    """A record is opened only where it has room; nothing waits for another read."""
    pair = Pair(context).open()
    pair.session.buffer = memoryview(bytearray(module.RECORD_BYTES_MAX + 10))
    pair.tls._plain = pair.session.buffer
    pair.give(pair.sealed(b"x" * 40_000))
    assert [len(read) for read in pair.session.reads] == [16_384, 16_384, 7_232]


async def test_a_session_that_ends_in_the_middle_of_a_read_gets_no_more(context: ssl.SSLContext) -> None:
    """It is gone after its part; the rest of the read is dropped."""
    pair = Pair(context).open()
    pair.tls._plain = memoryview(bytearray(module.RECORD_BYTES_MAX))
    pair.session.is_leaving = True
    pair.give(pair.sealed(b"x" * 40_000))
    assert len(pair.session.reads) == 1


async def test_a_connection_is_handed_over_in_the_middle_of_a_read(context: ssl.SSLContext) -> None:
    """The next one gets the rest in its own buffer, and all news from then on; no byte is lost, none comes twice."""
    pair, second = Pair(context).open(), Heard()
    sent = bytes(range(256)) * 240
    first = pair.session
    first.buffer = pair.tls._plain = memoryview(bytearray(module.RECORD_BYTES_MAX + 10))
    first.on_read = lambda: pair.tls.hand_over(second)
    pair.give(pair.sealed(sent))
    assert len(first.reads) == 1
    assert b"".join(first.reads + second.reads) == sent
    pair.tls.pause_writing()
    pair.tls.resume_writing()
    pair.give(pair.goodbye())
    pair.tls.connection_lost(None)
    assert (first.calls, second.calls) == ([], ["pause", "resume", "eof", "lost"])


async def test_large_writes_arrive(context: ssl.SSLContext) -> None:
    """Over many records."""
    pair = Pair(context).open()
    pair.session.transport.write(b"y" * 100_000)
    pair.take()
    read = b""
    while len(read) < 100_000:
        read += pair.client.read(100_000)
    assert read == b"y" * 100_000


async def test_the_other_sides_goodbye_ends_the_connection_in_order(context: ssl.SSLContext) -> None:
    """What came before it is given, the session hears of the end, and this side says goodbye too."""
    pair = Pair(context).open()
    pair.give(pair.sealed(b"last") + pair.goodbye())
    assert (pair.session.reads, pair.session.calls, pair.tcp.calls) == ([b"last"], ["eof"], ["close"])
    pair.take()
    pair.client.unwrap()
    pair.session.transport.write(b"too late")
    assert not pair.tcp.sent


async def test_closing_waits_for_the_other_sides_goodbye(context: ssl.SSLContext) -> None:
    """What was written before is sent; what the other side still says is nobody's."""
    pair = Pair(context).open()
    pair.session.transport.write(b"last")
    pair.session.transport.close()
    pair.session.transport.close()
    assert pair.session.transport.is_closing()
    assert not pair.tcp.calls
    pair.take()
    assert pair.client.read(100) == b"last"
    assert pair.client.read(100) == b""
    pair.client.unwrap()
    pair.give(pair.outgoing.read())
    assert (pair.session.reads, pair.tcp.calls) == ([], ["close"])
    pair.tls.connection_lost(None)
    assert pair.session.calls == ["lost"]


async def test_who_talks_on_after_a_goodbye_is_not_waited_for(context: ssl.SSLContext) -> None:
    """The connection just ends."""
    pair = Pair(context).open()
    late = pair.sealed(b"late")
    pair.session.transport.close()
    pair.give(late)
    assert (pair.session.reads, pair.tcp.calls) == ([], ["close"])


async def test_a_goodbye_that_never_comes_is_waited_for_some_time(
    context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the connection is cut."""
    monkeypatch.setattr(module, "CLOSE_S_MAX", 0.01)
    pair = Pair(context).open()
    pair.session.transport.close()
    await until(lambda: pair.tcp.calls == ["abort"])


async def test_a_changed_record_ends_the_connection(context: ssl.SSLContext) -> None:
    """What was whole before it is given; nothing after."""
    pair = Pair(context).open()
    whole, changed = pair.sealed(b"one"), bytearray(pair.sealed(b"two"))
    changed[-1] ^= 1
    pair.give(whole + changed + pair.sealed(b"three"))
    assert (pair.session.reads, pair.session.calls, pair.tcp.calls) == ([b"one"], ["eof"], ["close"])


async def test_a_stream_that_just_ends_is_told(context: ssl.SSLContext) -> None:
    """Without a goodbye; whether something is missing is the session's to judge."""
    pair = Pair(context).open()
    pair.tls.eof_received()
    pair.tls.connection_lost(None)
    assert pair.session.calls == ["eof", "lost"]


@pytest.mark.parametrize(
    ("said", "is_told"), [(b"GET / HTTP/1.1\r\n\r\n", False), (b"\x16\x03\x01\x00\x05hello", True)]
)
async def test_what_is_no_tls_ends_the_connection(context: ssl.SSLContext, said: bytes, *, is_told: bool) -> None:
    """By an alert where it looks like TLS; the session never hears of it."""
    pair = Pair(context).made()
    pair.give(said)
    assert (len(pair.settled), pair.tcp.calls, pair.tcp.sent[:1] == b"\x15") == (1, ["close"], is_told)
    assert pair.settled[0] not in ("", "lost")
    pair.tls.connection_lost(None)
    assert (len(pair.settled), pair.session.calls) == (1, [])


async def test_a_handshake_has_a_time_limit(context: ssl.SSLContext) -> None:
    """Whoever connects and says nothing."""
    pair = Pair(context, handshake_s=0.01).made()
    await until(lambda: pair.settled == ["timeout"])
    assert pair.tcp.calls == ["close"]


async def test_a_connection_lost_in_the_handshake_is_told_once(context: ssl.SSLContext) -> None:
    """With a name for it; pauses and ends before the handshake reach no session."""
    pair = Pair(context).made()
    pair.tls.pause_writing()
    pair.tls.resume_writing()
    pair.tls.eof_received()
    pair.tls.connection_lost(None)
    assert (pair.settled, pair.session.calls) == (["lost"], [])


async def test_a_connection_given_up_before_it_stands_is_cut_when_it_does(context: ssl.SSLContext) -> None:
    """The socket may come later than the end of the server, or than the time limit."""
    aborted, late = Pair(context), Pair(context, handshake_s=0.0)
    aborted.tls.abort()
    await until(lambda: late.settled == ["timeout"])
    for pair in (aborted, late):
        pair.made()
        assert pair.tcp.calls == ["abort"]
    assert aborted.settled == ["aborted"]


async def test_flow_control_goes_through(context: ssl.SSLContext) -> None:
    """Both ways; reading is not taken up again on a connection that ends."""
    pair = Pair(context).open()
    transport = pair.session.transport
    transport.set_write_buffer_limits(high=10)
    transport.write(b"z")
    assert (pair.tcp.limits["high"], transport.get_write_buffer_size()) == (10, len(pair.tcp.sent))
    pair.tls.pause_writing()
    pair.tls.resume_writing()
    transport.pause_reading()
    transport.resume_reading()
    assert (pair.session.calls, pair.tcp.calls) == (["pause", "resume"], ["pause", "resume"])
    transport.abort()
    transport.resume_reading()
    assert pair.tcp.calls == ["pause", "resume", "abort"]
