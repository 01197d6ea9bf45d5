"""No secret in `ps`, logs, metrics, errors or on the disk: a bank run by its command line, with planted ones searched.

Whatever a person may keep to themselves is made recognisable, used in every way the command line and the library offer,
the wrong ways included; then everything that anybody else could look at is searched for it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.bank import free_port
from fortress.client.client import connect
from fortress.errors import FortressError
from fortress.ledger import entries as codec
from fortress.protocol.accounts import Profile
from tests.e2e.node import CURRENCY, Node, environment, run_cli
from tests.fault.kill import journal_entries

ADMIN_PASSWORD = "planted-quokka-admin-password"
SECOND_PASSWORD = "planted-quokka-second-password"
CUSTOMER_PASSWORD = "planted-quokka-customer-password"
STAFF_PASSWORD = "planted-quokka-teller-password"
WRONG_PASSWORD = "planted-quokka-wrong-password"
SEED = b"planted-quokka-seed-of-a-device."
PASSWORDS = (ADMIN_PASSWORD, SECOND_PASSWORD, CUSTOMER_PASSWORD, STAFF_PASSWORD, WRONG_PASSWORD)

USERNAME, STAFF_USERNAME = "plantedzebedee", "plantedtallulah"
NAME, EMAIL, PHONE, ADDRESS = "Zebedee Plantedname", "zebedee@planted.example", "+000 555 8817733", "7 Planted Lane"
REFERENCE = "planted reference of a payment"
PERSONAL = (USERNAME, STAFF_USERNAME, NAME, EMAIL, PHONE, ADDRESS, REFERENCE)

BANK = "planted-bank"


@dataclass(slots=True)
class Run:
    """What a run of the bank left to be looked at.

    Attributes:
        folder: the bank's, stopped.
        tokens: of sessions, the invitation code and the like, learned on the way.
        seen: where -> what anybody else could read there.
        talk: what commands said on standard error, and errors as answered to the library.
    """

    folder: Path
    tokens: list[str] = field(default_factory=list)
    seen: dict[str, bytes] = field(default_factory=dict)
    talk: list[str] = field(default_factory=list)

    def watch(self, who: str, pid: int) -> None:
        """Read what `ps` shows of a process, and its variables."""
        for name in ("cmdline", "environ"):
            try:
                data = Path(f"/proc/{pid}/{name}").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            self.seen[f"{who} {name}"] = self.seen.get(f"{who} {name}", b"") + data

    def command(self, home: Path, *arguments: str | Path, secret: str = "", code: int = 0) -> str:
        """Run one command of a person, with a secret on its standard input; look at it while it runs."""
        process = subprocess.Popen(
            [sys.executable, "-m", "fortress", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(FORTRESS_CONTEXT_HOME=str(home)),
        )
        self.watch("command line", process.pid)
        out, err = process.communicate(secret + "\n", timeout=60)
        self.talk.append(err)
        assert process.returncode == code, f"{arguments}: {process.returncode} {out} {err}"
        return out


def spellings(secret: bytes) -> set[bytes]:
    """Give how a secret might be written."""
    plain = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    return plain | {base64.b64encode(secret).rstrip(b"="), base64.urlsafe_b64encode(secret).rstrip(b"=")}


def found(secrets: tuple[str, ...] | list[str], data: bytes) -> list[str]:
    """Name the secrets that stand in some bytes in any spelling."""
    return [secret for secret in secrets if any(spelling in data for spelling in spellings(secret.encode()))]


def live(run: Run, node: Node, homes: Path) -> None:
    """Do everything a bank's people do, by the command line."""
    address = node.address.removeprefix("fortress://")
    ada, zebedee = homes / "ada", homes / "zebedee"
    where = ("--address", address, "--ca", node.ca)
    run.command(ada, "login", "ada", *where, "--password-file", "-", secret=ADMIN_PASSWORD)
    invited = json.loads(run.command(ada, "--json", "user", "invite"))
    run.tokens.append(invited["code"])
    code_file = homes / "code"
    code_file.write_text(invited["code"])
    code_file.chmod(0o600)
    registered = ("--code-file", code_file, "--password-file", "-")
    run.command(zebedee, "user", "register", USERNAME, *where, "--name", NAME, *registered, secret=CUSTOMER_PASSWORD)
    run.command(zebedee, "profile", "set", "--email", EMAIL, "--phone", PHONE, "--address", ADDRESS)
    added = ("--role", "teller", "--password-file", "-")
    asked = json.loads(
        run.command(ada, "--json", "user", "add", STAFF_USERNAME, "--name", NAME, *added, secret=STAFF_PASSWORD)
    )
    asyncio.run(approve(node, bytes.fromhex(asked["approval"].replace("-", ""))))
    run.command(zebedee, "account", "open", CURRENCY)
    run.command(ada, "deposit", USERNAME, "100", CURRENCY, "--reference", REFERENCE)
    other = json.loads(run.command(zebedee, "--json", "account", "open", CURRENCY))["account"]
    run.command(zebedee, "pay", str(other), "1", CURRENCY, "--reference", REFERENCE)
    run.command(zebedee, "pay", str(other), "1000000", CURRENCY, "--reference", REFERENCE, code=1)
    run.command(homes / "x", "login", USERNAME, *where, "--password-file", "-", secret=WRONG_PASSWORD, code=3)
    for file in homes.glob("*/state/*"):
        run.tokens.append(json.loads(file.read_bytes())["token"])


