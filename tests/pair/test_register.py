"""What every register must do, asked of each kind as a real process: the witness, and Debian's etcd."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fortress.config import PairSettings
from fortress.errors import LocalProtocolError, RegisterStale, RegisterUnreachable, SettingInvalid
from fortress.pair.etcd_register import EtcdRegister
from fortress.pair.messages import Configuration, Member
from fortress.pair.register import Conflict, Register, open_register
from fortress.pair.witness_register import WitnessRegister
from tests.fault.disk import fill, make_space, small_disk
from tests.pair.registers import (
    CLUSTER,
    FIRST,
    SECOND,
    Backend,
    EtcdBackend,
    Proxy,
    WitnessBackend,
    close_all,
    configuration,
    dialing,
    make_certificates,
    promised_nothing,
)

CLIENTS, EPOCHS = 6, 8
KILLS = 4
DISK_MB = {WitnessBackend: 4, EtcdBackend: 160}  # etcd takes two logs of 64 MB before it takes anything else
IMPATIENT_S = 0.3

Make = Callable[[Path], Backend]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certs"))


@pytest.fixture(params=["witness", "etcd"])
def make(request: pytest.FixtureRequest, certificates: Path) -> Make:
    """Make a backend of one kind in a folder; it is not started."""
    if request.param == "etcd":
        return EtcdBackend
    return lambda folder: WitnessBackend(folder, certificates)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[dict[str, Backend]]:
    """One of each kind, for tests that do it no harm."""
    folder = tmp_path_factory.mktemp("registers")
    found: dict[str, Backend] = {
        "witness": WitnessBackend(folder / "witness", certificates),
        "etcd": EtcdBackend(folder / "etcd"),
    }
    for each in found.values():
        each.start()
    yield found
    for each in found.values():
        each.kill()


@pytest.fixture(params=["witness", "etcd"])
def shared(request: pytest.FixtureRequest, running: dict[str, Backend]) -> Backend:
    """A running one that holds nothing of this test's pair yet."""
    found = running[request.param]
    found.cluster = os.urandom(8)
    return found


@pytest.fixture
def backend(make: Make, tmp_path: Path) -> Iterator[Backend]:
    """A running one of this test's own."""
    made = make(tmp_path / "register")
    made.start()
    yield made
    made.kill()


async def write_epochs(register: Register, last: int) -> Configuration:
    """Write the configurations of epochs 1 to ``last``."""
    held = await register.compare_and_set(None, configuration())
    for epoch in range(2, last + 1):
        held = await register.compare_and_set(epoch - 1, configuration(epoch))
    return held


# --- comparing and setting ------------------------------------------------------------------------------------------


async def test_it_holds_what_was_set_last(shared: Backend) -> None:
    """From nothing on, for every client, with the id of its storage; unequal epochs are told what it holds."""
    register, other = shared.register(), shared.register()
    assert await register.get() is None
    first = await register.compare_and_set(None, configuration(is_paired=True))
    assert (first.epoch, first.primary, first.in_sync) == (1, FIRST, (FIRST, SECOND)) and first.witness
    assert await other.get() == first
    second = await other.compare_and_set(1, configuration(2, SECOND))
    assert second.witness == first.witness
    for expected in (None, 1):
        with pytest.raises(Conflict) as conflict:
            await register.compare_and_set(expected, configuration((expected or 0) + 1))
        assert conflict.value.configuration == second == await register.get()
    await close_all([register, other])


async def test_exactly_one_client_wins_each_epoch(shared: Backend) -> None:
    """Many at once change the same epoch: one succeeds, all others are told its configuration."""
    registers = [shared.register() for _ in range(CLIENTS)]

    async def race(register: Register, number: int, expected: int | None) -> tuple[bool, Configuration]:
        fresh = configuration((expected or 0) + 1, Member(f"node-{number}", bytes([number]) * 16))
        try:
            return True, await register.compare_and_set(expected, fresh)
        except Conflict as conflict:
            return False, conflict.configuration

    for expected in (None, *range(1, EPOCHS)):
        told = await asyncio.gather(*(race(register, at, expected) for at, register in enumerate(registers)))
        assert [won for won, _ in told].count(True) == 1
        assert {held.primary.name for _, held in told} == {next(held.primary.name for won, held in told if won)}
        assert all(held.epoch == (expected or 0) + 1 for _, held in told)
    await close_all(registers)


