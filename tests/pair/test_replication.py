"""Two whole nodes over loopback: they find each other, mirror, take over, hand over, and refuse strangers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from msgspec.structs import replace as replace_struct

from fortress.errors import Busy, NoPrimary, PeerRejected
from fortress.pair import replication
from fortress.pair.events import Wish
from fortress.pair.messages import Mark, Member
from fortress.pair.role_state import Phase
from tests.pair.nodes import QUICK, Node, is_paired, pair_of_nodes, paired, until


async def test_two_nodes_become_a_pair_and_mirror() -> None:
    """The founder is primary; what it makes is committed once both have it, and the standby learns that it is."""
    first, second, shelf = pair_of_nodes()
    await paired(first, second)
    for number in range(20):
        first.make(b"%d" % number)
    await until(lambda: first.committed == 20 and second.committed == 20)
    assert first.hashes == second.hashes
    assert [configuration.epoch for configuration in shelf.history] == [1, 2]
    assert ("follow", "clients-1:1") in second.commands
    await first.stop()
    await second.stop()


async def test_nothing_is_committed_without_the_standby_while_it_is_counted() -> None:
    """A record that only the primary's disk has waits; the standby's disk decides."""
    first, second, _ = pair_of_nodes(replace(QUICK, solo_ms=60_000))
    await paired(first, second)
    second.disk_held = []
    first.make(b"one")
    await until(lambda: second.disk_held)
    assert first.journal.end().lsn == 1 and first.committed == 0
    held, second.disk_held = second.disk_held, None
    held[0]()
    await until(lambda: first.committed == 1)
    await first.stop()
    await second.stop()


async def test_a_standby_that_comes_late_gets_everything() -> None:
    """What was made alone is sent from the journal, and what is made meanwhile follows without a gap."""
    first, second, _ = pair_of_nodes()
    await first.start(is_founder=True)
    await until(lambda: first.is_serving)
    for number in range(300):
        first.make(b"%d" % number)
        if number % 50 == 0:
            await asyncio.sleep(0)
    await until(lambda: first.committed == 300)
    await second.start()
    for number in range(300, 400):
        first.make(b"%d" % number)
        await asyncio.sleep(0.0005)
    await until(lambda: is_paired(first) and second.committed == 400)
    assert first.hashes == second.hashes
    await first.stop()
    await second.stop()


async def test_the_standby_takes_over_when_the_primary_is_gone() -> None:
    """It serves what it has, in a later epoch; the old one comes back as standby with the same history."""
    first, second, shelf = pair_of_nodes()
    await paired(first, second)
    first.make(b"one")
    await until(lambda: first.committed == 1)
    await first.stop()
    await until(lambda: second.is_serving)
    assert second.told("takeover") and shelf.held is not None and shelf.held.primary.name == "node-2"
    second.make(b"two")
    await until(lambda: second.committed == 2)
    await first.start()
    await until(lambda: is_paired(second) and first.committed == 2)
    assert first.hashes == second.hashes
    await first.stop()
    await second.stop()


async def test_a_primary_goes_on_alone_when_the_standby_is_gone() -> None:
    """After the time for that the register drops the standby, and what waited is committed."""
    first, second, _ = pair_of_nodes()
    await paired(first, second)
    await second.stop()
    first.make(b"one")
    assert first.committed == 0
    await until(lambda: first.committed == 1)
    assert first.told("solo") and first.replication.state.phase is Phase.primary_solo
    await first.stop()


async def test_a_standby_whose_disk_does_not_get_on_is_left_behind() -> None:
    """It answers every heartbeat and stores nothing: after the time for that the primary goes on without it."""
    first, second, _ = pair_of_nodes()
    await paired(first, second)
    second.disk_held = []
    first.make(b"one")
    await until(lambda: first.committed == 1)
    assert first.told("solo") and second.replication.state.durable == 0
    held, second.disk_held = second.disk_held, None
    for write in held:
        write()
    await until(lambda: is_paired(first) and second.committed == 1)
    await first.stop()
    await second.stop()


async def test_with_two_copies_wanted_a_primary_alone_waits() -> None:
    """Nothing is committed until the standby is back."""
    first, second, _ = pair_of_nodes(replace(QUICK, durability="two-copies"))
    await paired(first, second)
    await second.stop()
    first.make(b"one")
    await until(lambda: first.replication.state.phase is not Phase.primary_paired)
    assert first.committed == 0
    await second.start()
    await until(lambda: first.committed == 1 and second.journal.end().lsn == 1)
    await first.stop()
    await second.stop()


async def test_a_tail_that_nobody_acknowledged_has_to_be_cut_off() -> None:
    """An old primary's own record differs from what the new one made: it is told after which mark to cut."""
    first, second, _ = pair_of_nodes()
    await paired(first, second)
    first.make(b"one")
    await until(lambda: first.committed == 1 and second.committed == 1)
    common = first.journal.end()
    await second.stop()
    first.make(b"never acknowledged")
    await first.stop()
    await second.start()
    await until(lambda: second.is_serving)
    second.make(b"two")
    await until(lambda: second.committed == 2)
    first.committed = 1
    await first.start()
    await until(lambda: first.told("restart"))
    assert first.told("restart") == [common]
    await first.stop()
    await second.stop()


