"""A program with an outbox is killed at every line: whatever it had written down is done once and in order."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import ALICE_SEED
from tests.client.fake_bank import Books, Credentials, FakeNode
from tests.client.outbox_victim import AMOUNTS, KILLED

ROOT = Path(__file__).resolve().parent.parent.parent
DEADLINE_S = 250
FULL_S = 3000
MEMORY = Path("/dev/shm")

Deaths = list[dict[str, Any]]


async def kill_each(credentials: Credentials, books: Books, folder: Path, which: str, step: int) -> Deaths:
    """Serve a bank while a program is killed again and again; give what is told of each death."""
    node = await FakeNode(credentials, books).start()
    ca = folder / "ca.crt"
    ca.write_bytes(credentials.ca)
    command = [sys.executable, "-m", "tests.client.outbox_victim", str(folder), node.address, str(ca), which, str(step)]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(FULL_S if step == 1 else DEADLINE_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await node.stop()
    assert (process.returncode, err.decode()) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def check(deaths: Deaths, books: Books) -> None:
    """Each payment is at the bank once, those of one program in their order, and its outbox says so."""
    journal = [row.id.hex() for row in books.rows if row.kind == "transfer"]
    assert len(journal) == len(set(journal)) == 2 * len(deaths)
    for death in deaths:
        ids, told = death["ids"], f"killed at line {death['line']}"
        assert [row for row in journal if row in ids] == [ids[0], ids[2]], told
        rows = [[ids[0], "done", True], [ids[1], "refused", False], [ids[2], "done", True]]
        assert [found[:3] for found in death["found"]] == rows, told
        assert [found[3] for found in death["found"]] == sorted(found[3] for found in death["found"]), told
        assert death["codes"] == [KILLED if death is not deaths[-1] else 0, 0], told
    assert books.balances[100] == 10**9 - len(deaths) * (AMOUNTS[0] + AMOUNTS[2])


def try_all(credentials: Credentials, which: str, step: int) -> int:
    books = Books()
    books.add_user("alice", ALICE_SEED, 10**9)
    # what a killed process wrote is in the kernel, on whatever disk; memory spares hundreds of syncs
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        deaths = asyncio.run(kill_each(credentials, books, Path(folder), which, step))
    check(deaths, books)
    return len(deaths)


@pytest.mark.timeout(DEADLINE_S)
@pytest.mark.parametrize(("which", "step"), [("own", 23), ("below", 83)])
def test_a_killed_program_loses_nothing_and_pays_nothing_twice(credentials: Credentials, which: str, step: int) -> None:
    """Killed at every so many lines of the outbox, or of what sends for it, killed again, then left alone."""
    assert try_all(credentials, which, step) > 10


@pytest.mark.fault
@pytest.mark.timeout(FULL_S)
@pytest.mark.parametrize(("which", "least"), [("own", 500), ("below", 500)])
def test_a_program_may_be_killed_at_any_line(credentials: Credentials, which: str, least: int) -> None:
    """The same at each line that is passed."""
    assert try_all(credentials, which, 1) > least
