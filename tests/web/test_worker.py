"""The browser's cryptography: its own tests, and its code against a real bank, also when it is cut off.

Node runs the same code as the browser's worker; `web/test/bridge.ts` leaves the wire to this side. What only a browser
has, the worker and its WebSocket, is in `tests/browser`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from fortress.client.ids import new_id
from fortress.protocol import schnorr
from tests.server.banks import BANK
from tests.web.pages import Browser, Ceremony, banking, browsing, paging

WEB = Path(__file__).resolve().parents[2] / "web"
DEADLINE_S = 120.0
PASSWORD = "Gr\u00fc\u00dfe vom Fluss 77"
COMBINING = "Gru\u0308\u00dfe vom Fluss 77"
NEXT_PASSWORD = "neue W\u00f6rter am See 12"


class Worker:
    """The worker's code, in Node, and the wire that it asks for.

    Attributes:
        browser: whose cookie and address it uses.
        cut_after: a type of message; the next time one was answered, the answer is lost and so is the wire.
        said: all that went to the bank, as text.
    """

    def __init__(self, process: asyncio.subprocess.Process, browser: Browser) -> None:
        self.browser = browser
        self.cut_after = ""
        self.said: list[str] = []
        self._process = process
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def perform(self, kind: str, **fields: Any) -> Any:
        """Do a task as the page asks it; give its result, or what the error told."""
        await self._tell({"kind": kind, **fields})
        while True:
            asked = await self._hear()
            match asked.pop("do"):
                case "done":
                    return asked["result"]
                case "failed":
                    return asked
                case "open":
                    socket = await self.browser.http.ws_connect(
                        f"{self.browser.url}/api/ceremony", headers=self.browser.headers()
                    )
                    self._socket = socket
                    await self._tell({"text": ""})
                case "send":
                    self.said.append(asked["text"])
                    assert self._socket is not None
                    await self._socket.send_str(asked["text"])
                case "receive":
                    await self._receive()
                case "close":
                    await self._close()

    def kinds(self) -> list[str]:
        """The types of what went to the bank since the last time."""
        kinds = [json.loads(text)["type"] for text in self.said]
        self.said.clear()
        return kinds

    async def _receive(self) -> None:
        assert self._socket is not None
        said = await Ceremony(self._socket).hear()
        is_cut = bool(self.cut_after and self.said) and json.loads(self.said[-1])["type"] == self.cut_after
        if is_cut:
            self.cut_after = ""
        if is_cut or said["type"] == "end":
            await self._close()
            await self._tell({"lost": True})
        else:
            await self._tell({"text": json.dumps(said)})

    async def _close(self) -> None:
        assert self._socket is not None
        await self._socket.close()

    async def _tell(self, said: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(said).encode() + b"\n")
        await self._process.stdin.drain()

    async def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the worker's code ended"
        said: dict[str, Any] = json.loads(line)
        return said


def node(*arguments: str) -> list[str]:
    """Give the command line of one of the browser's tests; they fail where they cannot run."""
    assert shutil.which("node"), "Node 18 or newer is needed"
    assert (WEB / "node_modules").is_dir(), "run 'npm --prefix web ci' first"
    return ["node", str(WEB / "test" / "run.mjs"), *arguments]


@asynccontextmanager
async def working(browser: Browser) -> AsyncIterator[Worker]:
    """The worker's code for one tab."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*node("bridge.ts"), stdin=pipe, stdout=pipe)
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield Worker(process, browser)
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(DEADLINE_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_browsers_own_tests_pass() -> None:
    """The vectors, the ceremonies and the worker's failures, by Node's test runner."""
    process = await asyncio.create_subprocess_exec(
        *node(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()[-4000:]


async def test_the_browser_registers_signs_in_and_signs_orders_at_a_real_bank(tmp_path: Path) -> None:
    """By invitation; the password may be typed in any Unicode form; wrong ones are refused; orders are the signer's."""
    async with (
        banking(tmp_path / "bank") as world,
        paging(world) as site,
        browsing(site) as ada,
        working(Browser(site, ada.http)) as worker,
    ):
        await ada.sign_in("ada")
        code = await _invited(ada)
        answer = await worker.perform("register", code=code, username="ines", name="Ines", password=PASSWORD)
        assert answer.keys() == {"token"}
        answer = await worker.perform("sign_in", username="ines", password=COMBINING)
        session = await worker.browser.exchange(answer)
        assert (session["username"], session["name"]) == ("ines", "Ines")
        for username, password in (("ines", "another 12 words"), ("nobody", PASSWORD)):
            refused = await worker.perform("sign_in", username=username, password=password)
            assert (refused["kind"], refused["problem"]["code"]) == ("problem", "FT-2001")
        weak = await worker.perform("sign_in", username="alice", password=PASSWORD)  # a service's key, of no password
        assert weak["kind"] == "derivation_refused"
        await _pay(worker, world)


