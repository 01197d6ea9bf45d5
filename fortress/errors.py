"""Every way Fortress says no: business refusals as values, faults as errors, one code for each.

A refusal of the bank is a :class:`Status`, a number that is never given to another meaning. Everything else is a class
below with one wire code, one sentence and one hint. Codes read as ``FT-<code>``: 1xxx refused by the bank, 2xxx who you
are, 3xxx try again, 4xxx what was sent, 5xxx the ledger itself, 6xxx how it was called, 7xxx between a bank's nodes.
"""

from __future__ import annotations

from typing import ClassVar

from fortress.statuses import STATUS_HINTS as STATUS_HINTS
from fortress.statuses import STATUS_SENTENCES as STATUS_SENTENCES
from fortress.statuses import Status as Status
from fortress.statuses import status_name as status_name

OK = 0
REFUSED_CODE_BASE = 1000
Facts = dict[str, int | str | bool | None]
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


class RegisterUnreachable(RetryableError):
    """The register of the pair does not answer, or not in time; whether it took a change is not known."""

    code = 3008
    hint = "check that the witness (or etcd) runs and can be reached; while both nodes run, nothing waits for it"


class NoPrimary(RetryableError):
    """No node of the bank may take entries at the moment."""

    code = 3009
    hint = "it settles by itself, as a rule within seconds; 'fortress status' shows what the nodes wait for"


class GatewayUnreachable(RetryableError):
    """The gateway to other banks does not answer; nothing was paid."""

    code = 3010
    hint = "try again with the same id; payments within this bank go on"


class BankUnreachable(RetryableError):
    """The other bank is not connected to the gateway at the moment; nothing was paid."""

    code = 3011
    hint = "try again with the same id; 'fortress bank list' shows which banks are connected"


class PaymentUnfinished(RetryableError):
    """The payment was stopped before it was decided; nothing was paid."""

    code = 3012
    hint = "try again with the same id: it is a new attempt of the same payment"


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
    hint = "do not delete anything; in a pair run 'fortress rejoin' on this node, alone restore it from a backup"


class ChainBroken(LedgerError):
    """A record does not continue the one before it."""

    code = 5002
    hint = "do not delete anything; in a pair run 'fortress rejoin' on this node, alone restore it from a backup"


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


class StateFileDamaged(LedgerError):
    """The small file that holds a node's promises, or a register, is damaged in both of its copies."""

    code = 5009
    hint = "a node: run 'fortress rejoin' on it; a witness: keep the file, then 'fortress witness DIR --reset'"


class StateFileUnusable(LedgerError):
    """The small file that holds a node's promises, or a register, cannot be opened, written or synced."""

    code = 5010
    hint = "check the disk and the file's owner; the process has stopped and finds out what was written when it starts"


class BackupDamaged(LedgerError):
    """A backup was changed or cut off, or the file is none."""

    code = 5011
    hint = "take an older one: 'fortress backup list' shows what is there, 'fortress backup verify' checks it"


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


class OutboxInUse(UsageError):
    """Another process is sending from this outbox."""

    code = 6009
    hint = "let that process finish, or end it; what it has not sent stays in the outbox"


class OutboxUnusable(UsageError):
    """The file of the outbox cannot be read or written, or is somebody else's."""

    code = 6010
    hint = "check the file, its owner and the disk; nothing is sent that was not stored before"


class PairError(FortressError):
    """The nodes of a bank, or their register, refuse to work together like this."""

    code = 7000
    hint = "'fortress status' shows both nodes; 'fortress events' what happened before"


class StaleEpoch(PairError):
    """What was sent belongs to an epoch that is over."""

    code = 7001
    hint = "nothing need be done: the node that sent it finds out and becomes standby"


class PeerRejected(PairError):
    """Whoever calls on the replication socket is not the other node of this bank."""

    code = 7002
    hint = "compare cluster id, bank and certificate authority of both nodes; 'fortress doctor' does so"


class HistoriesDiffer(PairError):
    """The journals of both nodes part ways at the record told."""

    code = 7003
    hint = "nothing need be done: the standby keeps its differing tail in 'orphaned' and follows the primary"


class Quarantined(PairError):
    """This node's data cannot be trusted, so it takes no part until it is rebuilt from the other node."""

    code = 7004
    hint = "run 'fortress rejoin' on this node: it keeps the old data aside and fetches everything from the primary"


class RegisterStale(PairError):
    """The register is older than what a node was promised: its file was lost, restored or exchanged."""

    code = 7005
    hint = "stop both nodes, then tell the register who is primary with 'fortress witness DIR --reset'"


class BankRejected(PairError):
    """Whoever calls at the gateway is not the bank it says it is, or not welcome there."""

    code = 7006
    hint = "compare the bank's name and authority with 'fortress bank show' at the gateway"


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
