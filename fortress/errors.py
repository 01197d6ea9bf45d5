"""Every way Fortress says no: business refusals as values, faults as errors, one code for each.

A refusal of the bank is a :class:`Status`, a number that is never given to another meaning. Everything else is
a class below with one wire code, one sentence and one hint. Codes read as ``FT-<code>``: 1xxx refused by the
bank, 2xxx who you are, 3xxx try again, 4xxx what was sent, 5xxx the ledger itself, 6xxx how it was called.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

OK = 0
REFUSED_CODE_BASE = 1000

Facts = dict[str, int | str | bool | None]


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
}
DEFAULT_REFUSAL_HINT = "change the request; repeating it with the same id gives the same answer"


class FortressError(Exception):
    """The root of all errors: a message, facts for machines, and per class a code, a retry rule and a hint.

    The message is lower case, without a final stop and never holds a secret; facts are small values a program acts on.
    """

    code: ClassVar[int] = 6000
    retry: ClassVar[str] = "never"
    hint: ClassVar[str] = "see 'fortress explain FT-6000'"

    def __init__(self, message: str = "", facts: Facts | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").split("\n")[0].rstrip(".").lower()
        self.facts: Facts = facts or {}
        super().__init__(self.message)

    def __init_subclass__(cls) -> None:
        if "code" in cls.__dict__:
            holder = ERRORS_BY_CODE.setdefault(cls.code, cls)
            if holder is not cls:
                raise TypeError(f"code {cls.code} is given to both {holder.__name__} and {cls.__name__}")


ERRORS_BY_CODE: dict[int, type[FortressError]] = {FortressError.code: FortressError}


class Refused(FortressError):
    """The bank refused by its rules; the refusal is kept and repeats for the same id."""

    code = 1000
    retry = "new_id"
    hint = DEFAULT_REFUSAL_HINT

    def __init__(self, status: Status, facts: Facts | None = None) -> None:
        super().__init__(STATUS_SENTENCES[status], facts)
        self.status = status


class AuthenticationError(FortressError):
    """Who you are could not be established."""

    code = 2000
    hint = "sign in again with 'fortress login'"


class LoginFailed(AuthenticationError):
    """Username or password is wrong."""

    code = 2001
    hint = "check both; after several failures the bank waits longer before each try"


class LockedOut(AuthenticationError):
    """Too many failed logins; this login is locked until the time told."""

    code = 2002
    hint = "wait until the time told, or ask an administrator to unlock the customer"


class NotSignedIn(AuthenticationError):
    """This operation needs a login first."""

    code = 2003


class NotAllowed(AuthenticationError):
    """Your roles do not allow this operation."""

    code = 2004
    hint = "ask an administrator of the bank for the role named in the facts"


class TokenRejected(AuthenticationError):
    """The session token is expired, revoked or not of this bank."""

    code = 2005


class Throttled(AuthenticationError):
    """Too many tries from here; slow down."""

    code = 2006
    retry = "same_id"
    hint = "wait as long as the facts say, then try again"


class PasswordTooWeak(AuthenticationError):
    """The password is too short or too common."""

    code = 2007
    hint = "use at least 10 characters that are not a well-known password; a phrase of words is best"


class ServerNotTrusted(AuthenticationError):
    """The server's certificate is not of the bank that was asked for."""

    code = 2008
    hint = "check the address and the CA file; if both are right, somebody may be in between: do not go on"


class KeyDerivationRefused(AuthenticationError):
    """The server asks for key derivation parameters outside the safe range."""

    code = 2009
    hint = "do not sign in to this server; tell its operator"


class RetryableError(FortressError):
    """Nothing was decided; the same request with the same id may be sent again."""

    code = 3000
    retry = "same_id"
    hint = "send the same request with the same id again"


class NotPrimary(RetryableError):
    """This node is not the primary; the facts say which is."""

    code = 3001
    retry = "elsewhere"


class Busy(RetryableError):
    """A limit of this node is reached; try again a little later."""

    code = 3002


class DeadlinePassed(RetryableError):
    """No answer came in time; what became of the request is not known."""

    code = 3003
    hint = "repeat with the same id: it will be done once, or you get the first answer again"


class ShuttingDown(RetryableError):
    """This node is going down and takes no new work."""

    code = 3004


class DiskFull(RetryableError):
    """The bank's disk is full, so it takes no new entries; reading goes on."""

    code = 3005
    hint = "the operator must free space on the bank's disk; the node goes on by itself then"


class Unreachable(RetryableError):
    """No address of the bank answers."""

    code = 3006
    hint = "check the address, and whether the bank is up: 'fortress status'"


class OutcomeUnknown(RetryableError):
    """The connection ended before the answer; whether it was done is not known."""

    code = 3007
    hint = "repeat with the same id: it will be done once, or you get the first answer again"


class ProtocolError(FortressError):
    """What was sent breaks the protocol."""

    code = 4000
    hint = "use a client of the same protocol version, or report this as a bug"


