"""Tests of one connection: requests and answers, deadlines, limits, and all the ways it can end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import msgspec
import pytest
import pytest_asyncio

from fortress.client import link as links
from fortress.client.attempts import AGAIN
from fortress.client.link import OUTSTANDING_MAX, Link, open_link
from fortress.client.trust import Trust
from fortress.errors import (
    Busy,
    DeadlinePassed,
    FortressError,
    HandshakeFailed,
    MessageInvalid,
    MessageTooLarge,
    NoPrimary,
    NotPrimary,
    NotSignedIn,
    OutcomeUnknown,
    ServerNotTrusted,
    UnknownOperation,
    Unreachable,
)
from fortress.protocol.accounts import Profile, SetProfile
from fortress.protocol.administration import StatusRequest
from fortress.protocol.routes import Notice, Route
from fortress.protocol.sessions import Whoami
from tests.client.fake_bank import BANK, Credentials, FakeNode

STATUS = StatusRequest()


@pytest_asyncio.fixture
async def link(node: FakeNode) -> AsyncIterator[Link]:
    """An open connection, not signed in."""
    link = await open_link(("127.0.0.1", node.port), BANK, Trust(node.credentials.ca), agent="test")
    yield link
    await link.close()


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node is gone after a moment."""
    monkeypatch.setattr(links, "SILENCE_S", 0.15)


async def test_a_link_says_hello_and_asks(link: Link, node: FakeNode) -> None:
    """The first request is hello; answers come as their types."""
    assert node.asked == ["hello"]
    assert link.hello is not None
    assert link.hello.bank == BANK
    assert (await link.request("status", STATUS, 1.0)).role == "primary"
    assert link.outstanding == 0


async def test_many_requests_of_one_turn_share_a_frame(link: Link, node: FakeNode) -> None:
    """What is asked in one turn of the loop arrives together, and every one is answered."""
    sealer = link._connection._sealer
    assert sealer is not None
    frames = sealer.nonce
    answers = await asyncio.gather(*(link.request("status", STATUS, 2.0) for _ in range(100)))
    assert len(answers) == 100
    assert sealer.nonce == frames + 1


async def test_submit_calls_back_with_code_and_raw_fields(link: Link) -> None:
    """The face for load generators needs no futures of its own."""
    done = asyncio.get_running_loop().create_future()
    link.submit("status", STATUS, lambda code, raw: done.set_result((code, bytes(raw))))
    code, raw = await done
    assert code == 0
    assert msgspec.msgpack.decode(raw)["bank"] == BANK


async def test_requests_made_while_answers_are_read_go_out_at_once(link: Link) -> None:
    """A callback may ask again, over and over."""
    done = asyncio.get_running_loop().create_future()
    left = 200

    def on_answer(code: int, raw: msgspec.Raw) -> None:
        nonlocal left
        left -= 1
        if left > 10:
            link.submit("status", STATUS, on_answer)
        elif left == 0:
            done.set_result(None)

    for _ in range(11):
        link.submit("status", STATUS, on_answer)
    await asyncio.wait_for(done, 10)


async def test_a_refusal_is_an_error_of_its_class(link: Link) -> None:
    """The connection goes on after it."""
    with pytest.raises(NotSignedIn):
        await link.request("whoami", Whoami(), 1.0)
    with pytest.raises(UnknownOperation, match="make_me_rich"):
        await link.request("make_me_rich", STATUS, 1.0)
    with pytest.raises(MessageInvalid) as caught:
        await link.request("set_profile", SetProfile(Profile(name="a\nb")), 1.0)
    assert caught.value.facts["field"] == "profile.name"
    assert link.is_usable


