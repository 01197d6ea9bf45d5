"""What the role machine asks for and what is done at once: messages, records and roles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from msgspec.structs import replace

from fortress.config import PairSettings
from fortress.ledger.records import Record
from fortress.ledger.records import decode as decode_record
from fortress.pair import events as e
from fortress.pair.errands import Errands
from fortress.pair.host import Host
from fortress.pair.messages import Ack, Append, Handover, HandoverReady, Member, Nack, Shipped
from fortress.pair.receiving import Receiver
from fortress.pair.shipping import Shipper

DECODED_MAX: Final = 4096
DECODED_BYTES_MAX: Final = 64 * 1024 * 1024


class Whole(Protocol):
    """What deeds need to know of the replication they belong to."""

    member: Member

    def clock_us(self) -> int:
        """Tell this node's own time."""

    @property
    def settings(self) -> PairSettings:
        """As they are now."""


class DecodedRecords:
    """Records that came and were decoded to be checked, until the machine asks for them to be stored."""

    def __init__(self) -> None:
        self._by_hash: dict[bytes, Record] = {}
        self._bytes = 0

    def keep(self, records: list[Record]) -> None:
        """Keep these for a moment."""
        if len(self._by_hash) > DECODED_MAX or self._bytes > DECODED_BYTES_MAX:
            self._by_hash.clear()  # what is still wanted is decoded again
            self._bytes = 0
        for record in records:
            if record.hash not in self._by_hash:
                self._by_hash[record.hash] = record
                self._bytes += len(record.payload)

    def take(self, shipped: Shipped) -> Record:
        """Give the record of a message, decoded anew if need be."""
        found = self._by_hash.pop(shipped.mark.hash, None)
        if found is None:
            return decode_record(shipped.data)
        self._bytes -= len(found.payload)
        return found


class Deeds:
    """Does what the machine asks for.

    Args:
        host: the node.
        shipper: to whoever is standby.
        receiver: from whoever is primary.
        errands: for what takes time.
        whole: the replication.

    Attributes:
        records: that came, decoded.
    """

    def __init__(self, host: Host, shipper: Shipper, receiver: Receiver, errands: Errands, whole: Whole) -> None:
        self.records = DecodedRecords()
        self._host = host
        self._shipper = shipper
        self._receiver = receiver
        self._errands = errands
        self._whole = whole

    def table(self) -> dict[type[Any], Callable[[Any], object]]:
        """Give what is done for each kind of action."""
        host, errands = self._host, self._errands
        return {
            e.ReadRegister: errands.read_register,
            e.SwapRegister: errands.swap_register,
            e.PromiseEpoch: errands.promise,
            e.ProbePeer: errands.probe,
            e.Send: self._send,
            e.Store: self._store,
            e.Truncate: self._truncate,
            e.Commit: lambda action: host.commit(action.lsn),
            e.Serve: self._serve,
            e.Hold: lambda _: host.hold(),
            e.StepDown: self._step_down,
            e.Quarantine: lambda action: host.quarantine(action.reason),
            e.Tell: lambda action: host.tell(action.name, dict(action.facts)),
        }

    def _send(self, action: e.Send) -> None:
        message = action.message
        if isinstance(message, Ack):
            message = replace(message, clock_us=self._whole.clock_us())
        if not isinstance(message, Append | Handover):
            self._receiver.send(message)
        if not isinstance(message, Ack | Nack | HandoverReady):
            self._shipper.send(message)

    def _store(self, action: e.Store) -> None:
        self._host.store([self.records.take(shipped) for shipped in action.records])

    def _truncate(self, action: e.Truncate) -> None:
        self._host.restart("the journal parts ways with the primary's", truncate_after=action.after)

    def _serve(self, action: e.Serve) -> None:
        self._receiver.drop()
        self._host.serve(action.epoch)
        self._shipper.start(action.epoch)

    def _step_down(self, action: e.StepDown) -> None:
        self._errands.start(self._shipper.stop())
        is_ours = action.primary is None or action.primary == self._whole.member
        self._host.stand_by(is_clean=action.is_clean, primary="" if is_ours else self._whole.settings.peer_clients)
