"""Libraries that stand between a node and the C library, so that its disk fails or its clock jumps when a test says so.

They are C because nothing else gets between a process and its system calls; gcc makes them when the first test asks.
"""

from __future__ import annotations

import atexit
import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parent
COMPILE_S_MAX = 60


def why_not() -> str:
    """Say why the libraries cannot be made here; empty when they can."""
    return "" if shutil.which("gcc") else "missing: gcc"


@cache
def library(name: str) -> Path:
    """Compile ``<name>.c``, once in the life of this process, and give the library."""
    folder = Path(tempfile.mkdtemp(prefix="fortress-shim-"))
    atexit.register(shutil.rmtree, folder)
    made = folder / f"{name}.so"
    command = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", made, SOURCES / f"{name}.c"]
    subprocess.run([*command, "-ldl"], check=True, timeout=COMPILE_S_MAX)
    return made


class BrokenDisk:
    """Writes and syncs of some files of one process fail with EIO from the moment :meth:`break_now` is called.

    Args:
        folder: an existing one, for the trigger.
        files: a piece of the paths of the files meant.
    """

    def __init__(self, folder: Path, files: str = "/journal/") -> None:
        self._trigger = folder / "disk-is-broken"
        self.variables = {
            "LD_PRELOAD": str(library("eio")),
            "EIO_FILES": files,
            "EIO_TRIGGER": str(self._trigger),
        }

    def break_now(self) -> None:
        """Let every write and sync fail from now on."""
        self._trigger.touch()

    def mend(self) -> None:
        """Let them work again."""
        self._trigger.unlink(missing_ok=True)


class JumpingClock:
    """The time of day of one process, which jumps when :meth:`jump` is called.

    Args:
        folder: an existing one, for the file that holds the jump.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._file.write_bytes(bytes(8))
        self.variables = {"LD_PRELOAD": str(library("clock")), "CLOCK_FILE": str(self._file)}

    def jump(self, seconds: float) -> None:
        """Let the clock be so far ahead of the real time from now on, or behind."""
        with open(self._file, "r+b") as file:  # in place: the process has it mapped
            file.write(struct.pack("<q", round(seconds * 1e6)))
