"""A thread that does one thing after another for a loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

from fortress.server.workers import Worker
from tests.server.banks import until


async def test_jobs_are_done_in_order_on_one_thread_and_told_on_the_loop() -> None:
    """Results come back in the order of the jobs, each on the loop's own thread."""
    worker = Worker("order", asyncio.get_running_loop())
    told: list[tuple[Any, str]] = []
    threads = set()

    def job(number: int) -> int:
        threads.add(threading.current_thread().name)
        return number * 2

    def done(result: Any, error: BaseException | None) -> None:
        assert error is None
        told.append((result, threading.current_thread().name))

    for number in range(5):
        worker.submit(job, number, done=done)
    await until(lambda: len(told) == 5)
    worker.close()
    assert [result for result, _ in told] == [0, 2, 4, 6, 8]
    assert threads == {"order"}
    assert {name for _, name in told} == {threading.current_thread().name}


async def test_what_a_job_raises_is_handed_over_and_the_next_is_done() -> None:
    """A failing job ends neither thread nor order."""
    worker = Worker("faults", asyncio.get_running_loop())
    told: list[tuple[Any, Any]] = []

    def fail() -> None:
        raise KeyError("no")

    worker.submit(fail, done=lambda *outcome: told.append(outcome))
    worker.submit(int, "7", done=lambda *outcome: told.append(outcome))
    await until(lambda: len(told) == 2)
    worker.close()
    assert isinstance(told[0][1], KeyError)
    assert told[1] == (7, None)


async def test_closing_does_what_is_queued_first() -> None:
    """Nothing that was handed over is dropped."""
    worker = Worker("closing", asyncio.get_running_loop())
    done: list[int] = []
    for number in range(3):
        worker.submit(done.append, number, done=lambda result, error: None)
    worker.close()
    worker.close()
    assert done == [0, 1, 2]


def test_a_worker_outlives_its_loop_in_peace() -> None:
    """When nobody waits any more, the thread ends without a word."""

    async def start() -> Worker:
        return Worker("orphan", asyncio.get_running_loop())

    worker = asyncio.run(start())
    worker.submit(int, "7", done=lambda result, error: None)
    worker.close()


class Large:
    """Something that should not be kept."""


async def test_a_job_that_is_done_is_not_kept() -> None:
    """Between two jobs nothing holds on to the last one's arguments and results."""
    worker = Worker("memory", asyncio.get_running_loop())
    large = Large()
    gone = weakref.ref(large)
    told: list[Any] = []
    worker.submit(lambda it: it, large, done=lambda result, error: told.append(type(result)))
    await until(lambda: told)
    del large
    gc.collect()
    await until(lambda: gone() is None, "the job is still held")
    worker.close()
