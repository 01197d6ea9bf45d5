"""Administrative acts as tables: who may do what to whom, from which state, and what a repeat answers."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from fortress.errors import Status
from fortress.ledger.acts import ACCOUNTS_PER_CUSTOMER_MAX, JUDGES, are_roles, judge
from fortress.ledger.commands import (
    AskApproval,
    ChangeAccount,
    ChangeCustomer,
    ChangeKey,
    ChangeProfile,
    CreateCustomer,
    DecideApproval,
    EndSession,
    Invite,
    MoveBatch,
    OpenAccount,
    OpenLedger,
)
from fortress.ledger.entries import AccountChanged, AccountOpened, Refused
from fortress.ledger.model import BANK_ACTOR, AccountKind, AccountState, Actor, CustomerState, account_number
from tests.ledger.books_fixture import (
    ACTORS,
    ADMINISTRATOR,
    ALICE,
    BOB,
    KEY,
    NOW_US,
    Books,
    number,
    rows,
    status,
    uid,
)

ACCOUNTS = """
name   owner kind     currency state        balance held promised
cash   0     cash     EUR      open         -9000   -    -
empty  1     customer EUR      open         0       -    -
rich   1     customer EUR      open         5       -    -
owing  1     customer EUR      open         -5      -    -
held   1     customer EUR      open         0       5    -
due    1     customer EUR      open         0       -    5
frozen 1     customer EUR      frozen       0       -    -
stiff  1     customer EUR      debit_frozen 0       -    -
closed 1     customer EUR      closed       0       -    -
orphan 3     customer EUR      closed       0       -    -
till   0     fees     EUR      closed       0       -    -
ours   0     settlement EUR    open         0       -    -
theirs -1    position EUR      open         0       -    -
"""


@pytest.fixture
def books() -> Books:
    """Customers 1 (alice) and 2 (bob, administrator), 3 (erased), and the accounts above."""
    made = Books(ACCOUNTS)
    for name, roles in (("alice", ("customer",)), ("bob", ("administrator",)), ("gone", ("customer",))):
        assert made.do(create(name, roles)).status is Status.ok
    assert made.do(ChangeCustomer(BANK_ACTOR, uid(), 3, "erase")).status is Status.ok
    return made


def create(name: str, roles: tuple[str, ...] = ("customer",), **changes: Any) -> CreateCustomer:
    return replace(CreateCustomer(BANK_ACTOR, uid(), name.encode().ljust(16), roles, KEY, b"sealed"), **changes)


def check_repeat(books: Books, command: Any, /, **change: Any) -> None:
    """A repeat gets the first answer, the same id for something else none."""
    first = books.do(command)
    position = books.position
    again = books.do(command)
    assert again.replayed and (again.status, again.entry, again.position) == (first.status, first.entry, position)
    for name, value in {**change, "actor": Actor(77, frozenset({"administrator"}))}.items():
        other = books.do(replace(command, **{name: value}))
        assert other.status is Status.id_reused and other.entry is None, name
    assert books.position == position


# --- Accounts --------------------------------------------------------------------------------------------------------
OPENINGS = """
who           owner kind       currency floor answer
alice         1     customer   EUR      0     ok
alice         1     customer   USD      0     ok
alice         1     customer   XXX      0     currency_unknown
alice         1     customer   EUR      -5    floor_invalid
alice         1     customer   EUR      -     floor_invalid
alice         1     cash       EUR      0     account_kind_not_allowed
alice         2     customer   EUR      0     customer_unknown
alice         0     cash       EUR      -     account_kind_not_allowed
teller        1     customer   EUR      0     ok
teller        4     customer   EUR      0     customer_unknown
teller        3     customer   EUR      0     customer_erased
teller        0     cash       EUR      -     account_kind_not_allowed
administrator 0     cash       EUR      -     account_kind_not_allowed
bank          0     cash       EUR      -     ok
bank          0     position   EUR      -500  bank_unknown
bank          0     settlement USD      -     ok
bank          0     settlement EUR      -     account_limit_reached
bank          0     customer   EUR      0     account_kind_not_allowed
bank          1     customer   EUR      0     ok
"""


@pytest.mark.parametrize("row", rows(OPENINGS), ids=lambda row: " ".join(row.values()))
def test_accounts_are_opened_as_the_table_says(books: Books, row: dict[str, str]) -> None:
    """For oneself, by a cashier for a customer, by the bank for itself; each with the next number."""
    owner, kind = int(row["owner"]), int(AccountKind[row["kind"]])
    books.next_account = 5_000
    command = OpenAccount(ACTORS[row["who"]], uid(), owner, kind, row["currency"], number(row["floor"]))
    verdict = books.do(command)
    assert verdict.status is status(row["answer"])
    if verdict.status is Status.ok:
        assert type(verdict.entry) is AccountOpened and verdict.entry.number == account_number(5_000)
    else:
        assert type(verdict.entry) is Refused and verdict.entry.operation == "open_account"


def test_a_customer_has_so_many_accounts_at_most(books: Books) -> None:
    """Closed ones count: their rows stay for ever."""
    customer = books.customer(2)
    assert customer is not None
    customer.account_count = ACCOUNTS_PER_CUSTOMER_MAX - 1
    assert books.do(OpenAccount(BOB, uid(), 2, 1, "EUR")).status is Status.ok
    assert books.do(OpenAccount(BOB, uid(), 2, 1, "EUR")).status is Status.account_limit_reached


def test_opening_an_account_is_repeatable(books: Books) -> None:
    """One account, however often it is asked for; the number of the first answer."""
    check_repeat(books, OpenAccount(ALICE, uid(), 1, 1, "EUR"), owner=2, kind=2, currency="USD", floor=-1)
    check_repeat(books, OpenAccount(ALICE, uid(), 1, 1, "XXX"), currency="EUR")


def test_ids_too_far_ahead_leave_no_trace(books: Books) -> None:
    """For acts as for money."""
    position = books.position
    verdict = books.do(OpenAccount(ALICE, uid(NOW_US + 3_600_000_000), 1, 1, "EUR"))
    assert verdict.status is Status.id_too_far_ahead and books.position == position


CHANGES = """
who           account act           answer                   state
administrator empty   freeze        ok                       frozen
administrator stiff   freeze        ok                       frozen
administrator frozen  freeze        account_state_conflict   -
administrator closed  freeze        account_state_conflict   -
administrator empty   freeze_debits ok                       debit_frozen
administrator frozen  freeze_debits ok                       debit_frozen
administrator stiff   freeze_debits account_state_conflict   -
administrator frozen  unfreeze      ok                       open
administrator stiff   unfreeze      ok                       open
administrator empty   unfreeze      account_state_conflict   -
administrator empty   close         ok                       closed
administrator rich    close         account_not_empty        -
administrator owing   close         account_not_empty        -
administrator held    close         account_not_empty        -
administrator due     close         account_not_empty        -
administrator frozen  close         account_state_conflict   -
administrator closed  close         account_state_conflict   -
administrator closed  reopen        ok                       open
administrator empty   reopen        account_state_conflict   -
administrator orphan  reopen        customer_erased          -
administrator nobody  freeze        account_unknown          -
administrator cash    close         account_kind_not_allowed -
administrator cash    freeze        ok                       frozen
administrator cash    limits        account_kind_not_allowed -
administrator till    reopen        ok                       open
administrator ours    limits        account_kind_not_allowed -
administrator theirs  close         account_kind_not_allowed -
administrator theirs  limits        ok                       open
administrator theirs  freeze        ok                       frozen
alice         empty   close         ok                       closed
alice         rich    close         account_not_empty        -
alice         empty   freeze        account_unknown          -
alice         closed  reopen        account_unknown          -
bob           empty   close         account_unknown          -
teller        empty   close         account_unknown          -
"""


@pytest.mark.parametrize("row", rows(CHANGES), ids=lambda row: " ".join(row.values()))
def test_accounts_are_changed_as_the_table_says(books: Books, row: dict[str, str]) -> None:
    """An administrator anything, an owner only the closing of an empty account; nobody is told what is not theirs."""
    name = row["account"]
    before = books.account(books.numbers[name])
    if before is not None and before.owner == 1:
        owner = books.customer(1)
        assert owner is not None
        owner.open_account_count = 5
    version = before.version if before else 0
    was = AccountState(before.state).name if before else ""
    verdict = books.do(ChangeAccount(ACTORS[row["who"]], uid(), books.numbers[name], row["act"]))
    assert verdict.status is status(row["answer"])
    if verdict.status is Status.ok:
        assert type(verdict.entry) is AccountChanged
        assert AccountState(books.named(name).state).name == row["state"]
        assert books.named(name).version == verdict.entry.version == version + 1
    else:
        assert dict(verdict.facts) == ({"state": was} if before else {})
        assert verdict.entry.operation == row["act"] and verdict.entry.account == books.numbers[name]


@pytest.mark.parametrize(
    ("account", "floor", "answer"),
    [
        ("empty", 0, "ok"),
        ("empty", -500, "ok"),
        ("frozen", -500, "ok"),
        ("empty", 1, "floor_invalid"),
        ("empty", None, "floor_invalid"),
        ("empty", -(2**63), "floor_invalid"),
        ("closed", 0, "account_state_conflict"),
    ],
)
def test_floors_and_limits_are_set_whole(books: Books, account: str, floor: int | None, answer: str) -> None:
    """A customer's floor is none or an overdraft; limits replace those before, the state stays."""
    command = ChangeAccount(ADMINISTRATOR, uid(), books.numbers[account], "limits", floor, 5, None, 7, True)
    was = books.named(account).state
    verdict = books.do(command)
    assert verdict.status is status(answer)
    if verdict.status is Status.ok:
        a = books.named(account)
        assert (a.floor, a.limit_payment, a.limit_day, a.limit_month, a.signed_orders_only) == (floor, 5, None, 7, True)
        assert a.state == was


