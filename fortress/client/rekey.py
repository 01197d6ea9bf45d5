"""Changing the password: the old key is proven once more, a new one takes its place."""

from __future__ import annotations

from fortress.client import credentials
from fortress.client.calls import Calls
from fortress.client.credentials import LoginKey
from fortress.client.link import Link
from fortress.client.login import Login
from fortress.protocol import schnorr
from fortress.protocol.sessions import ChangeKey, ChangeKeyBegin


async def change_password(calls: Calls, username: str, old: str, new: str) -> None:
    """Replace the key of a signed-in customer by one from the new password.

    Raises:
        PasswordTooWeak: the new one is short or well-known; nothing was sent.
        LoginFailed: the old one is wrong.
        OutcomeUnknown: no answer; sign in with the new one to find out.
    """
    schnorr.check_password(new)
    login = Login(calls.bank, username, password=old)
    salt, parameters = credentials.new_salt(), schnorr.KdfParameters()
    new_key = LoginKey(await credentials.seed_of(new, salt, parameters))

    async def flow(link: Link, timeout_s: float) -> None:
        challenge = await link.request("change_key_begin", ChangeKeyBegin(), timeout_s)
        r, commitment = login.begin()
        proof = await login.answer(link.handshake_hash, r, commitment, challenge)
        material = credentials.key_material(
            new_key, salt, parameters, channel=link.handshake_hash, bank=calls.bank, username=username
        )
        await link.request("change_key", ChangeKey(material, commitment, proof), timeout_s)

    await calls.converse("change_key", flow)
