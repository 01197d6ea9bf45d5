"""A person's or service's session at a bank: everything one can do once signed in."""

from __future__ import annotations

from typing import Any

from fortress.client.administration import Administration
from fortress.client.calls import Calls
from fortress.client.ids import new_id
from fortress.client.payments import Payments
from fortress.client.reading import Reading
from fortress.client.switching import Switching
from fortress.errors import NotSignedIn, TokenRejected
from fortress.protocol.accounts import AccountView, GetProfile, OpenAccount, Profile, ProfileAnswer, SetProfile
from fortress.protocol.administration import CloseAccount, UserAnswer
from fortress.protocol.fields import Done, Request
from fortress.protocol.sessions import EndSession, Logout, SessionRow, Sessions, SessionsAnswer, SignedIn, Whoami


class Me(Payments, Reading):
    """A session; made by `Client.login` and its like, good as long as the client is open.

    Args:
        calls: of the client that signed in.

    Attributes:
        administration: what tellers, administrators and auditors may do besides.
        switching: what operators of a gateway may do, and those of a bank with payments in doubt.
    """

    def __init__(self, calls: Calls) -> None:
        Payments.__init__(self, calls)
        Reading.__init__(self, calls)
        self.administration = Administration(calls)
        self.switching = Switching(calls)

    @property
    def signed_in(self) -> SignedIn:
        """Who this session is, its roles and its present token.

        Raises:
            NotSignedIn: it was ended.
        """
        signed_in = self._calls.signed_in
        if signed_in is None:
            raise NotSignedIn("this session was ended")
        return signed_in

    @property
    def bank(self) -> str:
        """The bank's id."""
        return self._calls.bank

    @property
    def username(self) -> str:
        """Who this session is of."""
        return self.signed_in.username

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection right now; if not, the next request makes one."""
        return self._calls.route.current is not None

    async def whoami(self) -> UserAnswer:
        """Ask the bank who this session is."""
        answer: UserAnswer = await self._calls.call("whoami", Whoami())
        return answer

    async def ask(self, operation: str, fields: Request) -> Any:
        """Make any request, also one that this version has no method for; gives the decoded answer.

        Raises:
            UnknownOperation: the bank does not know it.
        """
        return await self._calls.call(operation, fields)

    async def renew(self) -> SignedIn:
        """Get a new token now; the client does it by itself in time."""
        return await self._calls.renew()

    async def logout(self) -> None:
        """End this session for good; its token is refused from now on."""
        try:
            await self._calls.call("logout", Logout())
        except (NotSignedIn, TokenRejected):
            pass  # it is over already, such as by a first try whose answer was lost
        finally:
            self._calls.forget_session()
        link = self._calls.route.current
        if link is not None:
            self._calls.route.drop(link)

    async def sessions(self) -> list[SessionRow]:
        """List one's own sessions that are connected."""
        answer: SessionsAnswer = await self._calls.call("sessions", Sessions())
        return answer.sessions

    async def end_session(self, session: bytes) -> None:
        """End another of one's own sessions, as named in :meth:`sessions`."""
        await self._calls.call("end_session", EndSession(session))

    async def change_password(self, old: str, new: str) -> None:
        """Change the password; the old one is proven again.

        Raises:
            PasswordTooWeak: the new one is short or well-known; nothing was sent.
            LoginFailed: the old one is wrong.
            OutcomeUnknown: no answer; sign in with the new one to find out.
        """
        from fortress.client.rekey import change_password  # needs argon2 and libsodium

        await change_password(self._calls, self.username, old, new)

    async def get_profile(self, username: str = "") -> Profile:
        """Read one's contact data; staff may name another customer."""
        answer: ProfileAnswer = await self._calls.call("get_profile", GetProfile(username))
        return answer.profile

    async def set_profile(self, profile: Profile) -> Done:
        """Replace one's contact data."""
        done: Done = await self._calls.call("set_profile", SetProfile(profile))
        return done

    async def open_account(
        self, currency: str, *, username: str = "", kind: str = "customer", id: bytes | None = None
    ) -> AccountView:
        """Open an account; staff may open one for a customer, or of another kind for the bank.

        Raises:
            Refused: such as ``account_limit_reached`` or ``currency_unknown``.
        """
        request = OpenAccount(id or new_id(), currency, username, kind)
        view: AccountView = await self._calls.call("open_account", request)
        return view

    async def close_account(self, number: int) -> Done:
        """Close an account, which must be empty; an administrator can open it again."""
        done: Done = await self._calls.call("close_account", CloseAccount(number))
        return done