def test_changing_an_account_is_repeatable(books: Books) -> None:
    """Also setting limits, of which other limits are other content."""
    freeze = ChangeAccount(ADMINISTRATOR, uid(), books.numbers["empty"], "freeze")
    check_repeat(books, freeze, act="close", number=books.numbers["rich"])
    limits = ChangeAccount(ADMINISTRATOR, uid(), books.numbers["rich"], "limits", 0, 5, 6, 7, True)
    other = {"floor": -1, "limit_payment": None, "limit_day": 1, "limit_month": 1, "signed_orders_only": False}
    check_repeat(books, limits, **other)


# --- Customers -------------------------------------------------------------------------------------------------------
def test_a_customer_gets_the_next_number(books: Books) -> None:
    """And cannot have a username that was ever given."""
    verdict = books.do(create("carol"))
    assert verdict.entry.customer == 4 and books.customer(4) is not None
    assert books.do(create("carol")).status is Status.username_taken
    assert books.do(create("gone")).status is Status.username_taken


@pytest.mark.parametrize(
    ("roles", "is_right"),
    [
        (("customer",), True),
        (("customer", "teller", "administrator", "auditor"), True),
        ((), False),
        (("king",), False),
        (("customer", "customer"), False),
        (("customer", "bank"), False),
    ],
)
def test_roles_are_known_ones_and_none_twice(books: Books, roles: tuple[str, ...], is_right: bool) -> None:
    """At the making and at the changing of a customer."""
    answer = Status.ok if is_right else Status.role_invalid
    assert are_roles(roles) is is_right
    assert books.do(create("carol", roles)).status is answer
    assert books.do(ChangeCustomer(BANK_ACTOR, uid(), 1, "roles", roles)).status is answer


