"""A demo's banks and gateway: folders of two nodes, where they are, and who is primary."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fortress import config
from fortress.cli import pairs, status
from fortress.cli.cables import has_cable
from fortress.cli.pairs import Pair, free_port, free_ports
from fortress.errors import Unreachable


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def bank(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Pair:
    """A bank whose nodes listen, as far as anybody was told."""
    made = Pair("a", tmp_path, is_gateway=False, say=said.append)
    for number, child in enumerate(made.children, 1):
        child.told = {"address": f"127.0.0.1:{number}/a", "status": f"http://127.0.0.1:{number}"}
    monkeypatch.setattr(pairs, "LOOK_EVERY_S", 0)
    return made


def document(node: str, **more: Any) -> dict[str, Any]:
    return {"node": node, "role": "primary", "state": "primary.paired", "copies": 2, **more}


def show(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any]) -> None:
    """Let the site of each node show this; a node without has none."""

    def read(url: str, timeout_s: float) -> Any:
        if url not in found:
            raise Unreachable
        return found[url]

    monkeypatch.setattr(status, "read_site", read)


def test_folders_of_a_bank_and_of_a_gateway(tmp_path: Path, said: list[str]) -> None:
    """A gateway's nodes take banks; both are pairs."""
    for name, is_gateway in (("a", False), ("gateway", True)):
        made = Pair(name, tmp_path, is_gateway=is_gateway, say=said.append)
        made.make([], "EUR", free_ports(8))
        first, second = (config.load(folder, {}, {}) for folder in made.folders)
        assert (first.node.name, second.node.name) == ("node-1", "node-2")
        assert first.pair.peer == second.pair.listen and first.pair.cluster
        assert [bool(each.switch.listen) for each in (first, second)] == [is_gateway] * 2
        assert first.switch.listen != second.switch.listen or not is_gateway
        assert made.ca.exists()


def test_cables_are_laid_between_the_nodes(tmp_path: Path, said: list[str]) -> None:
    """Each dials a port of its own, behind which the other one is."""
    made = Pair("a", tmp_path, is_gateway=False, say=said.append)
    made.make([], "EUR", free_ports(6))
    cables = made.lay_cables([7, 8])
    first, second = (config.load(folder, {}, {}) for folder in made.folders)
    assert (first.pair.peer, second.pair.peer) == ("127.0.0.1:7", "127.0.0.1:8")
    ends = [f"127.0.0.1:{cable.target}" for cable in cables]
    assert ends == [second.pair.listen, first.pair.listen]
    assert all(has_cable(folder) for folder in made.folders)


def test_ports_are_not_the_same() -> None:
    """However many."""
    assert len(set(free_ports(30))) == 30 and free_port() > 0


def test_where_a_bank_is(bank: Pair) -> None:
    """For clients, and for programs."""
    assert bank.address == "127.0.0.1:1,127.0.0.1:2/a" and bank.url == "fortress://127.0.0.1:1,127.0.0.1:2/a"
    told = bank.document()
    assert told["bank"] == "a" and isinstance(told["nodes"], list) and len(told["nodes"]) == 2


async def test_the_primary_is_found(bank: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is blocked, or does not answer, is none."""
    show(monkeypatch, {})
    assert await bank.look() == ("", 0)
    show(monkeypatch, {"http://127.0.0.1:2": document("node-2")})
    assert await bank.look() == ("node-2", 2)
    show(monkeypatch, {"http://127.0.0.1:1": document("node-1", state="blocked")})
    assert await bank.look() == ("", 0)
    bank.children[0].told = {}
    show(monkeypatch, {"http://127.0.0.1:1": document("node-1")})
    assert await bank.look() == ("", 0)


async def test_a_change_of_primary_is_told(bank: Pair, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, and not for the time without one."""
    show(monkeypatch, {"http://127.0.0.1:1": document("node-1")})
    watching = asyncio.create_task(bank.watch())
    async with asyncio.timeout(10):
        for found, roles in (
            ({"http://127.0.0.1:1": document("node-1")}, "a: node-1, 2 copies"),
            ({}, "a: no primary"),
            ({"http://127.0.0.1:2": document("node-2", copies=1)}, "a: node-2, 1 copy"),
        ):
            show(monkeypatch, found)
            while bank.roles != roles:
                await asyncio.sleep(0.001)
    watching.cancel()
    assert said == ["node-2 of a is primary now"]


async def test_a_bank_is_up_when_there_are_two_copies(bank: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it is told which logs to read."""
    for child in bank.children:
        monkeypatch.setattr(child, "start", _nothing)
    show(monkeypatch, {"http://127.0.0.1:1": document("node-1")})
    await bank.start()
    monkeypatch.setattr(pairs, "START_S_MAX", 0)
    show(monkeypatch, {"http://127.0.0.1:1": document("node-1", copies=1)})
    with pytest.raises(Unreachable, match="nodes of a did not find each other"):
        await bank.start()


async def _nothing() -> None:
    pass
