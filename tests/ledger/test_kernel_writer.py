"""Writes handed to the kernel become durable bytes, or an error; never something in between."""

from __future__ import annotations

import errno
import mmap
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from fortress.ledger import kernel_writer
from fortress.ledger.kernel_writer import KernelWriter

BLOCK = 4096
WAIT_S_MAX = 10


@pytest.fixture
def writer() -> Iterator[KernelWriter]:
    opened = KernelWriter.open()
    assert opened is not None, "Linux on x86_64 offers native AIO"
    yield opened
    opened.close()


def buffer_of(content: bytes) -> memoryview:
    """Make page-aligned memory of whole blocks, as O_DIRECT wants it."""
    memory = memoryview(mmap.mmap(-1, -(-len(content) // BLOCK) * BLOCK))
    memory[: len(content)] = content
    return memory


def wait(writer: KernelWriter) -> None:
    readable, _, _ = select.select([writer.fd], [], [], WAIT_S_MAX)
    assert readable == [writer.fd]


def test_bytes_are_there_when_the_kernel_says_so(writer: KernelWriter, tmp_path: Path) -> None:
    """One write after another, at their offsets; nothing is said before it is done."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        for number in range(3):
            assert select.select([writer.fd], [], [], 0)[0] == []
            writer.submit(fd, buffer_of(bytes([65 + number]) * 100), number * BLOCK)
            wait(writer)
            writer.result()
        assert [os.pread(fd, 2, number * BLOCK) for number in range(3)] == [b"AA", b"BB", b"CC"]
    finally:
        os.close(fd)


def test_what_the_kernel_does_not_take_was_not_begun(writer: KernelWriter, tmp_path: Path) -> None:
    """A file that cannot be written is refused at once, and the writer goes on with another."""
    fd = os.open(tmp_path / "file", os.O_RDONLY | os.O_CREAT)
    with pytest.raises(OSError) as refused:
        writer.submit(fd, buffer_of(b"x"), 0)
    os.close(fd)
    assert refused.value.errno == errno.EBADF
    assert select.select([writer.fd], [], [], 0)[0] == []
    test_bytes_are_there_when_the_kernel_says_so(writer, tmp_path)


def test_a_failed_write_is_an_error(writer: KernelWriter) -> None:
    """A full device says so in the result, not before."""
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError) as failed:
            writer.submit(fd, buffer_of(b"x"), 0)
            wait(writer)
            writer.result()
        assert failed.value.errno in (errno.ENOSPC, errno.EINVAL)
    finally:
        os.close(fd)


def test_a_short_write_is_an_error(writer: KernelWriter, tmp_path: Path) -> None:
    """Bytes that are missing make the outcome unknown."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        writer.submit(fd, buffer_of(b"x"), 0)
        writer._expected += 1
        wait(writer)
        with pytest.raises(OSError, match="were written"):
            writer.result()
    finally:
        os.close(fd)


def test_machines_without_it_get_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another processor or a kernel that refuses: the caller takes a thread."""
    monkeypatch.setattr(kernel_writer, "_MACHINE", "other")
    assert KernelWriter.open() is None
    monkeypatch.undo()
    monkeypatch.setattr(kernel_writer, "_IO_SETUP", 100_000)
    assert KernelWriter.open() is None


def test_closing_twice_is_no_mistake() -> None:
    """The eventfd is given back once."""
    writer = KernelWriter.open()
    assert writer is not None
    writer.close()
    writer.close()
    assert writer.fd == -1
