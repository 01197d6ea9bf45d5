"""The bank's side of the login: three moves, one challenge at a time, the same road for usernames nobody has.

    client -> bank   username, R
    bank -> client   salt, parameters, nonce      an unknown username gets a salt of its own, always the same
    client -> bank   s                            the challenge is taken away before anything is checked

For an unknown username the proof is checked against a point whose secret nobody has, so that every refusal costs the
same work. The proof itself is `fortress.protocol.schnorr`.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final, Literal

from fortress.config import LoginSettings
from fortress.errors import LockedOut, LoginFailed, Refused, Status
from fortress.protocol import schnorr
from fortress.protocol.sessions import KeyMaterial, LoginChallenge

NONCE_SIZE_BYTES: Final = 32
CHALLENGE_VALID_S: Final = 60.0

_HANDLE_LABEL: Final = b"handle"
_SALT_LABEL: Final = b"salt"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRecord:
    """What the bank knows about one login.

    Attributes:
        customer: number of the customer.
        username: as they type it.
        roles: present ones.
        state: ``erased`` is treated like a username nobody has.
        locked_until_us: end of a lock; 0 with the state ``locked`` is without end.
        salt: of the password.
        memory_kib: Argon2id parameter, like the next two.
        iterations: passes.
        lanes: parallel lanes.
        public: the point P of the login.
        signing: Ed25519 key of payment orders.
        created_us: when the customer came to the bank.
    """

    customer: int
    username: str
    roles: tuple[str, ...]
    state: Literal["active", "locked", "erased"]
    locked_until_us: int
    salt: bytes = field(repr=False)
    memory_kib: int
    iterations: int
    lanes: int
    public: bytes = field(repr=False)
    signing: bytes = field(repr=False)
    created_us: int

    def is_locked(self, now_us: int) -> bool:
        """Tell whether this login is locked now; a lock whose end has passed is none."""
        return now_us < self.locked_until_us or (self.state == "locked" and not self.locked_until_us)


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the bank keeps between the second move and the third."""

    username: str
    handle: bytes
    record: LoginRecord | None
    commitment: bytes
    nonce: bytes
    until_s: float


class LoginDesk:
    """What all logins at one bank share: the keys behind handles, salts and the point of unknown usernames.

    Args:
        bank: the bank's id, part of every proof.
        handle_key: from the keyring.
        settings: parameters of new passwords, which unknown usernames get too.
    """

    def __init__(self, bank: str, handle_key: bytes, settings: LoginSettings) -> None:
        self.bank = bank
        self._handle_key = handle_key
        self._settings = settings
        seed = hmac.digest(handle_key, b"point of unknown usernames", "sha256")
        self.unknown_public: Final = schnorr.public_key(schnorr.secret_from_seed(seed))

    def handle_of(self, username: str) -> bytes:
        """Give what stands for a username in counters; it cannot be turned back without the key."""
        return hmac.digest(self._handle_key, _HANDLE_LABEL + username.encode(), "sha256")

    def challenge(self, record: LoginRecord | None, username: str, nonce: bytes) -> LoginChallenge:
        """Make the second move; one whose username nobody has cannot be told from the others."""
        salt = hmac.digest(self._handle_key, _SALT_LABEL + username.encode(), "sha256")[: schnorr.SALT_SIZE_BYTES]
        if record is None:
            kdf = self._settings
            return LoginChallenge(salt, kdf.kdf_memory_kib, kdf.kdf_iterations, kdf.kdf_lanes, nonce)
        return LoginChallenge(record.salt, record.memory_kib, record.iterations, record.lanes, nonce)

    def check_key(self, key: KeyMaterial, username: str, handshake_hash: bytes) -> None:
        """Check that who brings a new key holds its secret; costs as much as a login.

        Raises:
            Refused: with `Status.key_proof_invalid`; the point is unusable or the proof is not of this channel.
        """
        c = schnorr.key_proof_challenge(handshake_hash, self.bank, username, key.public, key.commitment)
        if not (schnorr.is_valid_public_key(key.public) and schnorr.verify(key.public, key.commitment, c, key.proof)):
            raise Refused(Status.key_proof_invalid)


class Login:
    """The moves of one connection; it remembers the one challenge that is out.

    Args:
        desk: the bank's.
    """

    __slots__ = ("_challenge", "_desk")

    def __init__(self, desk: LoginDesk) -> None:
        self._desk = desk
        self._challenge: Challenge | None = None

    @property
    def username(self) -> str:
        """Who the challenge that is out is for; empty when there is none."""
        return self._challenge.username if self._challenge is not None else ""

    @property
    def handle(self) -> bytes:
        """The handle of that username; empty when there is none."""
        return self._challenge.handle if self._challenge is not None else b""

    def begin(
        self, record: LoginRecord | None, username: str, commitment: bytes, now_s: float, *, handle: bytes
    ) -> LoginChallenge:
        """Take the first move and make the second; a challenge that was out before is void.

        Args:
            record: of the username, None if nobody has it.
            username: as asked for.
            commitment: R; empty when it comes with the proof, which a change of key does.
            now_s: on any clock that goes forward, the same as in `finish`.
            handle: of the username, which the caller has worked out already.
        """
        if record is not None and record.state == "erased":
            record = None
        nonce = secrets.token_bytes(NONCE_SIZE_BYTES)
        self._challenge = Challenge(username, handle, record, commitment, nonce, now_s + CHALLENGE_VALID_S)
        return self._desk.challenge(record, username, nonce)

    def finish(self, proof: bytes, handshake_hash: bytes, now_s: float, commitment: bytes = b"") -> LoginRecord:
        """Take the third move; the challenge is used up whatever comes out.

        Returns:
            The record of who signed in; whether that login is locked is still to be checked.

        Raises:
            LoginFailed: no challenge is out or it is too old, nobody has the username, or the proof is wrong.
        """
        challenge, self._challenge = self._challenge, None
        if challenge is None:
            raise LoginFailed("there is no challenge to answer; begin the login anew")
        record = challenge.record
        public = record.public if record is not None else self._desk.unknown_public
        r = challenge.commitment or commitment
        c = schnorr.challenge(handshake_hash, self._desk.bank, challenge.username, public, r, challenge.nonce)
        is_right = schnorr.verify(public, r, c, proof)
        if record is None or not is_right or now_s > challenge.until_s:
            raise LoginFailed
        return record


def check_lock(record: LoginRecord, now_us: int) -> None:
    """Refuse a locked login; called only once the proof was right, so that nobody else learns of the lock.

    Raises:
        LockedOut: with ``facts["until_us"]``, 0 for no end.
    """
    if record.is_locked(now_us):
        raise LockedOut(facts={"until_us": record.locked_until_us})
