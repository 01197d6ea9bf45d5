"""What the pages of administrators, auditors and operators and their backend say; see `fortress.web.shapes`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fortress.web.shapes import (
    Account,
    Amount,
    Bank,
    Cap,
    Currency,
    Entry,
    Id,
    In,
    Minor,
    Number,
    Out,
    PageSize,
    Payment,
    Position,
    Role,
    Text,
    Time,
    Username,
    UsernameOrNone,
)

# -- the nodes -----------------------------------------------------------------------------------------------------


class Node(Out, frozen=True):
    """One node as last heard: ``state`` ok, silent, or what its pair says; ``seen`` None: never.

    ``backup``, ``backup_position``: when its last backup was made and the last entry in it; None: none is known.
    """

    address: str
    node: str
    role: str
    state: str
    term: int
    lsn: int
    position: Position
    behind: int
    copies: int
    connections: int
    tasks_processed: int
    uptime_s: float
    version: str
    seen: Time | None
    backup: Time | None
    backup_position: Position


class Cluster(Out, frozen=True):
    """``headline``: one sentence; ``severity`` ok, warning or danger; ``advice``: what to do next, or empty.

    Also the SSE event ``cluster`` of ``GET /api/admin/stream``, once a second.
    """

    headline: str
    severity: Literal["ok", "warning", "danger"]
    advice: str
    nodes: list[Node]
    time: Time


class Sample(Out, frozen=True):
    """One second: committed entries, requests, and how long this backend's own request to the primary took.

    ``latency_ms`` None: no answer in that second. ``term`` rises with each failover.
    """

    time: Time
    entries_per_s: float
    requests_per_s: float
    latency_ms: float | None
    term: int


class Samples(Out, frozen=True):
    """The last ten minutes that this process has seen, oldest first."""

    samples: list[Sample]


class Event(Out, frozen=True):
    """What happened to the cluster: takeovers, nodes coming and going, with the outage where there was one."""

    time: Time
    node: str
    event: str
    words: str
    outage_s: float | None


class EventList(Out, frozen=True):
    events: list[Event]


# -- people --------------------------------------------------------------------------------------------------------


class UserPath(In, frozen=True):
    username: Username


class User(Out, frozen=True):
    customer: int
    username: str
    name: str
    roles: list[Role]
    state: str
    created: Time
    locked_until: Time | None


class Page(In, frozen=True):
    after: Annotated[int, Meta(ge=0, le=2**53 - 1)] = 0
    limit: PageSize = 100


class UserList(Out, frozen=True):
    users: list[User]
    next_after: int


class Invitation(In, frozen=True):
    id: Id
    role: Role = "customer"
    valid_hours: Annotated[int, Meta(ge=1, le=744)] = 168


class InvitationCode(Out, frozen=True):
    """``code`` is shown once; empty while a second administrator must approve."""

    code: str
    expires: Time
    approval: str = ""


class Roles(In, frozen=True):
    id: Id
    roles: Annotated[list[Role], Meta(min_length=1, max_length=4)]


class Locking(In, frozen=True):
    """``hours`` 0: until unlocked."""

    hours: Annotated[int, Meta(ge=0, le=8784)] = 0


class Command(In, frozen=True):
    """An act that needs nothing but its id."""

    id: Id


class Nothing(In, frozen=True):
    """An act that needs nothing more: setting a state twice is setting it once."""


# -- accounts ------------------------------------------------------------------------------------------------------


class AccountQuery(In, frozen=True):
    """Of one customer, or with an empty name of all."""

    username: UsernameOrNone = ""
    after: Annotated[int, Meta(ge=0, le=2**53 - 1)] = 0
    limit: PageSize = 100


class NewAccount(In, frozen=True):
    id: Id
    username: Username
    currency: Currency


class OpenedAccount(Out, frozen=True):
    account: Account


class Limits(In, frozen=True):
    """None: no limit. ``floor`` is the lowest balance, below zero for an overdraft."""

    id: Id
    floor: Minor | None
    payment: Amount | None
    day: Amount | None
    month: Amount | None
    signed_orders_only: bool


class Freezing(In, frozen=True):
    debits_only: bool = False


class CashOrder(In, frozen=True):
    """Cash over the counter, into an account or out of it (teller)."""

    id: Id
    account: Number
    amount: Amount
    currency: Currency
    reference: Text = ""


# -- approvals, books, trail ---------------------------------------------------------------------------------------


class ApprovalPath(In, frozen=True):
    id: Id


class Decision(In, frozen=True):
    decline: bool


class Approval(Out, frozen=True):
    """What waits for a second administrator; ``mine``: asked for by oneself, so somebody else must decide."""

    id: Id
    operation: str
    summary: str
    asked_by: str
    asked: Time
    mine: bool


class ApprovalList(Out, frozen=True):
    approvals: list[Approval]


class BooksRow(Out, frozen=True):
    """Sums over all accounts of one currency; ``sum`` is always 0, and the open ``holds`` add up to ``held``."""

    currency: Currency
    accounts: int
    debits: Minor
    credits: Minor
    sum: Minor
    held: Minor
    holds: Minor


class Books(Out, frozen=True):
    rows: list[BooksRow]
    position: Position


class TrailQuery(In, frozen=True):
    cursor: Position = 0
    limit: PageSize = 100


class TrailRow(Out, frozen=True):
    position: Position
    time: Time
    kind: str
    actor: str
    subject: str
    detail: str


class TrailPage(Out, frozen=True):
    """``proven``: the journal's present head is rightly signed and continues the one this process saw first.

    ``tree_size`` and ``root`` are of that head; ``cursor`` 0: that was all.
    """

    rows: list[TrailRow]
    cursor: Position
    proven: bool
    tree_size: int
    root: str


# -- payments, banks, settlement -----------------------------------------------------------------------------------


class DoubtList(Out, frozen=True):
    """Payments between banks that are not decided everywhere."""

    payments: list[Payment]


class Resolution(In, frozen=True):
    id: Id
    act: Literal["commit", "abort"]


class BankPath(In, frozen=True):
    bank: Bank


class Suspension(In, frozen=True):
    id: Id
    resume: bool = False


class NewBank(In, frozen=True):
    id: Id
    bank: Bank
    currency: Currency
    cap: Cap
    authority: Annotated[str, Meta(max_length=16_384)] = ""


class BankPosition(Out, frozen=True):
    """Below zero the bank owes; down to minus ``cap`` it may pay."""

    bank: Bank
    currency: Currency
    account: Number
    position: Minor
    reserved: Minor
    cap: Minor


class PositionList(Out, frozen=True):
    positions: list[BankPosition]
    position: Position


class WindowRow(Out, frozen=True):
    """``agrees``: yes, no or unknown; ``differs``: the payment that differs, or empty."""

    bank: Bank
    currency: Currency
    payments: int
    paid: Minor
    received: Minor
    net: Minor
    root: str
    agrees: str
    differs: str


class Window(Out, frozen=True):
    """Payments decided after one position of the gateway's ledger and up to another; number 0 is open."""

    number: int
    after: Position
    to: Position
    closed: Time | None
    rows: list[WindowRow]


class WindowList(Out, frozen=True):
    windows: list[Window]


class WindowPath(In, frozen=True):
    number: Annotated[int, Meta(ge=0, le=2**53 - 1)]


# -- laboratory ----------------------------------------------------------------------------------------------------


class LabPath(In, frozen=True):
    """A process of the demo by its name, such as ``a-1``."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,31}$", max_length=32)]


class LabAct(In, frozen=True):
    """What happens to it: ``kill`` -9, ``stop`` (hang), ``cont`` (wake up), ``cut`` off its pair's link, ``heal``."""

    act: Literal["kill", "stop", "cont", "cut", "heal"]


class LabNode(Out, frozen=True):
    """``state``: running, stopped, cut, or gone (it is started again by itself)."""

    name: str
    bank: str
    state: Literal["running", "stopped", "cut", "gone"]
    node: Node | None


class LabView(Out, frozen=True):
    """All processes of the demo, and the newest payment between banks with its steps, as they happen."""

    nodes: list[LabNode]
    payment: Payment | None
    log: list[str]


class AccountHistory(Out, frozen=True):
    """An account as staff sees it, with its newest entries."""

    account: Account
    entries: list[Entry]