def test_creating_a_customer_is_repeatable(books: Books) -> None:
    """By id; key and profile are sealed anew each time and do not count."""
    command = create("carol")
    books.do(command)
    assert books.do(replace(command, profile=b"sealed again")).replayed
    check_repeat(books, command, handle=b"dave".ljust(16), roles=("teller",), invitation=b"x" * 32)


def invite(role: str = "teller", **changes: Any) -> Invite:
    return replace(Invite(ADMINISTRATOR, uid(), b"d" * 32, role, NOW_US + 10), **changes)


def test_an_invitation_is_used_once(books: Books) -> None:
    """Its role, before its end, and then never again; a repeat of the same registration is answered as the first."""
    assert books.do(invite()).status is Status.ok
    wrong = create("carol", invitation=b"d" * 32)
    assert books.do(wrong).status is Status.role_invalid
    right = create("carol", ("teller",), invitation=b"d" * 32)
    assert books.do(right).status is Status.ok
    assert books.invitation(b"d" * 32) is None and books.invitations == {}
    assert books.do(right).replayed
    assert books.do(replace(right, roles=("customer",))).replayed, "the roles came from the code, which is gone"
    assert books.do(create("dave", ("teller",), invitation=b"d" * 32)).status is Status.invitation_invalid


def test_a_code_that_is_wrong_or_late_is_no_invitation(books: Books) -> None:
    """One answer for both."""
    books.do(invite())
    assert books.do(create("c", ("teller",), invitation=b"e" * 32)).status is Status.invitation_invalid
    late = create("c", ("teller",), invitation=b"d" * 32)
    assert books.do(late, NOW_US + 10).status is Status.invitation_invalid


