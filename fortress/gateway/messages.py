"""What a bank and its gateway say to each other over the one link that the bank keeps.

Every message is a msgpack array that begins with its kind; on the socket four bytes of length stand before it. Fields
may be added at the end with a default. A payment's id here is that of one attempt: the same in all three ledgers.
Everything may be lost, doubled or late; every message can be repeated without harm.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

VERSION: Final = 1
MESSAGE_SIZE_BYTES_MAX: Final = 1024 * 1024
IDS_MAX: Final = 1_000
Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
Amount = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, Meta(max_length=64)]
Reason = Annotated[int, Meta(ge=0, le=65_535)]
"""0, a status, or the code of an error."""


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


class BankState(_Message, frozen=True):
    """One bank of the directory."""

    bank: Name
    state: Name
    is_connected: bool
    node: Name = ""
    epoch: int = 0
    addresses: tuple[str, ...] = ()
    since_us: int = 0


# --- Registering -----------------------------------------------------------------------------------------------------
class Register(_Message, frozen=True, tag="register"):
    """First from the bank: who speaks, in which epoch of its pair, and where its customers may be relayed to.

    ``primary`` is the address of this node for clients, ``standby`` that of the other one or empty.
    """

    bank: Name
    node: Name
    epoch: int
    primary: Name
    standby: Name = ""
    version: int = VERSION


class Registered(_Message, frozen=True, tag="registered"):
    """The gateway's answer; ``currencies`` in which the bank has a position."""

    gateway: Name
    epoch: int
    currencies: tuple[str, ...]
    version: int = VERSION


class Rejected(_Message, frozen=True, tag="rejected"):
    """The gateway's refusal, before it ends the link; ``elsewhere`` may tell the primary's address."""

    code: int
    message: str
    elsewhere: str = ""


class Directory(_Message, frozen=True, tag="directory"):
    """All banks, told after registering and at each change."""

    banks: tuple[BankState, ...]


class Ping(_Message, frozen=True, tag="ping"):
    """Answered with the same; both sides end a link that is silent for too long."""

    sent_us: int


# --- One payment -----------------------------------------------------------------------------------------------------
class Submit(_Message, frozen=True, tag="submit"):
    """Payer's bank: the payer ordered this and the money is held here; that is this bank's yes. Repeated until told
    the outcome."""

    id: Id
    payer: Number
    payee_bank: Name
    payee: Number
    amount: Amount
    currency: Annotated[str, Meta(max_length=3)]
    reference: Annotated[str, Meta(max_length=140)]


class Prepare(_Message, frozen=True, tag="prepare"):
    """Gateway to payee's bank: hold this for the payee, and vote."""

    id: Id
    payer_bank: Name
    payer: Number
    payee: Number
    amount: Amount
    currency: Annotated[str, Meta(max_length=3)]
    reference: Annotated[str, Meta(max_length=140)]


class Vote(_Message, frozen=True, tag="vote"):
    """Payee's bank: held (0), or why not; durable either way when it is said."""

    id: Id
    reason: Reason = 0


class Outcome(_Message, frozen=True, tag="outcome"):
    """Gateway to both banks: decided. ``sequence`` is the position of the decision, 0: aborted, for ``reason``."""

    id: Id
    sequence: Number
    reason: Reason = 0


class Acknowledge(_Message, frozen=True, tag="acknowledge"):
    """A bank: the outcome is durable in its books."""

    id: Id


class Inquire(_Message, frozen=True, tag="inquire"):
    """Payee's bank: what became of these, which are held here? The gateway answers each with its outcome, none while
    it is not decided; what it does not know it aborts, durably, first."""

    ids: Annotated[tuple[Id, ...], Meta(max_length=IDS_MAX)]


# --- Questions, both ways --------------------------------------------------------------------------------------------
class Ask(_Message, frozen=True, tag="ask"):
    """A question with its number: ``about`` resolve, steps, root, leaves; ``fields`` msgpack, see the answerer."""

    number: Number
    about: Name
    fields: msgspec.Raw


class Answer(_Message, frozen=True, tag="answer"):
    """Its answer; ``code`` 0, or that of a refusal or error with {message, facts} as fields."""

    number: Number
    code: int
    fields: msgspec.Raw


Message = (
    Register
    | Registered
    | Rejected
    | Directory
    | Ping
    | Submit
    | Prepare
    | Vote
    | Outcome
    | Acknowledge
    | Inquire
    | Ask
    | Answer
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Message)
encode = _encoder.encode
decode = _decoder.decode
