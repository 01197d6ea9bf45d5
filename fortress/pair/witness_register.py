"""The built-in witness as a register: one connection that stays, one question at a time, a second for each.

A connection on which an answer is late, garbled or given up is ended, so that an answer never meets the wrong question.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from fortress.errors import FortressError, RegisterStale, RegisterUnreachable
from fortress.pair.change import Conflict, check_change, check_fresh
from fortress.pair.messages import Configuration
from fortress.pair.witness_messages import (
    LENGTH_SIZE_BYTES,
    Answer,
    Differs,
    Get,
    Held,
    Question,
    Refusal,
    Swap,
    Swapped,
    body_size,
    decode_answer,
    frame,
    split_address,
)

DEADLINE_S: Final = 1.0
CLOSE_S: Final = 1.0
IDLE_S: Final = 30.0
"""A connection not used for so long is made anew: what lies between may have forgotten it."""


class WitnessRegister:
    """A register kept by a witness; see :class:`.register.Register` for what its methods promise.

    Args:
        address: host:port of the witness.
        tls: for dialing, with this node's certificate.
        cluster: id of the pair.
        promised: tells the highest epoch that this node has promised.
        deadline_s: for each call, connecting included.
    """

    def __init__(
        self,
        address: str,
        tls: ssl.SSLContext,
        cluster: bytes,
        *,
        promised: Callable[[], int],
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._address = address
        self._tls = tls
        self._cluster = cluster
        self._promised = promised
        self._deadline_s = deadline_s
        self._lock = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used_s = 0.0

    async def get(self) -> Configuration | None:
        """Give the configuration."""
        promised = self._promised()
        answer = await self._ask(Get(self._cluster, promised))
        if not isinstance(answer, Held):
            raise self._unreachable(f"it answers with {type(answer).__name__}")
        check_fresh(answer.configuration, promised)
        return answer.configuration

    async def compare_and_set(self, expected_epoch: int | None, fresh: Configuration) -> Configuration:
        """Replace the configuration of this epoch."""
        check_change(expected_epoch, fresh)
        promised = self._promised()
        answer = await self._ask(Swap(self._cluster, promised, expected_epoch, fresh))
        if isinstance(answer, Differs):
            check_fresh(answer.configuration, promised)
            raise Conflict(answer.configuration)
        if not isinstance(answer, Swapped) or answer.configuration.epoch != fresh.epoch:
            raise self._unreachable(f"it answers with {type(answer).__name__}")
        return answer.configuration

    async def close(self) -> None:
        """End the connection."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            try:
                async with asyncio.timeout(CLOSE_S):
                    await streams[1].wait_closed()
            except OSError:  # it is gone, one way or the other
                streams[1].transport.abort()

    async def _ask(self, question: Question) -> Answer:
        try:
            async with asyncio.timeout(self._deadline_s), self._lock:
                answer = await self._exchange(question)
        except TimeoutError as exc:
            raise self._unreachable(f"no answer in {self._deadline_s:g} s") from exc
        except (OSError, EOFError, FortressError) as exc:
            raise self._unreachable(str(exc) or type(exc).__name__) from exc
        if isinstance(answer, Refusal):
            refused = RegisterStale if answer.code == RegisterStale.code else RegisterUnreachable
            raise refused(f"the witness at {self._address} says: {answer.message}", {"code": answer.code})
        return answer

    async def _exchange(self, question: Question) -> Answer:
        was_open = self._streams is not None
        try:
            return await self._exchange_once(question)
        except (OSError, EOFError):
            # A connection that was kept may have ended unnoticed. Asking again is harmless; changing again is not:
            # it could be the second time, and the answer a conflict with oneself.
            if not was_open or not isinstance(question, Get):
                raise
            return await self._exchange_once(question)

    async def _exchange_once(self, question: Question) -> Answer:
        with ExitStack() as on_fault:
            on_fault.callback(self._drop)
            reader, writer = await self._connected()
            writer.write(frame(question))
            await writer.drain()
            size = body_size(await reader.readexactly(LENGTH_SIZE_BYTES))
            answer = decode_answer(await reader.readexactly(size))
            on_fault.pop_all()
        return answer

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        now_s = asyncio.get_running_loop().time()
        streams = self._streams
        if streams and (streams[0].at_eof() or streams[1].is_closing() or now_s > self._used_s + IDLE_S):
            self._drop()
        if self._streams is None:
            host, port = split_address(self._address)
            self._streams = await asyncio.open_connection(
                host, port, ssl=self._tls, ssl_handshake_timeout=self._deadline_s
            )
        self._used_s = now_s
        return self._streams

    def _drop(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()

    def _unreachable(self, reason: str) -> RegisterUnreachable:
        return RegisterUnreachable(f"the witness at {self._address}: {reason}", {"address": self._address})