class FrameInvalid(ProtocolError):
    """A frame or a piece of a message is malformed."""

    code = 4001


class SealBroken(ProtocolError):
    """A sealed frame does not open: it was changed, replayed, reordered or sealed with another key."""

    code = 4002
    hint = "the connection is not safe to go on with; connect again, and find out what sits in between"


class HandshakeFailed(ProtocolError):
    """The handshake of the sealed channel failed."""

    code = 4003
    hint = "check that the bank's name is right and that both sides speak fortress/1"


class MessageTooLarge(ProtocolError):
    """A message is over the size allowed at this point."""

    code = 4004


class MessageInvalid(ProtocolError):
    """A message does not fit its operation; the facts name the field."""

    code = 4005
    hint = "correct the field named; docs/reference/operations.md lists what each operation takes"


class UnknownOperation(ProtocolError):
    """This operation is not known here."""

    code = 4006
    hint = "the server may be older than the client; 'fortress status' shows its version"


class StreamCut(ProtocolError):
    """The stream ended without the sender's closing piece: it was cut."""

    code = 4007
    hint = "connect again"


class VersionUnsupported(ProtocolError):
    """The two sides share no version of the protocol."""

    code = 4008
    hint = "upgrade the older side"


class LocalProtocolError(ProtocolError):
    """This side was asked to do what its state does not allow: a bug of the caller."""

    code = 4009


class LedgerError(FortressError):
    """The ledger itself cannot be trusted or used; the node stops."""

    code = 5000
    hint = "run 'fortress audit verify' on the folder and read what it says"


class JournalCorrupt(LedgerError):
    """The journal holds a bad record before good ones; this is damage, not a torn tail."""

    code = 5001
    hint = "do not delete anything; restore this node from its peer or from a backup, then start again"


class ChainBroken(LedgerError):
    """A record does not continue the one before it."""

    code = 5002
    hint = "do not delete anything; restore this node from its peer or from a backup, then start again"


class BooksBroken(LedgerError):
    """Debits and credits do not add up."""

    code = 5003
    hint = "keep the folder as it is and run 'fortress audit verify'; restore from the peer or a backup"


class StoreCorrupt(LedgerError):
    """The tables cannot be read or contradict the journal."""

    code = 5004
    hint = "move ledger.db* aside; it is rebuilt from the journal at the next start"


class JournalWriteFailed(LedgerError):
    """Writing or syncing the journal failed; what was under way is of unknown outcome."""

    code = 5005
    hint = "check the disk; the node has stopped and finds out what was written when it starts again"


class KeyUnusable(LedgerError):
    """A key file is missing, unreadable, too open or not the right one."""

    code = 5006
    hint = "put the right key file back with mode 0600; without it the data cannot be read by anybody"


class FolderInUse(LedgerError):
    """Another process serves this folder."""

    code = 5007
    hint = "stop the other process first, or give this one a folder of its own"


class IntegrityFailed(LedgerError):
    """A check of the books, the chain or the tree failed."""

    code = 5008
    hint = "keep the folder as it is; compare with the peer and with receipts"


class UsageError(FortressError):
    """The program was called in a way that cannot work."""

    code = 6001
    hint = "see --help of the command"


class SettingUnknown(UsageError):
    """A setting of this name does not exist."""

    code = 6002
    hint = "'fortress config show' lists all settings"


class SettingInvalid(UsageError):
    """A setting has a value outside what it takes."""

    code = 6003
    hint = "'fortress config explain KEY' says what it takes"


class FolderExists(UsageError):
    """The folder already holds a bank."""

    code = 6004
    hint = "choose another folder"


class FolderMissing(UsageError):
    """The folder holds no bank."""

    code = 6005
    hint = "make one with 'fortress init DIR'"


class AmountInvalid(UsageError):
    """This is not an amount of money."""

    code = 6006
    hint = "write it like '12.50 EUR'"


class AddressInUse(UsageError):
    """The address to listen on is taken."""

    code = 6007
    hint = "stop what listens there or set another port in fortress.toml"


class CertificateUnusable(UsageError):
    """A certificate or its key is missing, unreadable, too open or not the right one."""

    code = 6008
    hint = "'fortress cert show' lists them; 'fortress cert renew' makes new ones under the same authority"


def status_name(status: int) -> str:
    """Name a status number for people and metrics; an unknown number keeps its digits."""
    return Status(status).name if status in Status._value2member_map_ else f"status_{status}"


def refusal_code(status: Status) -> int:
    """Give the wire code of a refusal."""
    return REFUSED_CODE_BASE + int(status)


def error_from_wire(code: int, message: str, facts: Facts) -> FortressError:
    """Rebuild the error that an answer carries; unknown codes keep their number in the message."""
    number = code - REFUSED_CODE_BASE
    if 0 < number < 1000 and number in Status._value2member_map_:
        return Refused(Status(number), facts)
    cls = ERRORS_BY_CODE.get(code, Refused)
    return FortressError(f"unknown answer code {code}: {message}", facts) if cls is Refused else cls(message, facts)
