"""The client's side of the login: commit, derive, answer (see `fortress.protocol.schnorr` for the proof itself)."""

from __future__ import annotations

from fortress.client import credentials
from fortress.client.calls import Calls
from fortress.client.credentials import LoginKey
from fortress.client.link import Link
from fortress.protocol import schnorr
from fortress.protocol.schnorr import KdfParameters
from fortress.protocol.sessions import LoginBegin, LoginChallenge, LoginFinish


class Login:
    """One person's or service's login, over as many connections as it takes.

    What was derived from a password is kept while this object lives, so a connection lost in the middle costs no
    second derivation.

    Args:
        bank: the bank's id.
        username: who signs in.
        password: as typed; empty when there is a seed.
        seed: 32 bytes; empty when there is a password.
    """

    def __init__(self, bank: str, username: str, *, password: str = "", seed: bytes = b"") -> None:
        self.username = username
        self._bank = bank
        self._password = password
        self._key = LoginKey(seed) if seed else None
        self._derived_from: tuple[bytes, KdfParameters] | None = None

    def begin(self) -> tuple[bytes, bytes]:
        """Make the first move (r, R), a fresh one for each try."""
        return credentials.commit()

    async def answer(self, channel: bytes, r: bytes, commitment: bytes, challenge: LoginChallenge) -> bytes:
        """Make the third move: the answer to the bank's challenge, good on this channel only.

        Raises:
            KeyDerivationRefused: the bank asks for unsafe key derivation.
        """
        key = await self.key(challenge)
        c = schnorr.challenge(channel, self._bank, self.username, key.public, commitment, challenge.nonce)
        return key.prove(r, c)

    async def key(self, challenge: LoginChallenge) -> LoginKey:
        """Give the login key, derived from the password if that is what there is."""
        if not self._password and self._key is not None:
            return self._key
        source = challenge.salt, KdfParameters(challenge.memory_kib, challenge.iterations, challenge.lanes)
        if self._key is None or self._derived_from != source:
            self._key = LoginKey(await credentials.seed_of(self._password, *source))
            self._derived_from = source
        return self._key


async def sign_in(calls: Calls, login: Login) -> None:
    """Begin a session by all three moves, over as many connections as it takes.

    Raises:
        LoginFailed: and others, as `Client.login`.
    """
    calls.leave_session()

    async def flow(link: Link, timeout_s: float) -> None:
        r, commitment = login.begin()
        challenge = await link.request("login_begin", LoginBegin(login.username, commitment), timeout_s)
        proof = await login.answer(link.handshake_hash, r, commitment, challenge)
        signed_in = await link.request("login_finish", LoginFinish(proof), timeout_s)
        calls.begin_session(link, signed_in)
        calls.signing_seed = (await login.key(challenge)).signing_seed

    await calls.converse("login_finish", flow)