async def test_pairs_do_not_disturb_each_other(shared: Backend) -> None:
    """Each has its own row."""
    register = shared.register()
    shared.cluster += b"another"
    other = shared.register()
    await write_epochs(register, 2)
    assert await other.get() is None
    await write_epochs(other, 1)
    found = await register.get()
    assert found is not None and found.epoch == 2
    await close_all([register, other])


@pytest.mark.parametrize(
    ("expected", "fresh"),
    [
        (None, configuration(2)),
        (1, configuration(1)),
        (1, configuration(3)),
        (None, Configuration(1, FIRST, (SECOND,))),
        (None, Configuration(1, FIRST, ())),
        (None, configuration(1, Member("node-1", b"short"))),
    ],
    ids=["jump", "stand", "leap", "outsider", "nobody", "instance"],
)
async def test_what_cannot_follow_is_never_written(shared: Backend, expected: int | None, fresh: Configuration) -> None:
    """The epoch grows by one, and the primary is one of those in sync."""
    register = shared.register()
    with pytest.raises(LocalProtocolError):
        await register.compare_and_set(expected, fresh)
    assert await register.get() is None
    await register.close()


# --- crashes --------------------------------------------------------------------------------------------------------


async def test_a_restart_keeps_what_it_holds(backend: Backend) -> None:
    """Stopped in order or killed; the client finds it again by itself."""
    register = backend.register()
    held = await write_epochs(register, 2)
    for end in (backend.stop, backend.kill):
        end()
        with pytest.raises(RegisterUnreachable):
            await register.get()
        backend.start()
        assert await register.get() == held
    assert (await register.compare_and_set(2, configuration(3))).epoch == 3
    await register.close()


async def test_killed_before_its_answer_it_is_unreachable_and_a_read_tells(backend: Backend) -> None:
    """The change was made and the answer never came: that is no success, and after a restart it is there."""
    async with Proxy(backend.port) as proxy:
        register = backend.register(port=proxy.port)
        await write_epochs(register, 1)
        proxy.on_answer(backend.exchanges, backend.kill)
        with pytest.raises(RegisterUnreachable):
            await register.compare_and_set(1, configuration(2, SECOND))
        backend.start()
        found = await register.get()
        assert found is not None and (found.epoch, found.primary) == (2, SECOND)
        with pytest.raises(Conflict) as conflict:
            await register.compare_and_set(1, configuration(2, SECOND))
        assert conflict.value.configuration == found
        await register.close()


async def test_killed_before_the_question_came_nothing_has_changed(backend: Backend) -> None:
    """The same error for the caller, and the read tells the other outcome."""
    async with Proxy(backend.port) as proxy:
        register = backend.register(port=proxy.port)
        await write_epochs(register, 1)
        proxy.on_question(backend.exchanges, backend.kill)
        with pytest.raises(RegisterUnreachable):
            await register.compare_and_set(1, configuration(2, SECOND))
        backend.start()
        found = await register.get()
        assert found is not None and (found.epoch, found.primary) == (1, FIRST)
        await register.close()


async def test_killed_at_any_moment_it_keeps_every_answered_change(backend: Backend) -> None:
    """Each round it is killed at a random moment; what was answered is there, and at most the one under way."""
    chance = random.Random(3)
    register = backend.register()
    answered = (await write_epochs(register, 1)).epoch
    for _ in range(KILLS):
        timer = threading.Timer(chance.uniform(0.0, 0.1), os.kill, (backend.pid, signal.SIGKILL))
        timer.start()
        while True:
            try:
                answered = (await register.compare_and_set(answered, configuration(answered + 1))).epoch
            except RegisterUnreachable:
                break
        timer.join()
        backend.kill()
        backend.start()
        found = await register.get()
        assert found is not None and found.epoch in (answered, answered + 1)
        answered = found.epoch
    await register.close()


async def test_a_full_disk_loses_nothing(make: Make) -> None:
    """Every change is either answered and kept, or refused as unknown; with space again it goes on."""
    backend: Backend | None = None
    try:
        with small_disk(DISK_MB[EtcdBackend] if make is EtcdBackend else DISK_MB[WitnessBackend]) as disk:
            backend = make(disk / "register")
            backend.start()
            register = backend.register(deadline_s=2.0)
            answered = (await write_epochs(register, 1)).epoch
            fill(disk, leave_bytes=0)
            for _ in range(20):
                try:
                    answered = (await register.compare_and_set(answered, configuration(answered + 1))).epoch
                except RegisterUnreachable:
                    break
            make_space(disk)
            backend.kill()
            backend.start()
            register._deadline_s = 20.0
            found = await register.get()
            assert found is not None and found.epoch in (answered, answered + 1)
            assert await register.compare_and_set(found.epoch, configuration(found.epoch + 1))
            await register.close()
            backend.kill()
    except PermissionError:
        pytest.skip("this machine does not let us mount a small disk")
    finally:
        if backend is not None:
            backend.kill()


