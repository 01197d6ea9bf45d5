"""Output: data and talk are kept apart, tables fit their place, nothing moves off a terminal."""

from __future__ import annotations

import io
import json
import sys

import pytest

from fortress.cli.command import Call
from fortress.cli.output import Fields, LiveLine, Table, detail, say, show

TABLE = Table(columns=("Name", ">Sum"), rows=[("alice", "12.50 EUR"), ("bo[b]", "1.00 EUR")], title="All", empty="none")


class Terminal(io.StringIO):
    """Text that claims to be shown on a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_table_is_plain_columns_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Headings, then rows, numbers at the right, and rich stays unloaded."""
    show(Call(), None, TABLE)
    assert capsys.readouterr().out.splitlines() == [
        "All",
        "Name         Sum",
        "alice  12.50 EUR",
        "bo[b]   1.00 EUR",
    ]


def test_a_table_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets in a value are no markup."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    show(Call(color=False), None, TABLE)
    assert "bo[b]" in terminal.getvalue() and "─" in terminal.getvalue()


def test_json_is_one_document_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """One line through a pipe; no view is shown beside it."""
    show(Call(json=True), {"a": [1, None]}, TABLE)
    assert json.loads(capsys.readouterr().out) == {"a": [1, None]}


def test_json_is_indented_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """People read it there."""
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    show(Call(json=True), {"a": 1})
    assert terminal.getvalue() == '{\n  "a": 1\n}\n'


def test_an_empty_table_is_a_sentence_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that counts lines counts none."""
    show(Call(), [], Table(columns=("Name",), rows=[], empty="no accounts yet"))
    assert capsys.readouterr() == ("", "no accounts yet\n")


def test_fields_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """Names in one column, values in the other."""
    show(Call(), None, Fields(title="t", pairs=[("A", "1"), ("Long", "")]), "end")
    assert capsys.readouterr().out == "t\nA     1\nLong\nend\n"


def test_talk_is_silent_when_it_should_be(capsys: pytest.CaptureFixture[str]) -> None:
    """Quiet silences talk; details are for who asks."""
    say(Call(quiet=True), "a")
    detail(Call(), "b")
    say(Call(), "c")
    detail(Call(verbose=True), "d")
    assert capsys.readouterr() == ("", "c\nd\n")


def test_a_live_line_moves_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written over in place, taken away at the end; elsewhere not a byte."""
    line = LiveLine(Call())
    line.update("x")
    line.close()
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("COLUMNS", "5")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    line = LiveLine(Call())
    line.update("123456789")
    line.close()
    line.close()
    assert terminal.getvalue() == "\r\x1b[K1234\r\x1b[K"
