"""A prepared bank with its standby and witness, all on this machine: ``with PairedBank(plan) as bank``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench import machine
from bench.bank import START_S_MAX, Bank, Plan, free_port

ROOT = Path(__file__).resolve().parent.parent
STOP_S_MAX = 60


class PairedBank(Bank):
    """As :class:`Bank`, and each commit is on two nodes; the node that is measured is the primary.

    Attributes:
        second: folder of the other node.
    """

    def __init__(self, plan: Plan | None = None, *, parent: Path | None = machine.DISK_FOLDER) -> None:
        super().__init__(plan, parent=parent)
        self.second = self.folder.with_name("second")
        self._witness = self.folder.with_name("witness")
        self._others: list[subprocess.Popen[bytes]] = []
        records = ("--pair-port", str(free_port()))
        client = ("--port", str(free_port()), "--status-port", str(free_port()))
        if self.plan.is_gateway:
            client += ("--bank-port", str(free_port()))
        try:
            _fortress("init", self.second, "--join", self.folder, "--name", "node-2", *client, *records)
            joined = ("--join", self.folder, "--join", self.second)
            _fortress("init", self._witness, "--witness", *joined, "--port", str(free_port()))
        except BaseException:
            self.delete()
            raise

    def start(self) -> None:
        """Start witness, primary and standby, and wait until there are two copies."""
        self._spawn("witness", self._witness)
        super().start()
        self._spawn("serve", self.second)
        deadline = time.monotonic() + START_S_MAX
        while not self.is_paired():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the nodes did not become a pair:\n{self.log()}")
            time.sleep(0.1)

    def is_paired(self) -> bool:
        """Whether the measured node is primary and has its standby in step."""
        status = self.status()
        return (status["role"], status["copies"]) == ("primary", 2)

    def stop(self) -> None:
        """Stop all; the standby first, so that nothing fails over."""
        self._stop_others()
        super().stop()

    def kill(self) -> None:
        """End all as a crash does."""
        for process in self._others:
            process.kill()
            process.wait(STOP_S_MAX)
        self._others = []
        super().kill()

    def all_cpu_s(self) -> dict[str, float]:
        """Tell how much processor time each of its processes has used, in seconds; the node measured is primary."""
        witness, standby = (machine.cpu_s(process.pid) for process in self._others)
        return {"primary": self.cpu_s(), "standby": standby, "witness": witness}

    def _stop_others(self) -> None:
        others, self._others = self._others, []
        for process in reversed(others):
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_S_MAX)

    def _spawn(self, command: str, folder: Path) -> None:
        words = [sys.executable, "-m", "fortress", command, str(folder)]
        with open(folder.with_name(f"{folder.name}.log"), "ab") as log, machine.signals_held():
            self._others.append(machine.start_process(words, stdout=log, stderr=log, env=_environment()))


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _fortress(*arguments: Any) -> None:
    command = [sys.executable, "-m", "fortress", *map(str, arguments)]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=START_S_MAX)
    if done.returncode:
        raise RuntimeError(f"fortress {arguments[0]} failed:\n{done.stderr}")
