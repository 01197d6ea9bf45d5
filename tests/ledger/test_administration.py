"""Applying administrative entries: what they change in memory, and what stops the node."""

from __future__ import annotations

from typing import Any

import pytest

from fortress.errors import BooksBroken
from fortress.ledger import entries as e
from fortress.ledger.administration import Administration
from fortress.ledger.delta import Delta
from fortress.ledger.memory import Memory
from fortress.ledger.model import BANK, account_number
from tests.ledger.books_fixture import NOW_US, uid

A = account_number(500)
B = account_number(2)
HANDLE, DIGEST = b"h" * 16, b"d" * 32


class Acts:
    """Appliers over an empty memory; positions go on."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.delta = Delta()
        self.administration = Administration(self.memory)
        self.position = 0

    def apply(self, name: str, entry: Any) -> Any:
        self.position += 1
        getattr(self.administration, f"apply_{name}")(entry, self.position, self.delta)
        return entry

    def customer(self, number: int = 1, *roles: str, invitation: bytes = b"") -> e.CustomerCreated:
        key = (b"s", 1, 2, 3, b"sealed", b"signing")
        made = (NOW_US, uid(), number, HANDLE, roles or ("customer",), *key, b"profile", invitation, 0)
        created: e.CustomerCreated = self.apply("customer_created", e.CustomerCreated(*made))
        return created

    def opened(self, number: int = A, owner: int = 1, kind: int = 1) -> e.AccountOpened:
        entry: e.AccountOpened = self.apply(
            "account_opened", e.AccountOpened(NOW_US, uid(), number, owner, kind, "EUR", 0, 1)
        )
        return entry

    def changed(self, state: int, act: str = "close", number: int = A) -> e.AccountChanged:
        entry = e.AccountChanged(NOW_US, uid(), number, act, state, -5, 1, 2, 3, True, 9, 1)
        done: e.AccountChanged = self.apply("account_changed", entry)
        return done

    def person(self, act: str, state: int, *roles: str, until: int = 0) -> e.CustomerChanged:
        entry = e.CustomerChanged(NOW_US, uid(), 1, act, roles or ("customer",), state, until, 1)
        done: e.CustomerChanged = self.apply("customer_changed", entry)
        return done


@pytest.fixture
def acts() -> Acts:
    return Acts()


def test_every_act_is_in_the_trail(acts: Acts) -> None:
    """In the order of positions; refusals as well."""
    acts.apply("ledger_opened", e.LedgerOpened(NOW_US, "a", ("EUR",)))
    acts.customer()
    refused = acts.apply("refused", e.Refused(NOW_US, uid(), 5, b"", "x", A, (), 1))
    acts.opened()
    acts.changed(3, "freeze")
    acts.apply("key_changed", e.KeyChanged(NOW_US, 1, b"t", 4, 5, 6, b"new", b"sign", 1))
    acts.apply("profile_changed", e.ProfileChanged(NOW_US, 1, b"other", 1))
    acts.person("lock", 2)
    acts.apply("session_ended", e.SessionEnded(NOW_US, 1, b"s" * 16, 9))
    acts.apply("bank_changed", e.BankChanged(NOW_US, uid(), 1, "north", "add", 1, b"a", 9))
    acts.apply("window_closed", e.WindowClosed(NOW_US, uid(), 1, 0, 5, 9))
    acts.apply("ledger_restored", e.LedgerRestored(NOW_US, 7))
    assert acts.delta.trail == list(range(1, 13))
    assert len(acts.delta.chain) == len(acts.delta.trail)
    assert acts.memory.known(refused.id) == (3, refused)
    assert acts.delta.sessions == [(b"s" * 16, 1, 9)]
    customer = acts.memory.customer(1)
    assert customer is not None and (customer.salt, customer.memory_kib, customer.profile) == (b"t", 4, b"other")
    assert (customer.iterations, customer.lanes, customer.sealed_public, customer.signing) == (5, 6, b"new", b"sign")


def test_a_ledger_begins_once(acts: Acts) -> None:
    """Its opening is the first entry or none."""
    acts.customer()
    with pytest.raises(BooksBroken, match="opens the ledger again"):
        acts.apply("ledger_opened", e.LedgerOpened(NOW_US, "a", ("EUR",)))


def test_an_act_without_an_id_is_not_remembered(acts: Acts) -> None:
    """Nobody can repeat it."""
    acts.apply("refused", e.Refused(NOW_US, b"", 5, b"", "x", A, (), 1))
    assert acts.delta.ids == [] and b"" not in acts.memory.ids


def test_accounts_are_counted_with_their_owner(acts: Acts) -> None:
    """How many ever, how many open, and which was the first."""
    acts.customer()
    acts.opened()
    acts.opened(account_number(501))
    customer = acts.memory.customer(1)
    assert customer is not None and acts.memory.next_account == 10_001
    acts.opened(account_number(20_000))
    assert acts.memory.next_account == 20_001
    assert (customer.default_account, customer.account_count, customer.open_account_count) == (A, 3, 3)
    assert customer.position == acts.position and acts.delta.customers == {1: customer}


def test_the_bank_s_own_accounts_have_no_owner(acts: Acts) -> None:
    """A cash account becomes the one of its currency."""
    acts.opened(owner=BANK, kind=2)
    acts.changed(4)
    assert acts.memory.currencies == {"EUR": A} and acts.delta.customers == {}


def test_accounts_between_banks_are_found_by_what_they_are_for(acts: Acts) -> None:
    """The settlement account by currency, a position by bank and currency; neither belongs to a customer."""
    acts.opened(A, BANK, 5)
    acts.opened(B, -7, 3)
    acts.changed(4, number=B)
    assert (acts.memory.settlements, acts.memory.positions) == ({"EUR": A}, {(7, "EUR"): B})
    assert acts.memory.currencies == {} and acts.delta.customers == {}


def test_an_account_of_nobody_stops_the_node(acts: Acts) -> None:
    """The owner must be there."""
    with pytest.raises(BooksBroken, match="customer 1"):
        acts.opened()


def test_a_changed_account_is_as_the_entry_says(acts: Acts) -> None:
    """State and limits whole; closing and reopening are counted with the owner, other changes are not."""
    acts.customer()
    acts.opened()
    customer = acts.memory.customer(1)
    assert customer is not None
    counts = []
    for state in (3, 2, 1, 4, 4, 1):
        acts.changed(state)
        counts.append(customer.open_account_count)
    assert counts == [1, 1, 1, 0, 0, 1]
    account = acts.memory.account(A)
    assert account is not None
    assert (account.state, account.floor, account.version, account.signed_orders_only) == (1, -5, 9, True)
    assert (account.limit_payment, account.limit_day, account.limit_month) == (1, 2, 3)
    assert account.entry_count == 7


def test_a_change_of_what_is_not_there_stops_the_node(acts: Acts) -> None:
    """Accounts, customers, approvals."""
    with pytest.raises(BooksBroken, match="account"):
        acts.changed(4)
    with pytest.raises(BooksBroken, match="customer"):
        acts.person("lock", 2)
    with pytest.raises(BooksBroken, match="does not wait"):
        acts.apply("approval_decided", e.ApprovalDecided(NOW_US, uid(), True, 1))


@pytest.mark.parametrize(
    ("act", "state", "roles", "until", "is_one"),
    [
        ("roles", 1, ("teller",), 0, False),
        ("roles", 1, ("administrator", "teller"), 0, True),
        ("lock", 2, ("administrator",), 0, False),
        ("lock", 2, ("administrator",), 5, True),
        ("erase", 3, ("administrator",), 0, False),
    ],
)
def test_who_is_an_administrator(
    acts: Acts, act: str, state: int, roles: tuple[str, ...], until: int, is_one: bool
) -> None:
    """Whoever has the role and is neither erased nor locked without an end."""
    acts.customer(1, "administrator")
    assert acts.memory.administrators == {1}
    acts.person(act, state, *roles, until=until)
    assert acts.memory.administrators == ({1} if is_one else set())
    acts.person("unlock", 1, "administrator")
    assert acts.memory.administrators == {1}


def test_an_erased_customer_s_data_is_gone_and_the_name_stays_taken(acts: Acts) -> None:
    """The journal keeps the ciphertext, whose key is destroyed; the tables not even that."""
    acts.customer()
    acts.person("erase", 3)
    customer = acts.memory.customer_by_handle(HANDLE)
    assert customer is not None and customer.profile == customer.sealed_public == b""


def test_an_invitation_is_kept_until_it_is_used(acts: Acts) -> None:
    """The tables learn of both."""
    acts.apply("invited", e.Invited(NOW_US, uid(), DIGEST, "teller", 9, 1))
    invitation = acts.memory.invitation(DIGEST)
    assert invitation is not None and acts.delta.invitations == {DIGEST: invitation}
    acts.delta = Delta()
    acts.customer(invitation=DIGEST)
    assert acts.memory.invitations == {} and acts.delta.invitations == {DIGEST: invitation}
    assert invitation.used and invitation.position == 2


@pytest.mark.parametrize(("is_approved", "state"), [(True, 2), (False, 3)])
def test_an_approval_is_kept_until_it_is_decided(acts: Acts, is_approved: bool, state: int) -> None:
    """Its id stays known as one that was asked."""
    asked = acts.apply("approval_asked", e.ApprovalAsked(NOW_US, uid(), "erase", b"c", "s", 1))
    approval = acts.memory.approval(asked.id)
    assert approval is not None and approval.asked_by == 1
    acts.delta = Delta()
    acts.apply("approval_decided", e.ApprovalDecided(NOW_US, asked.id, is_approved, 2))
    assert acts.memory.approvals == {} and (approval.state, approval.position) == (state, 2)
    assert acts.delta.approvals == {asked.id: approval} and acts.memory.known(asked.id) == (1, asked)
    with pytest.raises(BooksBroken):
        acts.apply("approval_decided", e.ApprovalDecided(NOW_US, asked.id, is_approved, 2))
