"""Every operation as one typed struct: what it takes, what it answers, who may ask.

A request is ``[request id, operation, {fields}]``; an answer ``[request id, 0, {fields}]``; a refusal or error
``[request id, code, {message, facts, retry}]``; a push ``[0, topic, {fields}]``; all msgpack. Decoding is validating:
unknown keys, floats where integers belong, ranges and lengths are refused with the field's name. The table
``OPERATIONS`` is the one list of operations; handlers, the client and the reference page derive from it.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from fortress.errors import FortressError, MessageInvalid, UnknownOperation
from fortress.protocol.accounts import (
    AccountsAnswer,
    AccountView,
    GetAccount,
    GetProfile,
    ListAccounts,
    OpenAccount,
    ProfileAnswer,
    Resolve,
    ResolveAnswer,
    SetProfile,
)
from fortress.protocol.administration import (
    ApprovalsAnswer,
    Approve,
    CloseAccount,
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
    StatusAnswer,
    StatusRequest,
    Trail,
    TrailAnswer,
    TrialBalance,
    TrialBalanceAnswer,
    Unfreeze,
    Unlock,
    UserAnswer,
    UsersAnswer,
)
from fortress.protocol.fields import INTEGER_MAX, Answer, Done, Refusal, Request
from fortress.protocol.money import (
    Deposit,
    GetHold,
    Hold,
    HoldsAnswer,
    HoldView,
    ListHolds,
    Post,
    Reverse,
    Transfer,
    TransferAnswer,
    Transfers,
    TransfersAnswer,
    Void,
    Withdraw,
)
from fortress.protocol.payments import (
    GetPayment,
    ListPayments,
    Pay,
    PaymentAnswer,
    PaymentsAnswer,
    PaymentView,
    ResolvePayment,
)
from fortress.protocol.reading import (
    Consistency,
    ConsistencyAnswer,
    EntryPush,
    GetTransfer,
    Head,
    HeadAnswer,
    History,
    HistoryAnswer,
    Receipt,
    ReceiptAnswer,
    Statement,
    StatementAnswer,
    Subscribe,
    TransferView,
    Unsubscribe,
)
from fortress.protocol.sessions import (
    ChangeKey,
    ChangeKeyBegin,
    EndSession,
    Hello,
    HelloAnswer,
    LoginBegin,
    LoginChallenge,
    LoginFinish,
    Logout,
    Register,
    Renew,
    Resume,
    Sessions,
    SessionsAnswer,
    SignedIn,
    Whoami,
)
from fortress.protocol.switching import (
    AddBank,
    BanksAnswer,
    CloseWindow,
    GetWindow,
    ListBanks,
    ListPositions,
    ListWindows,
    PositionsAnswer,
    SuspendBank,
    WindowsAnswer,
    WindowView,
)

EVERYBODY: tuple[str, ...] = ()  # also without a login
SIGNED_IN = ("customer", "teller", "administrator", "auditor")
STAFF = ("teller", "administrator", "auditor")
CASHIERS = ("teller", "administrator")
ADMINISTRATORS = ("administrator",)
AUDITORS = ("auditor", "administrator")


class Operation(Struct, frozen=True):
    """One row of the table: name, request, answer, roles allowed (none: everybody), does it change the ledger."""

    name: str
    request: type[Request]
    answer: type[Answer]
    roles: tuple[str, ...]
    writes: bool = False


OPERATIONS: dict[str, Operation] = {
    row.name: row
    for row in (
        Operation("hello", Hello, HelloAnswer, EVERYBODY),
        Operation("login_begin", LoginBegin, LoginChallenge, EVERYBODY),
        Operation("login_finish", LoginFinish, SignedIn, EVERYBODY),
        Operation("resume", Resume, SignedIn, EVERYBODY),
        Operation("register", Register, SignedIn, EVERYBODY, writes=True),
        Operation("status", StatusRequest, StatusAnswer, EVERYBODY),
        Operation("renew", Renew, SignedIn, SIGNED_IN),
        Operation("logout", Logout, Done, SIGNED_IN),
        Operation("whoami", Whoami, UserAnswer, SIGNED_IN),
        Operation("sessions", Sessions, SessionsAnswer, SIGNED_IN),
        Operation("end_session", EndSession, Done, SIGNED_IN),
        Operation("change_key_begin", ChangeKeyBegin, LoginChallenge, SIGNED_IN),
        Operation("change_key", ChangeKey, Done, SIGNED_IN, writes=True),
        Operation("set_profile", SetProfile, Done, SIGNED_IN, writes=True),
        Operation("get_profile", GetProfile, ProfileAnswer, SIGNED_IN),
        Operation("open_account", OpenAccount, AccountView, SIGNED_IN, writes=True),
        Operation("get_account", GetAccount, AccountView, SIGNED_IN),
        Operation("list_accounts", ListAccounts, AccountsAnswer, SIGNED_IN),
        Operation("resolve", Resolve, ResolveAnswer, SIGNED_IN),
        Operation("deposit", Deposit, TransferAnswer, CASHIERS, writes=True),
        Operation("withdraw", Withdraw, TransferAnswer, CASHIERS, writes=True),
        Operation("transfer", Transfer, TransferAnswer, ("customer", *CASHIERS), writes=True),
        Operation("transfers", Transfers, TransfersAnswer, ("customer", *CASHIERS), writes=True),
        Operation("hold", Hold, TransferAnswer, ("customer", *CASHIERS), writes=True),
        Operation("post", Post, TransferAnswer, ("customer", *CASHIERS), writes=True),
        Operation("void", Void, TransferAnswer, ("customer", *CASHIERS), writes=True),
        Operation("get_hold", GetHold, HoldView, SIGNED_IN),
        Operation("list_holds", ListHolds, HoldsAnswer, SIGNED_IN),
        Operation("reverse", Reverse, TransferAnswer, CASHIERS, writes=True),
        Operation("history", History, HistoryAnswer, SIGNED_IN),
        Operation("statement", Statement, StatementAnswer, SIGNED_IN),
        Operation("get_transfer", GetTransfer, TransferView, SIGNED_IN),
        Operation("receipt", Receipt, ReceiptAnswer, SIGNED_IN),
        Operation("head", Head, HeadAnswer, SIGNED_IN),
        Operation("consistency", Consistency, ConsistencyAnswer, SIGNED_IN),
        Operation("subscribe", Subscribe, Done, SIGNED_IN),
        Operation("unsubscribe", Unsubscribe, Done, SIGNED_IN),
        Operation("invite", Invite, InviteAnswer, ADMINISTRATORS, writes=True),
        Operation("create_user", CreateUser, UserAnswer, ADMINISTRATORS, writes=True),
        Operation("get_user", GetUser, UserAnswer, STAFF),
        Operation("list_users", ListUsers, UsersAnswer, STAFF),
        Operation("set_role", SetRole, Done, ADMINISTRATORS, writes=True),
        Operation("lock", Lock, Done, ADMINISTRATORS, writes=True),
        Operation("unlock", Unlock, Done, ADMINISTRATORS, writes=True),
        Operation("erase", Erase, Done, ADMINISTRATORS, writes=True),
        Operation("set_limits", SetLimits, Done, ADMINISTRATORS, writes=True),
        Operation("freeze", Freeze, Done, ADMINISTRATORS, writes=True),
        Operation("unfreeze", Unfreeze, Done, ADMINISTRATORS, writes=True),
        Operation("close_account", CloseAccount, Done, ("customer", "administrator"), writes=True),
        Operation("reopen", Reopen, Done, ADMINISTRATORS, writes=True),
        Operation("approve", Approve, Done, ADMINISTRATORS, writes=True),
        Operation("list_approvals", ListApprovals, ApprovalsAnswer, AUDITORS),
        Operation("trail", Trail, TrailAnswer, AUDITORS),
        Operation("trial_balance", TrialBalance, TrialBalanceAnswer, AUDITORS),
        Operation("pay", Pay, PaymentAnswer, ("customer", *CASHIERS), writes=True),
        Operation("payment", GetPayment, PaymentView, SIGNED_IN),
        Operation("payments", ListPayments, PaymentsAnswer, SIGNED_IN),
        Operation("resolve_payment", ResolvePayment, Done, ADMINISTRATORS, writes=True),
        Operation("banks", ListBanks, BanksAnswer, SIGNED_IN),
        Operation("add_bank", AddBank, Done, ADMINISTRATORS, writes=True),
        Operation("suspend_bank", SuspendBank, Done, ADMINISTRATORS, writes=True),
        Operation("positions", ListPositions, PositionsAnswer, AUDITORS),
        Operation("windows", ListWindows, WindowsAnswer, AUDITORS),
        Operation("window", GetWindow, WindowView, AUDITORS),
        Operation("close_window", CloseWindow, Done, ADMINISTRATORS, writes=True),
    )
}


OF_EVERY_NODE = frozenset(("hello", "status"))
"""Operations that a standby answers like the primary."""


def is_for_standby(operation: str, fields: Request, stale_ms: int) -> bool:
    """Tell whether a standby that may be so many milliseconds old answers this itself, and not with `NotPrimary`.

    It reads for those who said how old an answer may be, and for nobody else: an old answer never comes unasked.
    """
    return operation in OF_EVERY_NODE or 0 < stale_ms <= getattr(fields, "stale_ms_max", 0)


class Envelope(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The outer array of a request; the fields stay raw until the operation's own decoder reads them."""

    request_id: Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
    operation: Annotated[str, Meta(min_length=1, max_length=32)]
    fields: msgspec.Raw


