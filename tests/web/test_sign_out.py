"""Signing out while the bank cannot be asked: nobody is told that it worked before it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fortress.client.calls import Calls
from fortress.errors import Unreachable
from tests.web.pages import banking, browsing, paging


async def test_signing_out_again_ends_what_could_not_be_ended_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try fails and says so; after the second, a copy of the cookie is worth nothing."""
    whole = Calls.call

    async def away(self: Calls, operation: str, *arguments: Any, **more: Any) -> Any:
        if operation == "logout":
            raise Unreachable
        return await whole(self, operation, *arguments, **more)

    async with banking(tmp_path / "bank") as world, paging(world) as site, browsing(site) as browser:
        await browser.sign_in("alice")
        copy = browser.cookie
        with monkeypatch.context() as patch:
            patch.setattr(Calls, "call", away)
            status, _ = await browser.ask("DELETE", "/api/session")
        assert (status, browser.cookie) == (503, copy)
        assert (await browser.ask("DELETE", "/api/session"))[0] == 200
        assert browser.cookie == ""
        browser.cookie = copy
        assert (await browser.ask("GET", "/api/session"))[0] == 401
