"""Errors as HTTP tells them: RFC 9457 documents with the bank's code, whether to try again, and what to do.

The table of statuses is the whole rule. What an error says of the inside of the bank, such as where its nodes are, is
for its operators and stays here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Final

from fortress.errors import (
    STATUS_HINTS,
    AmountInvalid,
    AuthenticationError,
    DeadlinePassed,
    FortressError,
    GatewayUnreachable,
    KeyDerivationRefused,
    LedgerError,
    LockedOut,
    LoginFailed,
    MessageInvalid,
    MessageTooLarge,
    NotAllowed,
    NotSignedIn,
    OutcomeUnknown,
    PasswordTooWeak,
    Refused,
    RetryableError,
    ServerNotTrusted,
    Status,
    Throttled,
    TokenRejected,
    UnknownOperation,
    UsageError,
    refusal_code,
)
from fortress.web.call import BodyLate, NotFound, OriginRefused, WrongMethod
from fortress.web.shapes import Problem

CONTENT_TYPE: Final = "application/problem+json"

STATUSES: Final[Mapping[type[FortressError], int]] = {
    FortressError: 502,
    Refused: 409,
    AuthenticationError: 401,
    NotAllowed: 403,
    OriginRefused: 403,
    LockedOut: 429,
    Throttled: 429,
    PasswordTooWeak: 422,
    ServerNotTrusted: 502,
    KeyDerivationRefused: 502,
    RetryableError: 503,
    DeadlinePassed: 504,
    OutcomeUnknown: 504,
    MessageInvalid: 422,
    NotFound: 404,
    WrongMethod: 405,
    BodyLate: 408,
    MessageTooLarge: 413,
    UnknownOperation: 501,
    UsageError: 422,
    AmountInvalid: 422,
}
"""Class -> HTTP status; the nearest ancestor counts. What is not here went wrong between this process and the bank."""

UNKNOWN_THINGS: Final = frozenset(
    {
        Status.account_unknown,
        Status.customer_unknown,
        Status.hold_unknown,
        Status.approval_unknown,
        Status.payment_unknown,
        Status.bank_unknown,
    }
)
"""Refusals that mean: there is no such thing, or it is another's."""

HINTS: Final[Mapping[type[FortressError], str]] = {
    AuthenticationError: "sign in again",
    LoginFailed: "check both; after several failures the bank waits longer before each try",
    LockedOut: "wait until the time told, or ask your bank to unlock you",
    NotAllowed: "ask an administrator of the bank for the role that is needed",
    RetryableError: "try again with the same id: it is done once",
    MessageInvalid: "correct the field named",
}
"""Hints that speak of commands, said for people who have a page in front of them."""

STATUS_HINTS_HERE: Final[Mapping[Status, str]] = {
    Status.exceeds_available: "pay in money first or send less",
    Status.debit_account_unknown: "choose one of your own accounts",
    Status.account_unknown: "choose one of your own accounts",
    Status.approval_needs_another_person: "ask another administrator to approve it",
    Status.payee_bank_unknown: "check the payee's bank with them",
    Status.order_signature_required: "sign the payment with your password",
    Status.hold_of_payment: "wait for the payment that it belongs to",
    Status.bank_unknown: "choose one of the banks listed",
    Status.window_not_settled: "wait until no payment is in doubt, then close it again",
}
"""Likewise for refusals."""

FAULT: Final = "something is wrong at the bank"
FAULT_HINT: Final = "try again later; if it stays so, tell the bank the code"
"""For faults that are no customer's to mend; what they are, the bank's log says."""
KEPT_INSIDE: Final = frozenset({"endpoint", "primary", "file", "host", "port"})
COMMAND: Final = "'fortress "
ASK_THE_BANK: Final = "tell the bank, and name the code"
TRY_AGAIN_S: Final = 1
FT: Final = "FT-"


def problem_of(error: FortressError) -> Problem:
    """Describe an error for a page."""
    status = status_of(error)
    sentence = (type(error).__doc__ or "").split("\n")[0].rstrip(".").lower()
    is_inside = isinstance(error, RetryableError) or status == 502
    facts = {name: value for name, value in error.facts.items() if name not in KEPT_INSIDE}
    code = error.code
    name = ""
    if isinstance(error, LedgerError):
        sentence = FAULT
    if isinstance(error, Refused):
        code, name, sentence = refusal_code(error.status), error.status.name, error.message
    return Problem(
        type=f"urn:fortress:{FT}{code}",
        title=sentence,
        status=status,
        detail=sentence if is_inside else error.message,
        code=f"{FT}{code}",
        retry=error.retry,
        hint=_hint_of(error),
        status_name=name,
        facts=facts,
    )


def status_of(error: FortressError) -> int:
    """Give the HTTP status of an error."""
    if isinstance(error, Refused) and error.status in UNKNOWN_THINGS:
        return STATUSES[NotFound]
    return next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)


def retry_after_s(error: FortressError) -> int:
    """Give the seconds of ``Retry-After``; 0: no such header."""
    wait_ms, until_us = error.facts.get("wait_ms"), error.facts.get("until_us")
    if isinstance(error, LockedOut) and isinstance(until_us, int) and until_us:
        return max(math.ceil(until_us / 1e6 - time.time()), 1)
    if isinstance(error, Throttled):
        return max(math.ceil(wait_ms / 1000), 1) if isinstance(wait_ms, int) else TRY_AGAIN_S
    return TRY_AGAIN_S if status_of(error) == 503 else 0


def is_alone(error: GatewayUnreachable) -> bool:
    """Tell whether a bank has no gateway at all, which is no fault and will not pass."""
    return error.facts.get("has_gateway") is False


def is_session_over(error: FortressError) -> bool:
    """Whether the session that asked is good for nothing any more, so that its cookie should go."""
    return isinstance(error, NotSignedIn | TokenRejected)


def _hint_of(error: FortressError) -> str:
    if isinstance(error, Refused):
        return STATUS_HINTS_HERE.get(error.status) or STATUS_HINTS.get(error.status, error.hint)
    if status_of(error) == 502:
        return FAULT_HINT
    own = next((cls for cls in type(error).__mro__ if "hint" in cls.__dict__ or cls in HINTS), FortressError)
    hint = HINTS.get(own, error.hint)
    return ASK_THE_BANK if COMMAND in hint else hint
