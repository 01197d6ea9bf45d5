"""Machines that are not there: network namespaces joined by a bridge, with links that are cut, reset, lossy or slow.

    with Network() as network, network.entered("clients"):
        process = Popen([*network.command("a"), ...])      runs on host a
        network.cut("a", "b")                              nothing passes between them
        network.heal()

Nothing of the machine's own network is touched: the bridge has a namespace of its own. Each fault is a rule of nftables
where packets arrive, or a token bucket where they leave, so connections see what they would see on a real network:
silence, resets, loss, a thin line. All namespaces carry the id of the process that made them; what a test left that was
killed is deleted by the next one.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

ADDRESSES: Final = {"a": "10.77.0.1", "b": "10.77.0.2", "witness": "10.77.0.3", "clients": "10.77.0.4"}
NAMESPACES: Final = Path("/run/netns")
NAME: Final = "fortress-test"
TOOLS: Final = ("ip", "tc", "nft", "nsenter")
COMMAND_S_MAX: Final = 20
_CLONE_NEWNET: Final = 0x40000000
_TABLE: Final = "table inet faults"


def why_not() -> str:
    """Say why networks cannot be made on this machine; empty when they can."""
    if os.geteuid() != 0:
        return "network namespaces take root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"missing: {', '.join(missing)}" if missing else ""


def _run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=COMMAND_S_MAX)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}\n{text}")
    return done.stdout


class Network:
    """Hosts ``a``, ``b``, ``witness`` and ``clients``, each with one address and one link to all others.

    For one thread: what is changed here is not meant to be changed by two at once.
    """

    def __init__(self) -> None:
        delete_leftovers()
        self._prefix = f"{NAME}-{os.getpid()}-{secrets.token_hex(3)}"
        self._rules: dict[str, dict[str, str]] = {host: {} for host in ADDRESSES}
        self._slow: set[str] = set()

    # --- its life ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what still runs on its hosts, and delete all of it."""
        for host in ("bridge", *ADDRESSES):
            if (NAMESPACES / self._name(host)).exists():
                _delete(self._name(host))

    def _make(self) -> None:
        bridge = self._name("bridge")
        _run("ip", "netns", "add", bridge)
        _run("ip", "-n", bridge, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", bridge, "link", "set", "bridge", "up")
        for host, address in ADDRESSES.items():
            name = self._name(host)
            _run("ip", "netns", "add", name)
            _run(
                "ip",
                "-n",
                bridge,
                "link",
                "add",
                "name",
                f"to-{host}",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                name,
            )
            _run("ip", "-n", bridge, "link", "set", f"to-{host}", "master", "bridge", "up")
            _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                _run("ip", "-n", name, "link", "set", link, "up")

    def _name(self, host: str) -> str:
        return f"{self._prefix}-{host}"

    # --- being on a host --------------------------------------------------------------------------------------------

    def command(self, host: str) -> list[str]:
        """Give the words before a command that make it run on a host.

        Not ``ip netns exec``: that copies all mounts, and a disk that a test takes away would stay with the copy.
        """
        return ["nsenter", f"--net={NAMESPACES / self._name(host)}"]

    @contextmanager
    def entered(self, host: str) -> Iterator[None]:
        """Put this thread on a host: sockets made in the block, and threads and processes begun in it, are there."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            target = os.open(NAMESPACES / self._name(host), os.O_RDONLY | os.O_CLOEXEC)
            try:
                _enter(target)
            finally:
                os.close(target)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)

    # --- faults -----------------------------------------------------------------------------------------------------

    def cut(self, one: str, *others: str) -> None:
        """Let nothing pass between a host and the others named, silently."""
        for other in others:
            self.cut_one_way(one, other)
            self.cut_one_way(other, one)

    def cut_one_way(self, source: str, target: str) -> None:
        """Let nothing from one host arrive at another; the other direction still works."""
        self._add(target, source, "drop")

    def reset(self, one: str, other: str) -> None:
        """Answer every packet between two hosts with a reset, as a firewall does that has forgotten them."""
        for source, target in ((one, other), (other, one)):
            self._add(target, source, "tcp flags & rst == 0 reject with tcp reset")

    def lose(self, one: str, other: str, percent: int) -> None:
        """Lose so many of a hundred packets between two hosts, at random, in both directions."""
        for source, target in ((one, other), (other, one)):
            self._add(target, source, f"numgen random mod 100 < {percent} drop")

    def slow(self, host: str, kbit_s: int) -> None:
        """Let a host send only so many thousand bits a second; what waits longer than 3 s is lost."""
        verb = "change" if host in self._slow else "add"
        bucket = ("tbf", "rate", f"{kbit_s}kbit", "burst", "16kb", "latency", "3s")
        _run("tc", "-n", self._name(host), "qdisc", verb, "dev", "eth0", "root", *bucket)
        self._slow.add(host)

    async def flap(self, one: str, other: str, *, times: int, down_s: float, up_s: float) -> None:
        """Cut and heal a link several times; it is whole at the end."""
        for _ in range(times):
            self.cut(one, other)
            await asyncio.sleep(down_s)
            self.mend(one, other)
            await asyncio.sleep(up_s)

    def mend(self, one: str, *others: str) -> None:
        """Undo cuts, resets and loss between a host and the others named."""
        for other in others:
            for source, target in ((one, other), (other, one)):
                self._rules[target].pop(source, None)
                self._apply(target)

    def heal(self) -> None:
        """Undo all faults."""
        for host in tuple(self._slow):
            _run("tc", "-n", self._name(host), "qdisc", "delete", "dev", "eth0", "root")
            self._slow.discard(host)
        for host, rules in self._rules.items():
            if rules:
                rules.clear()
                self._apply(host)

    def _add(self, target: str, source: str, verdict: str) -> None:
        self._rules[target][source] = f"ip saddr {ADDRESSES[source]} {verdict}"
        self._apply(target)

    def _apply(self, host: str) -> None:
        """Replace the rules of a host in one step."""
        lines = ["type filter hook input priority 0", "policy accept", *self._rules[host].values()]
        chain = "chain incoming {\n" + "\n".join(lines) + "\n}\n"
        text = f"{_TABLE}\ndelete {_TABLE}\n{_TABLE} {{\n{chain}}}\n"
        _run(*self.command(host), "nft", "-f", "-", text=text)


def delete_leftovers() -> list[str]:
    """Delete the namespaces of processes that have ended, with what runs in them; give their names."""
    found = []
    for path in NAMESPACES.glob(f"{NAME}-*-*-*") if NAMESPACES.exists() else ():
        if not Path(f"/proc/{path.name.removeprefix(NAME).split('-')[1]}").exists():
            _delete(path.name)
            found.append(path.name)
    return found


def _delete(name: str) -> None:
    """Delete a namespace of ours; a process that outlived its test would keep it alive."""
    for pid in _run("ip", "netns", "pids", name).split():
        if int(pid) != os.getpid():
            with suppress(ProcessLookupError):
                os.kill(int(pid), 9)
    _run("ip", "netns", "delete", name)


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
