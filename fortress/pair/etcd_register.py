"""etcd as a register: one key for each pair, through the JSON gateway of its v3 interface.

A change reads the key and replaces it in a transaction that compares the revision read. Reads are linearizable, which
is etcd's default. The value is JSON: ``[epoch, [name, instance], [[name, instance], ...], witness]``, bytes in base64.
The witness's id is the id of the etcd cluster, which a restored snapshot changes. Leases are not used.

Written for etcd 3.4 to 3.6: 64-bit numbers are texts, and fields with their default are left out (a transaction whose
comparison failed has no ``succeeded``).
"""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

from fortress.errors import LocalProtocolError, RegisterStale, RegisterUnreachable
from fortress.pair.change import Conflict, check_change, check_configuration, check_fresh, check_held
from fortress.pair.messages import Configuration

DEADLINE_S: Final = 1.0
CONNECT_S: Final = 0.3
"""After this the next address is tried."""
ANSWER_SIZE_BYTES_MAX: Final = 64 * 1024
KEY_PREFIX: Final = "/fortress/pair/"


class Header(msgspec.Struct, frozen=True):
    """Where an answer comes from: the id of the cluster; 0 in the header of a transaction's step."""

    cluster_id: int = 0


class KeyValue(msgspec.Struct, frozen=True):
    """A key's value, and the revision that put it there."""

    value: bytes
    mod_revision: int


class RangeAnswer(msgspec.Struct, frozen=True):
    """What a read answers."""

    header: Header = Header()
    kvs: list[KeyValue] = []


class Step(msgspec.Struct, frozen=True):
    """What one step of a transaction did; a read has a range."""

    response_range: RangeAnswer | None = None


class TransactionAnswer(msgspec.Struct, frozen=True):
    """What a transaction answers."""

    header: Header = Header()
    succeeded: bool = False
    responses: list[Step] = []


NEVER_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
OK: Final = 200

AnswerT = TypeVar("AnswerT", RangeAnswer, TransactionAnswer)


class EtcdRegister:
    """A register kept by etcd; see :class:`.register.Register` for what its methods promise.

    Args:
        addresses: URLs of the cluster's members; one that cannot be connected to makes place for the next.
        tls: for https addresses, with this node's certificate.
        cluster: id of the pair.
        promised: tells the highest epoch that this node has promised.
        deadline_s: for each call.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        tls: ssl.SSLContext | None,
        cluster: bytes,
        *,
        promised: Callable[[], int],
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._addresses = [address.rstrip("/") for address in addresses]
        self._tls = tls
        self._key = b64encode(f"{KEY_PREFIX}{cluster.hex()}".encode()).decode()
        self._promised = promised
        self._deadline_s = deadline_s
        self._session: aiohttp.ClientSession | None = None

    async def get(self) -> Configuration | None:
        """Give the configuration."""
        async with self._deadline():
            found, _, _ = await self._read()
            return found

    async def compare_and_set(self, expected_epoch: int | None, fresh: Configuration) -> Configuration:
        """Replace the configuration of this epoch."""
        check_change(expected_epoch, fresh)
        async with self._deadline():
            held, revision, witness = await self._read()
            check_held(held, expected_epoch)
            fresh = msgspec.structs.replace(fresh, witness=witness)
            answer = await self._ask("txn", self._transaction(revision, fresh), TransactionAnswer)
            if answer.succeeded:
                return fresh
            if len(answer.responses) != 1 or (present := answer.responses[0].response_range) is None:
                raise self._unreachable("it answers a transaction without its steps")
            held, _ = self._configuration(present, witness)
            if held is None:
                raise RegisterStale("the register's value was deleted")
            raise Conflict(held)

    async def close(self) -> None:
        """End the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _read(self) -> tuple[Configuration | None, int, bytes]:
        """Give the configuration, the revision that put it there (0: none) and the cluster's id."""
        answer = await self._ask("range", {"key": self._key}, RangeAnswer)
        if not answer.header.cluster_id:
            raise self._unreachable("it answers without saying who it is")
        witness = answer.header.cluster_id.to_bytes(8, "big")
        held, revision = self._configuration(answer, witness)
        return held, revision, witness

    def _configuration(self, answer: RangeAnswer, witness: bytes) -> tuple[Configuration | None, int]:
        held, revision = None, 0
        if answer.kvs:
            revision = answer.kvs[0].mod_revision
            try:
                held = msgspec.json.decode(answer.kvs[0].value, type=Configuration)
                check_configuration(held)
            except (msgspec.MsgspecError, LocalProtocolError) as exc:
                raise self._unreachable(f"its value is no configuration: {exc}") from exc
        check_fresh(held, self._promised())
        if held is not None and held.witness not in (b"", witness):
            raise RegisterStale("the register's value was written in another etcd cluster: it is a restored copy")
        return held, revision

    def _transaction(self, revision: int, fresh: Configuration) -> dict[str, Any]:
        value = b64encode(msgspec.json.encode(fresh)).decode()
        # the revision of a key that does not exist is 0
        compare = {"key": self._key, "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}
        return {
            "compare": [compare],
            "success": [{"request_put": {"key": self._key, "value": value}}],
            "failure": [{"request_range": {"key": self._key}}],
        }

    async def _ask(self, operation: str, body: dict[str, Any], kind: type[AnswerT]) -> AnswerT:
        """Ask the members in turn; the one that answers is asked first the next time."""
        reason = ""
        for _ in range(len(self._addresses) + 1):  # a connection that was kept may have ended unnoticed
            address = self._addresses[0]
            try:
                return await self._post(f"{address}/v3/kv/{operation}", body, kind)
            except (aiohttp.ClientError, msgspec.MsgspecError, OSError) as exc:
                reason = f"{address}: {str(exc) or type(exc).__name__}"
                self._put_last(address)
                # what may have changed something is not sent twice: the answer could be a conflict with oneself
                if operation == "txn" and not isinstance(exc, NEVER_SENT):
                    raise self._unreachable(reason) from exc
            except asyncio.CancelledError:  # by the deadline, as a rule
                self._put_last(address)
                raise
        raise self._unreachable(reason)

    async def _post(self, url: str, body: dict[str, Any], kind: type[AnswerT]) -> AnswerT:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S)
            connector = aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        async with self._session.post(url, json=body, allow_redirects=False) as response:
            data = b""
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > ANSWER_SIZE_BYTES_MAX:
                    raise aiohttp.ClientPayloadError(f"the answer is over {ANSWER_SIZE_BYTES_MAX} bytes")
            if response.status != OK:
                raise aiohttp.ClientPayloadError(f"status {response.status}, {data[:200].decode('utf-8', 'replace')}")
            return msgspec.json.decode(data, type=kind, strict=False)

    def _put_last(self, address: str) -> None:
        if self._addresses[0] == address:
            self._addresses.append(self._addresses.pop(0))

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._deadline_s):
                yield
        except TimeoutError as exc:
            raise self._unreachable(f"no answer in {self._deadline_s:g} s") from exc

    def _unreachable(self, reason: str) -> RegisterUnreachable:
        return RegisterUnreachable(f"etcd: {reason}", {"address": self._addresses[0]})
