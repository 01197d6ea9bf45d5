"""Ask a handler of the staff's pages as the site would: what comes in and goes out fits the table of operations."""

from __future__ import annotations

from typing import Any

import msgspec

from fortress.client.client import Client
from fortress.client.me import Me
from fortress.config import WebSettings
from fortress.web.call import Call, Context, Handler
from fortress.web.operations import ADMINISTRATION

OPERATIONS = {operation.name: operation for operation in ADMINISTRATION}


def nobody() -> Client:
    raise AssertionError("this handler asks through the session only")


def context_of(bank: str, **more: Any) -> Context:
    """What the requests to one process have in common."""
    return Context(bank=bank, kind="bank", settings=WebSettings(), connect=nobody, **more)


async def ask(handler: Handler, name: str, me: Me | None, context: Context, **given: Any) -> Any:
    """Ask an operation; ``path``, ``query`` and ``body`` as the page sends them.

    Raises:
        FortressError: what the handler raises.
    """
    operation = OPERATIONS[name]
    parts: dict[str, Any] = {}
    for part in ("path", "query", "body"):
        kind = getattr(operation, part)
        assert kind is not None or part not in given
        if kind is not None:
            # a path and a query are text, as they come in a URL
            parts[part] = msgspec.convert(given.get(part, {}), kind, strict=part == "body")
    answer = await handler(Call(operation=operation, context=context, signed_in_as=me, **parts))
    assert type(answer) is operation.answer
    return msgspec.convert(msgspec.to_builtins(answer), operation.answer)
