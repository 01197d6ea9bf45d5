"""Ask handlers of the pages as the site does: fields are read by the operation's types, and so is the answer."""

from __future__ import annotations

from typing import Any

import msgspec

from fortress.client.client import Client
from fortress.client.me import Me
from fortress.config import WebSettings
from fortress.web import customer
from fortress.web.call import Call, Context, Download
from fortress.web.operations import CUSTOMER, OPERATIONS

BY_NAME = {each.name: each for each in OPERATIONS}


def _nobody() -> Client:
    raise AssertionError("a handler of a customer makes no connections of its own")


def call_of(me: Me, name: str, /, **fields: Any) -> Call:
    """Make a call; each field goes to path, query or body, whichever has one of that name.

    Raises:
        msgspec.ValidationError: the operation's types do not allow it.
    """
    operation = BY_NAME[name]
    parts: dict[str, Any] = {}
    for part in ("path", "query", "body"):
        shape = getattr(operation, part)
        if shape is not None:
            own = {key: fields.pop(key) for key in shape.__struct_fields__ if key in fields}
            parts[part] = msgspec.convert(own, shape)
    assert not fields, f"{name} has no {', '.join(fields)}"
    context = Context(bank=me.bank, kind="bank", settings=WebSettings(), connect=_nobody)
    return Call(operation=operation, context=context, signed_in_as=me, **parts)


async def ask(me: Me, name: str, /, **fields: Any) -> Any:
    """Ask, and read the answer as a page would that holds it against the contract."""
    assert {each.name for each in CUSTOMER} == customer.HANDLERS.keys()
    answer = await customer.HANDLERS[name](call_of(me, name, **fields))
    if isinstance(answer, Download):
        return answer
    return msgspec.json.decode(msgspec.json.encode(answer), type=BY_NAME[name].answer)


async def read(download: Download) -> bytes:
    """Read a file to its end."""
    return b"".join([piece async for piece in download.pieces])
