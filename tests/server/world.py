"""A server with a bank that answers from memory, and a client that speaks the protocol by hand."""

from __future__ import annotations

import asyncio
import atexit
import secrets
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any

import msgspec

from fortress import authority
from fortress.authority import Kind
from fortress.config import LoginSettings, NodeSettings, ServerSettings, Settings
from fortress.errors import OK, Refused, Status, error_from_wire
from fortress.protocol import schnorr
from fortress.protocol.accounts import AccountsAnswer, Profile, ProfileAnswer
from fortress.protocol.connection import ClientConnection
from fortress.protocol.fields import Done, Refusal, Request
from fortress.protocol.identity import verify_identity
from fortress.protocol.messages import (
    OPERATIONS,
    AnswerEnvelope,
    decode_answer_envelope,
    decode_fields,
    encode_request,
)
from fortress.protocol.money import TransferAnswer
from fortress.protocol.reading import History
from fortress.protocol.sessions import Hello, HelloAnswer, KeyMaterial, LoginBegin, LoginFinish, Register, SignedIn
from fortress.server.folder import Folder, create, open_folder
from fortress.server.handlers import Dispatcher, Handler, hot, plain
from fortress.server.login import LoginDesk, LoginRecord
from fortress.server.node import Node
from fortress.server.server import Server
from fortress.server.session import Session
from fortress.server.session_handlers import HANDLERS
from fortress.server.statistics import Statistics
from fortress.server.throttle import Throttle
from fortress.server.tokens import Tokens

BANK = "bank-a"
DEADLINE_S = 30.0


def record(username: str, customer: int, **more: Any) -> LoginRecord:
    """A customer whose seed is the username, repeated."""
    secret = schnorr.secret_from_seed(seed_of(username))
    whole = LoginRecord(
        customer=customer,
        username=username,
        roles=("customer",),
        state="active",
        locked_until_us=0,
        salt=b"salt" * 4,
        memory_kib=65536,
        iterations=3,
        lanes=4,
        public=schnorr.public_key(secret),
        signing=bytes(32),
        created_us=1,
    )
    return replace(whole, **more)


def seed_of(username: str) -> bytes:
    return (username.encode() * 32)[:32]


class MemoryBank:
    """What sessions ask of a bank."""

    def __init__(self) -> None:
        self.people = {
            name: record(name, number, roles=roles)
            for number, (name, roles) in enumerate(
                {"alice": ("customer",), "bob": ("customer",), "tess": ("teller",)}.items(), 1
            )
        }
        self.locked: list[tuple[str, int]] = []
        self.ended: list[tuple[int, bytes]] = []
        self.committer = SimpleNamespace(committed_lsn=3, committed_position=9)
        self.engine = SimpleNamespace(epoch=1)

    async def find_login(self, username: str) -> LoginRecord | None:
        return self.people.get(username)

    async def find_customer(self, customer: int) -> LoginRecord | None:
        return next((person for person in self.people.values() if person.customer == customer), None)

    async def register(self, request: Register) -> LoginRecord:
        if request.code != "invitation":
            raise Refused(Status.invitation_invalid)
        self.people[request.username] = made = record(request.username, 99, public=request.key.public)
        return made

    async def change_key(self, customer: int, key: KeyMaterial) -> Done:
        person = await self.find_customer(customer)
        assert person is not None
        self.people[person.username] = replace(person, public=key.public)
        return Done(position=5)

    async def lock_after_failures(self, username: str, until_us: int) -> None:
        self.locked.append((username, until_us))

    async def end_session(self, customer: int, session: bytes, until_us: int) -> None:
        self.ended.append((customer, session))


