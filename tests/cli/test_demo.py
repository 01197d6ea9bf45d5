"""``demo``, from its first line to its last: real banks, and every command of a newcomer's first hour against them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from fortress.cli import demo
from fortress.cli.command import Call
from fortress.cli.main import run
from fortress.client.client import connect

Tell = Callable[..., Any]
START_S = 60


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, Any]]:
    """What a demo tells when it runs; it ends with the module."""
    arguments = [sys.executable, "-m", "fortress", "demo", "--json", "--seconds", "300"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        if not line:
            pytest.fail(process.stderr.read())
        document = json.loads(line)
        yield document
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=START_S)
    last = json.loads(out)
    assert (process.returncode, last["errors"], last["books_balance"]) == (0, 0, True), err
    assert not Path(document["context_home"]).parent.exists()


@pytest.fixture
def person(
    told: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Run a command as one of the sample people; give exit code, output and talk."""
    monkeypatch.setenv("FORTRESS_CONTEXT_HOME", told["context_home"])

    def call(who: str, *arguments: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        code = run(["--context", who, "--json", *arguments])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return call


def available(person: Tell, who: str) -> int:
    return int(person(who, "balance")[1][0]["available"]["minor"])


def test_it_tells_three_things_to_try(told: dict[str, Any]) -> None:
    """Addresses, people with their passwords, and commands to copy."""
    assert len(told["try"]) == 3 and {each["bank"] for each in told["people"]} == {"a", "b", "gateway"}
    assert told["address"].count("127.0.0.1:") == 2 and told["status"].endswith("/status")
    for pair in (*told["banks"], told["gateway"]):
        assert len(pair["nodes"]) == 2 and pair["address"].endswith(f"/{pair['bank']}")


def try_out(told: dict[str, Any], number: int) -> subprocess.CompletedProcess[str]:
    """Do what a newcomer is told to, word for word, in another process."""
    environment = {**os.environ, "FORTRESS_CONTEXT_HOME": told["context_home"]}
    line = told["try"][number]
    return subprocess.run(line, shell=True, env=environment, capture_output=True, text=True, timeout=60)


def test_the_first_thing_to_try_pays_across_banks(person: Tell, told: dict[str, Any]) -> None:
    """The payee's name is answered back, the money arrives at the other bank, and the gateway knows who owes whom."""
    before = available(person, "ines")
    done = try_out(told, 0)
    assert done.returncode == 0, done.stderr
    assert "Sent 12.50 EUR to Ines Example" in done.stdout
    assert available(person, "ines") == before + 1250
    banks = {row["bank"]: row for row in person("gus", "positions")[1]["positions"]}
    assert set(banks) == {"a", "b"}
    assert all(row["connected"] for row in person("alice", "bank", "list")[1])


def test_the_second_thing_to_try_is_refused(told: dict[str, Any]) -> None:
    """Nobody pays what they have not, to another bank either."""
    done = try_out(told, 1)
    assert done.returncode == 1 and "FT-1016" in done.stderr


def test_a_payment_happens_once_however_often_it_is_repeated(person: Tell) -> None:
    """The same id gives the same answer; the money moved once."""
    before = available(person, "alice")
    _, first, _ = person("alice", "pay", "bob", "10 EUR")
    code, again, _ = person("alice", "pay", "bob", "10 EUR", "--id", first["id"])
    assert code == 0 and again["replayed"] and again["position"] == first["position"]
    assert available(person, "alice") == before - 1000
    code, _, err = person("alice", "pay", "bob", "11 EUR", "--id", first["id"])
    assert code == 1 and json.loads(err.splitlines()[-1])["error"]["name"] == "id_reused"


def test_a_refusal_says_what_is_available(person: Tell) -> None:
    """Exit code 1, and the session lives on."""
    code, _, err = person("carol", "pay", "alice", "5000 EUR")
    error = json.loads(err.splitlines()[-1])["error"]
    assert (code, error["code"], error["facts"]["currency"]) == (1, "FT-1016", "EUR")
    assert person("carol", "whoami")[0] == 0


def test_what_one_may_not_do_is_refused(person: Tell) -> None:
    """A customer is no teller; exit code 3."""
    assert person("alice", "deposit", "alice", "100 EUR")[0] == 3
    assert person("alice", "user", "list")[0] == 3


def test_a_teller_takes_and_gives_cash(person: Tell) -> None:
    """To a person's account."""
    before = available(person, "carol")
    assert person("tom", "deposit", "carol", "30 EUR")[0] == 0
    assert person("tom", "withdraw", "carol", "5 EUR")[0] == 0
    assert available(person, "carol") == before + 2500


def test_a_hold_is_placed_posted_in_part_and_gone(person: Tell) -> None:
    """What is reserved cannot be spent; the rest comes back."""
    before = available(person, "alice")
    _, held, _ = person("alice", "hold", "place", "bob", "50 EUR", "--for", "1h")
    assert available(person, "alice") == before - 5000
    assert held["id"] in [row["id"] for row in person("alice", "hold", "list")[1]]
    code, _, err = person("bob", "hold", "post", held["id"], "20 EUR")
    if code:  # whoever may post it, the payer may void it
        assert person("alice", "hold", "void", held["id"])[0] == 0, err
        assert available(person, "alice") == before
    else:
        assert available(person, "alice") == before - 2000


def test_history_and_statement_say_the_same(person: Tell) -> None:
    """The statement closes with the balance."""
    person("alice", "pay", "bob", "1 EUR", "--reference", "for the test")
    _, history, _ = person("alice", "history", "--text", "for the test")
    assert history["entries"][0]["amount"]["minor"] == "-100"
    _, statement, _ = person("alice", "statement")
    _, accounts, _ = person("alice", "balance")
    assert statement["closing"] == accounts[0]["balance"]
    assert statement["head"]["bank"] == "a"


def test_a_receipt_proves_a_payment_without_the_bank(person: Tell, tmp_path: Path) -> None:
    """Kept in a file and checked by whoever gets it."""
    _, payment, _ = person("alice", "pay", "bob", "1 EUR")
    code, receipt, _ = person("alice", "receipt", "show", payment["id"])
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(receipt))
    arguments = ("receipt", "verify", str(file), "--bank", "a", "--id", payment["id"])
    assert (code, person("", *arguments)[1]["valid"]) == (0, True)


