"""The documents hold: generated parts are fresh, links lead somewhere, commands exist, the worked example is right."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import click
import msgpack
import pytest
from cryptography import x509

from docs import example, generate
from fortress.cli.main import program
from fortress.protocol import identity, orders, schnorr
from fortress.protocol.connection import ClientConnection, ServerConnection
from fortress.protocol.fields import Request
from fortress.protocol.messages import OPERATIONS, encode_answer, encode_request
from fortress.protocol.sessions import Hello, HelloAnswer, LoginBegin, LoginChallenge, LoginFinish

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
ALL_PAGES = [*PAGES, *(path for path in [ROOT / "README.md"] if path.exists())]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
OPERATION = re.compile(r"\[\d+, \"([a-z_]+)\"")
PROGRAM = "fortress"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def name_of(path: Path) -> str:
    """Name a page in the list of tests."""
    return str(path.relative_to(ROOT))


def anchor_of(heading: str) -> str:
    """Make the anchor that a heading gets (as GitHub and MyST do)."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower()).replace(" ", "-")


@cache
def anchors_of(path: Path) -> set[str]:
    """List the places of a page that can be linked to."""
    text = BLOCK.sub("", path.read_text("utf-8"))
    return {anchor_of(heading) for heading in re.findall(r"^#{1,3} (.+)$", text, re.MULTILINE)}


def command_lines(text: str) -> Iterator[list[str]]:
    """Find the calls of the program in code blocks, without redirections and comments."""
    for language, block in BLOCK.findall(text):
        for line in block.splitlines():
            called = line.removeprefix("$ ")
            is_call = line.startswith(f"$ {PROGRAM} ") or (language in ("sh", "bash") and line.startswith(PROGRAM))
            if is_call:
                words = shlex.split(called, comments=True)
                stop = [at for at, word in enumerate(words) if word in (">", "|", "&", "&&", "2>")]
                yield words[1 : stop[0] if stop else None]


def parse(words: list[str]) -> None:
    """Let the program's own parser read a command line, without doing anything."""
    command: click.Command = program
    context = command.make_context(PROGRAM, list(words), resilient_parsing=False)
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = found
        context = found.make_context(name, rest, parent=context)


@cache
def fresh_pages() -> dict[Path, str]:
    """Generate everything once."""
    return generate.fresh_pages()


@pytest.mark.parametrize("path", [*PAGES, ROOT / "docs" / "reference" / "openapi.json"], ids=name_of)
def test_generated_parts_are_fresh(path: Path) -> None:
    """`make docs` was run after the last change of the code it derives from."""
    assert path.read_text("utf-8") == fresh_pages()[path]


def test_every_generated_page_is_there() -> None:
    """No generated page is missing."""
    assert {path for path in fresh_pages() if path.suffix == ".md"} == set(PAGES)


def test_every_generated_part_has_its_place() -> None:
    """Each part stands in exactly one page."""
    found = [name for path in PAGES for _, name, _ in generate.PART.findall(path.read_text("utf-8"))]
    assert sorted(found) == sorted(generate.PARTS)


