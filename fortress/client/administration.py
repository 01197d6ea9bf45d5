"""What tellers, administrators and auditors do: people, accounts, approvals, the trail, the trial balance.

Acts that a second administrator must approve answer with an ``approval`` that is not empty: nothing was done yet.
"""

from __future__ import annotations

from collections.abc import Sequence

from fortress.client.attempts import Attempts
from fortress.client.calls import Calls
from fortress.client.ids import new_id
from fortress.client.link import Link
from fortress.errors import UsageError
from fortress.protocol.accounts import AccountsAnswer, ListAccounts, Profile
from fortress.protocol.administration import (
    ApprovalRow,
    ApprovalsAnswer,
    Approve,
    CreateUser,
    Erase,
    Freeze,
    GetUser,
    Invite,
    InviteAnswer,
    ListApprovals,
    ListUsers,
    Lock,
    Reopen,
    SetLimits,
    SetRole,
    Trail,
    TrailAnswer,
    TrialBalance,
    TrialBalanceAnswer,
    Unfreeze,
    Unlock,
    UserAnswer,
    UsersAnswer,
)
from fortress.protocol.fields import Done, Request

NO_PROFILE = Profile()


class Administration:
    """The acts of staff; as `Me.administration`. The bank refuses what one's roles do not allow."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    # --- people -------------------------------------------------------------------------------------------------

    async def invite(
        self, role: str = "customer", *, valid_s: int = 7 * 86400, id: bytes | None = None
    ) -> InviteAnswer:
        """Make a one-use code with which a person registers by themselves (administrator).

        The code is shown once: a try whose answer was lost leaves one behind that nobody knows, and without an id of
        the caller's another is made.
        """

        async def flow(link: Link, timeout_s: float) -> InviteAnswer:
            answer: InviteAnswer = await link.request("invite", Invite(id or new_id(), role, valid_s), timeout_s)
            return answer

        return await self._calls.converse("invite", flow)

    async def create_user(
        self,
        username: str,
        password: str = "",
        *,
        seed: bytes = b"",
        roles: Sequence[str] = ("customer",),
        profile: Profile = NO_PROFILE,
        id: bytes | None = None,
    ) -> UserAnswer:
        """Make a customer by hand, with a first password or with a 32-byte seed (administrator).

        Raises:
            PasswordTooWeak: the password is short or well-known; nothing was sent.
            Refused: such as ``username_taken``.
        """
        from fortress.client import credentials
        from fortress.protocol import schnorr

        if bool(password) == bool(seed):
            raise UsageError("a customer is made with either a password or a seed")
        salt = credentials.new_salt()
        parameters = schnorr.KdfParameters() if password else credentials.NO_KDF
        if password:
            schnorr.check_password(password)
            seed = await credentials.seed_of(password, salt, parameters)
        key, id = credentials.LoginKey(seed), id or new_id()

        async def flow(link: Link, timeout_s: float) -> UserAnswer:
            # the proof is good on one channel only, so each try makes its own; the id keeps it one act
            material = credentials.key_material(
                key, salt, parameters, channel=link.handshake_hash, bank=self._calls.bank, username=username
            )
            request = CreateUser(id, username, material, list(roles), profile)
            answer: UserAnswer = await link.request("create_user", request, timeout_s)
            return answer

        answer = await self._calls.converse(Attempts("create_user", id=id), flow)
        self._calls.note_position(answer)
        return answer

    async def user(self, username: str) -> UserAnswer:
        """Read one customer (staff)."""
        answer: UserAnswer = await self._calls.call("get_user", GetUser(username))
        return answer

    async def users(self, *, after: int = 0, limit: int = 100) -> UsersAnswer:
        """Read one page of customers (staff); ``next_after`` of a page is ``after`` of the next, 0 at the end."""
        answer: UsersAnswer = await self._calls.call("list_users", ListUsers(after, limit))
        return answer

    async def set_roles(self, username: str, roles: Sequence[str], *, id: bytes | None = None) -> Done:
        """Replace a customer's roles (administrator, with a second one's approval)."""
        return await self._do("set_role", SetRole(id or new_id(), username, list(roles)))

    async def lock(self, username: str, *, until_us: int = 0) -> Done:
        """Lock a customer out, until a time or until unlocked (administrator)."""
        return await self._do("lock", Lock(username, until_us))

    async def unlock(self, username: str) -> Done:
        """Let a locked customer sign in again (administrator)."""
        return await self._do("unlock", Unlock(username))

    async def erase(self, username: str, *, id: bytes | None = None) -> Done:
        """Erase a person for ever; their proofs stay (administrator, with a second one's approval)."""
        return await self._do("erase", Erase(id or new_id(), username))

    # --- accounts -----------------------------------------------------------------------------------------------

    async def accounts(
        self, username: str = "", *, all: bool = False, after: int = 0, limit: int = 100
    ) -> AccountsAnswer:
        """Read one page of a customer's accounts, or of all (staff)."""
        request = ListAccounts(username, all, after, limit)
        answer: AccountsAnswer = await self._calls.call("list_accounts", request)
        return answer

    async def set_limits(
        self,
        account: int,
        *,
        floor_minor: int | None = 0,
        payment_minor: int | None = None,
        day_minor: int | None = None,
        month_minor: int | None = None,
        signed_orders_only: bool = False,
        id: bytes | None = None,
    ) -> Done:
        """Set floor and limits of an account, all of them; None is no limit (administrator, with a second one)."""
        sums = (floor_minor, payment_minor, day_minor, month_minor)
        return await self._do("set_limits", SetLimits(id or new_id(), account, *sums, signed_orders_only))

    async def freeze(self, account: int, *, debits_only: bool = False) -> Done:
        """Stop an account from paying, or from everything (administrator)."""
        return await self._do("freeze", Freeze(account, debits_only))

    async def unfreeze(self, account: int) -> Done:
        """Open a frozen account again (administrator)."""
        return await self._do("unfreeze", Unfreeze(account))

    async def reopen(self, account: int) -> Done:
        """Open a closed account again (administrator)."""
        return await self._do("reopen", Reopen(account))

    # --- approvals and the books --------------------------------------------------------------------------------

    async def approve(self, approval: bytes, *, decline: bool = False) -> Done:
        """Approve or decline what another administrator asked for (administrator)."""
        return await self._do("approve", Approve(approval, decline))

    async def approvals(self) -> list[ApprovalRow]:
        """List what waits for a second administrator (auditor, administrator)."""
        answer: ApprovalsAnswer = await self._calls.call("list_approvals", ListApprovals())
        return answer.approvals

    async def trail(self, *, cursor: int = 0, limit: int = 100) -> TrailAnswer:
        """Read one page of administrative acts and refusals, newest first (auditor, administrator)."""
        answer: TrailAnswer = await self._calls.call("trail", Trail(cursor, limit))
        return answer

    async def trial_balance(self) -> TrialBalanceAnswer:
        """Sum all accounts by currency; each sum is zero (auditor, administrator)."""
        answer: TrialBalanceAnswer = await self._calls.call("trial_balance", TrialBalance())
        return answer

    async def _do(self, operation: str, request: Request) -> Done:
        done: Done = await self._calls.call(operation, request)
        return done