async def test_a_switch_over_keeps_everything() -> None:
    """The old primary finishes what it began, and stands by in order; the new one has it all."""
    first, second, _ = pair_of_nodes()
    await paired(first, second)
    first.make(b"one")
    await first.replication.switch_over()
    await until(lambda: is_paired(second))
    assert ("stand_by", (True, "clients-2:1")) in first.commands
    assert first.hashes == second.hashes and second.epoch > first.epoch
    await second.replication.switch_over()
    await until(lambda: is_paired(first))
    await first.stop()
    await second.stop()


async def test_only_the_primary_of_a_pair_can_switch_over() -> None:
    """A standby and a primary alone say so."""
    first, second, _ = pair_of_nodes()
    await first.start(is_founder=True)
    await until(lambda: first.is_serving)
    with pytest.raises(NoPrimary):
        await first.replication.switch_over()
    await second.start()
    await until(lambda: is_paired(first))
    with pytest.raises(NoPrimary):
        await second.replication.switch_over()
    await first.stop()
    await second.stop()


async def test_a_switch_over_that_the_register_does_not_take_is_given_up() -> None:
    """The primary goes on as if nothing had been asked."""
    first, second, shelf = pair_of_nodes()
    await paired(first, second)
    shelf.is_silent = True
    with pytest.raises(Busy):
        await first.replication.switch_over()
    assert first.told("serve")[-1] == first.epoch
    shelf.is_silent = False
    first.make(b"one")
    await until(lambda: max(first.committed, second.committed) == 1)
    await first.stop()
    await second.stop()


async def test_a_node_that_leaves_hands_over_first() -> None:
    """No time has to pass: the other one is primary when leaving returns."""
    first, second, _ = pair_of_nodes(replace(QUICK, takeover_ms=60_000, refused_ms=60_000))
    await paired(first, second)
    first.make(b"one")
    await first.replication.leave()
    await first.stop()
    await until(lambda: second.is_serving)
    assert second.hashes == first.hashes
    await second.replication.leave()
    await second.stop()


async def test_an_operator_can_make_the_standby_primary_at_once() -> None:
    """The old primary learns of it and stands by."""
    first, second, _ = pair_of_nodes()
    await paired(first, second)
    await until(lambda: second.replication.state.phase is Phase.standby_in_sync)
    await second.replication.take_over()
    await until(lambda: is_paired(second))
    assert first.told("stand_by")
    await first.stop()
    await second.stop()


async def test_a_paused_standby_does_not_take_over() -> None:
    """Only after it was resumed."""
    first, second, _ = pair_of_nodes()
    await paired(first, second)
    second.replication.wish(Wish.pause)
    await first.stop()
    await asyncio.sleep(3 * QUICK.takeover_ms / 1000)
    assert not second.is_serving
    second.replication.wish(Wish.resume)
    await until(lambda: second.is_serving)
    await second.stop()


async def test_without_peer_and_register_a_primary_is_blocked() -> None:
    """It commits nothing, says so, and goes on when the register is back."""
    first, second, shelf = pair_of_nodes()
    await paired(first, second)
    shelf.is_silent = True
    await second.stop()
    first.make(b"one")
    await until(lambda: ("blocked", True) in first.commands)
    assert first.committed == 0 and not first.replication.is_register_reachable
    shelf.is_silent = False
    await until(lambda: first.committed == 1)
    assert ("blocked", False) in first.commands
    await first.stop()


async def test_keys_of_people_are_equal_on_both_nodes() -> None:
    """Those that differ when they meet are sent by bucket, those made later one by one."""
    first, second, _ = pair_of_nodes()
    first.keys.keys = {b"ann": b"1", b"bob": b"2"}
    second.keys.keys = {b"bob": b"old", b"bill": b"gone elsewhere"}
    await paired(first, second)
    assert second.keys.keys == first.keys.keys
    first.keys.take(b"cid", b"3")
    first.replication.keys_changed(b"cid", b"3")
    first.keys.take(b"ann", None)
    first.replication.keys_changed(b"ann", None)
    await until(lambda: second.keys.keys == {b"bob": b"2", b"cid": b"3"})
    await first.stop()
    await second.stop()


