"""Tests of ids: their form, their order, and that no two are the same."""

from __future__ import annotations

import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from fortress.client.ids import Ids, format_id, new_id, parse_id
from fortress.errors import UsageError


def test_an_id_is_a_uuid_of_version_7() -> None:
    """Other people's readers know it as one, with the present time in its first 48 bits (RFC 9562 5.7)."""
    id = new_id()
    assert len(id) == 16
    assert uuid.UUID(bytes=id).version == 7
    assert uuid.UUID(bytes=id).variant == uuid.RFC_4122
    assert abs(int.from_bytes(id[:6], "big") - time.time_ns() // 1_000_000) < 60_000


@pytest.mark.parametrize("times", [[5] * 20_000, [9, 8, 7, 7, 10, 3], range(3000)])
def test_ids_rise_whatever_the_clock_does(times: list[int]) -> None:
    """A busy millisecond, a clock that goes back, and an ordinary one."""
    ids = Ids()
    made = [ids.make(now_ms) for now_ms in times]
    assert made == sorted(set(made))
    assert all(uuid.UUID(bytes=id).version == 7 for id in made)


def test_threads_share_one_order() -> None:
    """No two threads ever make the same id."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: [new_id() for _ in range(500)], range(8)))
    assert len({id for ids in made for id in ids}) == 4000


def test_a_forked_process_draws_anew() -> None:
    """Parent and child never make the same id out of the same random bits."""
    new_id()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, new_id())
        os._exit(0)
    own = new_id()
    os.waitpid(child, 0)
    others = os.read(reader, 16)
    os.close(reader)
    os.close(writer)
    assert own[8:] != others[8:]


def test_ids_are_written_and_read() -> None:
    """Both forms that people copy around are read."""
    id = new_id()
    assert parse_id(format_id(id)) == id
    assert parse_id(id.hex()) == id


@pytest.mark.parametrize("text", ["", "xyz", "0123", "0" * 33])
def test_what_is_no_id_is_refused(text: str) -> None:
    """The text is named."""
    with pytest.raises(UsageError, match="is not an id"):
        parse_id(text)
