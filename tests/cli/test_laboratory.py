"""The laboratory of a demo's pages: it finds the demo's processes, says how they are, and hits nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fortress import config
from fortress.cli.cables import lay
from fortress.cli.chaos import mark
from fortress.cli.folders import make_folder
from fortress.cli.laboratory import DemoLaboratory, chronicle_of, laboratory_of
from fortress.cli.pairs import free_ports
from fortress.errors import MessageInvalid
from fortress.pair.chronicle import Chronicle
from fortress.web.call import NotFound

DEADLINE_S = 10.0


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nodes of a bank, a witness and pages; nothing serves them."""
    demo = Path(tmp_path_factory.mktemp("demo"))
    for name, port in zip(("a-1", "b-1"), free_ports(2), strict=True):
        bank = name[0]
        make_folder(demo / name, bank=bank, node="node-1", administrators=[], settings={"server.port": port})
    (demo / "witness").mkdir()
    (demo / "web-a").mkdir()
    (demo / "elsewhere").mkdir()
    (demo / "witness" / "fortress.toml").write_text('[witness]\nlisten = "127.0.0.1:7614"\n')
    (demo / "web-a" / "fortress.toml").write_text('[web]\nbank = "fortress://127.0.0.1:1/a"\n')
    for name in ("a-1", "b-1", "witness", "web-a"):
        mark(demo / name, 2**22)  # a process that no kernel has
    return demo


@pytest.fixture
def victim(demo: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that serves a-1, as far as anybody can tell."""
    folder = demo / "a-1"
    with subprocess.Popen(["/bin/sh", "-c", "read line", str(folder)], stdin=subprocess.PIPE) as process:
        mark(folder, process.pid)
        wait_state(process.pid, "S")
        yield process
        process.kill()
    mark(folder, 2**22)


def wait_state(pid: int, state: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != state:
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def states(laboratory: DemoLaboratory) -> dict[str, str]:
    return {node.name: node.state for node in (await laboratory.view()).nodes}


async def test_all_processes_are_shown_but_for_pages(demo: Path) -> None:
    """Nodes with their bank, and as they were last heard; here nobody answers."""
    laboratory = DemoLaboratory(demo)
    view = await laboratory.view()
    assert [(node.name, node.bank, node.state) for node in view.nodes] == [
        ("a-1", "a", "gone"),
        ("b-1", "b", "gone"),
        ("witness", "", "gone"),
    ]
    assert [node.node.state if node.node else None for node in view.nodes] == ["silent", "silent", None]
    port = free_ports(1)[0]
    make_folder(demo / "a-2", bank="a", node="node-2", administrators=[], settings={"server.port": port})
    mark(demo / "a-2", 2**22)
    view = await laboratory.view()
    assert {node.name: node.node.address for node in view.nodes if node.node}["a-2"] == f"127.0.0.1:{port}"
    await laboratory.close()


async def test_a_process_is_stopped_cut_off_and_killed(demo: Path, victim: subprocess.Popen[bytes]) -> None:
    """Each is shown, and told in the log, newest first."""
    laboratory = DemoLaboratory(demo)
    await laboratory.act("a-1", "stop")
    wait_state(victim.pid, "T")
    assert (await states(laboratory))["a-1"] == "stopped"
    await laboratory.act("a-1", "cont")
    with pytest.raises(MessageInvalid, match="no cable"):
        await laboratory.act("a-1", "cut")
    lay(demo / "a-1")
    await laboratory.act("a-1", "cut")
    assert (await states(laboratory))["a-1"] == "cut"
    await laboratory.act("a-1", "heal")
    assert (await states(laboratory))["a-1"] == "running"
    await laboratory.act("a-1", "kill")
    await asyncio.to_thread(victim.wait, DEADLINE_S)
    view = await laboratory.view()
    assert view.nodes[0].state == "gone"
    assert [line.partition(" ")[2] for line in view.log[:2]] == [
        "a-1 is killed",
        "a-1 is connected to the other node again",
    ]
    with pytest.raises(MessageInvalid, match="starts again by itself"):
        await laboratory.act("a-1", "kill")
    await laboratory.close()


@pytest.mark.parametrize("name", ["elsewhere", "web-a", "nothing", "..", "a-1/../elsewhere"])
async def test_nothing_else_is_hit(demo: Path, name: str) -> None:
    """Neither other folders nor the pages themselves."""
    laboratory = DemoLaboratory(demo)
    with pytest.raises(NotFound):
        await laboratory.act(name, "kill")
    await laboratory.close()


def test_only_a_demo_has_a_laboratory(demo: Path, tmp_path: Path) -> None:
    """By its mark."""
    assert laboratory_of(config.load(demo / "web-a", {}, {})) is not None
    make_folder(tmp_path / "a", bank="a", node="node-1", administrators=[])
    assert laboratory_of(config.load(tmp_path / "a", {}, {})) is None


def test_what_nodes_remember_is_read_from_their_folders(demo: Path, tmp_path: Path) -> None:
    """Of the bank that is meant; outside of a demo only of the folder itself."""
    for name, event in (("a-1", "solo"), ("b-1", "join")):
        Chronicle(demo / name, "node-1").write(event)
    (event,) = chronicle_of(config.load(demo / "web-a", {}, {}), "a")()
    assert (event.node, event.event) == ("node-1", "solo")
    assert event.words == "node-1 goes on alone as primary: new entries are on one machine"
    make_folder(tmp_path / "a", bank="a", node="one", administrators=[])
    settings = config.load(tmp_path / "a", {}, {})
    assert chronicle_of(settings, "a")() == []
    Chronicle(tmp_path / "a", "one").write("bump")
    assert [event.event for event in chronicle_of(settings, "a")()] == ["bump"]
    assert chronicle_of(settings, "b")() == []
