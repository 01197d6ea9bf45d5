"""A demo's children are kept running, and none is left when it ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fortress.cli import children
from fortress.cli.children import Child
from fortress.cli.demo import free_port
from fortress.cli.folders import make_folder
from fortress.cli.joining import Place, make_witness
from fortress.errors import Unreachable

END_S = 30


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def witness(tmp_path: Path, said: list[str]) -> Child:
    """A child that was not started yet; a witness, since that starts quickly."""
    make_folder(tmp_path / "a1", bank="a", node="node-1", administrators=[])
    make_witness(tmp_path / "w", [tmp_path / "a1"], place=Place(port=free_port()))
    return Child("w", "witness", tmp_path / "w", tmp_path / "w.log", said.append)


@pytest.fixture
async def child(witness: Child) -> AsyncIterator[Child]:
    await witness.start()
    yield witness
    await witness.stop()


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_a_child_tells_that_it_is_ready_and_is_ended_in_order(witness: Child, said: list[str]) -> None:
    """The folder is marked as a demo's."""
    await witness.start()
    pid = int(witness.told["pid"])
    assert (witness.folder / "demo.pid").read_text() == f"{pid}\n"
    await witness.stop()
    assert not is_running(pid) and said == []


async def test_a_killed_child_comes_back(child: Child, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, as another process; people are told."""
    monkeypatch.setattr(children, "RESTART_S", 0.01)
    before = int(child.told["pid"])
    os.kill(before, signal.SIGKILL)
    async with asyncio.timeout(END_S):
        while len(said) < 2:
            await asyncio.sleep(0.01)
    assert "has ended (-9)" in said[0] and said[1] == "w is back"
    assert int(child.told["pid"]) != before and is_running(int(child.told["pid"]))


async def test_a_child_that_cannot_start_says_why(witness: Child, said: list[str]) -> None:
    """With the end of its log; nothing is left running."""
    (witness.folder / "fortress.toml").write_text("nonsense = 1\n")
    with pytest.raises(Unreachable, match="FT-6002"):
        await witness.start()
    await witness.stop()


async def test_a_child_that_does_not_come_back_is_tried_again(
    child: Child, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the demo runs."""
    monkeypatch.setattr(children, "RESTART_S", 0.01)
    good = (child.folder / "fortress.toml").read_text()
    (child.folder / "fortress.toml").write_text("nonsense = 1\n")
    os.kill(int(child.told["pid"]), signal.SIGKILL)
    async with asyncio.timeout(END_S):
        while len(said) < 2:
            await asyncio.sleep(0.01)
        assert "did not start" in said[1]
        (child.folder / "fortress.toml").write_text(good)
        while said[-1] != "w is back":
            await asyncio.sleep(0.01)


async def test_a_stopped_child_is_killed_in_the_end(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot see that it is to end."""
    monkeypatch.setattr(children, "STOP_S_MAX", 0.05)
    pid = int(child.told["pid"])
    os.kill(pid, signal.SIGSTOP)
    await child.stop()
    assert not is_running(pid)


async def test_a_child_that_was_never_started_needs_no_end(witness: Child) -> None:
    """As when an earlier one failed."""
    await witness.stop()
