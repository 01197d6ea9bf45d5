"""``simulate``: who takes part, and how its result is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fortress.cli.command import Call
from fortress.cli.simulation import read_customers, result_json, show_result
from fortress.client.simulator import Check, SimulationResult, StepResult
from fortress.errors import UsageError

RESULT = SimulationResult(
    clients=2,
    rounds=1,
    elapsed_s=0.5,
    steps=(StepResult("sign in", 2, 2, 0, 0, 1.0, 2.0, 2.0), StepResult("transfer", 2, 1, 0, 1, 3.0, 4.0, 4.0)),
    checks=(Check("everybody signed in", True, "2 of 2"), Check("every answer was the right one", False, "1 errors")),
    errors={"the amount is over what is available": 1},
)


def test_customers_are_read_from_lines(tmp_path: Path) -> None:
    """With a password or a seed; empty lines do not count."""
    file = tmp_path / "customers"
    file.write_text('{"username": "alice", "password": "p"}\n\n{"username": "svc", "seed": "' + "ab" * 32 + '"}\n')
    alice, service = read_customers(file)
    assert (alice.username, alice.password, alice.seed) == ("alice", "p", b"")
    assert service.seed == b"\xab" * 32
    assert "'p'" not in repr(alice)


@pytest.mark.parametrize("text", ["alice", '{"password": "p"}', '{"username": "a", "seed": "x"}', "[]"])
def test_a_line_that_is_no_customer_is_told(tmp_path: Path, text: str) -> None:
    """By its number, not by what is in it."""
    file = tmp_path / "customers"
    file.write_text('{"username": "alice", "password": "p"}\n' + text + "\n")
    with pytest.raises(UsageError, match="line 2"):
        read_customers(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_customers(tmp_path / "none")


def test_the_result_is_a_table_of_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """With counts, quantiles, checks and errors."""
    show_result(Call(), RESULT)
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[:5] == ["Step", "Count", "Ok", "Refused", "Errors"]
    assert "FAILED" in out and "over what is available" in out and "2 tasks a second" in out


def test_the_result_is_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """The same numbers."""
    show_result(Call(json=True), RESULT)
    document = json.loads(capsys.readouterr().out)
    assert document == result_json(RESULT)
    assert (document["passed"], document["tasks_per_s"], document["steps"][1]["errors"]) == (False, 2.0, 1)
