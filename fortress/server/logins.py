"""Find what a login needs to know of a customer: by username, by number, and fast for those who were here lately.

A record is used again only as long as everything in it is still so; a new key is sealed anew even when salt and
parameters stay, so the sealed bytes tell. What is found is given out once the newest change it shows is committed.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from fortress.ledger.model import Customer, CustomerState
from fortress.server.login import LoginRecord
from fortress.server.reader import Reader

LOGINS_REMEMBERED_MAX: Final = 8_192


class Logins:
    """The login records of one bank.

    Args:
        reader: of the bank.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        # handle -> the sealed key that the record was made of, the record
        self._records: OrderedDict[bytes, tuple[bytes, LoginRecord]] = OrderedDict()

    async def find_login(self, username: str) -> LoginRecord | None:
        """Find who has a username; what was found lately is answered without leaving the loop."""
        handle = self._reader.desk.handle_of(username)
        customer = self._reader.state.customer_by_handle(handle)
        if customer is None:
            await self._reader.fill(self._reader.state.want_customer(handle=handle))
            customer = self._reader.state.customer_by_handle(handle)
        return await self._login_of(customer, username)

    async def find_customer(self, customer: int) -> LoginRecord | None:
        """Find a customer by number, for a session that goes on."""
        found = await self._reader.customer(customer)
        if found is None:
            return None
        known = self._records.get(found.handle)
        return await self._login_of(found, known[1].username if known else (await self._reader.person(found)).username)

    async def _login_of(self, customer: Customer | None, username: str) -> LoginRecord | None:
        """Give what logins know of a customer as they are now, once that is committed."""
        if customer is None:
            return None
        position = customer.position
        record = None if customer.state == CustomerState.erased else self._current(customer, username)
        if position > self._reader.committer.committed_position:
            await self._reader.committed(position)
        return record

    def _current(self, customer: Customer, username: str) -> LoginRecord:
        sealed, known = self._records.get(customer.handle, (b"", None))
        if (
            known is not None
            and sealed == customer.sealed_public  # sealed anew with each key, also one with the same salt
            and known.roles == customer.roles
            and known.locked_until_us == customer.locked_until_us
            and known.state == CustomerState(customer.state).name
        ):
            return known
        return self._remember(customer, username)

    def _remember(self, customer: Customer, username: str) -> LoginRecord:
        c = customer
        record = LoginRecord(
            customer=c.customer,
            username=username,
            roles=c.roles,
            state="locked" if c.state == CustomerState.locked else "active",
            locked_until_us=c.locked_until_us,
            salt=c.salt,
            memory_kib=c.memory_kib,
            iterations=c.iterations,
            lanes=c.lanes,
            public=self._reader.vault.open_login_key(c.handle, c.sealed_public),
            signing=c.signing,
            created_us=c.created_us,
        )
        self._records[c.handle] = (c.sealed_public, record)
        if len(self._records) > LOGINS_REMEMBERED_MAX:
            self._records.popitem(last=False)
        return record
