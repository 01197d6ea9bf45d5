"""What the bank answers to a command: numbers for ever, a sentence for each, a hint where one helps.

Part of :mod:`fortress.errors`, through which everybody else reaches it.
"""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """What the bank answers to a command; numbered for ever, in no order of precedence."""

    ok = 0
    id_reused = 1
    id_too_far_ahead = 2
    amount_invalid = 3
    currency_unknown = 4
    accounts_must_differ = 5
    debit_account_unknown = 6
    credit_account_unknown = 7
    debit_account_closed = 8
    credit_account_closed = 9
    debit_account_frozen = 10
    credit_account_frozen = 11
    currency_mismatch = 12
    exceeds_limit_per_payment = 13
    exceeds_limit_per_day = 14
    exceeds_limit_per_month = 15
    exceeds_available = 16
    balance_too_large = 17
    hold_unknown = 18
    hold_already_posted = 19
    hold_already_voided = 20
    hold_expired = 21
    exceeds_hold = 22
    original_unknown = 23
    original_not_reversible = 24
    exceeds_original = 25
    batch_failed = 26
    account_unknown = 27
    account_not_empty = 28
    account_state_conflict = 29
    customer_unknown = 30
    username_taken = 31
    key_proof_invalid = 32
    role_invalid = 33
    approval_unknown = 34
    approval_needs_another_person = 35
    approval_already_decided = 36
    invitation_invalid = 37
    customer_locked = 38
    customer_erased = 39
    account_limit_reached = 40
    expiry_in_the_past = 41
    value_date_invalid = 42
    last_administrator = 43
    floor_invalid = 44
    order_signature_invalid = 45
    order_signature_required = 46
    account_kind_not_allowed = 47
    payee_bank_unknown = 48
    bank_suspended = 49
    exceeds_debit_cap = 50
    order_expired = 51
    payment_unknown = 52
    payment_already_decided = 53
    hold_of_payment = 54
    bank_unknown = 55
    bank_state_conflict = 56
    window_not_settled = 57
    payment_given_up = 58
    settlement_account_missing = 59


STATUS_SENTENCES: dict[Status, str] = {
    Status.ok: "done",
    Status.id_reused: "this id was used before for something else",
    Status.id_too_far_ahead: "the time inside this id lies too far ahead",
    Status.amount_invalid: "the amount is not allowed here",
    Status.currency_unknown: "this currency is not known",
    Status.accounts_must_differ: "payer and payee are the same account",
    Status.debit_account_unknown: "the account to take from is not known to you",
    Status.credit_account_unknown: "the account to pay to does not exist",
    Status.debit_account_closed: "the account to take from is closed",
    Status.credit_account_closed: "the account to pay to is closed",
    Status.debit_account_frozen: "the account to take from is frozen",
    Status.credit_account_frozen: "the account to pay to is frozen",
    Status.currency_mismatch: "the accounts are not both in this currency",
    Status.exceeds_limit_per_payment: "the amount is over the account's limit for one payment",
    Status.exceeds_limit_per_day: "the amount is over what is left of the account's limit for today",
    Status.exceeds_limit_per_month: "the amount is over what is left of the account's limit for this month",
    Status.exceeds_available: "the amount is over what is available",
    Status.balance_too_large: "the balance would grow past the largest number the ledger keeps",
    Status.hold_unknown: "no hold has this id",
    Status.hold_already_posted: "this hold was posted before",
    Status.hold_already_voided: "this hold was voided before",
    Status.hold_expired: "this hold has expired",
    Status.exceeds_hold: "the amount is over what the hold reserved",
    Status.original_unknown: "no transfer has the id to be reversed",
    Status.original_not_reversible: "this transfer cannot be reversed",
    Status.exceeds_original: "the amount is over what is left of the original to reverse",
    Status.batch_failed: "another transfer of this batch was refused, so none was done",
    Status.account_unknown: "this account is not known to you",
    Status.account_not_empty: "the account still holds money or holds",
    Status.account_state_conflict: "the account is already in that state",
    Status.customer_unknown: "no such customer",
    Status.username_taken: "this username is taken",
    Status.key_proof_invalid: "the proof for the new key is not right",
    Status.role_invalid: "this role cannot be given",
    Status.approval_unknown: "no such request waits for approval",
    Status.approval_needs_another_person: "a second person must approve this",
    Status.approval_already_decided: "this request was decided before",
    Status.invitation_invalid: "the invitation code is wrong, used or expired",
    Status.customer_locked: "this customer is locked",
    Status.customer_erased: "this customer was erased",
    Status.account_limit_reached: "this customer has as many accounts as one may have",
    Status.expiry_in_the_past: "the expiry lies in the past or too far ahead",
    Status.value_date_invalid: "the value date is out of range",
    Status.last_administrator: "the last administrator cannot be taken away",
    Status.floor_invalid: "this account cannot have such a floor",
    Status.order_signature_invalid: "the signature of the payment order is not right",
    Status.order_signature_required: "this account takes only signed payment orders",
    Status.account_kind_not_allowed: "this kind of account cannot be used here",
    Status.payee_bank_unknown: "the payee's bank is not known to the gateway",
    Status.bank_suspended: "the payer's or the payee's bank is suspended at the gateway",
    Status.exceeds_debit_cap: "the payer's bank has used up its net debit cap at the gateway",
    Status.order_expired: "the order came after the time up to which it was valid",
    Status.payment_unknown: "no payment has this id",
    Status.payment_already_decided: "this payment was decided before",
    Status.hold_of_payment: "this hold belongs to a payment between banks, which alone can end it",
    Status.bank_unknown: "no bank has this name here",
    Status.bank_state_conflict: "the bank is already in that state",
    Status.window_not_settled: "not every bank has carried out all payments of this window yet",
    Status.payment_given_up: "this payment was given up before it was decided; nothing was paid",
    Status.settlement_account_missing: "this bank keeps no settlement account in this currency",
}

STATUS_HINTS: dict[Status, str] = {
    Status.id_reused: "make a new id for a new payment; repeat an id only with the same content",
    Status.id_too_far_ahead: "set this machine's clock",
    Status.exceeds_available: "pay in money first or send less; 'fortress balance' shows what is available",
    Status.debit_account_unknown: "'fortress account list' shows the accounts you may use",
    Status.credit_account_unknown: "check the number; its last two digits are check digits",
    Status.account_unknown: "'fortress account list' shows the accounts you may use",
    Status.currency_mismatch: "send in the currency of both accounts",
    Status.approval_needs_another_person: "ask another administrator to run 'fortress approve'",
    Status.payee_bank_unknown: "'fortress bank list' shows the banks that can be paid",
    Status.exceeds_debit_cap: "try again with a new id after settlement, or send less",
    Status.order_expired: "make a new payment with a new id if it is still wanted",
    Status.order_signature_required: "sign it, under a new id: 'fortress pay ... --sign' asks for the password",
    Status.order_signature_invalid: "sign in anew and sign it again: your key was changed, or the order was",
    Status.hold_of_payment: "'fortress payment show ID' tells where it stands",
    Status.bank_unknown: "'fortress bank list' shows the banks",
    Status.window_not_settled: "wait until 'fortress payment list --in-doubt' is empty, then close it again",
    Status.settlement_account_missing: "ask the bank's operator: payments to other banks go through such an account",
}


def status_name(status: int) -> str:
    """Name a status number for people and metrics; an unknown number keeps its digits."""
    return Status(status).name if status in Status._value2member_map_ else f"status_{status}"
