"""The network that other fault tests use does what it says: each fault is seen by a connection, and healing ends it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bench import machine
from tests.e2e.node import wait_until
from tests.fault import network as networks
from tests.fault.network import ADDRESSES, NAMESPACES, Network

pytestmark = pytest.mark.skipif(bool(networks.why_not()), reason=networks.why_not())

PORT = 7000
PATIENCE_S = 0.3
ECHO = f"""
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer.daemon_threads = True
socketserver.ThreadingTCPServer(("0.0.0.0", {PORT}), Echo).serve_forever()
"""


@pytest.fixture(scope="module")
def whole() -> Iterator[Network]:
    """A network with a program on host a that sends back what it receives; the test is host ``clients``."""
    with Network() as made:
        command = [*machine.ends_with_parent(), *made.command("a"), sys.executable, "-c", ECHO]
        with subprocess.Popen(command) as process, made.entered("clients"):
            try:
                wait_until(lambda: speaks())
                yield made
            finally:
                process.kill()


@pytest.fixture
def network(whole: Network) -> Iterator[Network]:
    """That network without faults."""
    yield whole
    whole.heal()


def connect() -> socket.socket:
    return socket.create_connection((ADDRESSES["a"], PORT), timeout=PATIENCE_S)


def echo(connection: socket.socket, data: bytes = b"anybody there?") -> bytes:
    connection.sendall(data)
    return connection.recv(len(data))


def speaks() -> bool:
    try:
        with closing(connect()) as connection:
            return bool(echo(connection))
    except OSError:
        return False


def test_a_cut_is_silent_and_heals(network: Network) -> None:
    """Nothing comes over a connection that stands, none can be made, and both work again afterwards."""
    with closing(connect()) as standing:
        network.cut("a", "clients")
        with pytest.raises(TimeoutError):
            echo(standing)
        with pytest.raises(TimeoutError):
            connect()
        network.heal()
        standing.settimeout(10)
        assert standing.recv(100)  # sent again by the kernel
    wait_until(speaks)


def test_a_cut_of_one_link_leaves_the_others(network: Network) -> None:
    """Hosts that were not named still reach each other."""
    network.cut("a", "b", "witness")
    assert speaks()
    with network.entered("b"):
        assert not speaks()
    network.mend("a", "b")
    with network.entered("b"):
        wait_until(speaks)
    with network.entered("witness"):
        assert not speaks()


@pytest.mark.parametrize(("source", "target", "arrives"), [("clients", "a", False), ("a", "clients", True)])
def test_a_one_way_cut_lets_the_other_way_pass(network: Network, source: str, target: str, arrives: bool) -> None:
    """What is sent does not arrive, or arrives and its answer does not come back."""
    code = "import socket, sys; s = socket.socket(type=2); s.bind(('', 7001)); s.settimeout(1); print(s.recv(9))"
    with subprocess.Popen([*network.command("a"), sys.executable, "-c", code], stdout=-1, stderr=-1) as listener:
        network.cut_one_way(source, target)
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            wait_until(lambda: sender.sendto(b"datagram", (ADDRESSES["a"], 7001)) and listener.poll() is not None)
        assert (listener.wait(5) == 0) is arrives
    assert not speaks()


def test_a_reset_ends_connections_at_once(network: Network) -> None:
    """Those that stand are reset, new ones are refused."""
    with closing(connect()) as standing:
        network.reset("a", "clients")
        with pytest.raises(ConnectionError):
            while True:
                echo(standing)
        with pytest.raises(ConnectionRefusedError):
            connect()


def test_loss_loses_some_and_not_all(network: Network) -> None:
    """Of many datagrams about as many are missing as was asked for."""
    network.lose("a", "clients", 30)
    with socket.socket(type=socket.SOCK_DGRAM) as receiver:
        receiver.bind(("", 7002))
        receiver.settimeout(PATIENCE_S)
        code = f"import socket; s = socket.socket(type=2); [s.sendto(b'x', ('{ADDRESSES['clients']}', 7002))"
        subprocess.run([*network.command("a"), sys.executable, "-c", code + " for _ in range(200)]"], check=True)
        count = 0
        try:
            while receiver.recv(9):
                count += 1
        except TimeoutError:
            pass
    assert 90 < count < 185


def test_a_slow_line_holds_data_back(network: Network) -> None:
    """Much data that comes back at once otherwise does not when the line is thin."""
    data = b"x" * 200_000
    network.slow("a", 64)
    with closing(connect()) as connection:
        connection.sendall(data)
        received = 0
        with pytest.raises(TimeoutError):
            while received < len(data):
                received += len(connection.recv(65536))
    assert 0 < received < len(data)


async def test_a_flapping_link_is_whole_at_the_end(network: Network) -> None:
    """It was cut several times, and works."""
    await network.flap("a", "clients", times=3, down_s=0.02, up_s=0.02)
    wait_until(speaks)


def test_what_a_killed_test_left_is_deleted() -> None:
    """Namespaces carry the id of their maker; those of a process that has ended go, with what runs in them."""
    code = (
        "import os, subprocess, sys; from tests.fault.network import Network; n = Network().__enter__();"
        "p = subprocess.Popen([*n.command('a'), 'sleep', '60'], stdout=-3, stderr=-3);"
        "print(n._prefix, p.pid, flush=True);"
        "os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).parent.parent.parent
    prefix, pid = (
        subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, timeout=20).stdout.decode().split()
    )
    assert list(NAMESPACES.glob(f"{prefix}-*"))
    assert f"{prefix}-a" in networks.delete_leftovers()
    assert not list(NAMESPACES.glob(f"{prefix}-*"))
    wait_until(lambda: not Path(f"/proc/{pid}/exe").exists())
