"""A customer's program with an outbox, to be killed and started again: writes its orders down, then sends them.

Called with the bank's address, its authority's file, the outbox, and a file with one order a line: id, debit, payee,
amount, not-after. Prints a line for each order that is on the disk, for each try and each answer.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.bank import seed_of
from fortress.client.client import connect
from fortress.client.credentials import LoginKey
from fortress.client.me import Me
from fortress.client.order_file import OutboxItem
from fortress.client.outbox import Outbox
from fortress.protocol.orders import PaymentOrder, sign_order

USERNAME = "customer0"
BANK = "a"


def read_orders(file: Path) -> list[PaymentOrder]:
    """Read what is to be paid; the reference is the number of the line."""
    orders = []
    for number, line in enumerate(file.read_text().splitlines()):
        id, debit, payee, amount, not_after_us = line.split()
        orders.append(
            PaymentOrder(
                bank=BANK,
                id=bytes.fromhex(id),
                debit=int(debit),
                payee=payee,
                amount_minor=int(amount),
                currency="EUR",
                reference=f"payment {number}",
                not_after_us=int(not_after_us),
            )
        )
    return orders


def tell(item: OutboxItem) -> None:
    print("answered" if item.is_terminal else "tried", item.id.hex(), item.state, flush=True)


async def main(address: str, ca: Path, outbox: Path, orders: Path) -> None:
    @asynccontextmanager
    async def sign_in() -> AsyncIterator[Me]:
        async with connect(address, ca=ca, deadline_s=5) as bank:
            yield await bank.login_with_seed(USERNAME, seed_of(USERNAME))

    signing_seed = LoginKey(seed_of(USERNAME)).signing_seed
    with Outbox.open(outbox, bank=BANK, username=USERNAME) as box:
        for order in read_orders(orders):
            print("stored", box.add(order, sign_order(order, signing_seed)).id.hex(), flush=True)
        await box.run(sign_in, on_change=tell)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(Path, sys.argv[2:5])))
