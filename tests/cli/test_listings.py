"""Listings: tables and documents say the same about the same answer."""

from __future__ import annotations

from fortress.cli import listings
from fortress.protocol.administration import ApprovalRow, TrailRow, TrialBalanceRow
from fortress.protocol.reading import TransferView
from tests.cli.conftest import ID, ID_TEXT, TIME_US, account_view, history_row, user_answer


def test_a_table_has_a_cell_for_each_heading() -> None:
    """No answer makes a ragged table."""
    for table in (
        listings.accounts_table([account_view()]),
        listings.entries_table([history_row(), history_row(balance_minor=None, counterparty=0)], "EUR"),
        listings.users_table([user_answer(), user_answer(locked_until_us=TIME_US)]),
        listings.approvals_table([ApprovalRow(ID, "erase", "erase bob", "ada", TIME_US)]),
        listings.trail_table([TrailRow(1, TIME_US, "lock", "ada", "bob", "")]),
        listings.trial_balance_table([TrialBalanceRow("EUR", 1, 2, 2, 0, 0, 0)]),
    ):
        assert table.rows and {len(row) for row in table.rows} == {len(table.columns)}


def test_an_entry_without_a_balance_is_told_as_such() -> None:
    """A hold changes no balance."""
    document = listings.entry_json(history_row(balance_minor=None, counterparty=0, value_date=""), "EUR")
    assert (document["balance"], document["counterparty"], document["value_date"]) == (None, None, None)


def test_a_refusal_has_no_amount_to_tell() -> None:
    """A looked-up id may be that of a refused request."""
    view = TransferView(ID, 16, "refused", 1, 2, 0, "", "transfer", "", 3, TIME_US)
    document = listings.transfer_json(view)
    assert (document["id"], document["amount"], document["status"]) == (ID_TEXT, None, 16)


def test_sums_are_balance_available_and_held() -> None:
    """In this order."""
    assert listings.sums_of(account_view()) == (10000, 9000, 1000)
