"""From what a request brings to what its operation takes: path, query and body, by the types of the table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from multidict import MultiMapping

from fortress.errors import MessageInvalid
from fortress.protocol.fields import INTEGER_MAX

BODY_BYTES_MAX: Final = 64 * 1024
_PLACE: Final = re.compile(r" - at `(?:key in )?\$?\.?([^`]*)`\Z")


def from_texts(kind: Any, place: str, texts: Mapping[str, str]) -> Any:
    """Read a path or a query; numbers and the like are made of their texts.

    Raises:
        MessageInvalid: it does not fit; ``facts["field"]``.
    """
    for name, text in texts.items():
        if not _is_unicode(name) or not _is_unicode(text):
            raise MessageInvalid("this is no text in UTF-8", {"field": place})
    try:
        return msgspec.convert(dict(texts), kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error, place) from error


def from_query(kind: Any, query: MultiMapping[str]) -> Any:
    """Read a query, in which no name may come twice.

    Raises:
        MessageInvalid: it does not fit; ``facts["field"]``.
    """
    if len(set(query)) != len(query):
        raise MessageInvalid("a name comes twice in the query", {"field": "query"})
    return from_texts(kind, "query", query)


def from_json(kind: Any, body: bytes) -> Any:
    """Read a body.

    Raises:
        MessageInvalid: it is no JSON, or does not fit; ``facts["field"]``.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(error, "body") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageInvalid("the body is no JSON", {"field": "body"}) from error


def read_minor(text: str, field: str) -> int:
    """Read a sum in minor units, which may be below zero.

    Raises:
        MessageInvalid: more than any account can hold; the facts name the field.
    """
    minor = int(text)
    if abs(minor) > INTEGER_MAX:
        raise MessageInvalid(f"{minor} is over {INTEGER_MAX}", {"field": field})
    return minor


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _invalid(error: msgspec.ValidationError, place: str) -> MessageInvalid:
    """Say which field does not fit; msgspec's words name what was expected and never what came."""
    words = str(error)
    found = _PLACE.search(words)
    field = found[1] if found is not None else ""
    if found is None and (missing := re.search(r"(?:field|unknown field) `([^`]*)`", words)):
        field = missing[1]
    words = words[:1].lower() + _PLACE.sub("", words)[1:]
    return MessageInvalid(words, {"field": field[:64] or place})
