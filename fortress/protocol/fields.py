"""The types that fields of messages have; their bounds live in the types, so decoding checks them."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from fortress.errors import MessageInvalid

PROTOCOL_VERSION = 1
INTEGER_MAX = 2**63 - 1
BATCH_ROWS_MAX = 8190
PAGE_ROWS_MAX = 1000

Id = Annotated[bytes, Meta(min_length=16, max_length=16, description="16 bytes, UUIDv7")]
Number = Annotated[int, Meta(ge=1, le=INTEGER_MAX, description="account number with check digits")]
Amount = Annotated[int, Meta(ge=1, le=INTEGER_MAX, description="minor units, at least 1")]
Position = Annotated[int, Meta(ge=0, le=INTEGER_MAX, description="position in the journal")]
Count = Annotated[int, Meta(ge=0, le=INTEGER_MAX, description="a whole number, 0 or more")]
TimeUs = Annotated[int, Meta(ge=0, le=INTEGER_MAX, description="microseconds since 1970 UTC")]
Minor = Annotated[int, Meta(ge=-INTEGER_MAX, le=INTEGER_MAX, description="minor units, signed")]
Currency = Annotated[str, Meta(min_length=3, max_length=3, description="ISO 4217 code")]
Text140 = Annotated[
    str, Meta(max_length=140, pattern=r"^[^\x00-\x1f\x7f-\x9f]*\Z", description="text without controls")
]
Reference = Annotated[str, Meta(max_length=140, description="text without controls")]  # see check_reference
Username = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*\Z", description="a username")
]
Role = Annotated[str, Meta(min_length=1, max_length=16, description="customer, teller, administrator or auditor")]
Date = Annotated[
    str, Meta(max_length=10, pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?\Z", description="YYYY-MM-DD or empty")
]
Hash = Annotated[bytes, Meta(min_length=32, max_length=32, description="32 bytes")]
Point = Annotated[bytes, Meta(min_length=32, max_length=32, description="edwards25519 point, 32 bytes")]
Scalar = Annotated[bytes, Meta(min_length=32, max_length=32, description="scalar mod l, 32 bytes little-endian")]
Salt = Annotated[bytes, Meta(min_length=16, max_length=16, description="16 random bytes")]
Blob = Annotated[bytes, Meta(max_length=4096, description="at most 4096 bytes")]
StaleMsMax = Annotated[
    int,
    Meta(ge=0, le=86_400_000, description="milliseconds that the answer may be old; 0: of the primary only"),
]
Token = Annotated[str, Meta(max_length=2048, description="a session token (JWT)")]
PageSize = Annotated[int, Meta(ge=1, le=PAGE_ROWS_MAX, description="rows asked for, 1 to 1000")]
Names = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=64, description="names")]
Numbers = Annotated[list[Number], Meta(max_length=1024, description="account numbers")]


class ReferenceInvalid(MessageInvalid, ValueError):
    """A reference holds control characters: the maker gets this error, the reader one of the type."""


def check_reference(text: str) -> None:
    """Refuse control and other unprintable characters: a tenth of the cost of a pattern on the hottest field.

    Raises:
        ReferenceInvalid: decoding adds where in the message it stood.
    """
    if not text.isprintable():
        raise ReferenceInvalid("Expected printable text - at `$.reference`", {"field": "reference"})


class Request(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The fields of a request."""


class Answer(Struct, frozen=True, omit_defaults=True, gc=False):
    """The fields of an answer; readers ignore keys they do not know, so answers may grow."""


class Done(Answer, frozen=True):
    """The answer of operations that have nothing to tell but where they stand in the journal."""

    position: Position = 0
    replayed: bool = False
    approval: bytes = b""  # not empty: nothing was done yet, a second administrator must approve this id


class Refusal(Answer, frozen=True):
    """The fields of a refusal or error."""

    message: str
    facts: dict[str, int | str | bool | None] = msgspec.field(default_factory=dict)
    retry: str = "never"
