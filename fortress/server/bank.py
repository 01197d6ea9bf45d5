"""The bank behind the connections: what handlers ask of the ledger, with personal data sealed and opened on the way.

Knows the engine, the committer and the vault, and no session. Methods are coroutines that run blocking reads on the
committer's reader threads; only :meth:`submit` is for the hot path and answers through a callback.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fortress.errors import MessageInvalid, Refused, Status
from fortress.ledger.commands import (
    ChangeCustomer,
    ChangeKey,
    ChangeProfile,
    Command,
    CreateCustomer,
    EndSession,
    KeyData,
    OpenAccount,
)
from fortress.ledger.engine import Engine
from fortress.ledger.entries import CustomerCreated
from fortress.ledger.merkle import EMPTY_ROOT, Tree, consistency_proof, inclusion_proof
from fortress.ledger.model import BANK, BANK_ACTOR, AccountKind, Actor, Customer
from fortress.ledger.rules import Verdict
from fortress.ledger.vault import Vault
from fortress.protocol.accounts import Profile
from fortress.protocol.fields import Done
from fortress.protocol.proofs import head_statement
from fortress.protocol.reading import ConsistencyAnswer, HeadAnswer, ReceiptAnswer
from fortress.protocol.sessions import KeyMaterial, Register
from fortress.server.committer import Answered, Committer
from fortress.server.login import LoginDesk, LoginRecord
from fortress.server.logins import Logins
from fortress.server.reader import Person, Reader

Result = TypeVar("Result")
ACTORS_REMEMBERED_MAX = 8_192
ANONYMOUS = Actor(0, frozenset())


class Bank(Reader):
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
        super().__init__(engine, committer, vault, desk)
        self.submit: Callable[[Command, Answered], None] = committer.submit
        self.commit = committer.commit
        self._head_key = Ed25519PrivateKey.from_private_bytes(head_seed)
        self.head_public = self._head_key.public_key().public_bytes_raw()
        self._actors: dict[int, Actor] = {}
        logins = Logins(self)
        self.find_login = logins.find_login
        self.find_customer = logins.find_customer

    # --- Who asks --------------------------------------------------------------------------------------------------
    def actor(self, customer: int, roles: frozenset[str]) -> Actor:
        """Make what the rules know about who asks."""
        actor = self._actors.get(customer)
        if actor is None or actor.roles is not roles:
            if len(self._actors) >= ACTORS_REMEMBERED_MAX:
                self._actors.clear()
            actor = self._actors[customer] = Actor(customer, roles)
        return actor

    async def open_settlements(self) -> None:
        """Open the account for payments to and from other banks in each currency that has none; repeatable.

        Raises:
            FortressError: nothing can be written now.
        """
        state = self.state
        for currency in [each for each in state.currencies if each not in state.settlements]:
            id = derived_id(b"fortress settlement account v1", currency.encode())
            accepted(await self.commit(OpenAccount(BANK_ACTOR, id, BANK, int(AccountKind.settlement), currency, None)))

    # --- Logins ----------------------------------------------------------------------------------------------------
    def key_data(self, username: str, key: KeyMaterial) -> KeyData:
        """Seal a login key as the ledger keeps it."""
        sealed = self.vault.seal_login_key(self.desk.handle_of(username), key.public)
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
        handle = self.desk.handle_of(username)
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


__all__ = ["ANONYMOUS", "Bank", "Person", "accepted", "derived_id", "new_id", "now_us", "refusal"]
