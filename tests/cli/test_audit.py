"""``audit``: the books added up, the trail read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fortress.cli.folders import make_folder
from fortress.ledger.keyring import Keyring, read_kek
from tests.cli.conftest import FakeBank
from tests.cli.test_verification import fill, ledger

Tell = Callable[..., Any]


def test_books_that_add_up_are_told(bank: FakeBank, tell: Tell) -> None:
    """Exit code 0."""
    code, out, err = tell("audit", "balance")
    assert code == 0 and "5.00 EUR" in out and "every sum is zero" in err


def test_books_that_do_not_add_up_fail(bank: FakeBank, tell: Tell) -> None:
    """Exit code 7."""
    bank.imbalance = 1
    code, out, _ = tell("audit", "balance", "--json")
    assert code == 7 and out[0]["sum"]["minor"] == "1"


def test_the_trail_is_read_page_by_page(bank: FakeBank, tell: Tell) -> None:
    """As far as wanted."""
    assert [row["position"] for row in tell("audit", "trail", "--json")[1]] == [9, 5]
    assert [row["position"] for row in tell("audit", "trail", "--limit", "1", "--json")[1]] == [9]
    assert "until unlocked" in tell("audit", "trail")[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a bank that has run."""
    path = tmp_path / "bank-a"
    make_folder(path, bank="a", node="node-1", administrators=[])
    kek = read_kek(key_file=path / "keys" / "node.key", key_command="", environment={})
    with ledger(path, Keyring.open(path / "keyring", kek)) as engine:
        fill(engine)
    return path


def test_a_folder_is_verified_offline(tell: Tell, folder: Path) -> None:
    """Without a node, a context or a network."""
    code, out, _ = tell("audit", "verify", str(folder), "--json")
    assert code == 0 and out["whole"] and out["entries"] == 15
    assert "The ledger of a is whole." in tell("audit", "verify", "--config", str(folder))[1]


def test_a_damaged_journal_fails_the_check(tell: Tell, folder: Path) -> None:
    """One byte in the middle is enough; exit code 7, and nothing was mended."""
    (segment,) = (folder / "journal").glob("*.seg")
    content = bytearray(segment.read_bytes())
    content[3 * 4096 + 100] ^= 1
    segment.write_bytes(content)
    code, out, err = tell("audit", "verify", str(folder))
    assert (code, out) == (7, "") and "FT-5001" in err
    assert segment.read_bytes() == content


def test_a_folder_without_a_bank_is_wrong_usage(tell: Tell, tmp_path: Path) -> None:
    """There is nothing to verify."""
    assert tell("audit", "verify", str(tmp_path))[0] == 2
