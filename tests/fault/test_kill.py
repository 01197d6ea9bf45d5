"""kill -9 in the middle of load: nothing acknowledged is lost, nothing refused is done, nothing is done twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fortress.errors import Status, refusal_code
from fortress.protocol.money import Transfer, TransferAnswer, TransfersAnswer
from tests.fault import kill
from tests.fault.orders import Customer, Model, Order

KILLS_IN_CI = 4
KILLS = 50


def check(report: kill.Report, kills: int) -> None:
    """Every promise was kept, and there was something to keep."""
    assert report.faults == []
    assert report.kills == kills
    assert report.counts["acknowledged"] > 100 * kills
    assert report.counts["refused"] > 10 * kills
    assert report.counts["settled"] > 100
    assert min(report.counts[f"{each} done"] for each in ("transfer", "hold", "post", "void")) > kills
    assert report.entries_read > report.counts["acknowledged"]


@pytest.mark.timeout(120)
def test_a_node_killed_under_load_keeps_every_promise() -> None:
    """Acknowledged orders are there once, refused ones are not, unknown ones are done at most once by repeating."""
    check(kill.run(KILLS_IN_CI, seed=2, moments=("load", "rebuild", "early", "load")), KILLS_IN_CI)


@pytest.mark.fault
@pytest.mark.timeout(1500)
def test_a_node_killed_fifty_times_in_a_row_keeps_every_promise() -> None:
    """The same over a long life, at moments chosen at random."""
    check(kill.run(KILLS, seed=random.SystemRandom().randrange(10**6)), KILLS)


# --- the test can fail ----------------------------------------------------------------------------------------------


@pytest.fixture
def audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> kill.KillRun:
    """A run whose bank is never started: only its journal is looked at, with the model as the test has it."""
    made = kill.KillRun(tmp_path, 1)
    monkeypatch.setattr(kill, "run_cli", lambda *arguments: type("Done", (), {"returncode": 0, "stderr": ""}))
    made.audit()
    return made


def note(model: Model, code: int, id: bytes) -> None:
    fields = Transfer(id, 1, 2, 3, "EUR")
    model.note(Order("transfer", fields, code, TransferAnswer(5, 6, 7) if code == 0 else None))


def test_a_lost_transfer_is_found(audited: kill.KillRun) -> None:
    """An acknowledged id that is not in the journal ends the run."""
    note(audited.model, 0, b"acknowledged-id.")
    with pytest.raises(kill.Broken, match="stands 0 times"):
        audited.audit()


def test_a_transfer_at_another_place_is_found(audited: kill.KillRun) -> None:
    """An acknowledged id that stands elsewhere in the journal ends the run."""
    id = next(id for id, rows in audited.stands.items() if rows[0][0] == "posted")
    note(audited.model, 0, id)
    with pytest.raises(kill.Broken, match="was acknowledged at"):
        audited.audit()


def test_a_refused_transfer_that_was_done_is_found(audited: kill.KillRun) -> None:
    """A refused id that was executed ends the run."""
    note(audited.model, refusal_code(Status.exceeds_available), next(iter(audited.stands)))
    with pytest.raises(kill.Broken, match="refused and executed"):
        audited.audit()


def test_a_doubled_transfer_is_found(audited: kill.KillRun) -> None:
    """An id that stands twice in the journal ends the run."""
    rows = next(rows for rows in audited.stands.values() if rows[0][0] == "posted")
    rows.append(rows[0])
    with pytest.raises(kill.Broken, match="more than once"):
        audited.audit()


def test_the_model_follows_holds_and_batches() -> None:
    """What accounts must show adds up to nothing moved, whatever customers do."""
    model = Model(1000)
    customer = Customer([11, 12, 13], [11, 12, 13, 14], random.Random(1))
    for position in range(1, 2000):
        order = customer.next_order()
        is_batch = order.operation == "transfers"
        order.code = 0
        order.answer = (
            TransfersAnswer([0] * len(order.ids), position, 1) if is_batch else TransferAnswer(position, 1, 0)
        )
        model.note(order)
        customer.note(order)
    shown = model.accounts.values()
    assert sum(account.balance for account in shown) == 1000 * len(model.accounts)
    assert sum(account.held for account in shown) == sum(account.incoming for account in shown) >= 0
