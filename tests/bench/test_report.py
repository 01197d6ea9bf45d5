"""All benches report alike: one line of JSON, percentiles that are right, results that are kept and not lost."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import report


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


def git(folder: Path, *arguments: str) -> None:
    names = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True, timeout=30)


def test_a_bench_ends_with_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout holds the result as one line and nothing else."""
    report.finish({"transfers_per_s": 12.5, "clients": 32})
    assert capsys.readouterr().out == '{"transfers_per_s": 12.5, "clients": 32}\n'


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A log or a pipe gets no progress lines."""
    report.progress("half done")
    assert capsys.readouterr() == ("", "")


def test_progress_replaces_its_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each text takes the place of the one before, and nothing goes to stdout."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    report.progress("half done")
    report.progress("")
    assert terminal.getvalue() == "\r\x1b[Khalf done\r\x1b[K"


def test_percentiles_are_those_of_the_latencies() -> None:
    """Of 1 to 1,000 ms the median is 500 and the 99th percentile 990, within three digits."""
    shares = report.percentiles(millisecond * 1000 for millisecond in range(1, 1001))
    assert shares == pytest.approx(
        {"p50_ms": 500, "p90_ms": 900, "p99_ms": 990, "p999_ms": 999, "max_ms": 1000}, rel=1e-3
    )


def test_equal_latencies_count_as_often_as_they_occur() -> None:
    """Ninety-nine quick answers and one slow one leave the median quick and the maximum slow."""
    shares = report.percentiles([1_000] * 99 + [1_000_000])
    assert (shares["p50_ms"], shares["p99_ms"]) == (1.0, 1.0)
    assert shares["max_ms"] == pytest.approx(1000, rel=1e-3)


def test_no_latencies_give_zeros_and_endless_ones_a_minute() -> None:
    """The ends of the scale are answers, not errors."""
    assert set(report.percentiles([]).values()) == {0.0}
    assert report.percentiles([0, 10**12])["max_ms"] == pytest.approx(60_000, rel=1e-3)


def test_results_are_appended_with_commit_time_and_machine(tmp_path: Path) -> None:
    """Saving twice keeps both results, one a line, each with where it was measured."""
    folder = tmp_path / "results"
    for per_s in (1, 2):
        path = report.save("transfers", {"transfers_per_s": per_s}, folder)
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert [entry["transfers_per_s"] for entry in kept] == [1, 2]
    assert all({"commit", "date", "machine"} <= entry.keys() for entry in kept)
    assert [file.name for file in folder.iterdir()] == ["transfers.json"]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 4


def test_a_commit_is_named_with_what_differs_from_it(tmp_path: Path) -> None:
    """Changed tracked files make a commit dirty; new files and kept results do not."""
    (tmp_path / "bench" / "results").mkdir(parents=True)
    code, result = tmp_path / "code.py", tmp_path / "bench" / "results" / "transfers.json"
    code.write_text("1")
    result.write_text("[]")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    clean = report.commit(tmp_path)
    assert len(clean) >= 7 and clean.isalnum()
    (tmp_path / "new.py").write_text("2")
    result.write_text("[1]")
    assert report.commit(tmp_path) == clean
    code.write_text("3")
    assert report.commit(tmp_path) == f"{clean}+dirty"


def test_outside_a_repository_the_commit_is_unknown(tmp_path: Path) -> None:
    """An unpacked archive can be measured as well."""
    assert report.commit(tmp_path) == "unknown"


def test_a_curve_is_a_png(tmp_path: Path) -> None:
    """Each series of points is drawn into one picture."""
    points = {"fortress": [(1.0, 2.0), (8.0, 9.0)], "postgresql": [(1.0, 1.0), (8.0, 3.0)]}
    path = report.plot("clients", points, title="t", x_label="clients", y_label="per s", log_x=True, folder=tmp_path)
    assert path == tmp_path / "clients.png"
    assert path.read_bytes().startswith(b"\x89PNG\r\n")


def test_without_matplotlib_the_measurement_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing library costs the picture only, and stderr says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    drawn = report.plot("clients", {"a": [(1, 1)]}, title="t", x_label="x", y_label="y", folder=tmp_path)
    assert drawn is None
    assert "install matplotlib" in capsys.readouterr().err