async def approve(node: Node, approval: bytes) -> None:
    """Be the second administrator."""
    async with node.session("grace", SECOND_PASSWORD) as grace:
        await grace.administration.approve(approval)


async def abuse(run: Run, node: Node) -> None:
    """Use the library in ways that end in errors, and keep what the bank said."""
    async with connect(node.address, ca=node.ca) as bank:
        me = await bank.login(USERNAME, CUSTOMER_PASSWORD)
        run.tokens.append(me.signed_in.token)
        account = await me.account()
        for attempt in (
            me.set_profile(Profile(name=NAME * 100)),
            me.resolve("plantednobody"),
            me.transfer(account.number, 7, "1 EUR", reference=REFERENCE),
            me.transfer(account.number, account.number, "1 EUR", reference=REFERENCE * 10),
            me.administration.create_user("other", seed=SEED),
            me.change_password(WRONG_PASSWORD, CUSTOMER_PASSWORD + "2"),
        ):
            with pytest.raises(FortressError) as caught:
                await attempt
            run.talk.append(f"{caught.value!r} {caught.value.message} {caught.value.facts}")
        await me.logout()
    async with connect(node.address, ca=node.ca) as bank:
        refused = (
            bank.resume(run.tokens[-1]),
            bank.login_with_seed(USERNAME, SEED),
            bank.login_with_seed("plantednobody", SEED),
        )
        for attempt in refused:
            with pytest.raises(FortressError) as caught:
                await attempt
            run.talk.append(f"{caught.value!r} {caught.value.message} {caught.value.facts}")


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """The life of a bank, with everything logged that can be, up to its end."""
    with tempfile.TemporaryDirectory(prefix="fortress-secrets-", dir="/var/tmp") as parent:
        folder, homes = Path(parent) / "bank", Path(parent) / "homes"
        homes.mkdir()
        files = []
        for username, password in (("ada", ADMIN_PASSWORD), ("grace", SECOND_PASSWORD)):
            file = homes / username
            file.write_text(password)
            file.chmod(0o600)
            files += ["--admin", username, "--password-file", str(file)]
        run = Run(folder)
        run.command(homes / "x", "init", folder, "--bank", BANK, *files, "--port", "0", "--status-port", "0")
        for username in ("ada", "grace"):
            (homes / username).unlink()
        settings = (
            "log.level=debug",
            "log.requests=all",
            "ledger.segment_bytes=1048576",
            f"monitor.port={free_port()}",
        )
        with Node(folder, [word for setting in settings for word in ("--set", setting)]) as node:
            assert node.process is not None
            live(run, node, homes)
            asyncio.run(abuse(run, node))
            run.watch("node", node.process.pid)
            for page in ("/status", "/metrics", "/readyz?verbose", "/livez"):
                run.seen[page] = node.page(page).encode()
            node.kill()  # what is on the disk now is what a thief would find
            for file in folder.rglob("*"):
                if file.is_file() and "certs" not in file.parts and "keys" not in file.parts:
                    run.seen[str(file.relative_to(folder))] = file.read_bytes()
        run.seen["log"] = node.log().encode()
        run.seen["talk"] = "\n".join(run.talk).encode()
        yield run


