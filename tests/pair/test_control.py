"""What a node never forgets: promises hold over restarts, a copied folder is another instance, a quarantine stays."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from pathlib import Path

import msgspec
import pytest

from fortress.errors import FolderExists, FolderInUse, StateFileDamaged, StateFileUnusable
from fortress.pair import control as control_module
from fortress.pair.control import Control, ControlState, read_control
from fortress.pair.slots import BLOCK_SIZE_BYTES, Slots, write_durably

CLUSTER = b"pair"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control"


@pytest.fixture
def known(path: Path) -> ControlState:
    """A node with a history, closed."""
    control = Control.create(path, CLUSTER)
    control.promise(7)
    control.remember_witness(b"w" * 16)
    control.close()
    return control.state


def test_a_new_node_has_promised_nothing(path: Path) -> None:
    """It has an instance of its own, also beside a second one made the same way."""
    control, other = Control.create(path, CLUSTER), Control.create(path.with_name("other"), CLUSTER)
    assert (control.cluster, control.promised, control.witness, control.quarantined) == (CLUSTER, 0, b"", "")
    assert len(control.instance) == 16 and control.instance != other.instance
    control.close()
    other.close()
    with pytest.raises(FolderExists):
        Control.create(path, CLUSTER)


def test_everything_survives_a_restart(path: Path, known: ControlState) -> None:
    """Opened again it is the same node; a look does not need to open it."""
    control = Control.open(path)
    assert control.state == known == read_control(path)
    assert (control.promised, control.witness, control.was_copied) == (7, b"w" * 16, False)
    with pytest.raises(FolderInUse):
        Control.open(path)
    control.close()


def test_a_promise_is_on_the_disk_before_it_returns(path: Path) -> None:
    """A look at the file right after says so, and a failed write is no promise."""
    is_broken = False

    def write(fd: int, data: bytes, offset: int) -> None:
        if is_broken:
            raise OSError(errno.EIO, "gone")
        write_durably(fd, data, offset)

    control = Control.create(path, CLUSTER, write=write)
    for epoch in (1, 2, 5):
        control.promise(epoch)
        assert read_control(path).promised == epoch == control.promised
    is_broken = True
    with pytest.raises(StateFileUnusable):
        control.promise(6)
    assert control.promised == 5
    control.close()


def test_a_promise_never_goes_back_and_repeating_one_costs_nothing(path: Path, known: ControlState) -> None:
    """An older epoch is promised already."""
    control = Control.open(path)
    before = path.read_bytes()
    control.promise(7)
    control.promise(3)
    assert control.promised == 7 and path.read_bytes() == before
    control.close()


def test_threads_may_promise_at_the_same_time(path: Path) -> None:
    """The highest one holds, and a quarantine between them is not lost."""
    control = Control.create(path, CLUSTER)
    threads = [threading.Thread(target=control.promise, args=(epoch,)) for epoch in range(1, 30)]
    threads.append(threading.Thread(target=control.quarantine, args=("flipped byte",)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    control.close()
    assert (read_control(path).promised, read_control(path).quarantined) == (29, "flipped byte")


@pytest.mark.parametrize("copy", [shutil.copy, shutil.copy2], ids=["cp", "cp -p"])
def test_a_copied_file_is_another_instance(path: Path, known: ControlState, copy: object) -> None:
    """It keeps what it has promised; the one it was copied from stays what it is."""
    assert callable(copy)
    beside = path.with_name("copy")
    copy(path, beside)
    control = Control.open(beside)
    assert control.was_copied and control.instance != known.instance
    assert (control.cluster, control.promised, control.witness) == (CLUSTER, 7, b"w" * 16)
    instance = control.instance
    control.close()
    again = Control.open(beside)
    assert not again.was_copied and again.instance == instance
    again.close()
    original = Control.open(path)
    assert original.instance == known.instance and not original.was_copied
    original.close()


def test_a_backup_unpacked_over_the_folder_is_another_instance(path: Path, known: ControlState) -> None:
    """Even where the file system gives the new file the number of the old one, if it tells generations apart."""
    backup = path.read_bytes()
    inode = path.stat().st_ino
    path.unlink()
    path.write_bytes(backup)
    if path.stat().st_ino == inode and not has_generations(path):
        pytest.skip("this file system neither avoids old inode numbers nor tells generations apart")
    control = Control.open(path)
    assert control.was_copied and control.instance != known.instance
    control.close()


def test_a_renamed_folder_is_the_same_instance(tmp_path: Path) -> None:
    """Nothing was copied."""
    (tmp_path / "a").mkdir()
    control = Control.create(tmp_path / "a" / "control", CLUSTER)
    control.close()
    (tmp_path / "a").rename(tmp_path / "b")
    again = Control.open(tmp_path / "b" / "control")
    assert again.instance == control.instance and not again.was_copied
    again.close()


def test_another_use_of_the_same_number_is_another_instance(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems give a new file the number of a deleted one; the generation tells them apart."""
    told = b"used"

    def tell(fd: int, question: int, generation: bytearray) -> None:
        generation[:4] = told

    monkeypatch.setattr(control_module.fcntl, "ioctl", tell)
    control = Control.create(path, CLUSTER)
    control.close()
    told = b"next"
    for was_copied in (True, False):
        again = Control.open(path)
        assert again.was_copied == was_copied and again.instance != control.instance
        again.close()