def test_inviting_is_repeatable(books: Books) -> None:
    """And only for roles that exist."""
    check_repeat(books, invite(), digest=b"e" * 32, role="customer")
    check_repeat(books, invite("king"), role="teller")


STATES = """
customer act    until roles         answer
1        lock   0     -             ok
1        lock   5     -             ok
1        unlock 0     -             ok
1        erase  0     -             ok
1        roles  0     teller        ok
3        lock   0     -             customer_erased
3        erase  0     -             customer_erased
9        lock   0     -             customer_unknown
2        lock   5     -             ok
2        lock   0     -             last_administrator
2        erase  0     -             last_administrator
2        roles  0     teller        last_administrator
2        roles  0     administrator ok
2        unlock 0     -             ok
"""


@pytest.mark.parametrize("row", rows(STATES), ids=lambda row: " ".join(row.values()))
def test_customers_are_changed_as_the_table_says(books: Books, row: dict[str, str]) -> None:
    """The last administrator stays; a lock with an end is no taking away."""
    roles = (row["roles"],) if row["roles"] else ()
    command = ChangeCustomer(ADMINISTRATOR, uid(), int(row["customer"]), row["act"], roles, int(row["until"]))
    verdict = books.do(command)
    assert verdict.status is status(row["answer"])
    if verdict.status is Status.ok:
        customer = books.customer(command.customer)
        assert customer is not None
        states = {"lock": CustomerState.locked, "erase": CustomerState.erased}
        assert customer.state == states.get(row["act"], CustomerState.active)
        assert customer.locked_until_us == int(row["until"])
        assert bool(customer.profile) == bool(customer.sealed_public) == (row["act"] != "erase")
    else:
        assert verdict.entry.operation == row["act"] and verdict.facts == ()


def test_nobody_is_erased_who_has_an_open_account(books: Books) -> None:
    """Not even an empty one, to which money could be sent; closed ones are no hindrance, and stay closed."""
    opened = books.do(OpenAccount(ALICE, uid(), 1, 1, "EUR"))
    refused = books.do(ChangeCustomer(ADMINISTRATOR, uid(), 1, "erase"))
    assert refused.status is Status.account_not_empty and dict(refused.facts) == {"open_accounts": 1}
    assert books.do(ChangeAccount(ALICE, uid(), opened.entry.number, "close")).status is Status.ok
    assert books.do(ChangeCustomer(ADMINISTRATOR, uid(), 1, "erase")).status is Status.ok
    reopen = ChangeAccount(ADMINISTRATOR, uid(), opened.entry.number, "reopen")
    assert books.do(reopen).status is Status.customer_erased


def test_a_reopened_account_hinders_again(books: Books) -> None:
    """What counts is how many are open."""
    number_of = books.do(OpenAccount(ALICE, uid(), 1, 1, "EUR")).entry.number
    for act in ("close", "reopen", "freeze", "unfreeze", "limits"):
        assert books.do(ChangeAccount(ADMINISTRATOR, uid(), number_of, act)).status is Status.ok
    customer = books.customer(1)
    assert customer is not None and (customer.open_account_count, customer.account_count) == (1, 1)
    assert books.do(ChangeCustomer(ADMINISTRATOR, uid(), 1, "erase")).status is Status.account_not_empty


