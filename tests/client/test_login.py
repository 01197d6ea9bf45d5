"""Tests of the client's side of the login: the moves, and that a password is derived once."""

from __future__ import annotations

import pytest

from fortress.client import credentials
from fortress.client.login import Login
from fortress.protocol import schnorr
from fortress.protocol.schnorr import KdfParameters
from fortress.protocol.sessions import LoginChallenge

CHANNEL, NONCE = bytes(range(32)), bytes(reversed(range(32)))
CHALLENGE = LoginChallenge(bytes(16), 65536, 3, 1, NONCE)


async def is_proven(login: Login, public: bytes, challenge: LoginChallenge = CHALLENGE) -> bool:
    r, commitment = login.begin()
    proof = await login.answer(CHANNEL, r, commitment, challenge)
    c = schnorr.challenge(CHANNEL, "a", "alice", public, commitment, challenge.nonce)
    return schnorr.verify(public, commitment, c, proof)


async def test_a_seed_signs_in() -> None:
    """The bank's salt and parameters do not matter to it."""
    public = credentials.LoginKey(b"s" * 32).public
    assert await is_proven(Login("a", "alice", seed=b"s" * 32), public)
    assert not await is_proven(Login("a", "alice", seed=b"t" * 32), public)


@pytest.mark.asyncio(loop_factories=["uvloop"])  # deriving keys is slow and the same on both loops
async def test_a_password_signs_in_and_is_derived_once_for_each_salt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another connection with the same salt costs nothing; a salt that changed meanwhile is derived anew."""
    derived: list[bytes] = []
    real = credentials.seed_of

    async def counted(password: str, salt: bytes, parameters: KdfParameters) -> bytes:
        derived.append(salt)
        return await real(password, salt, parameters)

    monkeypatch.setattr(credentials, "seed_of", counted)
    parameters = KdfParameters(65536, 3, 1)
    public = credentials.LoginKey(await real("a phrase of words", bytes(16), parameters)).public
    login = Login("a", "alice", password="a phrase of words")
    assert await is_proven(login, public)
    assert await is_proven(login, public)
    assert not await is_proven(login, public, LoginChallenge(b"x" * 16, 65536, 3, 1, NONCE))
    assert derived == [bytes(16), b"x" * 16]
