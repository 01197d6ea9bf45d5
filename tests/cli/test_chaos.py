"""``chaos``: hits the processes of a demo, and nothing else."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fortress.cli.cables import is_cut, lay
from fortress.cli.chaos import LOG_BYTES_READ, LOG_NAME, done_lately, mark

Tell = Callable[..., Any]


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that names its folder, as a node does, and waits."""
    with subprocess.Popen(["/bin/sh", "-c", "read line", str(tmp_path)], stdin=subprocess.PIPE) as process:
        mark(tmp_path, process.pid)
        wait_state(process.pid, "S")  # a process that has just been started has no command line yet
        yield process
        process.kill()


def wait_state(pid: int, state: str) -> None:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != state:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_process_is_stopped_goes_on_and_is_killed(
    tell: Tell, victim: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """Each act says what it did to which process."""
    assert tell("chaos", "stop", str(tmp_path), "--json")[1] == {"pid": victim.pid, "signal": "SIGSTOP"}
    wait_state(victim.pid, "T")
    assert "goes on" in tell("chaos", "cont", str(tmp_path))[1]
    wait_state(victim.pid, "S")
    assert tell("chaos", "kill", str(tmp_path))[0] == 0
    assert victim.wait(10) == -signal.SIGKILL
    assert tell("chaos", "kill", str(tmp_path))[0] == 4


def test_a_node_is_cut_off_and_connected_again(tell: Tell, victim: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """Its process lives on; what has no cable, as a witness, cannot be cut off."""
    assert tell("chaos", "cut", str(tmp_path))[0] == 2
    lay(tmp_path)
    assert tell("chaos", "cut", str(tmp_path), "--json")[1] == {"pid": victim.pid}
    assert is_cut(tmp_path) and victim.poll() is None
    assert "connected to the other node again" in tell("chaos", "heal", str(tmp_path))[1]
    assert not is_cut(tmp_path)


def test_what_was_done_is_kept_for_those_who_watch(tell: Tell, victim: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """The newest of it, in the demo's folder."""
    demo = tmp_path.parent
    (demo / LOG_NAME).unlink(missing_ok=True)
    assert done_lately(demo) == []
    (demo / LOG_NAME).write_text("x" * LOG_BYTES_READ + "\n")
    tell("chaos", "stop", str(tmp_path))
    tell("chaos", "cont", str(tmp_path))
    assert [words for _, words in done_lately(demo)] == [f"{tmp_path.name} is stopped", f"{tmp_path.name} goes on"]


def test_folders_without_a_mark_are_left_alone(tell: Tell, tmp_path: Path) -> None:
    """No real bank is hit by a slip of the fingers; nor is a process that has got the number since."""
    assert tell("chaos", "kill", str(tmp_path))[0] == 2
    (tmp_path / "demo.pid").write_text("x")
    assert tell("chaos", "kill", str(tmp_path))[0] == 2
    with subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE) as other:
        mark(tmp_path, other.pid)
        wait_state(other.pid, "S")
        assert tell("chaos", "kill", str(tmp_path))[0] == 4
        assert other.poll() is None
        other.kill()
