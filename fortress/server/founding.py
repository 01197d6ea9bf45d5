"""A new bank's first entries: itself, its cash accounts, its first administrators, as its folder's plan says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from fortress.errors import SettingInvalid
from fortress.ledger.commands import Command, CreateCustomer, KeyData, OpenAccount, OpenLedger
from fortress.ledger.model import BANK, BANK_ACTOR, AccountKind
from fortress.protocol.accounts import Profile
from fortress.server.bank import Person, accepted, derived_id
from fortress.server.node import Node


async def found(node: Node, path: Path) -> None:
    """Write the first entries of a new bank, from the plan at ``path``.

    Accounts and administrators are one record, so a crash leaves all or none of them; and all carry ids of their own,
    so that beginning again finds what is there.

    Raises:
        SettingInvalid: the plan is missing or says too little; nothing was written.
    """
    bank = node.bank
    try:
        plan: dict[str, Any] = json.loads(path.read_bytes())
        currencies = tuple(str(currency) for currency in plan["currencies"])
        people: list[dict[str, Any]] = list(plan["administrators"])
        usernames = {person["username"] for person in people}
    except FileNotFoundError as error:
        raise SettingInvalid(f"{path.name} is missing: a new bank does not know its administrators") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SettingInvalid(f"{path.name} cannot be read: {error!r}") from error
    if not people or not currencies or len(usernames) < len(people):
        raise SettingInvalid(f"{path.name} names no administrator, one twice, or no currency")
    commands: list[Command] = [await _first_administrator(node, person, path) for person in people]
    accepted(await bank.commit(OpenLedger(BANK_ACTOR, node.settings.node.bank, currencies)))
    for currency in currencies:
        id = derived_id(b"fortress cash account v1", currency.encode())
        commands.append(OpenAccount(BANK_ACTOR, id, BANK, int(AccountKind.cash), currency, None))
    for verdict in await asyncio.gather(*map(bank.commit, commands)):
        accepted(verdict)


async def _first_administrator(node: Node, person: dict[str, Any], path: Path) -> Command:
    bank, desk = node.bank, node.desk
    try:
        username, name = str(person["username"]), str(person.get("name", ""))
        handle = desk.handle_of(username)
        sealed = bank.vault.seal_login_key(handle, bytes.fromhex(person["public"]))
        numbers = (int(person["memory_kib"]), int(person["iterations"]), int(person["lanes"]))
        key = KeyData(bytes.fromhex(person["salt"]), *numbers, sealed, bytes.fromhex(person["signing"]))
    except (KeyError, ValueError, TypeError) as error:
        raise SettingInvalid(f"{path.name} cannot be read: {error!r}") from error
    profile = await bank.read(bank.vault.seal_person, handle, Person(username, Profile(name=name)).encoded())
    id = derived_id(b"fortress first administrator v1", handle)
    return CreateCustomer(BANK_ACTOR, id, handle, ("administrator",), key, profile)
