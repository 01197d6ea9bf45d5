"""Folders that are not as they should be: the node refuses to start and says what to do, or mends what it can."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fortress.ledger.keyring import create_kek
from fortress.ledger.segment import BLOCK_SIZE_BYTES
from fortress.protocol.accounts import GetAccount
from fortress.protocol.reading import GetTransfer
from tests.e2e.node import Node, numbers_of, run_cli
from tests.fault.conftest import BATCHES, OPENING_MINOR, ROWS, History

USAGE, INTEGRITY = 2, 7
LONG = pytest.mark.fault
"""For variants that are tried by `make fault` only: each starts a node or two."""


def refused_start(folder: Path) -> tuple[int, dict[str, Any]]:
    """Try to serve a folder that must be refused; give exit code and error."""
    done = run_cli("--json", "serve", folder)
    assert "Traceback" not in done.stderr
    error: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])["error"]
    assert done.returncode == error["exit"]
    return done.returncode, error


async def check_whole(node: Node, history: History) -> None:
    """Everything acknowledged is there: the last transfer at its place, and the balances after all of them."""
    async with node.session("customer0") as me:
        view = await me.ask("get_transfer", GetTransfer(history.last.id))
        assert (view.position, view.status, view.amount_minor) == (history.position, 0, 1)
        payer, payee = numbers_of(2)
        for number, moved in ((payer, -BATCHES * ROWS), (payee, BATCHES * ROWS)):
            account = await me.ask("get_account", GetAccount(number))
            assert account.balance_minor == OPENING_MINOR + moved


def verify(folder: Path) -> subprocess.CompletedProcess[str]:
    return run_cli("--json", "audit", "verify", folder)


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "journal").glob("*.seg"))


def flip(file: Path, offset: int) -> None:
    """Turn one bit of a file around."""
    with open(file, "r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))


# --- keys -----------------------------------------------------------------------------------------------------------


def remove(file: Path) -> None:
    file.unlink()


def replace_key(file: Path) -> None:
    file.unlink()
    create_kek(file)


def open_to_others(file: Path) -> None:
    file.chmod(0o640)


def fill_with_nonsense(file: Path) -> None:
    file.write_bytes(b"no key at all\n")


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("keys/node.key", remove, "No such file"),
        ("keys/node.key", replace_key, "does not open"),
        ("keys/node.key", open_to_others, "0600"),
        ("people.db", remove, "restore it from a backup"),
        pytest.param("keyring", remove, "No such file", marks=LONG),
        pytest.param("keyring", fill_with_nonsense, "not a keyring", marks=LONG),
    ],
)
async def test_without_its_key_a_node_does_not_start(
    folder: Path, history: History, name: str, damage: Callable[[Path], None], says: str
) -> None:
    """Missing, another one or open to others: refused with what to do; with the key back all is there."""
    file = folder / name
    kept = file.read_bytes()
    damage(file)
    code, error = refused_start(folder)
    assert (code, error["code"]) == (USAGE, "FT-5006")
    assert says in error["why"]
    assert str(folder) in error["why"]
    assert "0600" in error["do"]
    file.write_bytes(kept)
    file.chmod(0o600)
    if damage is replace_key:
        with Node(folder) as node:
            await check_whole(node, history)


def test_a_refusal_to_start_is_told_to_people_in_three_lines(folder: Path) -> None:
    """What, why and what to do, here for a certificate's key that others can read."""
    (folder / "certs" / "node.key").chmod(0o644)
    done = run_cli("serve", folder)
    assert done.returncode == USAGE
    what, why, do = done.stderr.rstrip("\n").splitlines()
    assert "FT-6008" in what
    assert why.startswith("  why: ") and "node.key" in why and "0600" in why
    assert do.startswith("  do:  ") and "explain FT-6008" in do


@LONG
def test_with_the_banks_key_open_to_others_a_node_does_not_start(folder: Path) -> None:
    """The key that proves the sealed channel is looked after in the same way."""
    (folder / "certs" / "bank.key").chmod(0o644)
    code, error = refused_start(folder)
    assert (code, error["code"]) == (USAGE, "FT-6008")
    assert "0600" in error["why"]


# --- two at once ----------------------------------------------------------------------------------------------------


async def test_a_second_node_on_the_same_folder_is_refused(folder: Path, history: History) -> None:
    """It names the process that serves it, which is not disturbed; nor does a leftover lock file mean anything."""
    (folder / "lock").write_text("1\n")
    with Node(folder) as node:
        assert node.process is not None
        code, error = refused_start(folder)
        assert (code, error["code"]) == (USAGE, "FT-5007")
        assert str(node.process.pid) in error["why"]
        await check_whole(node, history)


# --- the journal ----------------------------------------------------------------------------------------------------


def is_told_to_restore(error: dict[str, Any]) -> bool:
    return "do not delete anything" in error["do"] and "restore" in error["do"]


def test_the_history_has_several_segments(history: History) -> None:
    """What follows depends on it."""
    assert len(segments(history.folder)) >= 3


@pytest.mark.parametrize("where", ["record", pytest.param("header", marks=LONG)])
def test_damage_in_the_newest_segment_is_no_torn_tail(folder: Path, where: str) -> None:
    """A bad record before good ones: refused, with file, offset and record; nothing in the folder is changed."""
    file = segments(folder)[-1]
    offset = BLOCK_SIZE_BYTES + 100 if where == "record" else 20
    flip(file, offset)
    before = {each.name: each.read_bytes() for each in segments(folder)}
    code, error = refused_start(folder)
    assert (code, error["code"]) == (INTEGRITY, "FT-5001")
    assert str(file) in error["why"]
    assert is_told_to_restore(error)
    assert error["facts"]["offset"] == (BLOCK_SIZE_BYTES if where == "record" else 0)
    assert {each.name: each.read_bytes() for each in segments(folder)} == before
    assert verify(folder).returncode == INTEGRITY


