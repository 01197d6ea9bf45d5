"""The laboratory of a demo's pages: how all its processes are, and what may be done to them; also what they remember.

It acts by :mod:`fortress.cli.chaos` and therefore on folders that the demo has marked, and on nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from fortress.cli import chaos
from fortress.cli.cables import is_cut
from fortress.cli.joining import endpoint
from fortress.cli.misuse import Misuse
from fortress.client import address as addresses
from fortress.client.client import connect
from fortress.errors import FortressError, MessageInvalid, Unreachable
from fortress.web import administration as admin
from fortress.web.call import NotFound
from fortress.web.cluster import Observer
from fortress.web.conversions import time_of

if TYPE_CHECKING:
    from fortress.config import Settings

State = Literal["running", "stopped", "cut", "gone"]

LINES_SHOWN: Final = 60
EVENTS_READ: Final = 100
STOPPED: Final = "T"


def laboratory_of(settings: Settings) -> DemoLaboratory | None:
    """Give the laboratory of the demo that a folder belongs to; None if it belongs to none."""
    return DemoLaboratory(settings.folder.absolute().parent) if chaos.is_marked(settings.folder) else None


def chronicle_of(settings: Settings, bank: str) -> Callable[[], Sequence[admin.Event]]:
    """Give what reads the events of a bank's nodes whose folders are here: this one, in a demo those beside it."""
    folder = settings.folder.absolute()

    def read() -> Sequence[admin.Event]:
        folders = sorted(folder.parent.iterdir()) if chaos.is_marked(folder) else [folder]
        members = [member for member in map(_member, folders) if member is not None and member.node.bank == bank]
        return [event for member in members for event in _events(member)]

    return read


def _events(settings: Settings) -> Iterator[admin.Event]:
    from fortress.pair.chronicle import read, sentence
    from fortress.server.folder import data_folder

    for happening in read(data_folder(settings), limit=EVENTS_READ):
        time = time_of(int(happening.time.timestamp() * 1_000_000))
        words = f"{happening.node} {sentence(happening)}"
        yield admin.Event(time, happening.node, happening.name, words, None)


def _member(folder: Path) -> Settings | None:
    """Give the settings of a node's folder; None if it is none, such as a witness's or that of pages."""
    from fortress import config
    from fortress.server.folder import KEYRING_NAME, data_folder

    try:
        settings = config.load(folder, {}, {})
    except FortressError:
        return None
    return settings if (data_folder(settings) / KEYRING_NAME).exists() else None


class DemoLaboratory:
    """All processes of one demo.

    Args:
        demo: its folder, in which those of its processes are.
    """

    def __init__(self, demo: Path) -> None:
        self._demo = demo
        self._members: dict[str, Settings | None] = {}
        self._observers: dict[str, Observer] = {}

    async def view(self) -> admin.LabView:
        """Tell how all processes are, what was done to them and what happened then, the newest first."""
        folders = await asyncio.to_thread(self._folders)
        await self._observe([settings for settings in folders.values() if settings is not None])
        clusters = await asyncio.gather(*(observer.cluster() for observer in self._observers.values()))
        seen = {node.address: node for cluster in clusters for node in cluster.nodes}
        nodes = [self._node(name, settings, seen) for name, settings in folders.items()]
        return admin.LabView(nodes, None, await asyncio.to_thread(self._log))

    async def act(self, name: str, act: str) -> None:
        """Do one of `chaos.ACTS` to a process.

        Raises:
            NotFound: there is no process of this name.
            MessageInvalid: it has ended already, or it has no cable to be cut.
        """
        if name not in await asyncio.to_thread(self._folders):
            raise NotFound(f"no process of this demo is called {name!r}")
        try:
            await asyncio.to_thread(chaos.act, self._demo / name, act)
        except Unreachable as exc:
            raise MessageInvalid(f"{name} has ended, and starts again by itself", {"field": "name"}) from exc
        except Misuse as exc:
            raise MessageInvalid(f"{name} has no cable to another node", {"field": "act"}) from exc

    async def close(self) -> None:
        """Ask no more."""
        await asyncio.gather(*(observer.close() for observer in self._observers.values()))

    def _folders(self) -> dict[str, Settings | None]:
        """Find the processes that are there, but for those that serve pages: with its settings, if it is a node."""
        for folder in sorted(self._demo.iterdir()):
            if folder.name not in self._members and chaos.is_marked(folder) and not _serves_pages(folder):
                self._members[folder.name] = _member(folder)
        return dict(sorted(self._members.items()))

    async def _observe(self, members: Sequence[Settings]) -> None:
        """See to it that each bank has somebody who asks all of its nodes that are there."""
        for bank in {member.node.bank for member in members}:
            nodes = [member for member in members if member.node.bank == bank]
            known = self._observers.get(bank)
            if known is not None and known.size == len(nodes):
                continue
            at = ",".join(_address(member) for member in nodes)
            client = connect(f"{addresses.SCHEME}{at}/{bank}", ca=nodes[0].path(nodes[0].tls.ca))
            kind: Literal["bank", "gateway"] = "gateway" if nodes[0].switch.listen else "bank"
            self._observers[bank] = Observer(bank, kind, client.probes())
            if known is not None:
                await known.close()

    def _node(self, name: str, settings: Settings | None, seen: dict[str, admin.Node]) -> admin.LabNode:
        state = _state(self._demo / name)
        if settings is None:
            return admin.LabNode(name, "", state, None)
        return admin.LabNode(name, settings.node.bank, state, seen.get(_address(settings)))

    def _log(self) -> list[str]:
        done = chaos.done_lately(self._demo)
        happened = [
            (event.time, f"{bank}: {event.words}")
            for bank, observer in self._observers.items()
            for event in observer.watch.events
        ]
        lines = sorted([*done, *happened], reverse=True)[:LINES_SHOWN]
        return [f"{time} {words}" for time, words in lines]


def _serves_pages(folder: Path) -> bool:
    from fortress import config

    try:
        return bool(config.load(folder, {}, {}).web.bank)
    except FortressError:
        return True  # nothing that could be shown


def _address(settings: Settings) -> str:
    return endpoint(settings.server.host, settings.server.port)


def _state(folder: Path) -> State:
    try:
        pid = chaos.served_by(folder)
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except (FortressError, OSError):
        return "gone"
    if stat.rpartition(")")[2].split()[0] == STOPPED:
        return "stopped"
    return "cut" if is_cut(folder) else "running"
