"""Operators change roles: of the right node, after a question, and with loss only where nothing else is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fortress import config
from fortress.cli import status, switching
from fortress.errors import NoPrimary, Unreachable
from fortress.pair.chronicle import read
from fortress.pair.control import CONTROL_NAME, Control
from fortress.pair.messages import Configuration, Member
from tests.cli.doors import answering, make_pair, witnessing

Tell = Callable[..., Any]


class Node:
    """A node that does what it is asked at once.

    Attributes:
        done: what it was asked to change, in order.
    """

    def __init__(self, role: str, other: str) -> None:
        self.role = role
        self.other = other
        self.done: list[str] = []

    def status(self) -> dict[str, Any]:
        return {"role": self.role, "peer": {"name": self.other}}

    def act(self, name: str) -> Callable[[], dict[str, Any]]:
        def do() -> dict[str, Any]:
            self.done.append(name)
            return {}

        return do

    @property
    def commands(self) -> dict[str, Any]:
        names = ("switchover", "failover", "pause", "resume")
        return {"status": self.status, **{name: self.act(name) for name in names}}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make_pair(tmp_path)


@pytest.fixture
def silent_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers for the other node."""

    def read_peer(call: Any, settings: Any) -> Any:
        raise Unreachable("nobody there")

    monkeypatch.setattr(status, "read_peer", read_peer)


def test_the_primary_hands_over(tell: Tell, pair: tuple[Path, Path]) -> None:
    """After a yes; it says who is primary then."""
    node = Node("primary", "node-2")
    with answering(pair[0], **node.commands):
        assert tell("switchover", str(pair[0]), "--no-input")[0] == 2
        assert node.done == []
        code, out, _ = tell("switchover", str(pair[0]), "--yes", "--json")
    assert code == 0 and out["primary"] == "node-2" and out["seconds"] >= 0
    assert node.done == ["switchover"]


def test_of_both_folders_the_primarys_is_asked(tell: Tell, pair: tuple[Path, Path]) -> None:
    """Whichever it is; one that does not run is passed over."""
    node = Node("primary", "node-1")
    with answering(pair[1], **node.commands):
        assert tell("switchover", *map(str, pair), "--yes")[0] == 0
    assert node.done == ["switchover"]
    standby = Node("standby", "node-2")
    with answering(pair[0], **standby.commands):
        assert tell("switchover", *map(str, pair), "--yes")[0] == 4


def test_a_standby_sends_the_operator_to_the_primary(tell: Tell, pair: tuple[Path, Path]) -> None:
    """Wrong usage, with the way."""
    node = Node("standby", "node-1")
    with answering(pair[1], **node.commands):
        code, _, err = tell("switchover", str(pair[1]), "--yes")
    assert code == 2 and "node-2 is not primary" in err and "on the machine of node-1" in err
    assert tell("switchover", str(pair[1]), "--yes")[0] == 4


def test_a_standby_takes_over_when_asked(tell: Tell, pair: tuple[Path, Path]) -> None:
    """The one named, and no other."""
    node = Node("standby", "node-1")
    with answering(pair[1], **node.commands):
        code, out, _ = tell("failover", "--to", "node-2", *map(str, pair), "--yes")
        assert code == 0 and out.startswith("node-2 is primary of bank a")
        assert tell("failover", "--to", "node-3", str(pair[1]), "--yes")[0] == 2
    assert node.done == ["failover"]


def test_what_the_node_refuses_is_told(tell: Tell, pair: tuple[Path, Path]) -> None:
    """With its code."""

    def refuse() -> dict[str, Any]:
        raise NoPrimary("this node could not become primary")

    with answering(pair[1], failover=refuse):
        code, _, err = tell("failover", "--to", "node-2", str(pair[1]), "--yes")
    assert code == 4 and "FT-3009" in err


@pytest.mark.parametrize("act", ["pause", "resume"])
def test_nodes_are_paused_and_resumed(tell: Tell, pair: tuple[Path, Path], act: str) -> None:
    """Each that is named."""
    nodes = [Node("primary", "node-2"), Node("standby", "node-1")]
    with answering(pair[0], **nodes[0].commands), answering(pair[1], **nodes[1].commands):
        code, out, _ = tell(act, *map(str, pair), "--json")
    assert code == 0 and out["nodes"] == ["node-1", "node-2"]
    assert [node.done for node in nodes] == [[act], [act]]


