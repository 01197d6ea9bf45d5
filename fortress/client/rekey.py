"""Changing the password: the old key is proven once more, a new one takes its place.

The bank refuses all tokens from before the change, so the session gets a new one at once; without it the next lost
connection would end it.
"""

from __future__ import annotations

from fortress.client import credentials
from fortress.client.calls import Calls
from fortress.client.credentials import LoginKey
from fortress.client.link import Link
from fortress.client.login import Login, sign_in
from fortress.errors import AuthenticationError
from fortress.protocol import schnorr
from fortress.protocol.sessions import ChangeKey, ChangeKeyBegin


async def change_password(calls: Calls, username: str, old: str, new: str) -> None:
    """Replace the key of a signed-in customer by one from the new password; the session goes on.

    Raises:
        PasswordTooWeak: the new one is short or well-known; nothing was sent.
        LoginFailed: the old one is wrong.
        OutcomeUnknown: no answer; sign in with the new one to find out.
    """
    schnorr.check_password(new)
    login = Login(calls.bank, username, password=old)
    salt, parameters = credentials.new_salt(), schnorr.KdfParameters()
    seed = await credentials.seed_of(new, salt, parameters)
    new_key = LoginKey(seed)

    async def flow(link: Link, timeout_s: float) -> None:
        challenge = await link.request("change_key_begin", ChangeKeyBegin(), timeout_s)
        r, commitment = login.begin()
        proof = await login.answer(link.handshake_hash, r, commitment, challenge)
        material = credentials.key_material(
            new_key, salt, parameters, channel=link.handshake_hash, bank=calls.bank, username=username
        )
        await link.request("change_key", ChangeKey(material, commitment, proof), timeout_s)

    await calls.converse("change_key", flow)
    calls.signing_seed = new_key.signing_seed
    try:
        await calls.renew()
    except AuthenticationError:
        # the connection was lost in between, and the old token is good for nothing any more
        await sign_in(calls, Login(calls.bank, username, seed=seed))