async def test_an_answer_that_does_not_come_has_an_end(link: Link, node: FakeNode) -> None:
    """The one timer serves requests with different deadlines; the others go on."""
    node.faults["status"] = ["silent", "silent"]
    loop = asyncio.get_running_loop()
    started = loop.time()
    slow = asyncio.create_task(link.request("status", STATUS, 0.2))
    await asyncio.sleep(0)
    with pytest.raises(DeadlinePassed):
        await link.request("status", STATUS, 0.05)
    assert loop.time() - started < 0.2
    with pytest.raises(DeadlinePassed):
        await slow
    assert (await link.request("status", STATUS, 1.0)).bank == BANK


async def test_a_cut_leaves_the_outcome_unknown(link: Link, node: FakeNode) -> None:
    """Everything outstanding is told; new requests are told that nothing was sent."""
    node.faults["status"] = ["silent", "silent", "cut_before"]
    results = await asyncio.gather(*(link.request("status", STATUS, 5.0) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [OutcomeUnknown] * 3
    assert not link.is_usable
    with pytest.raises(Unreachable):
        await link.request("status", STATUS, 1.0)


async def test_an_end_in_order_is_taken_in_order(link: Link, node: FakeNode) -> None:
    """When the bank closes, the link closes too."""
    lost = asyncio.Event()
    link.on_lost = lost.set
    for session in list(node.sessions):
        session.close_in_order()
    await asyncio.wait_for(lost.wait(), 5)
    assert not link.is_usable


async def test_a_retired_link_finishes_what_it_has(link: Link, node: FakeNode) -> None:
    """No new requests, but the outstanding one is answered before the end."""
    lost = asyncio.Event()
    link.on_lost = lost.set
    request = asyncio.create_task(link.request("status", STATUS, 5.0))
    await asyncio.sleep(0)
    link.retire()
    assert not link.is_usable
    assert (await request).bank == BANK
    await asyncio.wait_for(lost.wait(), 5)


async def test_a_retired_link_without_work_ends_at_once(link: Link) -> None:
    """There is nothing to wait for."""
    lost = asyncio.Event()
    link.on_lost = lost.set
    link.retire()
    await asyncio.wait_for(lost.wait(), 5)


async def test_too_many_outstanding_requests_are_refused_or_wait(link: Link, node: FakeNode) -> None:
    """`submit` refuses at once, `request` waits for room until its deadline."""
    node.faults["status"] = ["silent"] * OUTSTANDING_MAX
    waiting = [asyncio.create_task(link.request("status", STATUS, 0.5)) for _ in range(OUTSTANDING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        link.submit("status", STATUS, lambda code, raw: None)
    with pytest.raises(Busy):
        await link.request("status", STATUS, 0.05)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {DeadlinePassed}
    assert (await link.request("status", STATUS, 1.0)).bank == BANK


async def test_a_reader_that_is_too_slow_is_noticed(link: Link) -> None:
    """While the other side does not read, nothing more is queued."""
    link.pause_writing()
    with pytest.raises(Busy):
        link.submit("status", STATUS, lambda code, raw: None)
    link.resume_writing()
    assert (await link.request("status", STATUS, 1.0)).bank == BANK


async def test_a_request_that_is_too_large_is_never_sent(link: Link) -> None:
    """Before the login a message has 64 KiB at most; the link goes on."""
    with pytest.raises(MessageTooLarge):
        await link.request("set_profile", SetProfile(Profile(address="x" * 70_000)), 1.0)
    assert (await link.request("status", STATUS, 1.0)).bank == BANK


async def test_a_cancelled_request_disturbs_nobody(link: Link) -> None:
    """Its answer finds nobody, and the next request its own."""
    request = asyncio.create_task(link.request("status", STATUS, 1.0))
    await asyncio.sleep(0)
    request.cancel()
    assert (await link.request("status", STATUS, 1.0)).bank == BANK


async def test_garbage_from_the_bank_ends_the_link(link: Link, node: FakeNode) -> None:
    """A sealed message that is no answer, and bytes that do not open."""
    session = next(iter(node.sessions))
    node.faults["status"] = ["silent"]
    request = asyncio.create_task(link.request("status", STATUS, 5.0))
    await asyncio.sleep(0)
    session.connection.send_message(b"\xc1")
    session.flush()
    with pytest.raises(OutcomeUnknown):
        await request
    assert isinstance(link.fault, MessageInvalid)


async def test_a_changed_frame_ends_the_link(link: Link, node: FakeNode) -> None:
    """What does not open is not believed."""
    lost = asyncio.Event()
    link.on_lost = lost.set
    next(iter(node.sessions)).transport.write(b"\x00\x20" + bytes(32))
    await asyncio.wait_for(lost.wait(), 5)
    assert link.fault is not None
    assert link.fault.code == 4002


async def test_closing_tells_what_is_outstanding(link: Link, node: FakeNode) -> None:
    """Nobody waits for ever; closing twice is fine."""
    node.faults["status"] = ["silent"]
    request = asyncio.create_task(link.request("status", STATUS, 5.0))
    await asyncio.sleep(0)
    await link.close()
    await link.close()
    with pytest.raises(OutcomeUnknown):
        await request


async def test_a_login_that_takes_too_long_ends_the_link(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline of the login is the connection's own, and the link's one timer keeps it."""
    later = link._connection.next_deadline()
    assert later is not None
    monkeypatch.setattr(link, "_loop", type("Later", (), {"time": lambda self: later})())
    link._on_alarm()
    assert isinstance(link.fault, HandshakeFailed)


async def test_a_node_that_stops_is_found_out(short_silence: None, link: Link, node: FakeNode) -> None:
    """Nothing comes, it is asked for a sign of life, that does not come either: what is outstanding is lost."""
    await node.stall()
    with pytest.raises(OutcomeUnknown):
        await link.request("whoami", Whoami(), 10.0)
    assert link.is_silent
    assert "silent" in str(link.fault)


async def test_a_request_that_takes_long_is_not_silence(short_silence: None, link: Link, node: FakeNode) -> None:
    """The node lives, as it says when asked; the request has its own time."""
    node.faults["whoami"] = ["silent"]
    with pytest.raises(DeadlinePassed):
        await link.request("whoami", Whoami(), 0.4)
    assert node.asked.count("status") >= 2
    assert link.is_usable
    async with asyncio.timeout(5):  # the signs of life that it was asked for meanwhile
        while link.outstanding:
            await asyncio.sleep(0.01)


async def test_a_link_without_work_is_not_watched(short_silence: None, link: Link, node: FakeNode) -> None:
    """Silence is normal where nothing was asked."""
    assert (await link.request("status", STATUS, 1.0)).bank == BANK
    async with asyncio.timeout(5):
        while link._silence.timer is not None:
            await asyncio.sleep(0.005)
    assert node.asked.count("status") == 1


async def test_a_full_link_is_silent_too(short_silence: None, link: Link, node: FakeNode) -> None:
    """There is no room to ask, and so much is outstanding that something should come."""
    await node.stall()
    waiting = asyncio.create_task(link.request("whoami", Whoami(), 10.0))
    await asyncio.sleep(0)
    link.pause_writing()
    with pytest.raises(OutcomeUnknown):
        await waiting


async def test_a_retired_link_whose_last_request_is_late_ends(link: Link, node: FakeNode) -> None:
    """Nobody waits on it any more."""
    node.faults["whoami"] = ["silent"]
    request = asyncio.create_task(link.request("whoami", Whoami(), 0.05))
    await asyncio.sleep(0)
    link.retire()
    with pytest.raises(DeadlinePassed):
        await request
    async with asyncio.timeout(5):
        while not link.is_over:
            await asyncio.sleep(0.005)


# --- opening --------------------------------------------------------------------------------------------------------


async def test_nobody_there_is_unreachable(credentials: Credentials) -> None:
    """A closed port is told with its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unreachable, match=f"127.0.0.1:{port}"):
        await open_link(("127.0.0.1", port), BANK, Trust(credentials.ca))


async def test_silence_is_unreachable(credentials: Credentials) -> None:
    """One who accepts and says nothing costs the time allowed and no more."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(Unreachable, match="does not answer"):
            await open_link(silent.getsockname(), BANK, Trust(credentials.ca), timeout_s=0.1)


async def test_one_who_does_not_speak_tls_is_unreachable(credentials: Credentials) -> None:
    """A web server without TLS, for instance."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read(100)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        with pytest.raises(Unreachable):
            await open_link(server.sockets[0].getsockname(), BANK, Trust(credentials.ca), timeout_s=2.0)


async def test_another_authority_is_not_trusted(node: FakeNode, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The TLS certificate of somebody else's authority ends the try, and says why."""
    other = Credentials.make(tmp_path_factory.mktemp("other"))
    with pytest.raises(ServerNotTrusted, match="not trusted"):
        await open_link(("127.0.0.1", node.port), BANK, Trust(other.ca))


async def test_another_bank_is_not_trusted(node: FakeNode) -> None:
    """Where no way leads to the bank asked for, that is said; the flags are for whoever knows one."""
    with pytest.raises(HandshakeFailed, match="no way to a bank 'b'"):
        await open_link(("127.0.0.1", node.port), "b", Trust(node.credentials.ca), flags="any")
    assert node.routes == [Route("b", "any")]


@pytest.mark.parametrize(
    ("notice", "error"), [(Notice.bank_down, NoPrimary), (Notice.full, Busy), (Notice.standby, NotPrimary)]
)
async def test_a_way_that_is_closed_now_may_be_tried_again(
    node: FakeNode, notice: Notice, error: type[FortressError]
) -> None:
    """The errors are such as a client tries again after."""
    node.notices = [notice]
    with pytest.raises(error) as refused:
        await open_link(("127.0.0.1", node.port), "b", Trust(node.credentials.ca))
    assert refused.value.facts == {"bank": "b"}
    assert isinstance(refused.value, AGAIN)


async def test_who_waits_in_vain_hears_for_whom(node: FakeNode) -> None:
    """Not that nobody answers: somebody does, and waits for the bank."""
    node.notices = [Notice.waiting]
    with pytest.raises(NoPrimary, match="in time"):
        await open_link(("127.0.0.1", node.port), "b", Trust(node.credentials.ca), timeout_s=0.5)


async def test_the_path_may_have_an_authority_of_its_own(
    node: FakeNode, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It is good for TLS alone: the bank inside must still be the bank's."""
    path = Credentials.make(tmp_path_factory.mktemp("path"), "gateway")
    proxy = await asyncio.start_server(carry_to(node), "127.0.0.1", 0, ssl=path.tls)
    endpoint = proxy.sockets[0].getsockname()
    async with proxy:
        link = await open_link(endpoint, BANK, Trust(node.credentials.ca, path_ca=path.ca))
        await link.close()
        with pytest.raises(ServerNotTrusted, match="not trusted"):
            await open_link(endpoint, BANK, Trust(node.credentials.ca))
        with pytest.raises(ServerNotTrusted):
            await open_link(endpoint, BANK, Trust(path.ca, path_ca=path.ca))


def carry_to(node: FakeNode) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """End TLS and begin it anew towards a node, as a load balancer does."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = Trust(node.credentials.ca).tls
        onward, back = await asyncio.open_connection("127.0.0.1", node.port, ssl=tls)
        await asyncio.gather(pipe(reader, back), pipe(onward, writer))

    return carry


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


async def test_a_missing_pin_is_not_trusted(node: FakeNode) -> None:
    """Whoever pins a fingerprint gets that bank or none."""
    with pytest.raises(ServerNotTrusted, match="pinned"):
        await open_link(("127.0.0.1", node.port), BANK, Trust(node.credentials.ca, "00" * 32))


async def test_a_cut_before_hello_is_unreachable(node: FakeNode) -> None:
    """A node that goes down in the middle may be tried again."""
    node.faults["hello"] = ["cut_before"]
    with pytest.raises(Unreachable):
        await open_link(("127.0.0.1", node.port), BANK, Trust(node.credentials.ca))