def test_changing_a_customer_is_repeatable(books: Books) -> None:
    """Other roles or another end of a lock are other content."""
    check_repeat(books, ChangeCustomer(ADMINISTRATOR, uid(), 1, "roles", ("teller",)), roles=("auditor",), act="lock")
    check_repeat(books, ChangeCustomer(ADMINISTRATOR, uid(), 1, "lock", (), 5), locked_until_us=6, customer=2)
    check_repeat(books, ChangeCustomer(ADMINISTRATOR, uid(), 1, "unlock"), act="erase")
    check_repeat(books, ChangeCustomer(ADMINISTRATOR, uid(), 9, "lock"), act="unlock")


def test_keys_and_profiles_are_replaced(books: Books) -> None:
    """Of anybody who was not erased."""
    key = replace(KEY, salt=b"t" * 16, sealed_public=b"other")
    assert books.do(ChangeKey(ALICE, 1, key)).status is Status.ok
    assert books.do(ChangeProfile(ALICE, 1, b"new")).status is Status.ok
    customer = books.customer(1)
    assert customer is not None
    assert (customer.salt, customer.sealed_public, customer.profile) == (b"t" * 16, b"other", b"new")
    for number_of, answer in ((3, Status.customer_erased), (9, Status.customer_unknown)):
        for command in (ChangeKey(ALICE, number_of, key), ChangeProfile(ALICE, number_of, b"")):
            verdict = books.do(command)
            assert verdict.status is answer and verdict.entry is None


# --- Approvals, sessions, the ledger itself --------------------------------------------------------------------------
def test_a_second_administrator_decides_once(books: Books) -> None:
    """Not the one who asked; a decided one is remembered as such though it no longer waits."""
    ask = AskApproval(ADMINISTRATOR, uid(), "erase", b"command", "erase alice")
    check_repeat(books, ask, operation="set_role", command=b"other")
    approval = books.approval(ask.id)
    assert approval is not None and approval.state == 1
    alone = books.do(DecideApproval(ADMINISTRATOR, ask.id, True))
    assert alone.status is Status.approval_needs_another_person
    assert books.do(DecideApproval(BOB, ask.id, True)).status is Status.ok
    assert approval.state == 2 and books.approvals == {}
    for decision in (True, False):
        assert books.do(DecideApproval(BOB, ask.id, decision)).status is Status.approval_already_decided
    assert books.do(DecideApproval(BOB, uid(), True)).status is Status.approval_unknown
    account = books.do(OpenAccount(ALICE, uid(), 1, 1, "EUR"))
    assert books.do(DecideApproval(BOB, account.entry.id, True)).status is Status.approval_unknown


def test_who_asked_may_take_it_back(books: Books) -> None:
    """Declining needs no second person."""
    ask = AskApproval(ADMINISTRATOR, uid(), "erase", b"command", "erase alice")
    books.do(ask)
    approval = books.approval(ask.id)
    assert books.do(DecideApproval(ADMINISTRATOR, ask.id, False)).status is Status.ok
    assert approval is not None and approval.state == 3


def test_ended_sessions_are_written_down(books: Books) -> None:
    """For the tables; nothing in memory needs them."""
    verdict = books.do(EndSession(ALICE, 1, b"s" * 16, NOW_US + 5))
    assert verdict.status is Status.ok and books.delta.sessions[-1] == (b"s" * 16, 1, NOW_US + 5)


def test_a_ledger_is_opened_once() -> None:
    """Asking again changes nothing."""
    books = Books()
    books.currencies = {}
    assert books.do(OpenLedger(BANK_ACTOR, "a", ("EUR", "USD"))).status is Status.ok
    assert books.currencies == {"EUR": 0, "USD": 0}
    again = books.do(OpenLedger(BANK_ACTOR, "b", ("JPY",)))
    assert again.replayed and again.entry is None and again.time_us == 0


def test_batches_are_not_judged_here() -> None:
    """They are judged row by row by their caller."""
    assert MoveBatch not in JUDGES
    with pytest.raises(KeyError):
        judge(Books(), MoveBatch(ALICE, "EUR", (), True), NOW_US)