PLACES = ("node cmdline", "node environ", "command line cmdline", "/status", "/metrics", "log", "talk", "keyring")


def test_everything_was_looked_at(run: Run) -> None:
    """The search below has something to search in."""
    for place in (*PLACES, "ledger.db", "people.db", "journal/0000000001.seg"):
        assert len(run.seen[place]) > 8, place
    assert len(run.tokens) >= 4
    assert b"fortress" in run.seen["node cmdline"]
    assert b"login_finish" in run.seen["log"] and b"exceeds_available" in run.seen["log"]
    assert b"FT-1016" in run.seen["talk"] and b"FT-2001" in run.seen["talk"]


def test_no_password_key_or_token_is_anywhere(run: Run) -> None:
    """Neither in processes, pages, logs and errors, nor in any file of the bank's folder."""
    kek = (run.folder / "keys" / "node.key").read_text().strip()
    secrets = [*PASSWORDS, SEED.decode(), *run.tokens, kek, bytes.fromhex(kek).decode("latin-1")]
    for key in (run.folder / "certs").glob("*.key"):
        secrets.append(key.read_text().splitlines()[1])
    leaks = {place: names for place, data in run.seen.items() if (names := found(secrets, data))}
    assert leaks == {}


def test_nothing_personal_is_in_logs_pages_or_processes_of_the_node(run: Run) -> None:
    """No names of people in what the node tells; whose request it was, a log line says by session."""
    for place in ("node cmdline", "node environ", "/status", "/metrics", "/readyz?verbose", "log"):
        assert (place, found(PERSONAL, run.seen[place])) == (place, [])
    assert b"planted" not in run.seen["log"].replace(BANK.encode(), b"")


def test_nothing_personal_is_readable_on_the_disk(run: Run) -> None:
    """Journal, tables and people's keys are ciphertext through and through."""
    for place, data in run.seen.items():
        if place.startswith("journal/") or ".db" in place or place == "keyring":
            assert (place, found(PERSONAL, data)) == (place, [])
            assert (place, b"planted" in data.replace(BANK.encode(), b"")) == (place, False)


def test_nothing_personal_is_in_an_entry(run: Run) -> None:
    """What is hashed and kept for ever holds no name: erasing a person's key must be enough."""
    kinds = set()
    for _, entry in journal_entries(run.folder):
        kinds.add(type(entry).__name__)
        assert found((USERNAME, STAFF_USERNAME, NAME, EMAIL, PHONE, ADDRESS), codec.encode(entry)) == []
    assert {"CustomerCreated", "ProfileChanged", "ApprovalAsked", "ApprovalDecided", "Refused"} <= kinds


def test_errors_do_not_repeat_what_was_typed_secretly(run: Run) -> None:
    """Wrong passwords, codes and tokens are not echoed, and a wrong login does not say whether the user exists."""
    assert found([*PASSWORDS, SEED.decode(), *run.tokens], run.seen["talk"]) == []
    *_, known, unknown = run.talk
    assert "LoginFailed" in known
    assert known == unknown


def test_a_planted_secret_would_be_found() -> None:
    """The search sees plain text, hexadecimal and base64."""
    for spelling in spellings(SEED):
        assert found([SEED.decode()], b"before" + spelling + b"after") == [SEED.decode()]
    assert found([SEED.decode()], b"nothing") == []
    assert run_cli("--version").returncode == 0
