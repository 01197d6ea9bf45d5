"""A new bank's first entries: written once, whatever the first start comes to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fortress.errors import FortressError, JournalWriteFailed, SettingInvalid
from fortress.server import process
from fortress.server.folder import open_folder
from fortress.server.process import BOOTSTRAP_FILE, Process
from tests.server.banks import serving, write_plan
from tests.server.test_process import kinds, new_folder


async def test_a_new_bank_begins_with_its_accounts_and_administrators(tmp_path: Path) -> None:
    """The first start writes them, the second finds them."""
    folder = new_folder(tmp_path, "ada", "abel")
    async with serving(folder) as world:
        users = (await (await world.sign_in("abel")).administration.users()).users
        assert [(user.username, user.roles, user.name) for user in users] == [
            ("ada", ["administrator"], "Ada"),
            ("abel", ["administrator"], "Abel"),
        ]
        assert sorted(world.bank.state.currencies) == ["EUR", "USD"]
        position = world.committer.committed_position
    (folder / BOOTSTRAP_FILE).unlink()
    async with serving(folder) as world:
        assert world.committer.committed_position == position
        assert kinds(world) == ["LedgerOpened", *["CustomerCreated"] * 2, *["AccountOpened"] * 4]


@pytest.mark.parametrize("writes", [0, 1])
async def test_a_new_bank_whose_first_start_was_killed_begins_again(tmp_path: Path, writes: int) -> None:
    """However far it came, the next start ends with the same bank, everything in it once."""
    folder = new_folder(tmp_path, "ada", "abel")
    whole = process.Engine.open

    def dying(*arguments: Any, **named: Any) -> Any:
        engine = whole(*arguments, **named)
        append, left = engine.journal.append_many, [writes]

        def write(records: Any) -> None:
            if not left[0]:
                raise JournalWriteFailed("killed here")
            left[0] -= 1
            append(records)

        engine.journal.__dict__.update(append_many=write, prepare=lambda *records: None)
        return engine

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(process.Engine, "open", dying)
        with pytest.raises(FortressError):
            await Process.start(open_folder(folder, {}, {}))
    async with serving(folder) as world:
        assert kinds(world) == ["LedgerOpened", *["CustomerCreated"] * 2, *["AccountOpened"] * 4]
        assert len(world.bank.state.administrators) == 2


PLANS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no currencies": lambda plan: plan.pop("currencies"),
    "empty currencies": lambda plan: plan["currencies"].clear(),
    "nobody": lambda plan: plan["administrators"].clear(),
    "somebody twice": lambda plan: plan["administrators"].append(plan["administrators"][0]),
    "no username": lambda plan: plan["administrators"][0].pop("username"),
    "no key": lambda plan: plan["administrators"][0].pop("public"),
    "no hexadecimal": lambda plan: plan["administrators"][0].update(salt="salty"),
}


@pytest.mark.parametrize("name", [*PLANS, "no JSON", "no file"])
async def test_a_plan_that_is_none_is_told(tmp_path: Path, name: str) -> None:
    """Nothing is written, the folder is free, and a right plan makes the bank."""
    folder = new_folder(tmp_path, "ada")
    path = folder / BOOTSTRAP_FILE
    plan = json.loads(path.read_bytes())
    if name in PLANS:
        PLANS[name](plan)
        path.write_text(json.dumps(plan))
    elif name == "no JSON":
        path.write_text("{")
    else:
        path.unlink()
    with pytest.raises(SettingInvalid, match=r"bootstrap\.json"):
        await Process.start(open_folder(folder, {}, {}))
    write_plan(folder, "ada")
    async with serving(folder) as world:
        assert kinds(world)[0] == "LedgerOpened"