async def test_reads_are_allowed_for_as_long_as_the_standby_promised() -> None:
    """Alone for ever, in a pair for a moment after each acknowledgement, and no longer when the standby is silent."""
    first, second, _ = pair_of_nodes(replace(QUICK, solo_ms=60_000))
    await first.start(is_founder=True)
    await until(lambda: first.is_serving)
    assert first.readable_until_us > 1 << 60
    await second.start()
    await until(lambda: is_paired(first))
    now_us = first.replication.clock_us
    await until(lambda: now_us() < first.readable_until_us < now_us() + 1_000_000)
    await second.stop()
    await until(lambda: first.readable_until_us < now_us())
    await first.stop()


@pytest.mark.parametrize("cluster", ["11" * 16])
async def test_a_node_of_another_pair_is_turned_away(cluster: str) -> None:
    """With a right certificate, but another cluster id: both say so, and nothing is exchanged."""
    first, second, _ = pair_of_nodes()
    second.settings = replace(second.settings, cluster=cluster)
    second.shelf = type(second.shelf)()
    await first.start(is_founder=True)
    await until(lambda: first.is_serving)
    first.make(b"one")
    await second.start(is_founder=True)
    await until(lambda: second.told("peer_rejected") or first.told("peer_rejected"))
    assert second.journal.found == []
    await first.stop()
    await second.stop()


async def test_settings_that_change_are_taken_over() -> None:
    """A primary alone that now wants two copies commits no more until it has them."""
    first, second, _ = pair_of_nodes()
    await first.start(is_founder=True)
    await until(lambda: first.is_serving)
    first.replication.apply(replace(first.settings, durability="two-copies"))
    first.make(b"one")
    await until(lambda: first.journal.end().lsn == 1)
    assert first.committed == 0
    await second.start()
    await until(lambda: first.committed == 1)
    assert second.journal.end() == Mark(1, first.journal.found[0].hash)
    await first.stop()
    await second.stop()


def nodes_behind(first: Node, second: Node) -> tuple[int, int]:
    """How far each says that the standby is behind."""
    return first.replication.behind, second.replication.behind


async def test_both_tell_how_far_the_standby_is_behind() -> None:
    """None when in step; the records that its disk does not have otherwise."""
    first, second, _ = pair_of_nodes(replace(QUICK, solo_ms=60_000))
    await paired(first, second)
    second.disk_held = []
    first.make(b"one")
    await until(lambda: first.journal.end().lsn == 1 and second.disk_held)
    assert first.replication.behind == 1
    held, second.disk_held = second.disk_held, None
    held[0]()
    await until(lambda: nodes_behind(first, second) == (0, 0))
    await first.stop()
    await second.stop()


async def test_a_standby_knows_since_when_it_is_fresh() -> None:
    """By its own clock: what the primary says was sent after it had an acknowledgement of that time."""
    first, second, _ = pair_of_nodes()
    await paired(first, second)
    begun_us = second.replication.clock_us()
    await until(lambda: second.replication.fresh_us > begun_us)
    assert second.replication.fresh_us <= second.replication.clock_us()
    await first.stop()
    await second.stop()


async def test_a_later_version_is_no_reason_to_turn_a_node_away() -> None:
    """The lower version of both is spoken and written, so one node after the other can be made a later one."""
    first, _, _ = pair_of_nodes()
    await first.start()
    hello = first.replication._greet()
    other = replace_struct(hello, member=Member("node-2", b"2" * 16), version=9, record_version=9)
    first.replication._check(other)
    for fault in ({"version": 0}, {"record_version": 0}):
        with pytest.raises(PeerRejected):
            first.replication._check(replace_struct(other, **fault))
    await first.stop()


async def test_a_primary_alone_finishes_what_it_began_before_it_leaves() -> None:
    """It holds what is new, waits for its disk, and then says that it goes."""
    first, _, _ = pair_of_nodes()
    await first.start(is_founder=True)
    await until(lambda: first.is_serving)
    first.disk_held = []
    first.make(b"one")
    leaving = asyncio.create_task(first.replication.leave())
    await until(lambda: first.told("hold") and first.disk_held)
    assert first.is_serving
    held, first.disk_held = first.disk_held, None
    held[0]()
    await leaving
    assert first.told("stand_by") == [(True, "")] and first.committed == 1
    await first.stop()


async def test_what_cannot_be_finished_does_not_keep_a_node_from_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while it goes, and says so to the other node."""
    monkeypatch.setattr(replication, "SWITCH_S", 0.5)
    first, second, _ = pair_of_nodes(replace(QUICK, solo_ms=60_000))
    await paired(first, second)
    second.disk_held = []
    first.make(b"one")
    await first.replication.leave()
    assert first.told("stand_by") == [(False, "")]
    await until(lambda: second.told("peer_left"))
    await first.stop()
    await second.stop()