def test_a_kernel_that_learns_generations_makes_no_new_instance(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one of both is unknown, the inode number decides."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTTY, "no such question")

    with monkeypatch.context() as patch:
        patch.setattr(control_module.fcntl, "ioctl", refuse)
        control = Control.create(path, CLUSTER)
        assert control.state.file == (path.stat().st_ino, 0)
        control.close()
    again = Control.open(path)
    assert again.instance == control.instance and not again.was_copied
    again.close()


def test_an_interrupted_making_leaves_a_node_that_has_nothing(path: Path) -> None:
    """Without its own number in it the file counts as a copy: the instance is a new one."""
    state = ControlState(cluster=CLUSTER, instance=bytes(16))
    Slots.create(path, msgspec.msgpack.encode(state)).close()
    control = Control.open(path)
    assert control.was_copied and control.instance != bytes(16)
    control.close()


def test_a_quarantine_lasts_until_a_rejoin_lifts_it(path: Path) -> None:
    """Neither restarts, nor promises, nor a new instance end it; the first reason is kept."""
    control = Control.create(path, CLUSTER)
    instance = control.instance
    control.quarantine("flipped byte in record 9")
    control.quarantine("later trouble")
    control.close()
    control = Control.open(path)
    control.promise(4)
    control.new_instance()
    assert control.quarantined == "flipped byte in record 9" and control.instance != instance
    control.lift_quarantine()
    control.close()
    assert (read_control(path).quarantined, read_control(path).promised) == ("", 4)


def test_a_quarantine_always_has_a_reason_that_fits(path: Path) -> None:
    """An empty or endless one must not undo it."""
    for reason in ("", "é" * 10_000):
        control = Control.create(path, CLUSTER)
        control.quarantine(reason)
        control.close()
        assert read_control(path).quarantined
        path.unlink()


def test_a_damaged_or_foreign_file_is_told(path: Path, known: ControlState) -> None:
    """Both slots bad, or a content that this version does not know."""
    path.write_bytes(bytes(2 * BLOCK_SIZE_BYTES))
    with pytest.raises(StateFileDamaged):
        Control.open(path)
    path.unlink()
    Slots.create(path, msgspec.msgpack.encode([2, "later"])).close()
    for look in (Control.open, read_control):
        with pytest.raises(StateFileDamaged, match="no control file"):
            look(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        Control.open(path)


def has_generations(path: Path) -> bool:
    """Ask the file system itself."""
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, 0x80087601, bytearray(8))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