class World:
    """A running server, its bank, and what the test handlers hold back."""

    def __init__(self, folder: Folder, settings: Settings, *, sweep_s: float = 0.05) -> None:
        self.bank = MemoryBank()
        self.statistics = Statistics()
        self.held: list[tuple[Session, int]] = []
        self.folder = folder
        keyring = folder.keyring
        desk = LoginDesk(BANK, keyring.handle_key, settings.login)
        self.server = Server(
            settings,
            tls=folder.tls,
            noise_private=keyring.noise_private,
            identity_payload=folder.identity_payload,
            desk=desk,
            statistics=self.statistics,
            sweep_s=sweep_s,
        )
        self.node = Node(
            settings=settings,
            bank=self.bank,
            notifications=None,
            server=self.server,
            keyring=keyring,
            desk=desk,
            tokens=Tokens(keyring.token_seed, BANK, settings.login.token_s),
            throttle=Throttle(settings.login),
            statistics=self.statistics,
        )
        self.dispatcher = Dispatcher(self.node, self.handlers())

    def handlers(self) -> list[Handler]:
        own = {
            "transfer": hot("transfer", self.hold_back),
            "deposit": hot("deposit", self.answer_transfer),
            "get_profile": plain("get_profile", self.fail),
            "set_profile": plain("set_profile", self.done),
            "list_accounts": plain("list_accounts", self.no_accounts),
            "head": hot("head", self.fail_at_once),
            "get_account": hot("get_account", self.refuse),
            "history": hot("history", self.answer_much),
            **{handler.operation: handler for handler in HANDLERS},
        }
        return [own.get(name) or plain(name, self.done) for name in OPERATIONS]

    def hold_back(self, node: Node, session: Session, request_id: int, request: Request) -> None:
        """As the committer does: the answer comes later."""
        self.held.append((session, request_id))

    def release(self) -> None:
        held, self.held = self.held, []
        for session, request_id in held:
            session.answer(request_id, TransferAnswer(1, 2, 3))
        self.server.flush()

    def answer_transfer(self, node: Node, session: Session, request_id: int, request: Request) -> None:
        session.answer(request_id, TransferAnswer(1, 2, 3))

    def answer_much(self, node: Node, session: Session, request_id: int, request: Request) -> None:
        session.answer(request_id, ProfileAnswer("x" * 500_000, Profile()))

    def refuse(self, node: Node, session: Session, request_id: int, request: Request) -> None:
        session.refuse(request_id, Refused(Status.account_unknown, {"account": 5}))

    def fail_at_once(self, node: Node, session: Session, request_id: int, request: Request) -> None:
        raise KeyError("planted secret")

    async def fail(self, node: Node, session: Session, request: Request) -> Done:
        raise ValueError("planted secret")

    async def done(self, node: Node, session: Session, request: Request) -> Done:
        return Done(position=7)

    async def no_accounts(self, node: Node, session: Session, request: Request) -> AccountsAnswer:
        await asyncio.sleep(0)
        return AccountsAnswer([])


@cache
def made_folder() -> Path:
    """One folder for all tests of a run."""
    parent = mkdtemp(prefix="fortress-test-")
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    folder = Path(parent) / "bank"

    def certificates(certs: Path) -> None:
        authority.make_authority(certs, BANK)
        authority.issue(certs, Kind.node, bank=BANK)
        authority.issue(certs, Kind.bank, bank=BANK)

    create(folder, bank=BANK, node="one", make_certificates=certificates, settings={"server.port": 0})
    return folder


@asynccontextmanager
async def running(*, login: LoginSettings | None = None, sweep_s: float = 0.05, **server: Any) -> AsyncIterator[World]:
    """Start a world on a free port, and drain it at the end."""
    folder = open_folder(made_folder(), {}, {})
    try:
        settings = replace(
            folder.settings,
            node=NodeSettings(bank=BANK, name="one"),
            server=ServerSettings(**{"port": 0, **server}),
            login=login or LoginSettings(),
        )
        world = World(folder, settings, sweep_s=sweep_s)
        await world.server.start(world.dispatcher)
        try:
            yield world
        finally:
            world.release()
            world.dispatcher.cancel_all()
            await world.server.drain(2)
    finally:
        folder.close()


def client_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(made_folder() / "certs" / "ca.crt")
    return context


