"""Who may pass: all on a primary that knows it is one, nobody too early, on a standby whoever asked for old reads."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest

from fortress.errors import Busy, FortressError, NoPrimary, NotPrimary
from fortress.protocol.accounts import GetAccount
from fortress.protocol.messages import encode_request
from fortress.protocol.sessions import Hello
from fortress.server import gate as gate_module
from fortress.server.gate import ALWAYS_NS, Gate

OLD_S = 60.0
STALE_MS_MAX = 86_400_000
READ = GetAccount()


@dataclass
class Caller:
    """A session of which only what the gate needs is there."""

    is_open: bool = True
    refused: list[tuple[int, FortressError]] = field(default_factory=list)
    flushes: int = 0

    def flush(self) -> None:
        self.flushes += 1

    def refuse_uncounted(self, request_id: int, error: FortressError) -> None:
        self.refused.append((request_id, error))


class Door:
    """A gate, and what it let through later."""

    def __init__(self) -> None:
        self.dispatched: list[tuple[Caller, bytes]] = []
        self.gate = Gate(lambda session, message: self.dispatched.append((session, message)))

    def ask(self, caller: Caller, request_id: int = 1, request: GetAccount = READ) -> bool:
        """Ask as the dispatcher does once the time is up."""
        return self.gate.passes(caller, "get_account", request, message(request_id, request))

    def waiting(self, *request_ids: int) -> list[Caller]:
        """Let callers wait until it is known who is primary."""
        self.gate.open_until(time.perf_counter_ns())
        callers = [Caller() for _ in request_ids]
        assert not any(self.ask(caller, id) for caller, id in zip(callers, request_ids, strict=True))
        return callers

    def stand_by(self, *, age_s: float = 0.0, position: int = 100) -> None:
        """Be a standby that heard everything so long ago."""
        self.gate.close(NotPrimary("this node is a standby", {"primary": "there:1"}))
        self.gate.fresh_ns = time.perf_counter_ns() - int(age_s * 1e9)
        self.gate.committed_position = position


def message(request_id: int, request: GetAccount = READ) -> bytes:
    return encode_request(request_id, "get_account", request)


def test_a_node_alone_never_closes() -> None:
    """Without a pair nobody says until when, and nothing is old."""
    gate = Door().gate
    assert gate.open_until_ns == ALWAYS_NS > time.perf_counter_ns()
    assert (gate.stale_ms, gate.is_standby) == (0, False)


def test_requests_wait_while_it_is_not_known_who_is_primary() -> None:
    """They go on in the order they came, once, when the other node was heard."""
    door = Door()
    callers = door.waiting(1, 2, 3)
    assert door.dispatched == []
    door.gate.open_until(time.perf_counter_ns() + int(OLD_S * 1e9))
    assert door.dispatched == [(caller, message(id)) for caller, id in zip(callers, (1, 2, 3), strict=True)]
    assert [caller.flushes for caller in callers] == [1, 1, 1]
    door.gate.open_until(time.perf_counter_ns() + int(OLD_S * 1e9))
    assert len(door.dispatched) == 3


def test_a_lease_that_is_over_lets_nobody_through() -> None:
    """Being told a time that is past releases no one: this node was paused for longer than the promise holds."""
    door = Door()
    door.waiting(1)
    door.gate.open_until(time.perf_counter_ns() - 1)
    assert door.dispatched == []


def test_what_waits_is_kept_though_its_buffer_is_used_again() -> None:
    """The message is a window on the read buffer of all sessions."""
    door = Door()
    door.gate.open_until(0)
    buffer = bytearray(message(7))
    assert not door.gate.passes(Caller(), "get_account", READ, memoryview(buffer))  # type of the wire's buffers
    buffer[:] = bytes(len(buffer))
    door.gate.open_until(ALWAYS_NS)
    assert [said for _, said in door.dispatched] == [message(7)]


def test_who_is_gone_is_forgotten() -> None:
    """A session that ended meanwhile is asked nothing any more."""
    door = Door()
    gone, there = door.waiting(1, 2)
    gone.is_open = False
    door.gate.open_until(ALWAYS_NS)
    assert [caller for caller, _ in door.dispatched] == [there]
    assert gone.flushes == 0


def test_stepping_down_sends_the_waiting_back_to_be_refused() -> None:
    """They are dispatched again, and by then the gate says where the primary is."""
    door = Door()
    (caller,) = door.waiting(5)
    door.stand_by()
    assert door.dispatched == [(caller, message(5))]
    with pytest.raises(NotPrimary) as refused:
        door.ask(caller, 5)
    assert refused.value.facts == {"primary": "there:1"}


def test_each_is_refused_with_an_error_of_its_own() -> None:
    """One error raised again and again would gather tracebacks without end."""
    door = Door()
    door.gate.close(NoPrimary())
    found = []
    for id in (1, 2):
        with pytest.raises(NoPrimary) as refused:
            door.ask(Caller(), id)
        found.append(refused.value)
    assert found[0] is not found[1]


def test_waiting_too_long_is_answered_busy() -> None:
    """Nothing can be committed: who waits is told, by the id of the request, and nobody is told twice."""
    door = Door()
    here, gone = door.waiting(8, 9)
    gone.is_open = False
    door.gate.refuse_parked(Busy("nobody answers", {"why": "test"}))
    ((id, error),) = here.refused
    assert (id, type(error), error.facts, here.flushes) == (8, Busy, {"why": "test"}, 1)
    assert gone.refused == []
    door.gate.open_until(ALWAYS_NS)
    assert door.dispatched == []


@pytest.mark.parametrize("is_primary", [True, False])
def test_after_that_nobody_waits_until_it_is_known_who_is_primary(is_primary: bool) -> None:
    """Whoever comes is told at once; an end of the time that has passed already changes nothing."""
    door = Door()
    door.waiting()
    door.gate.refuse_parked(Busy("nobody answers", {"why": "test"}))
    for id in (1, 2):
        with pytest.raises(Busy) as refused:
            door.ask(Caller(), id)
        assert refused.value.facts == {"why": "test"}
        door.gate.open_until(time.perf_counter_ns())
    if is_primary:
        door.gate.open_until(time.perf_counter_ns() + int(OLD_S * 1e9))
    else:
        door.stand_by()
    door.waiting(3)


def test_only_so_much_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large requests are fewer; once they have gone on there is room again."""
    monkeypatch.setattr(gate_module, "PARKED_BYTES_MAX", 2 * len(message(1)))
    door = Door()
    for _ in range(2):
        door.waiting(1, 2)
        with pytest.raises(Busy):
            door.ask(Caller(), 3)
        door.gate.open_until(ALWAYS_NS)


