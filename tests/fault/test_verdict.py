"""The check finds what it is for: each broken promise, put into a history that is right otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fortress.errors import BooksBroken, NotPrimary, Status, refusal_code
from tests.fault.history import UNKNOWN, Event, History, outages, read
from tests.fault.verdict import Stand, Verdict, judge

REFUSED = refusal_code(Status.exceeds_available)
NAMES = ("first", "second", "third", "fourth", "batch0", "batch1", "hold")
IDS = {name: name.encode().ljust(16, b".") for name in NAMES}


def transfer(history: History, name: str, code: int, position: int = 0, **facts: object) -> None:
    """Ask for a transfer of 7 and note its end."""
    number = history.ask("anybody", "transfer", [IDS[name]], [(1, 2, 7)])
    history.tell(number, code, **({"position": position, "time_us": 10 * position} if not code else {}), **facts)


def write_right(history: History) -> None:
    """A history without fault: three transfers, a batch, a hold and its end, looks at everything."""
    history.write("begin", accounts=2, sum_minor=100)
    transfer(history, "first", 0, 1)
    transfer(history, "second", REFUSED)
    transfer(history, "third", NotPrimary.code)
    transfer(history, "third", UNKNOWN)
    transfer(history, "fourth", NotPrimary.code)
    batch = history.ask("anybody", "transfers", [IDS["batch0"], IDS["batch1"]], [(1, 2, 3), (1, 2, 10**15)])
    history.tell(batch, 0, position=3, time_us=30, statuses=[0, int(Status.exceeds_available)])
    hold = history.ask("anybody", "hold", [IDS["hold"]], [(1, 2, 5)])
    history.tell(hold, 0, position=4, time_us=40)
    post = history.ask("anybody", "post", [IDS["hold"]])
    history.tell(post, 0, position=5, time_us=50)
    transfer(history, "first", 0, 1, replayed=True)
    history.write("read", who="reader", accounts=2, sum_minor=100)
    history.write("count", who="reader", low=3, seen=4, high=4)


def right_stands() -> dict[str, list[Stand]]:
    return {
        IDS["first"].hex(): [Stand("posted", 1, 10, (1, 2, 7))],
        IDS["second"].hex(): [Stand("refused", 2, 20)],
        IDS["batch0"].hex(): [Stand("posted", 3, 30, (1, 2, 3))],
        IDS["hold"].hex(): [Stand("held", 4, 40, (1, 2, 5)), Stand("hold posted", 5, 50, (1, 2, 5))],
    }


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history.jsonl")


def verdict_on(history: History, stands: dict[str, list[Stand]]) -> Verdict:
    history.close()
    return judge(read(history.path), stands)


def test_a_right_history_is_found_right(history: History) -> None:
    """Everything is counted and nothing is found; an unknown order may be there, or not."""
    write_right(history)
    stands = right_stands()
    verdict = verdict_on(history, stands)
    assert verdict.findings == []
    assert (verdict.acknowledged, verdict.refused, verdict.unknown, verdict.nothing) == (4, 2, 1, 1)
    assert (verdict.lost, verdict.doubled, verdict.reads, verdict.counts) == (0, 0, 1, 1)
    stands[IDS["third"].hex()] = [Stand("posted", 6, 60, (1, 2, 7))]
    assert judge(read(history.path), stands).findings == []


STAND_FAULTS: dict[str, Callable[[dict[str, list[Stand]]], object]] = {
    "is not in the journal": lambda stands: stands.pop(IDS["first"].hex()),
    "row .* is not in the journal": lambda stands: stands.pop(IDS["batch0"].hex()),
    "post .* is not in the journal": lambda stands: stands[IDS["hold"].hex()].pop(),
    "was acknowledged at": lambda stands: stands.update({IDS["first"].hex(): [Stand("posted", 9, 10, (1, 2, 7))]}),
    "was to move": lambda stands: stands.update({IDS["first"].hex(): [Stand("posted", 1, 10, (1, 2, 8))]}),
    "row .* was to move": lambda stands: stands.update({IDS["batch0"].hex(): [Stand("posted", 3, 30, (2, 1, 3))]}),
    "was refused with": lambda stands: stands[IDS["second"].hex()].append(Stand("posted", 6, 60, (1, 2, 7))),
    "came to nothing": lambda stands: stands.update({IDS["fourth"].hex(): [Stand("posted", 6, 60, (1, 2, 7))]}),
    "row .* was refused": lambda stands: stands.update({IDS["batch1"].hex(): [Stand("posted", 6, 60)]}),
    "more than once": lambda stands: stands[IDS["first"].hex()].append(Stand("posted", 6, 60, (1, 2, 7))),
    "stands more than once": lambda stands: stands.update(
        {IDS["third"].hex(): [Stand("posted", 6), Stand("posted", 7)]}
    ),
}


@pytest.mark.parametrize("sentence", STAND_FAULTS)
def test_a_journal_that_is_not_as_told_is_found(history: History, sentence: str) -> None:
    """Lost, elsewhere, another amount, done though refused, done twice."""
    write_right(history)
    stands = right_stands()
    STAND_FAULTS[sentence](stands)
    verdict = verdict_on(history, stands)
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError("\n".join(verdict.findings))
    assert bool(verdict.lost) is any(word in sentence for word in ("is not in", "acknowledged at"))
    assert bool(verdict.doubled) is ("more than once" in sentence)


def batch_that_came_to_nothing(history: History) -> None:
    """Told to have come to nothing; one of its rows stands in the journal."""
    history.tell(history.ask("anybody", "transfers", [IDS["third"]], [(1, 2, 7)]), NotPrimary.code)


HISTORY_FAULTS: list[tuple[str, Callable[[History], object]]] = [
    ("was told before it was asked", lambda history: transfer(history, "third", 0, 2)),
    ("was answered .*, later", lambda history: transfer(history, "first", 0, 6, replayed=True)),
    ("was answered .*, later", lambda history: transfer(history, "first", REFUSED)),
    ("should not come", lambda history: transfer(history, "third", BooksBroken.code)),
    ("a batch .* came to nothing", batch_that_came_to_nothing),
    ("add up to 99", lambda history: history.write("read", who="reader", accounts=2, sum_minor=99)),
    ("1 balances", lambda history: history.write("read", who="reader", accounts=1, sum_minor=100)),
    ("is over", lambda history: history.write("count", who="reader", low=4, seen=3, high=9)),
    ("never was", lambda history: history.write("count", who="reader", low=4, seen=10, high=9)),
]


@pytest.mark.parametrize(("sentence", "fault"), HISTORY_FAULTS)
def test_an_answer_that_cannot_be_is_found(history: History, sentence: str, fault: Callable[[History], object]) -> None:
    """Two histories at once, a changed answer, money from nowhere, a stale look."""
    write_right(history)
    fault(history)
    stands = right_stands()
    stands[IDS["third"].hex()] = [Stand("posted", 2, 20, (1, 2, 7))]
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError("\n".join(verdict_on(history, stands).findings))


def test_a_request_that_nobody_waits_for_any_more_is_unknown(history: History) -> None:
    """A client that ends before its answer comes has been told nothing: its order may be there, or not."""
    write_right(history)
    history.ask("anybody", "transfer", [IDS["batch1"]], [(1, 2, 7)])
    stands = right_stands() | {IDS["batch1"].hex(): [Stand("posted", 6, 60, (1, 2, 7))]}
    verdict = judge(list(read(history.path))[-1:], stands)
    assert (verdict.unknown, verdict.nothing, verdict.findings) == (1, 0, [])


def test_many_findings_are_counted_and_few_are_kept(history: History) -> None:
    """A report stays readable when everything is wrong."""
    for _ in range(50):
        history.write("read", who="reader", accounts=1, sum_minor=1)
    verdict = verdict_on(history, {})
    assert (verdict.wrong, len(verdict.findings)) == (50, 20)


def test_an_outage_is_the_longest_pause_around_a_fault() -> None:
    """Answers that still arrive after the fault do not end it; what comes after the next fault does not count."""

    def told(at_s: float, code: int = 0) -> Event:
        return {"do": "tell", "at": round(at_s * 1e6), "code": code}

    def fault(at_s: float, kind: str) -> Event:
        return {"do": "fault", "at": round(at_s * 1e6), "kind": kind, "of": "a"}

    events = [told(0.0), told(0.9), fault(1.0, "kill"), told(1.01), told(1.5, UNKNOWN), told(2.01), told(2.1)]
    assert outages(events) == [("kill", 1.0)]
    events += [fault(3.0, "cut"), told(5.1), told(5.2)]
    assert outages(events) == [("kill", 1.0), ("cut", 3.0)]
    assert outages(events[:2]) == []


def test_a_line_cut_short_is_left_out(history: History) -> None:
    """A test that dies while it writes leaves a history that can be read."""
    write_right(history)
    whole = list(read(history.path))
    history.path.write_bytes(history.path.read_bytes() + b'{"at":12,"do":"te')
    assert list(read(history.path)) == whole