class Client:
    """One connection, spoken by hand."""

    def __init__(self, world: World, bank: str) -> None:
        self.world = world
        self.core = ClientConnection(bank_id=bank, entropy=secrets.token_bytes(32), verify=self._verify, now=0.0)
        self.messages: list[AnswerEnvelope] = []
        self.pushes: list[AnswerEnvelope] = []
        self.is_over = False
        self._last_id = 0

    def _verify(self, payload: bytes, static_public: bytes) -> None:
        verify_identity(
            payload,
            bank_id=BANK,
            static_public=static_public,
            ca_certificates=[authority.load_certificate(made_folder() / "certs" / "ca.crt")],
            now=datetime.now(UTC),
        )

    async def open(self, *, tls: ssl.SSLContext | None = None) -> Client:
        """Connect and make the handshakes, no hello."""
        port = self.world.server.port
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls or client_tls(), server_hostname="localhost"
        )
        self.flush()
        return self

    def flush(self) -> None:
        if data := self.core.data_to_send():
            self.writer.write(data)

    def send(self, operation: str, fields: Request, request_id: int = 0) -> int:
        """Send a request; give its id."""
        if not request_id:
            request_id = self._last_id = self._last_id + 1
        self.send_raw(encode_request(request_id, operation, fields))
        return request_id

    def send_raw(self, message: bytes) -> None:
        self.core.send_message(message)
        self.flush()

    async def receive(self) -> AnswerEnvelope:
        """Give the next answer in the order of arrival."""
        async with asyncio.timeout(DEADLINE_S):
            while not self.messages:
                data = await self.reader.read(65536)
                if not data:
                    self.is_over = True
                    raise EOFError
                self.core.receive_data(data)
                if self.core.peer_closed:
                    self.core.close()
                self.flush()  # what waited for the handshake, or the answer to a goodbye
                self.messages += [decode_answer_envelope(message) for message in self.core.messages_received()]
        return self.messages.pop(0)

    async def request(self, operation: str, fields: Request) -> Any:
        """Send a request and give its answer, or raise what it says."""
        request_id = self.send(operation, fields)
        envelope = await self.receive()
        assert envelope.request_id == request_id
        return opened(operation, envelope)

    async def hello(self) -> HelloAnswer:
        answer: HelloAnswer = await self.request("hello", Hello([1], agent="tests"))
        return answer

    async def login(self, username: str, *, seed: bytes = b"") -> SignedIn:
        """Make the three moves."""
        secret = schnorr.secret_from_seed(seed or seed_of(username))
        r, commitment = schnorr.commit(secrets.token_bytes(64))
        move = await self.request("login_begin", LoginBegin(username, commitment))
        public = schnorr.public_key(secret)
        c = schnorr.challenge(self.core.handshake_hash, BANK, username, public, commitment, move.nonce)
        answer: SignedIn = await self.request("login_finish", LoginFinish(schnorr.prove(secret, r, c)))
        self.core.login_done()
        return answer

    async def wait_end(self) -> None:
        """Read until the server has ended the connection."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    await self.receive()
        except (EOFError, ConnectionError):
            self.is_over = True

    async def close(self) -> None:
        """Say goodbye."""
        self.core.close()
        self.flush()
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass


def opened(operation: str, envelope: AnswerEnvelope) -> Any:
    """Give an answer's fields, or raise its error."""
    if envelope.code == OK:
        return decode_fields(OPERATIONS[operation].answer, envelope.fields)
    refusal = msgspec.msgpack.decode(envelope.fields, type=Refusal)
    assert isinstance(envelope.code, int)
    raise error_from_wire(envelope.code, refusal.message, refusal.facts)


@asynccontextmanager
async def connected(world: World, username: str = "", *, bank: str = BANK) -> AsyncIterator[Client]:
    """A client that has said hello, and signed in if a username is given."""
    client = await Client(world, bank).open()
    try:
        await client.hello()
        if username:
            await client.login(username)
        yield client
    finally:
        await client.close()


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition, turn by turn of the loop, a bounded time."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"did not happen: {what}"
        await asyncio.sleep(0.005)


async def slow_client(world: World) -> Client:
    """A client of alice's that has stopped reading."""
    client = await Client(world, BANK).open()
    await client.hello()
    await client.login("alice")
    client.writer.transport.pause_reading()
    return client


def ask_much(client: Client, times: int) -> None:
    """Ask for half a megabyte, several times."""
    for _ in range(times):
        client.send("history", History(1))