def test_only_so_many_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is told that it is too much; those who wait go on waiting."""
    monkeypatch.setattr(gate_module, "PARKED_MAX", 2)
    door = Door()
    door.waiting(1, 2)
    with pytest.raises(Busy):
        door.ask(Caller(), 3)
    door.gate.open_until(ALWAYS_NS)
    assert [said for _, said in door.dispatched] == [message(1), message(2)]


@pytest.mark.parametrize("operation", ["hello", "status"])
def test_every_node_says_who_it_is(operation: str) -> None:
    """Whoever looks for the primary, or at the node, is answered at any time."""
    door = Door()
    for prepare in (lambda: door.gate.open_until(0), door.stand_by):
        prepare()
        assert door.gate.passes(Caller(), operation, Hello([1]), b"")
    assert door.dispatched == []


@pytest.mark.parametrize(
    ("age_s", "stale_ms_max", "is_answered"),
    [(0.0, 0, False), (0.0, 10_000, True), (5.0, 10_000, True), (5.0, 2_000, False)],
    ids=["nobody asked for old", "young", "old but enough", "too old"],
)
def test_a_standby_reads_only_for_who_takes_old_answers(age_s: float, stale_ms_max: int, is_answered: bool) -> None:
    """And only as old as that one takes."""
    door = Door()
    door.stand_by(age_s=age_s)
    request = GetAccount(stale_ms_max=stale_ms_max)
    if is_answered:
        assert door.ask(Caller(), request=request)
    else:
        with pytest.raises(NotPrimary):
            door.ask(Caller(), request=request)


def test_a_standby_that_never_heard_of_a_primary_answers_nothing() -> None:
    """Without anything known to be fresh no age is small enough that anyone may ask for."""
    door = Door()
    door.gate.close(NoPrimary())
    door.gate.committed_position = 100
    with pytest.raises(NoPrimary):
        door.ask(Caller(), request=GetAccount(stale_ms_max=STALE_MS_MAX))


@pytest.mark.parametrize(("position", "is_answered"), [(99, True), (100, True), (101, False)])
def test_a_standby_shows_nobody_less_than_they_have_seen(position: int, is_answered: bool) -> None:
    """Who names a position that is not committed here is sent to the primary."""
    door = Door()
    door.stand_by(position=100)
    request = GetAccount(stale_ms_max=10_000, min_position=position)
    if is_answered:
        assert door.ask(Caller(), request=request)
    else:
        with pytest.raises(NotPrimary):
            door.ask(Caller(), request=request)


def test_answers_of_a_standby_always_say_that_they_are_old() -> None:
    """At least a millisecond, and as long as it heard nothing; a primary's say zero."""
    door = Door()
    door.stand_by()
    assert door.gate.stale_ms >= 1
    door.stand_by(age_s=3)
    assert 3_000 <= door.gate.stale_ms < 3_000 + OLD_S * 1000
    door.gate.open_until(ALWAYS_NS)
    assert door.gate.stale_ms == 0
    assert not door.gate.is_standby
