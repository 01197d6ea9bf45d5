"""HAProxy in front of a pair, with the configuration that is shipped: TLS passed through, and TLS ended there."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from fortress.errors import ServerNotTrusted, Unreachable
from tests.deploy.balancers import (
    CENT,
    DEPLOY,
    MODES,
    NODE_PORT,
    NODES,
    OWN,
    PASSED,
    SECOND,
    TERMINATED,
    Balancer,
    check_failover,
    sign_in,
)
from tests.e2e.node import wait_until
from tests.fault.pair import Pair

SHIPPED: Final = DEPLOY / "haproxy" / "haproxy.cfg"
MONITOR_PORT: Final = 7612

pytestmark = pytest.mark.timeout(150)


class Haproxy(Balancer):
    """The program of Debian with the shipped file."""

    program = "haproxy"

    def prepare(self) -> None:
        certs = self.folder / "certs"
        pem = self.folder / "fortress.pem"
        pem.write_text((certs / "node.crt").read_text() + (certs / "node.key").read_text())
        changes = {
            f"bind :{NODE_PORT}\n": f"bind 127.0.0.1:{self.ports[PASSED]}\n",
            "bind :7621 ssl": f"bind 127.0.0.1:{self.ports[TERMINATED]} ssl",
            "/etc/haproxy/fortress.pem": str(pem),
            "/etc/haproxy/bank-ca.crt": str(self.pair.ca),
        }
        for at, host in NODES.items():
            monitor = self.pair.nodes[at].status_url.rpartition(":")[2]
            changes[f"{host}:{NODE_PORT} check port {MONITOR_PORT}"] = f"{self.endpoint_of(at)} check port {monitor}"
        if os.geteuid():  # only root can become somebody else
            changes |= {"    user haproxy\n": "", "    group haproxy\n": ""}
        self.configuration = self.write("haproxy.cfg", SHIPPED, changes)

    def command(self) -> Sequence[str | Path]:
        return (self.found, "-db", "-f", self.configuration)


@pytest.fixture
def haproxy(pair: Pair, tmp_path: Path) -> Iterator[Haproxy]:
    """It knows who is primary."""
    with Haproxy(tmp_path / "haproxy", pair) as running:
        wait_until(lambda: running.log().count("is DOWN") == len(MODES))
        yield running


def test_the_shipped_file_has_no_warnings(pair: Pair, tmp_path: Path) -> None:
    """As the program itself reads it."""
    made = Haproxy(tmp_path / "haproxy", pair)
    checked = subprocess.run(
        [made.found, "-c", "-f", made.configuration], capture_output=True, text=True, timeout=30, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr


@pytest.mark.parametrize("mode", MODES)
async def test_customers_sign_in_and_pay(haproxy: Haproxy, mode: str) -> None:
    """Through either way in; the health check leads them to the primary at once."""
    async with haproxy.client(mode) as bank:
        me = await sign_in(bank)
        before = await me.balance(OWN)
        payment = await me.pay(str(SECOND), CENT, from_=OWN)
        assert payment.balance_after.minor == before.balance.minor - 1
        standby = haproxy.pair.other(await asyncio.to_thread(lambda: haproxy.pair.primary))
        assert standby.told()["connections"] == 0


@pytest.mark.parametrize("mode", MODES)
async def test_a_killed_primary_is_a_short_wait(haproxy: Haproxy, mode: str) -> None:
    """The same session goes on through the same address."""
    await check_failover(haproxy, mode)


async def test_where_tls_ends_the_bank_still_proves_itself(haproxy: Haproxy) -> None:
    """The balancer's authority vouches for the balancer; the bank's for nobody on the way."""
    for options in ({"ca": haproxy.ca}, {"path_ca": haproxy.pair.ca}):
        with pytest.raises(ServerNotTrusted):
            async with haproxy.client(TERMINATED, **options):
                pass


async def test_a_balancer_lets_no_false_node_in(haproxy: Haproxy, tmp_path: Path) -> None:
    """Towards the nodes it checks the authority as well: one that shows another certificate gets no customer."""
    text = haproxy.configuration.read_text()
    assert text.count(str(haproxy.pair.ca)) == 1
    assert "verify required" in text
    wrong = Haproxy(tmp_path / "wrong", haproxy.pair)
    wrong.configuration.write_text(wrong.configuration.read_text().replace(str(haproxy.pair.ca), str(haproxy.ca)))
    with wrong:
        wait_until(lambda: wrong.log().count("is DOWN") == len(MODES))
        with pytest.raises(Unreachable):
            async with wrong.client(TERMINATED, deadline_s=1.0):
                pass
        async with wrong.client(PASSED) as bank:
            await sign_in(bank)
