"""nginx in front of a pair, with the configuration that is shipped: TLS passed through, and TLS ended there."""

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
from tests.fault.pair import Pair

SHIPPED: Final = DEPLOY / "nginx" / "fortress-stream.conf"
MODULE: Final = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

pytestmark = pytest.mark.timeout(150)


class Nginx(Balancer):
    """The program and the module of Debian with the shipped file, included as its first comment says."""

    program = "nginx"

    def prepare(self) -> None:
        assert MODULE.exists(), f"{MODULE} is missing; .ci/run says how it is installed"
        certs = self.folder / "certs"
        changes = {
            f"listen {NODE_PORT};": f"listen 127.0.0.1:{self.ports[PASSED]};",
            "listen 7621 ssl;": f"listen 127.0.0.1:{self.ports[TERMINATED]} ssl;",
            "/etc/nginx/fortress.crt": str(certs / "node.crt"),
            "/etc/nginx/fortress.key": str(certs / "node.key"),
            "/etc/nginx/bank-ca.crt": str(self.pair.ca),
            **{f"{host}:{NODE_PORT} max": f"{self.endpoint_of(at)} max" for at, host in NODES.items()},
        }
        self.shipped = self.write("fortress-stream.conf", SHIPPED, changes)
        user = "user root;" if not os.geteuid() else ""
        self.configuration = self.folder / "nginx.conf"
        self.configuration.write_text(
            f"{user}\ndaemon off;\npid {self.folder}/pid;\nerror_log stderr notice;\nload_module {MODULE};\n"
            f"events {{ }}\ninclude {self.shipped};\n"
        )

    def command(self) -> Sequence[str | Path]:
        return (self.found, "-e", "stderr", "-p", self.folder, "-c", self.configuration)


@pytest.fixture
def nginx(pair: Pair, tmp_path: Path) -> Iterator[Nginx]:
    with Nginx(tmp_path / "nginx", pair) as running:
        yield running


def test_the_shipped_file_has_no_warnings(pair: Pair, tmp_path: Path) -> None:
    """As the program itself reads it."""
    made = Nginx(tmp_path / "nginx", pair)
    words = [*map(str, made.command()), "-t"]
    checked = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr


@pytest.mark.parametrize("mode", MODES)
async def test_customers_sign_in_and_pay(nginx: Nginx, mode: str) -> None:
    """Through either way in, several one after the other: who meets the standby is at the primary next time."""
    for _ in range(4):
        async with nginx.client(mode) as bank:
            me = await sign_in(bank)
            before = await me.balance(OWN)
            payment = await me.pay(str(SECOND), CENT, from_=OWN)
            assert payment.balance_after.minor == before.balance.minor - 1


@pytest.mark.parametrize("mode", MODES)
async def test_a_killed_primary_is_a_short_wait(nginx: Nginx, mode: str) -> None:
    """The same session goes on through the same address."""
    await check_failover(nginx, mode)


@pytest.mark.parametrize("mode", MODES)
async def test_a_dead_standby_is_passed_over(nginx: Nginx, mode: str) -> None:
    """What refuses connections gets none."""
    standby = nginx.pair.other(await asyncio.to_thread(lambda: nginx.pair.primary))
    standby.kill()
    for _ in range(4):
        async with nginx.client(mode) as bank:
            await (await sign_in(bank)).balance(OWN)


async def test_where_tls_ends_the_bank_still_proves_itself(nginx: Nginx) -> None:
    """The balancer's authority vouches for the balancer; the bank's for nobody on the way."""
    for options in ({"ca": nginx.ca}, {"path_ca": nginx.pair.ca}):
        with pytest.raises(ServerNotTrusted):
            async with nginx.client(TERMINATED, **options):
                pass


async def test_a_balancer_lets_no_false_node_in(nginx: Nginx, tmp_path: Path) -> None:
    """Towards the nodes it checks the authority as well: one that shows another certificate gets no customer."""
    wrong = Nginx(tmp_path / "wrong", nginx.pair)
    text = wrong.shipped.read_text()
    assert text.count(str(nginx.pair.ca)) == 1
    wrong.shipped.write_text(text.replace(str(nginx.pair.ca), str(nginx.ca)))
    with wrong:
        with pytest.raises(Unreachable):
            async with wrong.client(TERMINATED, deadline_s=1.0):
                pass
        async with wrong.client(PASSED) as bank:
            await sign_in(bank)
