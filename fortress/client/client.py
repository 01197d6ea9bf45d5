"""The way in: connect to a bank, sign in or register, and get a :class:`Me` to act with.

async with fortress.connect("fortress://127.0.0.1:7611/a", ca="ca.crt") as bank:
    me = await bank.login("alice", password)
    payment = await me.pay("b/ines", "12.50 EUR", reference="Lunch")
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from fortress.client import address as addresses
from fortress.client.address import Address
from fortress.client.calls import DEADLINE_S, STALE_MS_MAX, TIMEOUT_S, Calls
from fortress.client.link import Link
from fortress.client.nodes import NodeProbe
from fortress.client.trust import Trust
from fortress.errors import NotPrimary, UsageError
from fortress.protocol.administration import StatusAnswer, StatusRequest
from fortress.protocol.sessions import Register, Resume, SignedIn

if TYPE_CHECKING:
    from fortress.client.me import Me


def connect(
    address: str | Address,
    *,
    ca: bytes | str | Path,
    path_ca: bytes | str | Path | None = None,
    fingerprint: str = "",
    timeout_s: float = TIMEOUT_S,
    deadline_s: float = DEADLINE_S,
    agent: str = "",
    read_from: Literal["primary", "any"] = "primary",
    stale_ms_max: int = STALE_MS_MAX,
) -> Client:
    """Give a client of a bank; ``async with`` or ``await`` connects it.

    Args:
        address: ``fortress://host:port,host:port/bank-id``; all nodes of the bank that are known.
        ca: path of the certificates, in PEM, of the bank's authority, or the PEM itself as bytes.
        path_ca: likewise those of the authority of who answers at the address, if that is not the bank itself: a
            gateway that hands the connection on, or a load balancer at which TLS ends. It needs no more trust than a
            cable does: the bank proves who it is inside.
        fingerprint: SHA-256, in hexadecimal, of a certificate that must be on the bank's way up to the authority.
        timeout_s: how long one try of a request or to connect may take.
        deadline_s: how long all tries together may take, such as over a failover.
        agent: what the client calls itself in the bank's list of sessions.
        read_from: ``any`` lets balances, histories, statements and lists come from a standby; never older than what
            this client has seen, and they say how old they are. Everything else asks the primary.
        stale_ms_max: how old such an answer may be.

    Raises:
        UsageError: the address, a CA file or the fingerprint is none.
    """
    parsed = addresses.parse(address) if isinstance(address, str) else address
    trust = Trust(ca, fingerprint, path_ca=path_ca)
    stale_ms = stale_ms_max if read_from == "any" else 0
    return Client(Calls(parsed, trust, timeout_s=timeout_s, deadline_s=deadline_s, agent=agent, stale_ms_max=stale_ms))


class Client:
    """A bank as a stranger sees it; made by :func:`connect`. One client holds one session at a time."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def __await__(self) -> Generator[None, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        is_open = False
        try:
            await self._calls.open()
            is_open = True
        finally:
            if not is_open:
                await self._calls.close()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def bank(self) -> str:
        """The bank's id."""
        return self._calls.bank

    async def close(self) -> None:
        """End the connection; the session itself stays good for its token until that expires."""
        await self._calls.close()

    async def status(self) -> StatusAnswer:
        """Ask the node for its role, position and health; needs no login."""
        answer: StatusAnswer = await self._calls.call("status", StatusRequest())
        return answer

    def probes(self) -> list[NodeProbe]:
        """Give a probe of each node that the address names; they are not connected yet, and their user closes them."""
        return [NodeProbe(endpoint, self.bank, self._calls.trust) for endpoint in self._calls.route.address.endpoints]

    async def channel(self) -> Link:
        """Give the connection to the primary, for a conversation of one's own whose proofs are made elsewhere.

        A login's proofs are bound to the connection, so what is begun on it ends with it. Nobody is signed in on it
        unless this client is.

        Raises:
            FortressError: no primary could be reached in time.
        """

        async def flow(link: Link, timeout_s: float) -> Link:
            status: StatusAnswer = await link.request("status", StatusRequest(), timeout_s)
            if status.role != "primary":
                raise NotPrimary("this node is not the primary")
            return link

        return await self._calls.converse("status", flow)

    async def login(self, username: str, password: str = "", *, key_file: str | Path = "") -> Me:
        """Sign in with a password, or with the seed in a key file; neither leaves this machine.

        Raises:
            LoginFailed: username or password is wrong.
            LockedOut: too many failures; the facts say until when.
            Throttled: too many tries from here; the facts say how long to wait.
            KeyDerivationRefused: the bank asks for unsafe key derivation; do not sign in there.
            KeyUnusable: the key file cannot be used.
        """
        from fortress.client import credentials  # argon2 and libsodium: only who signs in pays for them

        if bool(password) == bool(key_file):
            raise UsageError("a login takes either a password or a key file")
        if key_file:
            return await self.login_with_seed(username, credentials.read_key_file(Path(key_file)))
        return await self._sign_in(username, password=password)

    async def login_with_seed(self, username: str, seed: bytes) -> Me:
        """Sign in with a 32-byte seed, as services and devices do.

        Raises:
            LoginFailed: and others, as :meth:`login`.
        """
        return await self._sign_in(username, seed=seed)

    async def resume(self, token: str) -> Me:
        """Go on with a session by its token.

        Raises:
            TokenRejected: the token is expired, revoked, or of another bank.
        """
        self._calls.leave_session()

        async def flow(link: Link, timeout_s: float) -> SignedIn:
            signed_in: SignedIn = await link.request("resume", Resume(token), timeout_s)
            self._calls.begin_session(link, signed_in)
            return signed_in

        await self._calls.converse("resume", flow)
        return self._me()

    async def register(self, code: str, username: str, password: str, name: str = "") -> Me:
        """Become a customer with an invitation code, and sign in. The name is kept sealed at the bank.

        Raises:
            PasswordTooWeak: short or well-known; nothing was sent.
            Refused: ``invitation_invalid`` or ``username_taken``.
            OutcomeUnknown: the connection ended before the answer; try to sign in to find out.
        """
        from fortress.client import credentials
        from fortress.protocol import schnorr

        schnorr.check_password(password)
        self._calls.leave_session()
        salt, parameters = credentials.new_salt(), schnorr.KdfParameters()
        key = credentials.LoginKey(await credentials.seed_of(password, salt, parameters))

        async def flow(link: Link, timeout_s: float) -> None:
            material = credentials.key_material(
                key, salt, parameters, channel=link.handshake_hash, bank=self.bank, username=username
            )
            signed_in = await link.request("register", Register(code, username, material, name), timeout_s)
            self._calls.begin_session(link, signed_in)
            self._calls.signing_seed = key.signing_seed

        await self._calls.converse("register", flow)
        return self._me()

    async def _sign_in(self, username: str, *, password: str = "", seed: bytes = b"") -> Me:
        from fortress.client.login import Login, sign_in

        await sign_in(self._calls, Login(self.bank, username, password=password, seed=seed))
        return self._me()

    def _me(self) -> Me:
        from fortress.client.me import Me

        return Me(self._calls)