# --- a register that is older than it was ---------------------------------------------------------------------------


async def test_a_restored_register_is_refused(backend: Backend, tmp_path: Path) -> None:
    """A node promised more than the copy holds: it neither reads nor changes."""
    register = backend.register()
    await write_epochs(register, 2)
    backend.stop()
    backend.copy_storage(tmp_path / "backup")
    backend.start()
    await register.get()
    await register.compare_and_set(2, configuration(3))
    await register.close()
    backend.stop()
    backend.restore_storage(tmp_path / "backup")
    backend.start()
    register = backend.register(promised=lambda: 3)
    for expected in (2, 3):
        with pytest.raises(RegisterStale):
            await register.compare_and_set(expected, configuration(expected + 1))
        with pytest.raises(RegisterStale):
            await register.get()
    await register.close()


async def test_a_lost_register_is_refused(backend: Backend) -> None:
    """It holds nothing, but a node has promised; a node that expects an epoch knows it as well."""
    register = backend.register()
    await write_epochs(register, 2)
    await register.close()
    backend.stop()
    backend.lose_storage()
    backend.start()
    knowing, expecting = backend.register(promised=lambda: 2), backend.register()
    with pytest.raises(RegisterStale):
        await expecting.compare_and_set(2, configuration(3))
    with pytest.raises(RegisterStale):
        await knowing.get()
    with pytest.raises(RegisterStale):
        await knowing.compare_and_set(None, configuration(1))
    await close_all([knowing, expecting])


# --- no answer ------------------------------------------------------------------------------------------------------


async def test_silence_is_unreachable(backend: Backend) -> None:
    """A stopped process, and one that takes connections and says nothing: told within the deadline, and it recovers."""
    register = backend.register(deadline_s=IMPATIENT_S)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        stranger = backend.register(port=deaf.getsockname()[1], deadline_s=IMPATIENT_S)
        os.kill(backend.pid, signal.SIGSTOP)
        try:
            for each in (register, stranger):
                with pytest.raises(RegisterUnreachable):
                    await each.get()
                with pytest.raises(RegisterUnreachable):
                    await each.compare_and_set(None, configuration())
        finally:
            os.kill(backend.pid, signal.SIGCONT)
    register._deadline_s = 20.0
    # the change whose outcome was unknown may have come through when the process went on
    found = await register.get()
    assert found is None or found.epoch == 1
    await close_all([register, stranger])


async def test_a_call_given_up_leaves_nothing_behind(shared: Backend) -> None:
    """After a cancelled question the next answer is that of the next question."""
    register = shared.register()
    await write_epochs(register, 1)
    for _ in range(20):
        task = asyncio.ensure_future(register.get())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    with pytest.raises(Conflict):
        await register.compare_and_set(None, configuration())
    found = await register.get()
    assert found is not None and found.epoch == 1
    await register.close()
    await register.close()


# --- by the settings ------------------------------------------------------------------------------------------------


async def test_the_settings_name_the_kind(certificates: Path) -> None:
    """The client connects only when it is asked."""
    tls = dialing(certificates)
    witness = PairSettings(register="witness", register_addresses="[::1]:7614")
    etcd = PairSettings(register="etcd", register_addresses="https://a:2379, https://b:2379")
    for settings, kind in ((witness, WitnessRegister), (etcd, EtcdRegister)):
        register = open_register(settings, tls, CLUSTER, promised=promised_nothing)
        assert isinstance(register, kind)
        await register.close()


@pytest.mark.parametrize(
    ("kind", "addresses"),
    [("witness", ""), ("witness", "a:1,b:2"), ("witness", "a"), ("witness", "a:x"), ("etcd", ""), ("etcd", "a:2379")],
)
async def test_addresses_of_the_wrong_kind_are_told(certificates: Path, kind: str, addresses: str) -> None:
    """With the setting's name, before anything is connected."""
    settings = PairSettings(register=kind, register_addresses=addresses)
    with pytest.raises(SettingInvalid, match=r"pair\.register_addresses"):
        open_register(settings, dialing(certificates), CLUSTER, promised=promised_nothing)
