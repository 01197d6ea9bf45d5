"""The bank behind the connections: what handlers ask of the ledger, with personal data sealed and opened on the way.

Knows the engine, the committer and the vault, and no session. Methods are coroutines that run blocking reads on the
committer's reader threads; only :meth:`submit` is for the hot path and answers through a callback.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fortress.errors import FortressError, MessageInvalid, Refused, Status
from fortress.ledger.commands import (
    ChangeCustomer,
    ChangeKey,
    ChangeProfile,
    Command,
    CreateCustomer,
    EndSession,
    KeyData,
)
from fortress.ledger.engine import Engine
from fortress.ledger.entries import AnyEntry, CustomerCreated
from fortress.ledger.merkle import EMPTY_ROOT, Tree, consistency_proof, inclusion_proof
from fortress.ledger.model import BANK_ACTOR, Account, Actor, Customer, CustomerState
from fortress.ledger.queries import Queries
from fortress.ledger.rules import Verdict
from fortress.ledger.state import Wanted
from fortress.ledger.vault import Vault
from fortress.protocol.accounts import Profile
from fortress.protocol.fields import Done
from fortress.protocol.proofs import head_statement
from fortress.protocol.reading import ConsistencyAnswer, HeadAnswer, ReceiptAnswer
from fortress.protocol.sessions import KeyMaterial, Register
from fortress.server.committer import Answered, Committer
from fortress.server.login import LoginDesk, LoginRecord

Result = TypeVar("Result")
LOGINS_REMEMBERED_MAX = 8_192
ACTORS_REMEMBERED_MAX = 8_192
ANONYMOUS = Actor(0, frozenset())


class Person(msgspec.Struct, frozen=True):
    """What is sealed under a customer's own key."""

    username: str
    profile: Profile

    def encoded(self) -> bytes:
        """Make the bytes that are sealed."""
        return _encode(self)


NOBODY = Person("", Profile())
_encode = msgspec.msgpack.Encoder().encode
_decode_person = msgspec.msgpack.Decoder(Person).decode