@pytest.mark.parametrize("where", ["header", pytest.param("footer", marks=LONG), pytest.param("file", marks=LONG)])
def test_a_segment_in_the_middle_that_does_not_join_is_refused(folder: Path, where: str) -> None:
    """Its header, its footer, or all of it."""
    file = segments(folder)[1]
    if where == "file":
        file.unlink()
    else:
        flip(file, 20 if where == "header" else file.stat().st_size - BLOCK_SIZE_BYTES + 100)
    code, error = refused_start(folder)
    assert (code, error["code"]) == (INTEGRITY, "FT-5001")
    assert file.name in error["why"]
    assert is_told_to_restore(error)


def test_a_damaged_record_in_the_middle_is_found_by_the_audit(folder: Path) -> None:
    """Records that the tables hold already are not read at each start; `audit verify` reads every one."""
    file = segments(folder)[1]
    flip(file, BLOCK_SIZE_BYTES + 100)
    done = verify(folder)
    assert done.returncode == INTEGRITY
    report = json.loads(done.stdout)
    assert report["whole"] is False
    assert any(f"{file}, offset {BLOCK_SIZE_BYTES}" in finding["what"] for finding in report["findings"])


def test_a_damaged_record_that_the_tables_need_is_refused(folder: Path) -> None:
    """Tables cannot be rebuilt from a journal with a hole: refused, and nothing is served from the half of it."""
    for file in folder.glob("ledger.db*"):
        file.unlink()
    file = segments(folder)[1]
    flip(file, BLOCK_SIZE_BYTES + 100)
    code, error = refused_start(folder)
    assert (code, error["code"]) == (INTEGRITY, "FT-5001")
    assert str(file) in error["why"]
    assert error["facts"]["offset"] == BLOCK_SIZE_BYTES


@LONG
def test_a_journal_that_ends_before_the_tables_do_is_refused(folder: Path) -> None:
    """The newest segment is lost: what it held was acknowledged, so this is no journal to go on with."""
    segments(folder)[-1].unlink()
    code, error = refused_start(folder)
    assert (code, error["code"]) == (INTEGRITY, "FT-5001")
    assert is_told_to_restore(error)


def end_of_records(segment: Path) -> int:
    """Find where the last record of a segment ends: before the zeros, on a block's border."""
    data = segment.read_bytes()
    return -(-len(data.rstrip(b"\0")) // BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES


@pytest.mark.parametrize("torn", ["half", pytest.param("noise", marks=LONG)])
async def test_a_torn_tail_is_overwritten(folder: Path, history: History, torn: str) -> None:
    """A write under way at the crash was acknowledged to nobody; all before it is there, and the node goes on."""
    with Node(folder) as node:
        await check_whole(node, history)
        node.kill()
    file = segments(folder)[-1]
    end = end_of_records(file)
    with open(file, "r+b") as stream:
        stream.seek(end - BLOCK_SIZE_BYTES)
        last_block = stream.read(BLOCK_SIZE_BYTES)
        stream.seek(end)
        stream.write(last_block[:2048] if torn == "half" else os.urandom(BLOCK_SIZE_BYTES + 512))
    with Node(folder) as node:
        await check_whole(node, history)
        async with node.session("customer0") as me:
            payer, payee = numbers_of(2)
            there = await me.transfer(payer, payee, "0.01 EUR")
            back = await me.transfer(payee, payer, "0.01 EUR")
            assert back.position > there.position > history.position
    assert verify(folder).returncode == 0


# --- the tables -----------------------------------------------------------------------------------------------------


async def test_deleted_tables_are_rebuilt_from_the_journal(folder: Path, history: History) -> None:
    """The journal is the truth; the tables follow from it."""
    for file in folder.glob("ledger.db*"):
        file.unlink()
    with Node(folder) as node:
        await check_whole(node, history)
    assert verify(folder).returncode == 0


@pytest.mark.parametrize("damage", ["page", pytest.param("noise", marks=LONG), pytest.param("empty", marks=LONG)])
async def test_damaged_tables_are_never_served(folder: Path, history: History, damage: str) -> None:
    """Refused with what to do, which then helps; an empty file is as none at all."""
    file = folder / "ledger.db"
    for beside in folder.glob("ledger.db-*"):
        beside.unlink()
    if damage == "noise":
        file.write_bytes(os.urandom(file.stat().st_size))
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        flip(file, 100)
    if damage != "empty":
        code, error = refused_start(folder)
        assert (code, error["code"]) == (INTEGRITY, "FT-5004")
        assert "ledger.db" in error["do"] and "rebuilt" in error["do"]
        file.rename(folder / "aside")
    with Node(folder) as node:
        await check_whole(node, history)


@LONG
async def test_tables_that_are_older_catch_up(folder: Path, history: History) -> None:
    """Tables put back from an earlier copy are brought up to the journal."""
    older = folder.with_name("older.db")
    shutil.copy(folder / "ledger.db", older)
    payer, payee = numbers_of(2)
    with Node(folder) as node:
        async with node.session("customer0") as me:
            there = await me.transfer(payer, payee, "0.05 EUR")
            await me.transfer(payee, payer, "0.05 EUR")
    for file in folder.glob("ledger.db*"):
        file.unlink()
    older.rename(folder / "ledger.db")
    with Node(folder) as node:
        await check_whole(node, history)
        async with node.session("customer0") as me:
            assert (await me.ask("get_transfer", GetTransfer(there.id))).position == there.position
    assert verify(folder).returncode == 0
