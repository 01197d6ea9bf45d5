"""A small bank in the test's own process: real TLS, real sealed frames, real login proofs, and faults on order.

`Books` is what a bank knows; `FakeNode` is one listener on it, so two nodes over one `Books` are a pair. A test puts
faults in front of an operation (`node.faults["transfer"] = ["cut_after"]`), one for each time it is asked for, makes a
node a standby (`node.follow(other)`), or stops it as SIGSTOP does (`node.stall()`): it accepts, and says nothing.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from fortress import authority
from fortress.client.credentials import LoginKey
from fortress.errors import (
    BankUnreachable,
    Busy,
    DiskFull,
    FortressError,
    GatewayUnreachable,
    LoginFailed,
    NoPrimary,
    NotPrimary,
    NotSignedIn,
    Refused,
    ServerNotTrusted,
    Status,
    TokenRejected,
    UnknownOperation,
    refusal_code,
)
from fortress.ledger import entries, merkle
from fortress.protocol import messages, proofs, schnorr
from fortress.protocol.accounts import AccountsAnswer, AccountView, Profile, ProfileAnswer, ResolveAnswer
from fortress.protocol.administration import StatusAnswer, UserAnswer
from fortress.protocol.channel import static_public_key
from fortress.protocol.connection import ServerConnection
from fortress.protocol.fields import Done
from fortress.protocol.frames import encode_frame
from fortress.protocol.identity import sign_identity
from fortress.protocol.money import HoldView, TransferAnswer, TransfersAnswer
from fortress.protocol.orders import Order, PaymentOrder, verify_order
from fortress.protocol.payments import PaymentAnswer, PaymentsAnswer, PaymentStep, PaymentView
from fortress.protocol.reading import (
    ConsistencyAnswer,
    EntryPush,
    HeadAnswer,
    HistoryAnswer,
    HistoryRow,
    ReceiptAnswer,
)
from fortress.protocol.routes import Notice, Route
from fortress.protocol.sessions import HelloAnswer, LoginChallenge, SignedIn
from fortress.protocol.switching import BanksAnswer, BankView

BANK = "a"
CURRENCY = "EUR"


REFUSALS: dict[str, type[FortressError]] = {
    "busy": Busy,
    "no_primary": NoPrimary,
    "distrusted": ServerNotTrusted,
    "disk_full": DiskFull,
    "no_gateway": GatewayUnreachable,
    "no_bank": BankUnreachable,
    "over": TokenRejected,
}
ELSEWHERE = 900
"""The account through which payments to other banks go."""


def now_us() -> int:
    return time.time_ns() // 1000


@dataclass
class Credentials:
    """Certificates of one bank, made once for all tests."""

    ca: bytes
    tls: ssl.SSLContext
    static_private: bytes
    identity: bytes
    fingerprint: str

    @classmethod
    def make(cls, folder: Path, bank: str = BANK) -> Credentials:
        authority.make_authority(folder, bank)
        authority.issue(folder, authority.Kind.node, bank=bank)
        facts = authority.issue(folder, authority.Kind.bank, bank=bank)
        key = load_pem_private_key((folder / "bank.key").read_bytes(), None)
        assert isinstance(key, EllipticCurvePrivateKey)
        static_private = os.urandom(32)
        chain = [authority.load_certificate(folder / "bank.crt").public_bytes(Encoding.DER)]
        identity = sign_identity(key, chain, bank, static_public_key(static_private))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        tls.load_cert_chain(folder / "node.crt", folder / "node.key")
        return cls((folder / "ca.crt").read_bytes(), tls, static_private, identity, facts.fingerprint)


@dataclass
class User:
    username: str
    public: bytes
    salt: bytes
    parameters: schnorr.KdfParameters
    account: int
    profile: Profile = Profile()
    signing: bytes = b""
    signed_orders_only: bool = False


@dataclass
class Books:
    """What the bank knows: people, accounts, transfers by id, and the tree over all entries."""

    users: dict[str, User] = field(default_factory=dict)
    balances: dict[int, int] = field(default_factory=dict)
    done: dict[bytes, tuple[Any, int]] = field(default_factory=dict)
    entries: list[bytes] = field(default_factory=list)
    rows: list[HistoryRow] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    token_s: float = 900.0
    states: dict[int, str] = field(default_factory=dict)
    tree: merkle.Tree = field(default_factory=merkle.Tree)
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    on_entry: list[Callable[[HistoryRow], None]] = field(default_factory=list)
    payments: dict[bytes, PaymentView] = field(default_factory=dict)
    signatures: dict[bytes, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # position 1 is the opening of the ledger, which concerns no account
        self.entries.append(b"opened")
        self.tree.append([merkle.leaf_hash(b"opened")])
        self.rows.append(HistoryRow(1, 0, bytes(16), "opened", 0, None, 0, ""))

    def add_user(self, username: str, seed: bytes, balance: int = 0) -> User:
        public = schnorr.public_key(schnorr.secret_from_seed(seed))
        user = self.enrol(username, public, bytes(16), schnorr.KdfParameters(), balance)
        user.signing = LoginKey(seed).signing_public()
        return user

    def enrol(
        self, username: str, public: bytes, salt: bytes, parameters: schnorr.KdfParameters, balance: int = 0
    ) -> User:
        number = 100 + len(self.users)
        user = self.users[username] = User(username, public, salt, parameters, number)
        self.balances[number] = balance
        return user

    def move(self, id: bytes, debit: int, credit: int, amount: int, order: Any, reference: str = "") -> TransferAnswer:
        if id in self.done:
            known, position = self.done[id]
            if known != order:
                raise Refused(Status.id_reused)
            return TransferAnswer(position, self.rows[position - 1].time_us, self.balances[debit], True)
        if debit not in self.balances:
            raise Refused(Status.debit_account_unknown)
        if credit not in self.balances:
            raise Refused(Status.credit_account_unknown)
        if self.balances[debit] < amount:
            raise Refused(Status.exceeds_available, {"available_minor": self.balances[debit]})
        self.balances[debit] -= amount
        self.balances[credit] += amount
        position = self.tree.size + 1
        self.done[id] = order, position
        at = now_us()
        sums = (self.balances[debit], self.balances[credit])
        entry = entries.encode(entries.Posted(at, id, debit, credit, amount, CURRENCY, 3, reference, *sums, 1))
        self.entries.append(entry)
        self.tree.append([merkle.leaf_hash(entry)])
        row = HistoryRow(position, at, id, "transfer", -amount, self.balances[debit], credit, reference)
        self.rows.append(row)
        for tell in self.on_entry:
            tell(row)
        return TransferAnswer(position, at, self.balances[debit])

    def head(self, bank: str) -> HeadAnswer:
        size, root, at = self.tree.size, self.tree.root(), now_us()
        statement = proofs.head_statement(bank=bank, epoch=1, tree_size=size, root=root, time_us=at)
        return HeadAnswer(bank, 1, size, root, at, self.key.sign(statement), self.key.public_key().public_bytes_raw())

    def view(self, number: int) -> AccountView:
        sums = (self.balances[number], self.balances[number], 0, 0, 0, 0)
        limits = (0, None, None, None, None, None)
        state = self.states.get(number, "open")
        return AccountView(number, "x", "customer", CURRENCY, state, *sums, *limits, False, 0, 1, self.tree.size)


class FakeNode:
    """One listener on some books."""

    def __init__(self, credentials: Credentials, books: Books, bank: str = BANK) -> None:
        self.credentials = credentials
        self.books = books
        self.bank = bank
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.routes: list[Route] = []
        self.notices: list[Notice] = []
        self.primary = ""
        self.stale_ms = 0
        self.lacks = 0
        self.is_stalled = False
        self._deaf: socket.socket | None = None
        self.asked: list[str] = []
        self.sessions: set[FakeSession] = set()
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> FakeNode:
        loop = asyncio.get_running_loop()
        tls = self.credentials.tls
        self._server = await loop.create_server(lambda: FakeSession(self), "127.0.0.1", self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        self._close_listener()
        self.is_stalled = False
        self.cut()
        while self.sessions:
            await asyncio.sleep(0)

    def _close_listener(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        deaf, self._deaf = self._deaf, None
        if deaf is not None:
            deaf.close()

    def cut(self) -> None:
        for session in list(self.sessions):
            session.cut()

    async def stall(self) -> None:
        """Say nothing any more, as a stopped process does; its kernel still accepts connections."""
        self._close_listener()
        self.is_stalled = True
        self._deaf = socket.socket()
        self._deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._deaf.bind(("127.0.0.1", self.port))
        self._deaf.listen()

    def follow(self, primary: FakeNode | None, stale_ms: int = 40) -> None:
        """Be a standby that knows the primary or not."""
        self.primary, self.stale_ms = primary.endpoint if primary is not None else "", stale_ms

    def lead(self) -> None:
        """Be primary."""
        self.primary, self.stale_ms = "", 0

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"fortress://{self.endpoint}/{self.bank}"


class FakeSession(asyncio.Protocol):
    """One connection."""

    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self.books = node.books
        self.user: User | None = None
        self.login: tuple[User | None, bytes, bytes] | None = None
        self.connection = ServerConnection(
            node.credentials.static_private,
            node.credentials.identity,
            bank_id=node.bank,
            entropy=os.urandom(32),
            now=time.monotonic(),
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.node.sessions.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.node.sessions.discard(self)
        if self.push in self.books.on_entry:
            self.books.on_entry.remove(self.push)

    def data_received(self, data: bytes) -> None:
        if self.node.is_stalled:
            return
        try:
            self.connection.receive_data(data)
        except FortressError:
            if self.connection.elsewhere is None:
                self.cut()
            else:
                self.send_elsewhere(self.connection.elsewhere)
            return
        for message in self.connection.messages_received():
            self.handle(message)
        self.flush()

    def send_elsewhere(self, route: Route) -> None:
        """Say what a gateway would; after ``waiting`` nothing comes."""
        self.node.routes.append(route)
        notices, self.node.notices = self.node.notices[:1], self.node.notices[1:]
        notice = notices[0] if notices else Notice.bank_unknown
        self.transport.write(encode_frame(notice.encode()))
        if notice is not Notice.waiting:
            self.transport.close()

    def handle(self, message: bytes) -> None:
        envelope = messages.decode_envelope(message)
        name = envelope.operation
        self.node.asked.append(name)
        fault = self.node.faults[name].pop(0) if self.node.faults[name] else ""
        if fault == "silent" or self.transport.is_closing():
            return
        if fault == "cut_before":
            self.cut()
            return
        try:
            if fault in REFUSALS:
                raise REFUSALS[fault]
            if fault == "not_primary":
                raise NotPrimary(facts={"primary": self.node.primary})
            handler = getattr(self, f"handle_{name}", None)
            fields = messages.decode_request(envelope)
            self.check_role(name, fields)
            if handler is None:
                raise UnknownOperation(f"unknown operation {name!r}")
            answer = messages.encode_answer(envelope.request_id, self.aged(handler(fields)))
        except FortressError as error:
            code = refusal_code(error.status) if isinstance(error, Refused) else 0
            answer = messages.encode_error(envelope.request_id, error, code)
        if fault == "cut_after":
            self.cut()
            return
        self.connection.send_message(answer)

    def check_role(self, name: str, fields: Any) -> None:
        node = self.node
        if not node.primary and not node.stale_ms:
            return
        is_seen = getattr(fields, "min_position", 0) <= self.books.tree.size - node.lacks
        if not is_seen or not messages.is_for_standby(name, fields, node.stale_ms):
            raise NotPrimary(facts={"primary": node.primary} if node.primary else {})

    def aged(self, answer: Any) -> Any:
        if self.node.stale_ms and hasattr(answer, "stale_ms"):
            return msgspec.structs.replace(answer, stale_ms=self.node.stale_ms)
        return answer

    def flush(self) -> None:
        data = self.connection.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def cut(self) -> None:
        self.transport.abort()

    def close_in_order(self) -> None:
        self.connection.close()
        self.flush()
        self.transport.close()

    @property
    def me(self) -> User:
        if self.user is None:
            raise NotSignedIn
        return self.user

    # --- sessions -----------------------------------------------------------------------------------------------

    def handle_hello(self, fields: Any) -> HelloAnswer:
        return HelloAnswer(1, [], self.node.bank, "fake", now_us())

    def handle_login_begin(self, fields: Any) -> LoginChallenge:
        user = self.books.users.get(fields.username)
        nonce = secrets.token_bytes(32)
        self.login = (user, fields.commitment, nonce)
        kdf = user.parameters if user else schnorr.KdfParameters()
        return LoginChallenge(user.salt if user else bytes(16), kdf.memory_kib, kdf.iterations, kdf.lanes, nonce)

    def handle_login_finish(self, fields: Any) -> SignedIn:
        assert self.login is not None
        (user, commitment, nonce), self.login = self.login, None
        if user is None or not self.proves(user, commitment, nonce, fields.proof):
            raise LoginFailed
        return self.sign_in(user)

    def proves(self, user: User, commitment: bytes, nonce: bytes, proof: bytes) -> bool:
        channel = self.connection.handshake_hash
        c = schnorr.challenge(channel, self.node.bank, user.username, user.public, commitment, nonce)
        return schnorr.verify(user.public, commitment, c, proof)

    def is_proven(self, key: Any, username: str) -> bool:
        channel = self.connection.handshake_hash
        c = schnorr.key_proof_challenge(channel, self.node.bank, username, key.public, key.commitment)
        return schnorr.verify(key.public, key.commitment, c, key.proof)

    def sign_in(self, user: User) -> SignedIn:
        if self.user is None:
            self.connection.login_done()
        self.user = user
        token = secrets.token_hex(8)
        self.books.tokens[token] = user.username
        expires = now_us() + int(self.books.token_s * 1e6)
        return SignedIn(1, user.username, ["customer"], bytes(16), token, expires)

    def handle_resume(self, fields: Any) -> SignedIn:
        if fields.token not in self.books.tokens:
            raise TokenRejected
        return self.sign_in(self.books.users[self.books.tokens[fields.token]])

    def handle_renew(self, fields: Any) -> SignedIn:
        return self.sign_in(self.me)

    def handle_logout(self, fields: Any) -> Done:
        self.forget_tokens()
        self.user = None
        return Done()

    def forget_tokens(self) -> None:
        name = self.me.username
        self.books.tokens = {token: who for token, who in self.books.tokens.items() if who != name}

    def handle_register(self, fields: Any) -> SignedIn:
        if not self.is_proven(fields.key, fields.username):
            raise Refused(Status.key_proof_invalid)
        if fields.username in self.books.users:
            raise Refused(Status.username_taken)
        return self.sign_in(self.enrol(fields.username, fields.key))

    def enrol(self, username: str, key: Any) -> User:
        kdf = schnorr.KdfParameters(key.memory_kib, key.iterations, key.lanes)
        return self.books.enrol(username, key.public, key.salt, kdf)

    def handle_create_user(self, fields: Any) -> UserAnswer:
        if not self.is_proven(fields.key, fields.username):
            raise Refused(Status.key_proof_invalid)
        self.enrol(fields.username, fields.key)
        return UserAnswer(2, fields.username, fields.profile.name, fields.roles, "active", now_us())

    def handle_change_key_begin(self, fields: Any) -> LoginChallenge:
        self.login = None
        challenge = self.handle_login_begin(type("Begin", (), {"username": self.me.username, "commitment": b""}))
        return challenge

    def handle_change_key(self, fields: Any) -> Done:
        assert self.login is not None
        (user, _, nonce), self.login = self.login, None
        if user is None or not self.proves(user, fields.commitment, nonce, fields.proof):
            raise LoginFailed
        if not self.is_proven(fields.key, user.username):
            raise Refused(Status.key_proof_invalid)
        user.public, user.salt = fields.key.public, fields.key.salt
        self.forget_tokens()
        return Done()

    def handle_whoami(self, fields: Any) -> UserAnswer:
        return UserAnswer(1, self.me.username, "", ["customer"], "active", 0)

    def handle_status(self, fields: Any) -> StatusAnswer:
        role = "standby" if self.node.stale_ms else "primary"
        return StatusAnswer(self.node.bank, "fake", role, 1, 1, 0, 1, len(self.node.sessions), 0, 1.0, "0")

    # --- money --------------------------------------------------------------------------------------------------

    def handle_get_account(self, fields: Any) -> AccountView:
        number = fields.number or self.me.account
        if number not in self.books.balances:
            raise Refused(Status.account_unknown)
        return self.books.view(number)

    def handle_list_accounts(self, fields: Any) -> AccountsAnswer:
        return AccountsAnswer([self.books.view(self.me.account)])

    def handle_resolve(self, fields: Any) -> ResolveAnswer:
        bank, _, name = fields.payee.rpartition("/")
        if bank and bank != self.node.bank:
            return ResolveAnswer(4711, name.title(), fields.currency or CURRENCY)
        user = self.books.users.get(name)
        if user is None:
            raise Refused(Status.credit_account_unknown)
        return ResolveAnswer(user.account, user.profile.name, CURRENCY)

    def handle_transfer(self, fields: Any) -> TransferAnswer:
        if self.me.account != fields.debit:
            raise Refused(Status.debit_account_unknown)
        self.check_signature(fields, Order, credit=fields.credit, value_date=fields.value_date)
        order = (fields.debit, fields.credit, fields.amount_minor, fields.currency, fields.reference)
        return self.books.move(fields.id, fields.debit, fields.credit, fields.amount_minor, order, fields.reference)

    def check_signature(self, fields: Any, kind: Any, **more: Any) -> None:
        signature = fields.order_signature
        if self.me.signed_orders_only and not signature:
            raise Refused(Status.order_signature_required)
        named = {name: getattr(fields, name) for name in ("id", "debit", "amount_minor", "currency", "reference")}
        order = kind(bank=self.node.bank, **named, **more)
        if signature and not verify_order(order, signature=signature, signing_key=self.me.signing):
            raise Refused(Status.order_signature_invalid)
        self.books.signatures[fields.id] = signature

    def handle_pay(self, fields: Any) -> PaymentAnswer:
        if self.me.account != fields.debit:
            raise Refused(Status.debit_account_unknown)
        self.check_signature(fields, PaymentOrder, payee=fields.payee, not_after_us=fields.not_after_us)
        if 0 < fields.not_after_us < now_us() and fields.id not in self.books.done:
            raise Refused(Status.order_expired, {"not_after_us": fields.not_after_us})
        bank, _, number = fields.payee.partition("/")
        is_own = bank == self.node.bank
        credit = int(number) if is_own else ELSEWHERE
        self.books.balances.setdefault(ELSEWHERE, 0)
        order = (fields.debit, fields.payee, fields.amount_minor, fields.currency, fields.reference)
        done = self.books.move(fields.id, fields.debit, credit, fields.amount_minor, order, fields.reference)
        sequence = 0 if is_own else done.position
        steps = [PaymentStep(self.node.bank, "held", done.time_us, done.position)]
        sums = (fields.amount_minor, fields.currency, fields.reference, sequence)
        payer = f"{self.node.bank}/{fields.debit}"
        self.books.payments[fields.id] = PaymentView(fields.id, "done", payer, fields.payee, *sums, steps=steps)
        return PaymentAnswer(done.position, done.time_us, done.balance_minor, sequence, done.replayed)

    def handle_payment(self, fields: Any) -> PaymentView:
        if fields.id not in self.books.payments:
            raise Refused(Status.payment_unknown)
        view = self.books.payments[fields.id]
        return view if fields.everywhere else msgspec.structs.replace(view, steps=[])

    def handle_payments(self, fields: Any) -> PaymentsAnswer:
        wanted = [] if fields.in_doubt else list(reversed(self.books.payments.values()))
        rest = wanted[fields.cursor :]
        page = rest[: fields.limit]
        return PaymentsAnswer(page, fields.cursor + len(page) if len(rest) > len(page) else 0)

    def handle_banks(self, fields: Any) -> BanksAnswer:
        return BanksAnswer([BankView("b", "active", True)])

    def handle_transfers(self, fields: Any) -> TransfersAnswer:
        statuses = []
        first = self.books.tree.size
        for row in fields.rows:
            try:
                self.books.move(row.id, row.debit, row.credit, row.amount_minor, row)
                statuses.append(0)
            except Refused as refusal:
                statuses.append(int(refusal.status))
        return TransfersAnswer(statuses, first, now_us())

    def handle_get_hold(self, fields: Any) -> HoldView:
        return HoldView(fields.id, 100, 101, 500, 0, CURRENCY, "open", 0, "")

    def handle_hold(self, fields: Any) -> TransferAnswer:
        return TransferAnswer(self.books.tree.size, fields.expires_us, 7)

    def handle_post(self, fields: Any) -> TransferAnswer:
        return TransferAnswer(3, now_us(), fields.amount_minor)

    def handle_void(self, fields: Any) -> TransferAnswer:
        return TransferAnswer(4, now_us(), 1)

    handle_deposit = handle_withdraw = handle_reverse = handle_void

    def handle_freeze(self, fields: Any) -> Done:
        if fields.account not in self.books.balances or self.books.states.get(fields.account) == "frozen":
            raise Refused(Status.account_state_conflict)
        self.books.states[fields.account] = "frozen"
        return Done(5)

    def handle_set_profile(self, fields: Any) -> Done:
        self.me.profile = fields.profile
        return Done(self.books.tree.size)

    def handle_get_profile(self, fields: Any) -> ProfileAnswer:
        return ProfileAnswer(self.me.username, self.me.profile)

    # --- reading ------------------------------------------------------------------------------------------------

    def handle_history(self, fields: Any) -> HistoryAnswer:
        rows = [row for row in reversed(self.books.rows[1:]) if not fields.cursor or row.position < fields.cursor]
        page = rows[: fields.limit]
        return HistoryAnswer(page, page[-1].position if len(rows) > len(page) else 0, self.books.tree.size)

    def handle_head(self, fields: Any) -> HeadAnswer:
        return self.books.head(self.node.bank)

    def handle_receipt(self, fields: Any) -> ReceiptAnswer:
        if fields.id not in self.books.done:
            raise Refused(Status.original_unknown)
        position = fields.position or self.books.done[fields.id][1]
        path = self.books.tree.inclusion_proof(position - 1, lambda level, index: b"")
        return ReceiptAnswer(position, self.books.entries[position - 1], path, self.books.head(self.node.bank))

    def handle_consistency(self, fields: Any) -> ConsistencyAnswer:
        path = self.books.tree.consistency_proof(fields.old_size, lambda level, index: b"")
        return ConsistencyAnswer(path, self.books.head(self.node.bank))

    def handle_subscribe(self, fields: Any) -> Done:
        if self.push not in self.books.on_entry:
            self.books.on_entry.append(self.push)
        if fields.from_position:
            for row in self.books.rows[fields.from_position :]:
                self.push(row)
        return Done(self.books.tree.size)

    def handle_unsubscribe(self, fields: Any) -> Done:
        if self.push in self.books.on_entry:
            self.books.on_entry.remove(self.push)
        return Done()

    def push(self, row: HistoryRow) -> None:
        if not self.transport.is_closing():
            self.connection.send_message(messages.encode_push("entry", EntryPush(self.me.account, row)))
            asyncio.get_running_loop().call_soon(self.flush)
