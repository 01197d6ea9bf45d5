"""Which bank a connection is for, said in clear before the handshake, and what may come back instead of an answer.

The handshake's prologue names the bank and is not sent, so whoever answers at an address that leads to several banks
could not tell where a connection belongs. The client's first frame says it:

    "fortress route v1" 0x00 bank 0x00 flags

A frame that begins so is no message of a handshake: that begins with a public key, 32 bytes nobody can choose freely.
A client may leave it out; then the connection is for the bank that serves the address. It is neither secret nor part
of what is sealed: whoever changes it on the way brings about a handshake that fails, and no more.

As long as nothing is sealed, a frame can come back that is no answer of the handshake either:

    "fortress notice v1" 0x00 word

Nobody vouches for it, just as for a connection that is cut. So it is a word of a table, never text to show.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from fortress.errors import Busy, FortressError, HandshakeFailed, NoPrimary, NotPrimary

ROUTE_LABEL: Final = b"fortress route v1\0"
NOTICE_LABEL: Final = b"fortress notice v1\0"
ANY: Final = "any"
"""Flag: a standby will do."""
FLAGS_SIZE_BYTES_MAX: Final = 64

# the same as fortress.config.ID_PATTERN, as a test makes sure
_ROUTE = re.compile(rb"fortress route v1\0([a-z][a-z0-9-]{0,31})\0([a-z,]{0,%d})" % FLAGS_SIZE_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a connection wants to go.

    Attributes:
        bank: the bank's id.
        flags: words parted by commas; unknown ones mean nothing.
    """

    bank: str
    flags: str = ""

    @property
    def takes_standby(self) -> bool:
        """Whether a standby will do."""
        return ANY in self.flags.split(",")

    def encode(self) -> bytes:
        """Write the frame's content."""
        return ROUTE_LABEL + self.bank.encode() + b"\0" + self.flags.encode()


def is_route(content: bytes) -> bool:
    """Tell a route from a message of the handshake."""
    return content.startswith(ROUTE_LABEL)


def decode_route(content: bytes) -> Route:
    """Read a frame's content.

    Raises:
        HandshakeFailed: it is malformed.
    """
    match = _ROUTE.fullmatch(content)
    if match is None:
        raise HandshakeFailed("the route frame is malformed")
    return Route(match[1].decode(), match[2].decode())


class Notice(Enum):
    """What is said before a channel stands."""

    waiting = "waiting"
    bank_unknown = "bank-unknown"
    bank_down = "bank-down"
    full = "full"
    standby = "standby"

    def encode(self) -> bytes:
        """Write the frame's content."""
        return NOTICE_LABEL + self.value.encode()

    def error(self, bank: str) -> FortressError:
        """Give what it means to a client that asked for a bank."""
        kind, sentence = _MEANINGS[self]
        return kind(sentence.format(bank=bank), {"bank": bank})


_MEANINGS: Final[dict[Notice, tuple[type[FortressError], str]]] = {
    Notice.waiting: (NoPrimary, "no node of bank {bank!r} could be reached from this address in time"),
    Notice.bank_unknown: (HandshakeFailed, "there is no way to a bank {bank!r} from this address"),
    Notice.bank_down: (NoPrimary, "no node of bank {bank!r} can be reached from this address"),
    Notice.full: (Busy, "as many connections lead through this address as may"),
    Notice.standby: (NotPrimary, "this node leads to other banks only when it is primary"),
}

_NOTICES: Final = {notice.value: notice for notice in Notice}


def is_notice(content: bytes) -> bool:
    """Tell a notice from a message of the handshake."""
    return content.startswith(NOTICE_LABEL)


def take_notice(content: bytes, bank: str) -> None:
    """Read a frame's content; it does nothing if it says that somebody waits for the bank.

    Raises:
        HandshakeFailed: there is no such bank, or the notice is not one that this side knows.
        NoPrimary, NotPrimary, Busy: there is no way to the bank now; nothing was done.
    """
    word = content.removeprefix(NOTICE_LABEL).decode("ascii", "replace")
    notice = _NOTICES.get(word)
    if notice is None:
        raise HandshakeFailed("the connection was refused before the handshake, for a reason not known here")
    if notice is not Notice.waiting:
        raise notice.error(bank)