class Bank:
    """One bank on this node.

    Args:
        engine: its ledger.
        committer: what writes to it.
        vault: its people's keys.
        desk: what turns usernames into handles.
        head_seed: 32 bytes, of the Ed25519 key that signs heads.
    """

    def __init__(
        self, engine: Engine, committer: Committer, vault: Vault, desk: LoginDesk, *, head_seed: bytes
    ) -> None:
        self.engine = engine
        self.state = engine.state
        self.committer = committer
        self.submit: Callable[[Command, Answered], None] = committer.submit
        self.commit = committer.commit
        self.vault = vault
        self.queries = Queries(engine.store)
        self._desk = desk
        self._head_key = Ed25519PrivateKey.from_private_bytes(head_seed)
        self.head_public = self._head_key.public_key().public_bytes_raw()
        self._actors: dict[int, Actor] = {}
        # handle -> the sealed key that the record was made of, the record
        self._logins: OrderedDict[bytes, tuple[bytes, LoginRecord]] = OrderedDict()

    # --- Who asks --------------------------------------------------------------------------------------------------
    def actor(self, customer: int, roles: frozenset[str]) -> Actor:
        """Make what the rules know about who asks."""
        actor = self._actors.get(customer)
        if actor is None or actor.roles is not roles:
            if len(self._actors) >= ACTORS_REMEMBERED_MAX:
                self._actors.clear()
            actor = self._actors[customer] = Actor(customer, roles)
        return actor

    # --- Reading ---------------------------------------------------------------------------------------------------
    async def read(self, function: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        """Run a blocking read on a reader thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.committer.readers, lambda: function(*arguments, **named))

    async def committed(self, position: int) -> None:
        """Wait until a position that was judged is committed: before that, nothing that shows it may be told.

        Raises:
            FortressError: that cannot be waited for now.
        """
        if position > self.committer.committed_position:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.committer.when_committed(position, partial(_settle, future))
            await future

    async def fill(self, wanted: Wanted | None) -> None:
        """Read what memory lacks; reading alone must not make it grow, so what is long unused is forgotten."""
        if wanted is not None:
            self.state.fill(wanted, await self.read(self.engine.store.load, wanted))
            self.state.trim(self.engine.store.applied_position)

    async def known(self, id: bytes) -> tuple[int, AnyEntry] | None:
        """Give position and content of the first entry written under an id, once it is committed."""
        known = self.state.known(id)
        if known is None:
            return await self.read(self.queries.entry_of, id)
        await self.committed(known[0])
        return known

    async def account(self, number: int) -> Account | None:
        """Give an account as it is judged now, reading it if memory does not have it."""
        await self.fill(self.state.want_account(number))
        return self.state.account(number)

    async def customer(self, number: int) -> Customer | None:
        """Give a customer by number."""
        await self.fill(self.state.want_customer(customer=number))
        return self.state.customer(number)

    async def customer_named(self, username: str) -> Customer:
        """Give a customer by username.

        Raises:
            Refused: nobody has this username.
        """
        handle = self._desk.handle_of(username)
        await self.fill(self.state.want_customer(handle=handle))
        customer = self.state.customer_by_handle(handle)
        if customer is None or customer.state == CustomerState.erased:
            await self.committed(customer.position if customer is not None else 0)
            raise Refused(Status.customer_unknown)
        return customer

    async def customer_number(self, username: str) -> int:
        """Give the number of whoever has or had this username, for a command that the rules refuse; 0 for nobody."""
        handle = self._desk.handle_of(username)
        await self.fill(self.state.want_customer(handle=handle))
        customer = self.state.customer_by_handle(handle)
        return customer.customer if customer is not None else 0

    async def tables_hold(self, position: int) -> None:
        """Wait until the tables hold everything up to a position that memory has seen."""
        await self.committer.wait_applied(min(position, self.engine.state.position))

    async def person(self, customer: Customer) -> Person:
        """Open a customer's personal data as it is now, once that is committed; an erased one's is empty."""
        handle, sealed = customer.handle, customer.profile
        await self.committed(customer.position)
        plain = await self.read(self.vault.open_person, handle, sealed) if sealed else None
        return NOBODY if plain is None else _decode_person(plain)

    async def username(self, number: int) -> str:
        """Name a customer for people; the bank itself is ``bank``."""
        if number == 0:
            return "bank"
        customer = await self.customer(number)
        if customer is None:
            return str(number)
        return (await self.person(customer)).username or f"erased-{number}"

    # --- Logins ----------------------------------------------------------------------------------------------------
    async def find_login(self, username: str) -> LoginRecord | None:
        """Find who has a username; what was found lately is answered without leaving the loop."""
        handle = self._desk.handle_of(username)
        customer = self.state.customer_by_handle(handle)
        if customer is None:
            await self.fill(self.state.want_customer(handle=handle))
            customer = self.state.customer_by_handle(handle)
        return await self._login_of(customer, username)

    async def find_customer(self, customer: int) -> LoginRecord | None:
        """Find a customer by number, for a session that goes on."""
        found = await self.customer(customer)
        if found is None:
            return None
        known = self._logins.get(found.handle)
        return await self._login_of(found, known[1].username if known else (await self.person(found)).username)

    async def _login_of(self, customer: Customer | None, username: str) -> LoginRecord | None:
        """Give what logins know of a customer as they are now, once that is committed."""
        if customer is None:
            return None
        position = customer.position
        record = None if customer.state == CustomerState.erased else self._current(customer, username)
        if position > self.committer.committed_position:
            await self.committed(position)
        return record

    def _current(self, customer: Customer, username: str) -> LoginRecord:
        sealed, known = self._logins.get(customer.handle, (b"", None))
        if (
            known is not None
            and sealed == customer.sealed_public  # sealed anew with each key, also one with the same salt
            and known.roles == customer.roles
            and known.locked_until_us == customer.locked_until_us
            and known.state == CustomerState(customer.state).name
        ):
            return known
        return self._remember(customer, username)

    def _remember(self, customer: Customer, username: str) -> LoginRecord:
        c = customer
        record = LoginRecord(
            customer=c.customer,
            username=username,
            roles=c.roles,
            state="locked" if c.state == CustomerState.locked else "active",
            locked_until_us=c.locked_until_us,
            salt=c.salt,
            memory_kib=c.memory_kib,
            iterations=c.iterations,
            lanes=c.lanes,
            public=self.vault.open_login_key(c.handle, c.sealed_public),
            signing=c.signing,
            created_us=c.created_us,
        )
        self._logins[c.handle] = (c.sealed_public, record)
        if len(self._logins) > LOGINS_REMEMBERED_MAX:
            self._logins.popitem(last=False)
        return record

    def key_data(self, username: str, key: KeyMaterial) -> KeyData:
        """Seal a login key as the ledger keeps it."""
        sealed = self.vault.seal_login_key(self._desk.handle_of(username), key.public)
        return KeyData(key.salt, key.memory_kib, key.iterations, key.lanes, sealed, key.signing)

    async def create_customer(
        self,
        actor: Actor,
        id: bytes,
        username: str,
        roles: tuple[str, ...],
        key: KeyMaterial,
        profile: Profile,
        *,
        invitation: bytes = b"",
    ) -> Verdict:
        """Create a customer: their own key first and durable, then the entry.

        Raises:
            Refused: as the rules say.
        """
        handle = self._desk.handle_of(username)
        await self.fill(self.state.want_customer(handle=handle))
        sealed = await self.read(self.vault.seal_person, handle, Person(username, profile).encoded())
        data = self.key_data(username, key)
        command = CreateCustomer(actor, id, handle, roles, data, sealed, invitation)
        return accepted(await self.commit(command))

    async def register(self, request: Register) -> LoginRecord:
        """Make a customer from an invitation; the roles are the invitation's.

        A code that is none leaves no trace: anybody could fill the journal with guesses.

        Raises:
            Refused: the code is wrong, used or expired, or the username taken.
        """
        digest = hashlib.sha256(request.code.encode()).digest()
        id = derived_id(b"fortress registration v1", digest + request.username.encode())
        invitation = self.state.invitation(digest)
        if invitation is None or now_us() >= invitation.expires_us:
            known = await self.known(id)  # a repeat, whose first answer was lost, finds its code used by itself
            if known is None or type(known[1]) is not CustomerCreated:
                await self.committed(self.state.position)
                raise Refused(Status.invitation_invalid)
        role = invitation.role if invitation is not None else "customer"
        profile = Profile(name=request.name)
        await self.create_customer(ANONYMOUS, id, request.username, (role,), request.key, profile, invitation=digest)
        record = await self.find_login(request.username)
        if record is None or record.public != request.key.public:
            raise Refused(Status.invitation_invalid)
        return record

    async def change_key(self, customer: int, key: KeyMaterial) -> Done:
        """Replace a login key that was proven."""
        record = await self.find_customer(customer)
        if record is None:
            raise Refused(Status.customer_unknown)
        actor = self.actor(customer, frozenset(record.roles))
        verdict = await self.commit(ChangeKey(actor, customer, self.key_data(record.username, key)))
        return Done(position=accepted(verdict).position)

    async def change_profile(self, actor: Actor, customer: Customer, profile: Profile) -> Done:
        """Replace personal data."""
        person = await self.person(customer)
        if not person.username:
            raise Refused(Status.customer_erased)
        sealed = await self.read(self.vault.seal_person, customer.handle, Person(person.username, profile).encoded())
        verdict = await self.commit(ChangeProfile(actor, customer.customer, sealed))
        return Done(position=accepted(verdict).position)

    async def lock_after_failures(self, username: str, until_us: int) -> None:
        """Write a lockout into the journal, unless nobody has the username or they are locked for longer already."""
        record = await self.find_login(username)
        if record is not None and not record.is_locked(until_us):
            await self.commit(ChangeCustomer(BANK_ACTOR, new_id(), record.customer, "lock", (), until_us))

    async def end_session(self, customer: int, session: bytes, until_us: int) -> None:
        """Write down that a session has ended, so that its tokens are refused after a restart or failover too."""
        await self.commit(EndSession(self.actor(customer, frozenset()), customer, session, until_us))

    # --- Proofs ----------------------------------------------------------------------------------------------------
    def _signed(self, size: int, root: bytes) -> HeadAnswer:
        bank, epoch, time_us = self.engine.bank, self.engine.epoch, now_us()
        statement = head_statement(bank=bank, epoch=epoch, tree_size=size, root=root, time_us=time_us)
        return HeadAnswer(bank, epoch, size, root, time_us, self._head_key.sign(statement), self.head_public)

    async def head(self) -> HeadAnswer:
        """Sign the head of what is committed."""
        record = self.committer.committed_record
        if record is None:
            return self._signed(0, EMPTY_ROOT)
        return self._signed(record.tree_size, record.tree_root)

    async def receipt(self, position: int) -> ReceiptAnswer:
        """Prove the entry at a position under a signed head."""
        await self.tables_hold(position)

        def prove() -> tuple[int, bytes, bytes, list[bytes]]:
            store = self.engine.store
            size = store.applied_position
            root = Tree.restore(size, store.tile).root()
            return size, root, self.queries.entry_at(position), inclusion_proof(position - 1, size, store.tile)

        size, root, entry, path = await self.read(prove)
        return ReceiptAnswer(position, entry, path, self._signed(size, root))

    async def consistency(self, old_size: int) -> ConsistencyAnswer:
        """Prove that the journal of ``old_size`` entries is the beginning of the present one.

        Raises:
            MessageInvalid: the journal was never that long.
        """
        await self.tables_hold(self.committer.committed_position)

        def prove() -> tuple[int, bytes, list[bytes]]:
            store = self.engine.store
            size = store.applied_position
            if old_size > size:
                raise MessageInvalid(f"the journal has {size} entries", {"field": "old_size"})
            return size, Tree.restore(size, store.tile).root(), consistency_proof(old_size, size, store.tile)

        size, root, path = await self.read(prove)
        return ConsistencyAnswer(path, self._signed(size, root))


def accepted(verdict: Verdict) -> Verdict:
    """Give the verdict back when the command was done.

    Raises:
        Refused: it was not.
    """
    if verdict.status is not Status.ok:
        raise refusal(verdict)
    return verdict


def refusal(verdict: Verdict) -> Refused:
    """Make the error that carries a refusal."""
    return Refused(verdict.status, dict(verdict.facts))


def _settle(future: asyncio.Future[None], outcome: FortressError | None) -> None:
    if future.done():
        return
    if outcome is None:
        future.set_result(None)
    else:
        future.set_exception(type(outcome)(outcome.message, outcome.facts))


def now_us() -> int:
    """Tell the time, microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def new_id() -> bytes:
    """Make an id of time and chance (UUIDv7, RFC 9562)."""
    raw = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10))
    raw[6] = 0x70 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return bytes(raw)


def derived_id(label: bytes, content: bytes) -> bytes:
    """Make the id that always belongs to this content (UUIDv8, RFC 9562), for acts that are repeated after a crash."""
    raw = bytearray(hashlib.sha256(label + b"\0" + content).digest()[:16])
    raw[6] = 0x80 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return bytes(raw)
