"""The log of events is bounded, readable at any time, and says what happened in sentences."""

from __future__ import annotations

import ast
import logging
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import fortress
from fortress.pair.chronicle import NAME, OLD_NAME, SENTENCES, Chronicle, Happening, read, sentence

LOGGED_ONLY = {"phase"}
BY_OPERATORS = {"forced", "rejoined"}
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def chronicle(tmp_path: Path) -> Chronicle:
    return Chronicle(tmp_path, "node-1", now=lambda: NOON, bytes_max=1000)


def happening(name: str, **facts: str | int) -> Happening:
    return Happening(time=NOON, node="node-1", epoch=3, name=name, facts=facts)


def test_what_happened_can_be_read(chronicle: Chronicle, tmp_path: Path) -> None:
    """In order, with time, node and epoch; only the owner reads it."""
    assert read(tmp_path) == ()
    chronicle.write("takeover", epoch=3, facts={"silent_ms": 310})
    chronicle.write("rested")
    first, second = read(tmp_path)
    assert first == happening("takeover", silent_ms=310)
    assert (second.name, second.epoch, second.facts) == ("rested", 0, {})
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_it_never_grows_past_two_files(chronicle: Chronicle, tmp_path: Path) -> None:
    """The oldest events go; the newest are there without a gap."""
    for number in range(100):
        chronicle.write("step", facts={"number": number, "text": "x" * 100})
    assert {path.name for path in tmp_path.iterdir()} == {NAME, OLD_NAME}
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    numbers = [each.facts["number"] for each in read(tmp_path)]
    assert numbers == list(range(100 - len(numbers), 100)) and len(numbers) > 4
    assert [each.facts["number"] for each in read(tmp_path, limit=2)] == [98, 99]


def test_the_same_again_is_written_once(tmp_path: Path) -> None:
    """Until a while has passed, or something else happened."""
    now = [NOON]
    chronicle = Chronicle(tmp_path, "node-1", now=lambda: now[0])
    for _ in range(10):
        chronicle.write("blocked", facts={"reason": "two_copies"})
        now[0] += timedelta(minutes=1)
    chronicle.write("superseded")
    chronicle.write("blocked", facts={"reason": "two_copies"})
    assert [each.name for each in read(tmp_path)] == ["blocked", "blocked", "superseded", "blocked"]


def test_another_writer_is_no_hindrance(chronicle: Chronicle, tmp_path: Path) -> None:
    """A node that starts anew goes on where it was."""
    chronicle.write("one")
    Chronicle(tmp_path, "node-1").write("two")
    assert [each.name for each in read(tmp_path)] == ["one", "two"]


def test_a_torn_line_is_skipped(chronicle: Chronicle, tmp_path: Path) -> None:
    """What a power cut left costs one event."""
    chronicle.write("one")
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'{"time": "2026-\n\xff\xfe\n[]\n')
    chronicle.write("two")
    assert [each.name for each in read(tmp_path)] == ["one", "two"]


def test_long_facts_are_cut(tmp_path: Path) -> None:
    """A reason that a peer gave cannot fill the log."""
    Chronicle(tmp_path, "n").write("x", facts={f"f{number}": "y" * 10_000 for number in range(100)})
    (found,) = read(tmp_path)
    assert len(found.facts) == 16 and all(len(str(value)) == 500 for value in found.facts.values())


def test_a_file_that_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And nothing else happens."""
    with caplog.at_level(logging.WARNING, "fortress.pair.chronicle"):
        Chronicle(tmp_path / "none", "node-1").write("takeover")
    assert "event not written" in caplog.text


def test_events_are_told_in_sentences() -> None:
    """With their facts; a missing one is a question mark, or what needs it is left out."""
    assert sentence(happening("takeover", silent_ms=310)).endswith(
        "primary; nothing had been heard of the other node for 310 ms"
    )
    assert sentence(happening("takeover")) == "took over as primary"
    assert sentence(happening("restarting")) == "starts anew: ?"


def test_an_unknown_event_is_told_too() -> None:
    """As by a later version."""
    assert sentence(happening("sun_rose", at=6)) == "sun rose (at 6)"
    assert sentence(happening("sun_rose")) == "sun rose"


@pytest.mark.parametrize("name", SENTENCES)
def test_every_sentence_can_be_said(name: str) -> None:
    """No brace is left open, none of the facts' names is odd."""
    assert sentence(happening(name))


def told_names() -> set[str]:
    """Read from the code which events the pair and the node tell, and by what names it changes the register."""
    root = Path(fortress.__file__).parent
    found = set()
    for path in (*(root / "pair").glob("*.py"), root / "server" / "pairing.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                place = {"tell": slice(0, 2), "swap": slice(1, 2)}.get(called.lstrip("_"), slice(0))
                names = [each.value for each in node.args[place] if isinstance(each, ast.Constant)]
                found |= {name for name in names if isinstance(name, str) and re.fullmatch("[a-z_]+", name)}
    return found


def test_every_event_that_is_told_has_a_sentence() -> None:
    """And no sentence is for an event that nobody tells."""
    assert told_names() - LOGGED_ONLY | BY_OPERATORS == set(SENTENCES)
