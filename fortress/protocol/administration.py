"""Messages of tellers, administrators and auditors."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from fortress.protocol.accounts import Profile
from fortress.protocol.fields import (
    Amount,
    Answer,
    Count,
    Id,
    Minor,
    Number,
    PageSize,
    Position,
    Request,
    Role,
    TimeUs,
    Username,
)
from fortress.protocol.sessions import KeyMaterial


class Invite(Request, frozen=True):
    """Make a one-use code with which a person registers by themselves (administrator)."""

    id: Id
    role: Role = "customer"
    valid_s: Annotated[int, Meta(ge=60, le=31 * 86400)] = 7 * 86400


class InviteAnswer(Answer, frozen=True):
    code: str
    expires_us: int
    approval: bytes = b""


class CreateUser(Request, frozen=True):
    """Create a customer by hand, with a key made on the caller's side (administrator)."""

    id: Id
    username: Username
    key: KeyMaterial
    roles: Annotated[list[Role], Meta(min_length=1, max_length=4)] = msgspec.field(default_factory=lambda: ["customer"])
    profile: Profile = Profile()


class UserAnswer(Answer, frozen=True):
    customer: int
    username: str
    name: str
    roles: list[str]
    state: str
    created_us: int
    locked_until_us: int = 0
    position: int = 0
    approval: bytes = b""


class GetUser(Request, frozen=True):
    """Read one customer (staff)."""

    username: Username


class ListUsers(Request, frozen=True):
    """Page through the customers (staff)."""

    after: Count = 0
    limit: PageSize = 100


class UsersAnswer(Answer, frozen=True):
    users: list[UserAnswer]
    next_after: int = 0


class SetRole(Request, frozen=True):
    """Replace a customer's roles (administrator, second administrator)."""

    id: Id
    username: Username
    roles: Annotated[list[Role], Meta(min_length=1, max_length=4)]


class Lock(Request, frozen=True):
    """Lock a customer out (administrator); 0 = until unlocked."""

    username: Username
    until_us: TimeUs = 0


class Unlock(Request, frozen=True):
    """Let a locked customer sign in again (administrator)."""

    username: Username


class Erase(Request, frozen=True):
    """Erase a person: their key is destroyed, their proofs stay (administrator, second administrator)."""

    id: Id
    username: Username


class SetLimits(Request, frozen=True):
    """Set floor and limits of an account; None = no limit (administrator, second administrator)."""

    id: Id
    account: Number
    floor_minor: Minor | None = 0
    payment_minor: Amount | None = None
    day_minor: Amount | None = None
    month_minor: Amount | None = None
    signed_orders_only: bool = False


class Freeze(Request, frozen=True):
    """Freeze an account: no debits, or nothing at all (administrator)."""

    account: Number
    debits_only: bool = False


class Unfreeze(Request, frozen=True):
    """Open a frozen account again (administrator)."""

    account: Number


class CloseAccount(Request, frozen=True):
    """Close an empty account (its owner or an administrator)."""

    account: Number


class Reopen(Request, frozen=True):
    """Open a closed account again (administrator)."""

    account: Number


class Approve(Request, frozen=True):
    """Approve or decline what another administrator asked for."""

    approval: Id
    decline: bool = False


class ListApprovals(Request, frozen=True):
    """List what waits for a second administrator."""


class ApprovalRow(Answer, frozen=True):
    approval: bytes
    operation: str
    summary: str
    asked_by: str
    asked_us: int


class ApprovalsAnswer(Answer, frozen=True):
    approvals: list[ApprovalRow]


class Trail(Request, frozen=True):
    """Page through administrative acts and refusals, newest first (auditor, administrator)."""

    cursor: Position = 0
    limit: PageSize = 100


class TrailRow(Answer, frozen=True):
    position: int
    time_us: int
    kind: str
    actor: str
    subject: str
    detail: str


class TrailAnswer(Answer, frozen=True):
    rows: list[TrailRow]
    cursor: int


class TrialBalance(Request, frozen=True):
    """Sum all accounts by currency (auditor, administrator)."""


class TrialBalanceRow(Answer, frozen=True):
    """Sums of one currency. What accounts have on hold is what the open holds add up to, or the books are wrong."""

    currency: str
    accounts: int
    debits_minor: int
    credits_minor: int
    sum_minor: int  # always 0
    held_minor: int
    holds_minor: int

    @property
    def adds_up(self) -> bool:
        """Whether the sums are as they always must be."""
        return self.sum_minor == 0 and self.debits_minor == self.credits_minor and self.held_minor == self.holds_minor


class TrialBalanceAnswer(Answer, frozen=True):
    rows: list[TrialBalanceRow]
    position: int


class StatusRequest(Request, frozen=True):
    """Ask for the node's role, position and health."""


class StatusAnswer(Answer, frozen=True):
    """``state``: where the node stands in its pair, such as ``standby.in_sync``; alone without one.

    ``backup_us``, ``backup_position``: when the node's last backup was made and the last entry in it; 0: none is known.
    """

    bank: str
    node: str
    role: str
    term: int
    lsn: int
    position: int
    copies: int
    connections: int
    tasks_processed: int
    uptime_s: float
    version: str
    state: str = ""
    backup_us: int = 0
    backup_position: int = 0