def test_limits_need_a_second_administrator(person: Tell) -> None:
    """One asks, another approves, and then the limit holds."""
    account = person("bob", "balance")[1][0]["account"]
    _, asked, _ = person("ada", "account", "limits", account, "--payment", "2 EUR")
    assert not asked["done"]
    assert asked["approval"] in [row["approval"] for row in person("ada", "approve")[1]]
    code, _, err = person("ada", "approve", asked["approval"])
    assert code == 1 and "approval_needs_another_person" in err
    assert person("grace", "approve", asked["approval"])[0] == 0
    code, _, err = person("bob", "pay", "alice", "3 EUR")
    assert code == 1 and "exceeds_limit_per_payment" in err
    rows = person("ada", "audit", "trail")[1]
    assert any(row["actor"] == "grace" for row in rows)


def test_a_customer_who_is_locked_out_cannot_go_on(person: Tell) -> None:
    """Until an administrator lets them."""
    assert person("ada", "user", "lock", "carol", "--yes")[0] == 0
    assert person("carol", "balance")[0] == 3
    assert person("ada", "user", "unlock", "carol")[0] == 0


def test_a_person_is_invited_registers_and_leaves(
    person: Tell, told: dict[str, Any], tmp_path: Path, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a context home of their own; changing the password and signing out included."""
    _, invitation, _ = person("ada", "user", "invite")
    code_file, new_file = tmp_path / "code", tmp_path / "new"
    code_file.write_text(invitation["code"] + "\n")
    new_file.write_text("nine loud mountains\n")
    monkeypatch.setenv("FORTRESS_CONTEXT_HOME", str(tmp_path / "home"))
    password = ("--password-file", str(secret_file))
    place = ("--address", told["address"], "--ca", told["ca"], "--code-file", str(code_file))
    assert person("", "user", "register", "dora", *place, *password)[0] == 0
    assert person("", "account", "open", "EUR")[0] == 0
    assert person("", "profile", "set", "--phone", "+49 30 1")[0] == 0
    assert person("", "profile", "show")[1]["phone"] == "+49 30 1"
    assert person("", "passwd", *password, "--new-password-file", str(new_file))[0] == 0
    assert person("", "logout")[0] == 0
    assert person("", "balance")[0] == 3
    code, _, err = person("", "login", *password)
    assert code == 3 and "LoginFailed" in err
    assert person("", "login", "--password-file", str(new_file))[0] == 0


def test_the_books_add_up(person: Tell) -> None:
    """At any time, under load."""
    code, rows, _ = person("ada", "audit", "balance")
    assert code == 0 and [row["sum"]["minor"] for row in rows] == ["0"]


def test_customers_are_simulated_and_measured(person: Tell) -> None:
    """Every step as the scenario says; no money lost under load."""
    code, result, _ = person("ada", "simulate", "--clients", "3")
    assert code == 0 and result["passed"]
    assert [row["count"] for row in result["steps"]] == [3, 3, 3, 3, 3]
    code, figures, _ = person("alice", "bench", "--seconds", "0.5", "--clients", "2", "--threshold", "rate=1000000")
    assert code == 10 and figures["money_is_whole"] and figures["done"] > 0 and figures["errors"] == {}


def test_status_counts_what_was_done(person: Tell, told: dict[str, Any]) -> None:
    """The same numbers at the site and at the bank."""
    url = told["status"].removesuffix("/status")
    code, site, _ = person("alice", "status", "--url", url)
    assert code == 0 and site["role"] == "primary" and site["tasks_processed"] > 0


def test_both_nodes_are_in_step(person: Tell, told: dict[str, Any]) -> None:
    """One table, with what each says of itself."""
    code, out, _ = person("alice", "status", *(node["folder"] for node in told["nodes"]))
    assert code == 0 and out["headline"] == "Bank a: two copies, node-1 is primary."
    assert {(row["node"], row["role"]) for row in out["nodes"]} == {("node-1", "primary"), ("node-2", "standby")}


def test_a_switchover_is_not_noticed(person: Tell, told: dict[str, Any]) -> None:
    """There and back."""
    folders = [node["folder"] for node in told["nodes"]]
    for name in ("node-2", "node-1"):
        code, out, err = person("alice", "switchover", *folders, "--yes")
        assert (code, out and out["primary"]) == (0, name), err
        assert person("alice", "pay", "bob", "0.01 EUR")[0] == 0
        wait_paired(person, folders)


def test_the_primary_may_die(person: Tell, told: dict[str, Any]) -> None:
    """The other node takes over, nobody signs in again, nothing is lost; the dead one comes back as standby."""
    folders = [node["folder"] for node in told["nodes"]]
    before = available(person, "bob")
    assert person("alice", "chaos", "kill", folders[0])[0] == 0
    assert person("alice", "pay", "bob", "1 EUR")[0] == 0
    assert available(person, "bob") == before + 100
    happened = [row for row in person("alice", "events", *folders)[1] if row["name"] == "takeover"]
    assert happened[-1]["node"] == "node-2" and happened[-1]["facts"]["silent_ms"] < 5_000
    wait_paired(person, folders)
    assert [row["sum"]["minor"] for row in person("ada", "audit", "balance")[1]] == ["0"]


def test_the_third_thing_to_try_kills_the_gateway_in_the_middle(person: Tell, told: dict[str, Any]) -> None:
    """Its other node takes over, and a payment made right then is paid, once."""
    folders = [node["folder"] for node in told["gateway"]["nodes"]]
    wait_paired(person, folders)
    before = available(person, "hugo")
    done = try_out(told, 2)
    assert done.returncode == 0, done.stderr
    assert available(person, "hugo") == before + 300
    wait_paired(person, folders)
    assert [row["sum"]["minor"] for row in person("gus", "audit", "balance")[1]] == ["0"]


def test_a_window_is_closed_under_load(person: Tell, told: dict[str, Any]) -> None:
    """What the banks settle by; their books and the gateway's are the same."""
    deadline = time.monotonic() + START_S
    while person("gus", "windows", "close", "--yes")[0] != 0:  # a payment may be under way just then
        assert time.monotonic() < deadline
        time.sleep(0.1)
    code, window, _ = person("gus", "windows", "show", "1")
    assert code == 0 and {row["bank"] for row in window["banks"]} == {"a", "b"}
    assert {row["agrees"] for row in window["banks"]} == {"yes"}
    assert sum(int(row["net"]["minor"]) for row in window["banks"]) == 0


class Page:
    """Somebody's session at the pages, without a browser.

    Args:
        told: what the demo told.
        who: somebody of bank a with a context there, whose session's token a ceremony would end with.
    """

    def __init__(self, told: dict[str, Any], who: str) -> None:
        self.place = told["pages"][0]
        self.headers = {"X-Fortress-Anti-Forgery": "none yet"}
        password = next(each["password"] for each in told["people"] if each["username"] == who)

        async def token() -> str:
            async with connect(f"fortress://{told['address']}", ca=told["ca"]) as bank:
                return (await bank.login(who, password)).signed_in.token

        answer, cookie = self._ask("POST", "/api/session", {"token": asyncio.run(token())})
        self.headers = {"Cookie": cookie.partition(";")[0], "X-Fortress-Anti-Forgery": answer["anti_forgery"]}

    def ask(self, path: str, body: Any = None) -> Any:
        return self._ask("GET" if body is None else "POST", path, body)[0]

    def _ask(self, method: str, path: str, body: Any) -> tuple[Any, str]:
        connection = HTTPConnection(urlsplit(self.place["url"]).netloc, timeout=START_S)
        with closing(connection):
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json", **self.headers})
            response = connection.getresponse()
            document = json.loads(response.read())
            assert response.status == 200, document
            return document, response.headers.get("Set-Cookie", "")

    def wait(self, path: str, condition: Callable[[Any], object]) -> Any:
        """Ask until the answer is as it should be."""
        deadline = time.monotonic() + START_S
        while not condition(answer := self.ask(path)):
            assert time.monotonic() < deadline, answer
            time.sleep(0.1)
        return answer


def test_each_bank_and_the_gateway_has_pages(told: dict[str, Any]) -> None:
    """With somebody to sign in as."""
    assert [(page["bank"], len(page["sign_in"])) for page in told["pages"]] == [("a", 2), ("b", 2), ("gateway", 1)]
    page = Page(told, "ada")
    assert page.ask("/api/site")["demo"]
    assert page.ask("/api/session")["username"] == "ada"


def test_a_pair_is_cut_apart_in_the_laboratory(person: Tell, told: dict[str, Any]) -> None:
    """Its primary goes on alone, nothing is lost, and healed there are two copies again; a payment is followed."""
    folders = [node["folder"] for node in told["nodes"]]
    wait_paired(person, folders)
    page = Page(told, "ada")
    assert page.ask("/api/admin/cluster")["headline"] == "Bank a is well: two copies."
    primary = next(node["name"] for node in page.ask("/api/lab")["nodes"] if is_primary(node))
    assert page.ask(f"/api/lab/{primary}", {"act": "cut"})
    page.wait("/api/admin/cluster", lambda cluster: cluster["headline"] == "Bank a has no standby.")
    view = page.wait("/api/lab", lambda view: view["payment"])
    assert {node["name"]: node["state"] for node in view["nodes"]}[primary] == "cut"
    assert {step["bank"] for step in view["payment"]["steps"]} & {"a", "b", "gateway"}
    assert person("alice", "pay", "bob", "0.01 EUR")[0] == 0
    assert page.ask(f"/api/lab/{primary}", {"act": "heal"})
    page.wait("/api/admin/cluster", lambda cluster: cluster["severity"] == "ok")
    events = [event["event"] for event in page.ask("/api/admin/events")["events"]]
    assert "solo" in events and "join" in events
    assert len(page.ask("/api/admin/samples")["samples"]) > 0
    wait_paired(person, folders)


def is_primary(node: dict[str, Any]) -> bool:
    return node["bank"] == "a" and (node["node"] or {}).get("role") == "primary"


def wait_paired(person: Tell, folders: list[str]) -> None:
    """Wait until each entry is on both disks again."""
    deadline = time.monotonic() + START_S
    while person("alice", "status", *folders)[0] != 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_no_secret_is_in_any_argument(told: dict[str, Any]) -> None:
    """What everybody on the machine can read of the processes."""
    passwords = [person["password"] for person in told["people"]]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        assert not [password for password in passwords if password in line]


def test_a_small_demo_is_one_bank(tmp_path: Path) -> None:
    """No gateway, nobody of another bank, and three other things to try."""
    small = demo.Demo(Call(quiet=True), tmp_path, small=True)
    small._make_folders()
    for pair in small._pairs:
        for child in pair.children:
            child.told = {"address": "127.0.0.1:1/a", "status": "http://127.0.0.1:2"}
    small._witness.told = {"address": "127.0.0.1:3"}
    small._pages.children[0].told = {"url": "http://localhost:4"}
    tries = small._tries()
    document = small._document(tries)
    assert isinstance(document, dict) and document["gateway"] is None
    assert {person.bank for person in small._people} == {"a"}
    assert len(tries) == 3 and not any("b/" in line for line, _ in tries)
    assert len(small._pages.children) == 1


def test_the_program_is_named_as_it_can_be_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By its name where it is found, else by its path, else as a module."""
    program = tmp_path / "fortress"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert demo.program_name() == str(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert demo.program_name() == "fortress"
    monkeypatch.setattr(sys, "argv", ["/x/__main__.py"])
    assert demo.program_name().endswith(" -m fortress")