def test_a_node_alone_has_no_roles(tell: Tell, pair: tuple[Path, Path]) -> None:
    """It is told how to make a second one."""
    file = pair[0] / config.FILE_NAME
    file.write_text(file.read_text("utf-8").replace('peer = "', '# peer = "'), "utf-8")
    code, _, err = tell("pause", str(pair[0]))
    assert code == 2 and "--join" in err


# --- with loss -------------------------------------------------------------------------------------------------------
LOSS = ("--allow-data-loss", "--confirm", "node-2")


def open_control(folder: Path) -> Control:
    cluster = bytes.fromhex(config.load(folder, {}, {}).pair.cluster)
    path = folder / CONTROL_NAME
    return Control.open(path) if path.exists() else Control.create(path, cluster)


async def write(folder: Path, expected: int | None, fresh: Configuration) -> None:
    with_control = open_control(folder)
    register = switching.open_register_of(config.load(folder, {}, {}), with_control.state)
    try:
        await register.compare_and_set(expected, fresh)
    finally:
        await register.close()
        with_control.close()


async def held_by(folder: Path) -> Configuration | None:
    control = open_control(folder)
    register = switching.open_register_of(config.load(folder, {}, {}), control.state)
    try:
        return await register.get()
    finally:
        await register.close()
        control.close()


@pytest.mark.usefixtures("silent_peer")
def test_a_lost_primary_can_be_given_up(tell: Tell, pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The register then knows only the node named, and the node acts on it; a second call changes nothing."""
    first, second = pair
    with witnessing(tmp_path / "w", first, second):
        lost, kept = open_control(first), open_control(second)
        member, instance = Member("node-1", lost.instance), kept.instance
        lost.close()
        kept.close()
        asyncio.run(write(first, None, Configuration(1, member, (member,))))
        code, out, _ = tell("failover", "--to", "node-2", str(second), *LOSS)
        assert code == 0 and "when it is started" in out
        held = asyncio.run(held_by(second))
        assert held is not None and held.epoch == 2
        assert held.primary == Member("node-2", instance) and held.in_sync == (held.primary,)
        assert [(each.name, each.epoch) for each in read(second)] == [("forced", 2)]
        with answering(second, status=lambda: {"role": "primary"}):
            assert tell("failover", "--to", "node-2", str(second), *LOSS)[0] == 0
        with answering(second, status=lambda: {"role": "standby"}):
            code, _, err = tell("failover", "--to", "node-2", str(second), *LOSS, "--timeout", "0.2")
            assert code == 4 and "has not acted on it yet" in err
        assert asyncio.run(held_by(second)) == held


@pytest.mark.usefixtures("silent_peer")
def test_loss_needs_the_name(tell: Tell, pair: tuple[Path, Path]) -> None:
    """A yes is not enough; nothing is asked of anybody."""
    for more in ((), ("--yes",), ("--confirm", "node-1")):
        code, _, err = tell("failover", "--to", "node-2", str(pair[1]), "--allow-data-loss", *more, "--no-input")
        assert code == 2 and ("--confirm node-2" in err or "not 'node-2'" in err)


@pytest.mark.usefixtures("silent_peer")
def test_a_node_without_data_cannot_go_on(tell: Tell, pair: tuple[Path, Path]) -> None:
    """One that never was a member, one in quarantine."""
    assert "never part of its pair" in tell("failover", "--to", "node-2", str(pair[1]), *LOSS)[2]
    control = open_control(pair[1])
    control.quarantine("a broken page")
    control.close()
    assert "a broken page" in tell("failover", "--to", "node-2", str(pair[1]), *LOSS)[2]


def test_nothing_is_lost_while_the_primary_answers(
    tell: Tell, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A switchover is the way then; a standby there is no hindrance."""
    told = {"role": "primary", "node": "node-1"}
    monkeypatch.setattr(status, "read_peer", lambda call, settings: told)
    code, _, err = tell("failover", "--to", "node-2", str(pair[1]), *LOSS)
    assert code == 2 and "fortress switchover" in err
    told["role"] = "standby"
    assert "never part of its pair" in tell("failover", "--to", "node-2", str(pair[1]), *LOSS)[2]
