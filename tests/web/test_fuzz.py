"""Every operation of the API, asked with what its own description allows and with what it does not.

Whatever comes in, the answer is the one described or a problem in the form described, and never a fault. The bank
behind is a real one; a customer, a teller and an administrator are signed in.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import pytest_asyncio
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from fortress.client.ids import new_id
from fortress.web.cookies import HEADER
from fortress.web.operations import EVENT_STREAM, OPERATIONS, Operation, openapi
from fortress.web.shapes import Problem
from tests.server.banks import World
from tests.web.pages import NAME, banking, browsing, paging

EXAMPLES: Final = 6
NO_GATEWAY: Final = "FT-3010"
REQUEST_S: Final = 20
WHO: Final = ("alice", "tess", "ada")
DOCUMENT: Final = openapi("0")
LAST: Final = ("end_session", "erase", "lock")


def strategies() -> Iterator[tuple[Operation, list[Any]]]:
    """Give the ways to make requests of each operation: as described, and otherwise."""
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    for each in sorted(OPERATIONS, key=lambda each: (each.name in LAST, each.name)):
        described = schema[each.url][each.method]
        modes = [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if each.path or each.query or each.body else [])]
        yield each, [described.as_strategy(generation_mode=mode) for mode in modes]


class Fuzzer:
    """Asks from another thread than the one in which bank and pages run."""

    def __init__(self, url: str, people: Mapping[str, dict[str, str]], real: Mapping[str, Any]) -> None:
        self.url = url
        self.people = people
        self.real = real
        self.http = requests.Session()
        self.http.trust_env = False
        self.statuses: dict[str, set[int]] = {}

    def run(self, operation: Operation, strategy: Any) -> None:
        """Ask as often as there are examples."""

        @settings(
            max_examples=EXAMPLES,
            phases=[Phase.generate],
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy, is_real=st.booleans())
        def ask(case: Case, *, is_real: bool) -> None:
            if is_real:
                case.path_parameters = {**case.path_parameters, **self._real_ones(case.path_parameters)}
                if isinstance(case.body, dict):
                    case.body = {**case.body, **self._real_ones(case.body)}
            self.ask(operation, case)

        ask()

    def _real_ones(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.real[name] for name in fields if name in self.real}

    def ask(self, operation: Operation, case: Case) -> None:
        """Ask once, and hold the answer against the description."""
        who = next((name for name in WHO if self._may(operation, name)), "alice")
        sent = case.as_transport_kwargs(base_url=self.url)
        headers = {name: value for name, value in dict(sent.pop("headers", {})).items() if _is_header(value)}
        headers = {**headers, **self.people[who], "Origin": self.url}
        sent.pop("cookies", None)
        with self.http.request(**sent, headers=headers, stream=True, timeout=REQUEST_S) as answer:
            self.statuses.setdefault(operation.name, set()).add(answer.status_code)
            if answer.status_code >= 500:  # this bank has no gateway
                assert answer.status_code == 503 and answer.json()["code"] == NO_GATEWAY, (answer.text, sent)
            kind = answer.headers["Content-Type"].partition(";")[0]
            if answer.status_code >= 400:
                assert kind == "application/problem+json"
                msgspec.json.decode(answer.content, type=Problem)
            elif isinstance(operation.answer, str):
                assert operation.answer != EVENT_STREAM or kind == EVENT_STREAM
            else:
                msgspec.json.decode(answer.content, type=operation.answer)

    def _may(self, operation: Operation, name: str) -> bool:
        roles = {"alice": "customer", "tess": "teller", "ada": "administrator"}
        return roles[name] in operation.roles


def _is_header(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\x20-\x7e]*", value) is not None


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with banking(tmp_path / "bank") as world:
        yield world


@pytest.mark.timeout(240)
async def test_no_request_makes_the_pages_fail(world: World) -> None:
    """All operations, within their description and outside of it; and each was answered at least in words."""
    limits = {"requests_per_s": 1_000_000, "streams_per_session_max": 100}
    async with paging(world, **limits) as site, browsing(site) as browser:
        people = {}
        for name in WHO:
            await browser.sign_in(name)
            people[name] = {"Cookie": f"{NAME}={browser.cookie}", HEADER: browser.anti_forgery}
        alice = await world.account_of("alice")
        real = {
            "number": alice,
            "account": alice,
            "debit": alice,
            "payee": "bank-a/" + str(await world.account_of("bob")),
            "username": "bob",
            "id": new_id().hex(),
            "currency": "EUR",
            "amount": "1",
        }
        fuzzer = Fuzzer(browser.url, people, real)
        for operation, ways in strategies():
            for strategy in ways:
                await asyncio.to_thread(fuzzer.run, operation, strategy)
    assert fuzzer.statuses.keys() == {each.name for each in OPERATIONS}
