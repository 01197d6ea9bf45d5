"""The client of the witness among faults: answers that are late, garbled, cut or wrong are never taken for success."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fortress.errors import Busy, RegisterStale, RegisterUnreachable
from fortress.pair import witness_register as witness_register_module
from fortress.pair.change import Conflict
from fortress.pair.link import listening_context
from fortress.pair.witness_messages import (
    Answer,
    Differs,
    Get,
    Held,
    Question,
    Refusal,
    Swap,
    Swapped,
    decode_question,
    frame,
)
from fortress.pair.witness_register import WitnessRegister
from tests.pair.registers import CLUSTER, PATIENT_S, configuration, dialing, make_certificates

Act = Callable[[Question], Answer | bytes | None]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certs"))


class Actor:
    """A witness that says what the test wants: an answer, other bytes and the end, or (None) just the end."""

    def __init__(self) -> None:
        self.act: Act = lambda question: Held(None)
        self.connections = 0
        self.questions: list[Question] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while length := await reader.read(4):
                self.questions.append(decode_question(await reader.readexactly(int.from_bytes(length, "big"))))
                said = self.act(self.questions[-1])
                if not isinstance(said, Answer):
                    writer.write(said or b"")
                    writer.close()
                    return
                writer.write(frame(said))
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError):
            writer.transport.abort()


@pytest.fixture
async def actor(certificates: Path) -> AsyncIterator[Actor]:
    found = Actor()
    tls = listening_context(certificates / "node.crt", certificates / "node.key", certificates / "ca.crt")
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=tls)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()
    for writer in found.writers:
        writer.transport.abort()
    await server.wait_closed()


@pytest.fixture
async def register(actor: Actor, certificates: Path) -> AsyncIterator[WitnessRegister]:
    tls = dialing(certificates)
    found = WitnessRegister(f"127.0.0.1:{actor.port}", tls, CLUSTER, promised=lambda: 3, deadline_s=PATIENT_S)
    yield found
    await found.close()


HELD = Held(configuration(3))


async def test_one_connection_serves_all_questions(actor: Actor, register: WitnessRegister) -> None:
    """Each question carries the pair and what was promised."""
    actor.act = lambda question: HELD if isinstance(question, Get) else Swapped(question.fresh)
    assert await asyncio.gather(*(register.get() for _ in range(5))) == [configuration(3)] * 5
    assert await register.compare_and_set(3, configuration(4)) == configuration(4)
    assert actor.connections == 1
    assert actor.questions[0] == Get(CLUSTER, 3) and actor.questions[-1] == Swap(CLUSTER, 3, 3, configuration(4))


@pytest.mark.parametrize(
    "said",
    [
        *(None, b"\0\0", b"\0\0\0\5hello", b"\0\0\xff\xff", frame(HELD)[:-1]),
        *(Refusal(Busy.code, "full"), Swapped(configuration(7)), Differs(configuration(2))),
    ],
    ids=["end", "cut length", "no message", "too long", "cut", "refusal", "wrong epoch", "old conflict"],
)
async def test_no_other_answer_is_a_success(
    actor: Actor, register: WitnessRegister, said: Answer | bytes | None
) -> None:
    """The outcome is unknown, or the register is old; the change is asked for once."""
    actor.act = lambda _: said
    with pytest.raises(RegisterStale if isinstance(said, Differs) else RegisterUnreachable):
        await register.compare_and_set(3, configuration(4))
    assert len(actor.questions) == 1


async def test_an_answer_to_the_wrong_question_is_none(actor: Actor, register: WitnessRegister) -> None:
    """Whatever it says."""
    actor.act = lambda question: HELD if isinstance(question, Swap) else Swapped(configuration(3))
    with pytest.raises(RegisterUnreachable, match="Swapped"):
        await register.get()
    with pytest.raises(RegisterUnreachable, match="Held"):
        await register.compare_and_set(3, configuration(4))


async def test_conflicts_and_staleness_are_told_apart(actor: Actor, register: WitnessRegister) -> None:
    """By the witness, or seen by the client itself."""
    actor.act = lambda _: Differs(configuration(5))
    with pytest.raises(Conflict) as conflict:
        await register.compare_and_set(3, configuration(4))
    assert conflict.value.configuration.epoch == 5
    for said in (Refusal(RegisterStale.code, "it was there before"), Held(None), Held(configuration(2))):
        actor.act = lambda _, said=said: said
        with pytest.raises(RegisterStale):
            await register.get()


async def test_a_kept_connection_that_has_ended_is_made_anew_for_reading(
    actor: Actor, register: WitnessRegister
) -> None:
    """A read is asked again, once; a change never."""
    answers: list[Answer | None] = [HELD, None, HELD, None, HELD, None, None]
    actor.act = lambda _: answers.pop(0)
    assert await register.get() == await register.get() == configuration(3)
    with pytest.raises(RegisterUnreachable):
        await register.compare_and_set(3, configuration(4))
    assert await register.get() == configuration(3)
    with pytest.raises(RegisterUnreachable):
        await register.get()
    assert answers == []


async def test_a_connection_not_used_for_long_is_made_anew(
    actor: Actor, register: WitnessRegister, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies between may have forgotten it; better to find out before a change is sent."""
    actor.act = lambda _: HELD
    await register.get()
    monkeypatch.setattr(witness_register_module, "IDLE_S", -1.0)
    await register.get()
    assert actor.connections == 2


async def test_a_late_answer_meets_no_later_question(actor: Actor, certificates: Path) -> None:
    """The connection of a question that was given up is not used again."""
    tls = dialing(certificates)
    register = WitnessRegister(f"127.0.0.1:{actor.port}", tls, CLUSTER, promised=lambda: 0, deadline_s=PATIENT_S)
    assert await register.get() is None
    sent = asyncio.Event()

    def never(question: Question) -> Answer:
        sent.set()
        return Held(configuration(9))

    actor.act = never
    task = asyncio.ensure_future(register.get())
    await sent.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    actor.act = lambda _: Held(configuration(2))
    assert await register.get() == configuration(2)
    assert actor.connections == 2
    await register.close()