@pytest.mark.parametrize("path", ALL_PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    """A link to another page names a file that exists, and a heading in it."""
    for target in LINK.findall(BLOCK.sub("", path.read_text("utf-8"))):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        page = (path.parent / file).resolve() if file else path
        assert page.exists(), target
        assert not anchor or page.suffix != ".md" or anchor in anchors_of(page), target


@pytest.mark.parametrize("path", ALL_PAGES, ids=name_of)
def test_command_lines_can_be_read(path: Path) -> None:
    """Every call of the program in a code block names a command that exists, with options that it has."""
    for words in command_lines(path.read_text("utf-8")):
        try:
            parse(words)
        except click.exceptions.Exit:
            continue  # --help and --version end there
        except click.ClickException as error:
            pytest.fail(f"{PROGRAM} {shlex.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("words", [["serv"], ["serve", "--fast"], ["pay", "bob"], ["cert", "steal"]], ids=shlex.join)
def test_the_check_of_command_lines_finds_mistakes(words: list[str]) -> None:
    """A wrong command, option or number of arguments does not pass."""
    with pytest.raises(click.ClickException):
        parse(words)


@pytest.mark.parametrize("path", ALL_PAGES, ids=name_of)
def test_code_blocks_name_known_operations(path: Path) -> None:
    """A request in a code block is of an operation that exists; pushes have topics instead."""
    for _, block in BLOCK.findall(path.read_text("utf-8")):
        named = set(OPERATION.findall(block)) - {"entry"}
        assert named <= OPERATIONS.keys()


def test_every_page_can_be_reached() -> None:
    """The index lists each page."""
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    for path in PAGES:
        shown = str(path.relative_to(ROOT / "docs").with_suffix(""))
        assert shown == "index" or f"\n{shown}\n" in index, shown


# --- the worked example ----------------------------------------------------------------------------------------------
@cache
def shown() -> dict[str, bytes]:
    """Read the example from the page."""
    page = (ROOT / "docs" / "reference" / "protocol.md").read_text("utf-8")
    part = next(text[0] for text in generate.PART.finditer(page) if text[2] == "example")
    return example.read_block(BLOCK.findall(part)[0][1])


@cache
def channel() -> tuple[ClientConnection, ServerConnection]:
    """Let both sides of Fortress shake hands with the example's keys, comparing the route and frames 1 and 2."""
    values = shown()
    authority = x509.load_der_x509_certificate(values["authority's certificate"])
    payload = msgpack.packb([values["bank's certificate"], values["signature"]])

    def verify(received: bytes, static_public: bytes) -> None:
        assert received == payload
        identity.verify_identity(
            received, bank_id=example.BANK, static_public=static_public, ca_certificates=[authority], now=NOW
        )

    client = ClientConnection(
        bank_id=example.BANK, entropy=values["client's ephemeral private key"], verify=verify, now=0.0
    )
    server = ServerConnection(
        values["bank's static private key"],
        payload,
        bank_id=example.BANK,
        entropy=values["bank's ephemeral private key"],
        now=0.0,
    )
    first = client.data_to_send()
    assert first == values["route frame"] + values["frame 1"]
    server.receive_data(first)
    second = server.data_to_send()
    assert second == values["frame 2"]
    client.receive_data(second)
    return client, server


def sent(side: ClientConnection | ServerConnection, message: bytes) -> bytes:
    """Let one side send a message, and give the bytes."""
    side.send_message(message)
    return side.data_to_send()


def asked(request_id: int, operation: str, fields: Request) -> bytes:
    """Let the client ask, and the server open what it sent."""
    client, server = channel()
    message = encode_request(request_id, operation, fields)
    data = sent(client, message)
    server.receive_data(data)
    assert server.messages_received() == [message]
    return data


def test_the_example_is_played_by_both_sides() -> None:
    """Handshake, hello and login give the frames that the page shows, byte for byte."""
    values = shown()
    client, server = channel()
    assert client.handshake_hash == server.handshake_hash == values["handshake hash h"]
    assert asked(1, "hello", Hello(versions=[1], agent="example")) == values["frame 3, hello"]
    answer = HelloAnswer(1, [], example.BANK, "fortress/0.1.0", 1_767_225_600_000_000)
    assert sent(server, encode_answer(1, answer)) == values["frame 4, its answer"]
    begin = LoginBegin("alice", values["login: commitment R"])
    assert asked(2, "login_begin", begin) == values["frame 5, login_begin"]
    challenge = LoginChallenge(values["salt"], 65_536, 3, 4, values["login: nonce"])
    assert sent(server, encode_answer(2, challenge)) == values["frame 6, its answer"]
    assert asked(3, "login_finish", LoginFinish(values["login: s"])) == values["frame 7, login_finish"]


def test_the_example_signs_in() -> None:
    """The password gives the seed and the key, and both proofs are accepted."""
    values = shown()
    seed = schnorr.seed_from_password(example.PASSWORD, values["salt"], schnorr.KdfParameters())
    assert seed == values["seed"]
    public = values["public key P"]
    assert schnorr.public_key(schnorr.secret_from_seed(seed)) == public
    names = (values["handshake hash h"], example.BANK, example.USERNAME, public)
    login = schnorr.challenge(*names, values["login: commitment R"], values["login: nonce"])
    key_proof = schnorr.key_proof_challenge(*names, values["key proof: commitment R"])
    for prefix, c in (("login", login), ("key proof", key_proof)):
        assert c == values[f"{prefix}: c"]
        assert schnorr.verify(public, values[f"{prefix}: commitment R"], c, values[f"{prefix}: s"])


def test_the_example_orders_a_payment() -> None:
    """The signed order is the one that Fortress makes and accepts."""
    values = shown()
    order = orders.Order(
        bank=example.BANK,
        id=example.PAYMENT_ID,
        debit=1000362,
        credit=1000265,
        amount_minor=1250,
        currency="EUR",
        reference="Lunch",
    )
    assert order.statement() == values["order: statement"]
    assert schnorr.order_signing_seed(values["seed"]) == values["order: signing seed"]
    assert orders.sign_order(order, values["order: signing seed"]) == values["order: signature"]
    key = values["order: public signing key"]
    assert orders.verify_order(order, signature=values["order: signature"], signing_key=key)


def test_the_example_is_computed_apart_from_fortress() -> None:
    """The page's bytes come from published libraries: the program behind them imports nothing of Fortress."""
    source = (ROOT / "docs" / "example.py").read_text("utf-8")
    assert not re.search(r"^\s*(from|import) fortress", source, re.MULTILINE)
    assert shown() == example.values()
