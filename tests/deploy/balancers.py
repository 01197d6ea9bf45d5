"""The shipped configurations of load balancers, run by the real programs in front of a real pair.

What is replaced in a configuration is what its comments tell an operator to replace: the addresses of the nodes and of
the balancer itself, and the places of certificates.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from bench import machine
from bench.bank import ACCOUNTS_PER_CUSTOMER, BANK_ID, free_port, numbers_of, seed_of
from fortress import authority
from fortress.client.client import Client, connect
from fortress.client.ids import new_id
from fortress.client.link import Link
from fortress.client.me import Me
from fortress.client.money import Money
from tests.e2e.node import CURRENCY, ROOT, wait_until
from tests.fault.pair import Member, Pair

DEPLOY: Final = ROOT / "deploy"
NODES: Final = {"a": "192.0.2.11", "b": "192.0.2.12"}
NODE_PORT: Final = 7611
PASSED, TERMINATED = "passed through", "terminated"
MODES: Final = (PASSED, TERMINATED)
ACCOUNTS: Final = 2 * ACCOUNTS_PER_CUSTOMER
OWN, SECOND = numbers_of(2)
CENT: Final = Money(1, CURRENCY)
PATIENCE_S: Final = 40.0
STOP_S_MAX: Final = 10.0


class Balancer:
    """A load balancer as a process; ``with`` starts it and ends it whatever happens.

    Args:
        folder: for its files; made if needed.
        pair: behind it.

    Attributes:
        ports: where it listens, by mode.
        ca: the authority of its own certificate.
    """

    program = ""

    def __init__(self, folder: Path, pair: Pair) -> None:
        found = shutil.which(self.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        assert found, f"{self.program} is missing; .ci/run says how it is installed"
        self.found = found
        self.folder = folder
        self.pair = pair
        self.ports = {mode: free_port() for mode in MODES}
        self.ca = folder / "certs" / "ca.crt"
        self.log_file = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        authority.make_authority(folder / "certs", "balancer")
        authority.issue(folder / "certs", authority.Kind.node, bank="balancer")
        self.prepare()

    def prepare(self) -> None:
        """Write its files."""
        raise NotImplementedError

    def command(self) -> Sequence[str | Path]:
        """Give the words that run it in the foreground."""
        raise NotImplementedError

    def write(self, name: str, source: Path, changes: Mapping[str, str]) -> Path:
        """Write a shipped file with its placeholders replaced, each of which must be there."""
        text = source.read_text("utf-8")
        for old, new in changes.items():
            assert old in text, f"{old!r} is not in {source}"
            text = text.replace(old, new)
        file = self.folder / name
        file.write_text(text)
        return file

    def endpoint_of(self, at: str) -> str:
        """Where a node of the pair takes clients."""
        host, port = self.pair.endpoints[at]
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [*machine.ends_with_parent(), *map(str, self.command())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            for port in self.ports.values():
                wait_until(lambda port=port: self._listens(port))
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_S_MAX)
            self.process = None

    def log(self) -> str:
        """Give what it wrote."""
        return self.log_file.read_text("utf-8", "replace")

    def _listens(self, port: int) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    # --- its customers ----------------------------------------------------------------------------------------------

    def client(self, mode: str, **options: Any) -> Client:
        """A stranger who knows the balancer's address alone, and goes nowhere else.

        Also where TLS is passed through the path is named, by the bank's own authority: otherwise a client may follow
        a standby's word to the primary's own address, which is well in practice and would prove nothing here.
        """
        path_ca = self.ca if mode == TERMINATED else self.pair.ca
        given = {"ca": self.pair.ca, "path_ca": path_ca, "deadline_s": PATIENCE_S, **options}
        return connect(f"fortress://127.0.0.1:{self.ports[mode]}/{BANK_ID}", **given)


async def sign_in(client: Client) -> Me:
    """Sign a prepared customer in."""
    return await client.login_with_seed("customer0", seed_of("customer0"))


async def kill_primary(pair: Pair) -> Member:
    """End the primary as a crash does; give it."""
    primary: Member = await asyncio.to_thread(lambda: pair.primary)
    primary.kill()
    return primary


async def check_failover(balancer: Balancer, mode: str) -> None:
    """One customer pays on through the same address while the primary is killed; each order is done once."""
    pair = balancer.pair
    async with balancer.client(mode) as bank:
        me = await sign_in(bank)
        session = me.signed_in.session
        before = (await me.balance(OWN)).balance.minor
        ids = [new_id() for _ in range(10)]
        for id in ids[:5]:
            await me.pay(str(SECOND), CENT, from_=OWN, id=id)
        old = await kill_primary(pair)
        for id in ids[5:]:
            await me.pay(str(SECOND), CENT, from_=OWN, id=id)
        assert await asyncio.to_thread(lambda: pair.primary) is pair.other(old)
        assert me.signed_in.session == session
        assert before - (await me.balance(OWN)).balance.minor == len(ids)
        assert (await me.pay(str(SECOND), CENT, from_=OWN, id=ids[0])).replayed
        assert link_of(bank).endpoint == ("127.0.0.1", balancer.ports[mode])


def link_of(bank: Client) -> Link:
    """Give the connection in use."""
    link = bank._calls.route.current
    assert link is not None
    return link
