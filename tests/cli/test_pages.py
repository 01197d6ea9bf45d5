"""The pages of a demo: a process for each bank and the gateway, and who may try to sign in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fortress import config
from fortress.cli.children import Child
from fortress.cli.pages import Pages
from fortress.cli.pairs import Pair
from fortress.cli.population import make_people


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pages:
    """Of a bank and a gateway that run, as far as anybody was told."""
    pairs = [Pair(name, tmp_path, is_gateway=name == "gateway", say=print) for name in ("a", "gateway")]
    for pair in pairs:
        for number, child in enumerate(pair.children, 1):
            child.told = {"address": f"127.0.0.1:{number}/{pair.bank}"}

    async def start(self: Child) -> None:
        self.told = {"url": f"http://localhost:{config.load(self.folder, {}, {}).web.port}"}

    monkeypatch.setattr(Child, "start", start)
    return Pages(pairs, tmp_path, print)


async def test_each_has_a_folder_that_names_its_bank(pages: Pages, tmp_path: Path) -> None:
    """Both nodes of it, and its authority."""
    await pages.start([21, 22])
    for child, bank, kind, port in zip(pages.children, ("a", "gateway"), ("bank", "gateway"), (21, 22), strict=True):
        web = config.load(child.folder, {}, {}).web
        assert (web.bank, web.kind, web.port) == (f"fortress://127.0.0.1:1,127.0.0.1:2/{bank}", kind, port)
        assert web.ca == str(tmp_path / f"{bank}-1" / "certs" / "ca.crt")


async def test_a_customer_and_an_administrator_may_try(pages: Pages) -> None:
    """A gateway has no customers."""
    await pages.start([21, 22])
    people = make_people()
    first, second = (dict(each) if isinstance(each, dict) else {} for each in pages.document(people))
    assert (first["bank"], first["url"]) == ("a", "http://localhost:21")
    assert _names(first) == [("alice", "customer"), ("ada", "administrator")]
    assert _names(second) == [("gus", "administrator")]
    rows = [row[:3] for row in pages.table(people).rows]
    assert rows == [
        ("bank a", "http://localhost:21", "alice"),
        ("", "", "ada"),
        ("the gateway", "http://localhost:22", "gus"),
    ]


def _names(told: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["username"], each["role"]) for each in told["sign_in"]]
