"""A program with an outbox that is killed at one line after another, and started again; run by test_outbox_kill.

The modules are loaded once. Each life is a fork of this process, so trying hundreds of lines takes seconds; a fork has
its own event loop, connection and login. The kill is `os._exit` in a trace function: nothing of Python runs after it,
no `finally`, no `close`, as with SIGKILL.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, Final

from fortress.client import calls, link, order_file, outbox, payments
from fortress.client.client import connect
from fortress.client.ids import new_id
from fortress.client.me import Me
from fortress.client.outbox import Outbox
from fortress.protocol.orders import PaymentOrder
from tests.client.conftest import ALICE_SEED

KILLED: Final = 99
AMOUNTS: Final = (100, 10**12, 200)
"""The second one is more than there is, so it is refused; the third must come after it."""
STRIDE: Final = 37
LINES: Final = 1000
OWN: Final = frozenset(str(module.__file__) for module in (outbox, order_file))
BELOW: Final = frozenset(str(module.__file__) for module in (payments, calls, link))


class Killer:
    """Ends the process at the n-th line of some files; lines of the lower ones count from the first send on."""

    def __init__(self, line: int, files: frozenset[str], *, from_send: bool) -> None:
        self._left = line
        self._files = files
        self._is_counting = not from_send

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_name == "_send" and frame.f_code.co_filename in OWN:
            self._is_counting = True
        return self._on_line if frame.f_code.co_filename in self._files else None

    def _on_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and self._is_counting:
            self._left -= 1
            if not self._left:
                os._exit(KILLED)
        return self._on_line


def orders_of(ids: list[bytes]) -> Iterator[PaymentOrder]:
    for id, amount in zip(ids, AMOUNTS, strict=True):
        yield PaymentOrder(bank="a", id=id, debit=100, payee="b/4711", amount_minor=amount, currency="EUR")


async def live(path: Path, address: str, ca: Path, ids: list[bytes]) -> None:
    """What the program does in each of its lives: write down what is not yet, send what is open."""

    @asynccontextmanager
    async def sign_in() -> AsyncIterator[Me]:
        async with connect(address, ca=ca, timeout_s=5, deadline_s=20) as bank:
            yield await bank.login_with_seed("alice", ALICE_SEED)

    with Outbox.open(path, bank="a", username="alice") as box:
        for order in orders_of(ids):
            box.add(order)
        await box.run(sign_in, deadline_s=20)


def life(path: Path, address: str, ca: Path, ids: list[bytes], killer: Killer | None) -> int:
    """Have one life in a process of its own; gives what it ended with."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        if killer is not None:
            sys.settrace(killer.trace)
        asyncio.run(live(path, address, ca, ids))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main(folder: Path, address: str, ca: Path, which: str, step: int) -> None:
    """Kill a program at its 1st line, another at its (1 + step)th, and so on until one comes through; tell of each."""
    files, from_send = (OWN, False) if which == "own" else (OWN | BELOW, True)
    for line in count(1, step):
        path, ids = folder / f"{which}-{line}" / "outbox.db", [new_id() for _ in AMOUNTS]
        first = life(path, address, ca, ids, Killer(line, files, from_send=from_send))
        # the second life ends early too, somewhere else each time, or comes through
        life(path, address, ca, ids, Killer(1 + line * STRIDE % LINES, files, from_send=from_send))
        last = life(path, address, ca, ids, None)
        with Outbox.open(path) as box:
            found = [[item.id.hex(), item.state, item.receipt is not None, item.number] for item in box.list()]
        print(json.dumps({"line": line, "ids": [id.hex() for id in ids], "codes": [first, last], "found": found}))
        if first != KILLED:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
