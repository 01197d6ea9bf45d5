"""The pages of a demo: a ``fortress web`` for each bank and for the gateway, and who may try to sign in there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fortress.cli.children import Child
from fortress.cli.output import Json, Table
from fortress.cli.pairs import Pair
from fortress.cli.population import Person

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS: Final = ("Pages of", "Address", "Sign in as", "Password", "Role")
ROLES_SHOWN: Final = ("customer", "administrator")


class Pages:
    """All pages of a demo.

    Args:
        pairs: the banks and the gateway.
        folder: of the demo; a folder for each is made in it.
        say: tells people what happens.

    Attributes:
        children: their processes.
    """

    def __init__(self, pairs: Sequence[Pair], folder: Path, say: Callable[[str], None]) -> None:
        self._pairs = pairs
        names = [f"web-{pair.bank}" for pair in pairs]
        self.children = [
            Child(f"pages of {pair.bank}", "web", folder / name, folder / f"{name}.log", say)
            for pair, name in zip(pairs, names, strict=True)
        ]

    async def start(self, ports: Sequence[int]) -> None:
        """Make the folders and start all at once; the nodes run already.

        Args:
            ports: free ones, one for each.

        Raises:
            Unreachable: one did not start.
        """
        for pair, child, port in zip(self._pairs, self.children, ports, strict=True):
            _write(child.folder, pair, port)
        await asyncio.gather(*(child.start() for child in self.children))

    def document(self, people: Sequence[Person]) -> list[Json]:
        """Tell programs where they are, and with whom they may sign in."""
        return [
            {
                "bank": pair.bank,
                "url": child.told["url"],
                "folder": str(child.folder),
                "sign_in": [
                    {"username": each.username, "role": each.role, "password": each.password}
                    for each in _visitors(pair, people)
                ],
            }
            for pair, child in zip(self._pairs, self.children, strict=True)
        ]

    def table(self, people: Sequence[Person]) -> Table:
        """Tell people the same."""
        rows: list[tuple[str, ...]] = []
        for pair, child in zip(self._pairs, self.children, strict=True):
            place = ("the gateway" if pair.is_gateway else f"bank {pair.bank}", str(child.told["url"]))
            for each in _visitors(pair, people):
                rows.append((*place, each.username, each.password, each.role))
                place = ("", "")
        return Table(columns=COLUMNS, rows=rows)


def _write(folder: Path, pair: Pair, port: int) -> None:
    folder.mkdir()
    kind = "gateway" if pair.is_gateway else "bank"
    lines = (f"port = {port}", f'kind = "{kind}"', f'bank = "{pair.url}"', f'ca = "{pair.ca.absolute()}"')
    (folder / "fortress.toml").write_text("\n".join(("[web]", *lines, "")), "utf-8")


def _visitors(pair: Pair, people: Sequence[Person]) -> list[Person]:
    """Give the first of each kind that has pages of its own."""
    of_bank = [each for each in people if each.bank == pair.bank]
    first = (next((each for each in of_bank if each.role == role), None) for role in ROLES_SHOWN)
    return [each for each in first if each is not None]