class AnswerEnvelope(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The outer array of an answer (second: code) or a push (request id 0, second: topic)."""

    request_id: Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
    code: int | str
    fields: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
encode_message = _encoder.encode
"""Makes the bytes of a message from its outer tuple; `encode_answer` and the others say what belongs into it."""
_envelope_decoder = msgspec.msgpack.Decoder(Envelope)
_answer_envelope_decoder = msgspec.msgpack.Decoder(AnswerEnvelope)
_request_decoders = {row.name: msgspec.msgpack.Decoder(row.request) for row in OPERATIONS.values()}
_answer_types: set[type[Answer]] = {row.answer for row in OPERATIONS.values()}
_answer_types.update((Refusal, EntryPush))
_answer_decoders: dict[type[Answer], msgspec.msgpack.Decoder[Any]] = {
    answer: msgspec.msgpack.Decoder(answer) for answer in _answer_types
}


def _field_of(error: Exception) -> str:
    text = str(error)
    return text.rsplit("`$.", 1)[1].rstrip("`") if "`$." in text else ""


def decode_envelope(data: bytes | memoryview) -> Envelope:
    """Read the outer array of a request.

    Raises:
        MessageInvalid: not a request at all; there is no request id to answer to, so the connection should end.
    """
    try:
        return _envelope_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MessageInvalid(f"this is not a request: {error}") from error


def decode_request(envelope: Envelope) -> Request:
    """Read and validate the fields of a request.

    Raises:
        UnknownOperation: nobody here knows the operation.
        MessageInvalid: a field is missing, unknown, of the wrong type or out of range; ``facts["field"]`` names it.
    """
    decoder = _request_decoders.get(envelope.operation)
    if decoder is None:
        raise UnknownOperation(f"unknown operation {envelope.operation!r}")
    try:
        return decoder.decode(envelope.fields)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MessageInvalid(f"{envelope.operation}: {error}", {"field": _field_of(error)}) from error


def encode_request(request_id: int, operation: str, fields: Request) -> bytes:
    """Make the bytes of a request."""
    return _encoder.encode((request_id, operation, fields))


def encode_answer(request_id: int, fields: Answer) -> bytes:
    """Make the bytes of an answer."""
    return _encoder.encode((request_id, 0, fields))


def encode_error(request_id: int, error: FortressError, code: int = 0) -> bytes:
    """Make the bytes of a refusal or error; ``code`` overrides the class's (refusals: 1000 + status)."""
    refusal = Refusal(error.message, error.facts, error.retry)
    return _encoder.encode((request_id, code or error.code, refusal))


def encode_push(topic: str, fields: Answer) -> bytes:
    """Make the bytes of a push."""
    return _encoder.encode((0, topic, fields))


def decode_answer_envelope(data: bytes | memoryview) -> AnswerEnvelope:
    """Read the outer array of an answer or push.

    Raises:
        MessageInvalid: the server sent something else.
    """
    try:
        return _answer_envelope_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MessageInvalid(f"this is not an answer: {error}") from error


def decode_fields(answer: type[Answer], fields: msgspec.Raw) -> Any:
    """Read the fields of an answer of the given type.

    Raises:
        MessageInvalid: the fields do not fit the type.
    """
    try:
        return _answer_decoders[answer].decode(fields)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MessageInvalid(f"{answer.__name__}: {error}", {"field": _field_of(error)}) from error
