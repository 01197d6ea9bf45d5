"""What takes time comes back as an event, once, and a lost answer is told as such."""

from __future__ import annotations

import asyncio
import socket

from fortress.errors import RegisterUnreachable, StateFileUnusable
from fortress.pair import events as e
from fortress.pair.errands import Errands
from fortress.pair.messages import Configuration, Member
from tests.pair.nodes import DEADLINE_S, Promises, Shelf, free_port, until

HERE = Member("node-1", b"1" * 16)
FIRST = Configuration(1, HERE, (HERE,))


class Told:
    """Errands and what came of them."""

    def __init__(self, port: int = 1) -> None:
        self.shelf = Shelf()
        self.promises = Promises(HERE.instance)
        self.events: list[e.Event] = []
        self.swapped: list[str] = []
        self.unwritten: list[str] = []
        self.names: list[str] = []
        self.errands = Errands(
            self.shelf,
            self.promises,  # the part of a control file that is used
            ("127.0.0.1", port),
            on_event=self.events.append,
            on_swapped=lambda swap: self.swapped.append(swap.name),
            on_unwritten=self.unwritten.append,
            tell=lambda name, facts: self.names.append(name),
        )


async def test_the_register_answers_with_what_it_holds() -> None:
    """Reading, changing, and being refused since somebody else was first."""
    told = Told()
    told.errands.read_register(e.ReadRegister())
    await until(lambda: told.events == [e.RegisterRead(None)])
    told.errands.swap_register(e.SwapRegister(None, FIRST, "first"))
    await until(lambda: told.events[1:] == [e.RegisterSwapped(FIRST)])
    told.errands.swap_register(e.SwapRegister(None, FIRST, "first"))
    await until(lambda: told.events[2:] == [e.RegisterRefused(FIRST)])
    assert told.swapped == ["first"]
    await told.errands.stop()


async def test_a_silent_register_is_told_once_to_people_and_each_time_to_the_machine() -> None:
    """Until it answers again."""
    told = Told()
    told.shelf.is_silent = True
    for count in (1, 2):
        told.errands.read_register(e.ReadRegister())
        await until(lambda count=count: told.events == [e.RegisterSilent()] * count)
    assert told.names == ["register_unreachable"] and not told.errands.is_register_reachable
    told.shelf.is_silent = False
    told.errands.read_register(e.ReadRegister())
    await until(lambda: told.errands.is_register_reachable)
    await told.errands.stop()


async def test_the_machine_is_answered_whatever_happens_to_its_question() -> None:
    """A fault nobody thought of says nothing about what the register holds; without an answer none would be asked."""
    told = Told()

    async def broken() -> Configuration | None:
        raise ValueError("a bug")

    told.shelf.__dict__["get"] = broken
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    told.errands.read_register(e.ReadRegister())
    await until(lambda: told.events == [e.RegisterSilent()])
    await told.errands.stop()


async def test_what_is_under_way_can_be_waited_for_but_not_for_ever() -> None:
    """As by a node that must end and has told the register that the other one is primary."""
    told = Told()
    told.errands.read_register(e.ReadRegister())
    await told.errands.settle(DEADLINE_S)
    assert told.events == [e.RegisterRead(None)]
    told.errands.start(asyncio.sleep(2 * DEADLINE_S))
    await told.errands.settle(0.01)
    await told.errands.stop()
    await told.errands.settle(DEADLINE_S)


async def test_a_promise_is_told_once_it_is_written() -> None:
    """One that cannot be written is told as that, and not to the machine."""
    told = Told()
    told.errands.promise(e.PromiseEpoch(3))
    await until(lambda: told.events == [e.EpochPromised(3)])
    assert told.promises.promised == 3

    def fail(epoch: int) -> None:
        raise StateFileUnusable("the disk failed")

    told.promises.promise = fail
    told.errands.promise(e.PromiseEpoch(4))
    await until(lambda: told.unwritten)
    assert told.events == [e.EpochPromised(3)]
    await told.errands.stop()


async def test_only_a_refusal_says_that_the_other_process_is_gone() -> None:
    """One that takes connections runs; silence says nothing."""
    told = Told(free_port())
    told.errands.probe(e.ProbePeer())
    await until(lambda: told.events == [e.PeerLost(is_refused=True)])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        other = Told(listener.getsockname()[1])
        other.errands.probe(e.ProbePeer())
        await until(lambda: not other.errands._tasks)
        assert other.events == []
    await told.errands.stop()
    await other.errands.stop()


async def test_stopping_gives_up_what_is_under_way() -> None:
    """Nothing comes back afterwards."""
    told = Told()

    async def never() -> None:
        await asyncio.Event().wait()

    told.errands.start(never())
    await told.errands.stop()
    assert not told.errands._tasks and told.events == []
    assert RegisterUnreachable().retry == "same_id"
