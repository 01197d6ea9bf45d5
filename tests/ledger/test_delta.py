"""What a record changes in the tables: taken when it is closed, not a moment later."""

from __future__ import annotations

import pytest

from fortress.errors import BooksBroken
from fortress.ledger.delta import MARK_EVERY, Delta
from fortress.ledger.model import Account, Approval, Customer, Hold, Invitation, MemberBank
from fortress.ledger.schema import UPSERTED

ID = bytes(range(16))


def filled() -> Delta:
    """A delta with something for every table."""
    delta = Delta()
    delta.add(b"entry")
    account = Account(195, 1, 1, "EUR", credits_posted=7)
    delta.note(5, account)
    delta.ids.append(ID)
    delta.id_positions.append(5)
    delta.accounts[195] = account
    delta.holds[ID] = Hold(ID, 195, 292, 7, "EUR", 1, 2, "r", position=5)
    delta.customers[1] = Customer(1, ID, ("a", "b"), ID, 1, 2, 3, b"p", b"s", b"x", 9, position=5)
    delta.approvals[ID] = Approval(ID, "erase", b"c", "s", 1, 2, position=5)
    delta.invitations[ID * 2] = Invitation(ID * 2, "teller", 9, position=5)
    delta.reversals[ID] = (7, 5)
    delta.sessions.append((ID, 1, 9))
    delta.banks[1] = MemberBank(1, "north", 1, b"a", 9, position=5)
    delta.windows.append((1, 0, 4, 9, 5))
    return delta


def frozen(delta: Delta) -> Delta:
    delta.freeze(lsn=3, first_position=5, time_us=9, hash=b"h" * 32, entry_offset=100)
    return delta


def test_the_rows_are_those_of_the_moment() -> None:
    """Objects that change afterwards no longer show in a closed record."""
    delta = filled()
    account, hold, customer = delta.accounts[195], delta.holds[ID], delta.customers[1]
    frozen(delta)
    account.credits_posted, account.state, hold.state, customer.state = 99, 4, 2, 3
    assert delta.counter_rows == '"195":[0,7,0,0,0,0,0,0,5,1]'
    assert delta.rows["accounts"][195][4] == 1
    assert delta.rows["holds"][ID][8] == 1
    assert delta.rows["customers"][1][11] == 1
    assert (delta.lsn, delta.first_position, delta.count, delta.time_us) == (3, 5, 1, 9)


def test_every_table_that_is_replaced_by_row_gets_its_rows() -> None:
    """By the names that the store writes, with as many columns, nothing else and nothing less."""
    rows = frozen(filled()).rows
    assert set(rows) == set(UPSERTED)
    for table, found in rows.items():
        assert [len(row) for row in found.values()] == [len(UPSERTED[table])], table


def test_what_did_not_change_has_no_rows() -> None:
    """An empty table costs no statement."""
    rows = frozen(Delta()).rows
    assert rows == {}


def test_the_tables_of_every_transfer_get_text() -> None:
    """Each entry's row says where its bytes lie among all; items are ready to be joined with other records'."""
    delta = filled()
    delta.add(b"longer entry")
    delta.note(6)
    frozen(delta)
    assert delta.entry_rows == "[195,0,0,0,100,5],[0,0,0,0,105,12]"
    assert (delta.entry_offset, delta.entry_bytes, delta.size_bytes) == (100, b"entrylonger entry", 17)
    assert (delta.id_rows, delta.id_bytes) == ("5", ID)
    empty = frozen(Delta())
    assert (empty.entry_rows, empty.id_rows, empty.counter_rows, empty.entry_bytes) == ("", "", "", b"")


def test_what_does_not_fit_the_entries_stops_the_node() -> None:
    """A row for each entry, an id of 16 bytes for each position."""
    delta = filled()
    delta.add(b"not noted")
    with pytest.raises(BooksBroken, match="links 1 of 2"):
        frozen(delta)
    delta = filled()
    delta.ids.append(b"short")
    with pytest.raises(BooksBroken, match="16 bytes"):
        frozen(delta)


def test_columns_that_are_blobs_travel_as_hex() -> None:
    """The schema says which; every other column is plain."""
    rows = frozen(filled()).rows
    for table, columns in UPSERTED.items():
        (row,) = rows[table].values()
        for value, is_blob in zip(row, columns, strict=True):
            assert not is_blob or bytes.fromhex(value) is not None
            assert not isinstance(value, bytes | bool)


def test_an_account_s_entries_are_linked() -> None:
    """Each names the one before; the account knows its last and how many."""
    delta = Delta()
    account = Account(195, 1, 1, "EUR")
    assert [delta.link(account, position) for position in (4, 6, 9)] == [0, 4, 6]
    assert (account.last_position, account.entry_count) == (9, 3)
    assert delta.touched == {195: account}


def test_every_256th_entry_is_marked() -> None:
    """The way into the middle of a long chain."""
    delta = Delta()
    account = Account(195, 1, 1, "EUR")
    for position in range(1, 2 * MARK_EVERY + 10):
        delta.link(account, 10 * position)
    assert delta.marks == [(195, 10 * MARK_EVERY), (195, 20 * MARK_EVERY)]


@pytest.mark.parametrize("has_account", [False, True])
def test_what_moves_no_money_is_in_the_trail(has_account: bool) -> None:
    """And in its account's chain when it has one."""
    delta = Delta()
    account = Account(195, 1, 1, "EUR", last_position=2) if has_account else None
    delta.note(7, account)
    assert delta.trail == [7]
    assert delta.chain == [(195, 2, 0, 0) if has_account else (0, 0, 0, 0)]