async def _pay(worker: Worker, world: Any) -> None:
    _, account = await worker.browser.ask("POST", "/api/accounts", {"id": new_id().hex(), "currency": "EUR"})
    tess = await world.sign_in("tess")
    await tess.deposit(account["number"], "20.00 EUR")
    (to,) = await (await world.sign_in("alice")).accounts()
    order = {
        "id": new_id().hex(),
        "debit": account["number"],
        "payee": f"{BANK}/{to.number}",
        "amount": "1234",
        "currency": "EUR",
        "reference": "M\u00fcsli \u20ac",
        "not_after": "0",
    }
    signature = await worker.perform("sign_order", username="ines", order={**order, "bank": BANK})
    status, paid = await worker.browser.ask("POST", "/api/payments", {**order, "signature": signature})
    assert (status, paid["state"], paid["balance"]) == (200, "done", "766")
    other = {**order, "id": new_id().hex()}
    status, refused = await worker.browser.ask("POST", "/api/payments", {**other, "signature": signature})
    assert (status, refused["status_name"]) == (409, "order_signature_invalid")
    unsigned = await worker.perform("sign_order", username="ada", order={**order, "bank": BANK})
    assert unsigned["kind"] == "no_key"


async def test_what_was_done_without_an_answer_is_found_out(tmp_path: Path) -> None:
    """The wire is cut after the bank has acted: registration, change of password, new customer; each is done once."""
    async with (
        banking(tmp_path / "bank") as world,
        paging(world) as site,
        browsing(site) as ada,
        working(Browser(site, ada.http)) as worker,
    ):
        await ada.sign_in("ada")
        code = await _invited(ada)
        worker.cut_after = "register"
        answer = await worker.perform("register", code=code, username="ines", name="Ines", password=PASSWORD)
        assert worker.kinds() == ["register", "login_begin", "login_finish"]
        await worker.browser.exchange(answer)

        worker.cut_after = "change_key"
        answer = await worker.perform("change_password", username="ines", old=PASSWORD, password=NEXT_PASSWORD)
        assert worker.kinds() == ["change_key_begin", "change_key", "login_begin", "login_finish"]
        await worker.browser.exchange(answer)
        answer = await worker.perform("change_password", username="ines", old=NEXT_PASSWORD, password=PASSWORD)
        assert worker.kinds() == ["change_key_begin", "change_key"]
        await worker.browser.exchange(answer)
        wrong = await worker.perform("change_password", username="ines", old=NEXT_PASSWORD, password="other words 12")
        assert wrong["problem"]["code"] == "FT-2001"
        worker.kinds()

        worker.browser = ada
        worker.cut_after = "create_user"
        customer = {"id": new_id().hex(), "username": "otto", "name": "Otto", "roles": ["customer"]}
        made = await worker.perform("create_customer", **customer, password=NEXT_PASSWORD)
        assert (made, worker.kinds()) == ({"approval": ""}, ["create_user", "create_user"])
        assert await worker.perform("create_customer", **customer, password=NEXT_PASSWORD) == {"approval": ""}
        assert (await worker.perform("sign_in", username="otto", password=NEXT_PASSWORD)).keys() == {"token"}


async def test_nothing_secret_goes_over_the_wire(tmp_path: Path) -> None:
    """Neither a password nor what is derived from it, in any ceremony."""
    async with (
        banking(tmp_path / "bank") as world,
        paging(world) as site,
        browsing(site) as ada,
        working(Browser(site, ada.http)) as worker,
    ):
        await ada.sign_in("ada")
        code = await _invited(ada)
        await worker.perform("register", code=code, username="ines", name="Ines", password=PASSWORD)
        await worker.perform("sign_in", username="ines", password=PASSWORD)
        wire = "\n".join(worker.said)
        salt = bytes.fromhex(json.loads(worker.said[0])["key"]["salt"])
        seed = schnorr.seed_from_password(PASSWORD, salt, schnorr.KdfParameters())
        assert schnorr.public_key(schnorr.secret_from_seed(seed)).hex() in wire
        for secret in (PASSWORD.encode(), seed, schnorr.secret_from_seed(seed), schnorr.order_signing_seed(seed)):
            assert secret.hex() not in wire
        assert PASSWORD not in wire


async def _invited(administrator: Browser) -> str:
    invitation = {"id": new_id().hex(), "role": "customer", "valid_hours": 1}
    status, answer = await administrator.ask("POST", "/api/admin/invitations", invitation)
    assert status == 200, answer
    return str(answer["code"])
