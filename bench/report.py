"""How every bench speaks: progress on a terminal, percentiles, results kept with their machine, one JSON line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from hdrh.histogram import HdrHistogram

from bench import machine

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
LATENCY_US_MAX = 60_000_000
SIGNIFICANT_DIGITS = 3
PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p999_ms": 99.9, "max_ms": 100.0}

Value = str | int | float | bool | None
Result = Mapping[str, Value]


def finish(result: Result) -> None:
    """Print the result as the one JSON line a bench ends with; call it last, print nothing else on stdout."""
    progress("")
    print(json.dumps(dict(result)), flush=True)


def progress(text: str) -> None:
    """Show one line on stderr in place of the one before; silent where stderr is no terminal. Empty text clears it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def percentiles(latencies_us: Iterable[int]) -> dict[str, float]:
    """Give p50_ms, p90_ms, p99_ms, p999_ms and max_ms of latencies in microseconds; nothing measured gives zeros.

    Kept in an HdrHistogram of three significant digits; what took over a minute counts as a minute.
    """
    histogram = HdrHistogram(1, LATENCY_US_MAX, SIGNIFICANT_DIGITS)
    # Recording costs microseconds in Python; equal latencies are recorded together.
    for latency_us, count in Counter(latencies_us).items():
        histogram.record_value(min(max(latency_us, 1), LATENCY_US_MAX), count)
    return {name: round(histogram.get_value_at_percentile(share) / 1000, 3) for name, share in PERCENTILES.items()}


def save(name: str, result: Result, folder: Path = RESULTS) -> Path:
    """Append a result to `<folder>/<name>.json`, a JSON array, with commit, time in UTC and machine; give the file."""
    path = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    date = datetime.now(UTC).isoformat(timespec="seconds")
    kept.append({**result, "commit": commit(), "date": date, "machine": machine.describe()})
    # One result a line, so that a diff shows what was added.
    text = "[\n" + ",\n".join(json.dumps(entry) for entry in kept) + "\n]\n"
    unfinished = path.with_suffix(".json.new")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
    return path


def commit(root: Path = ROOT) -> str:
    """Name the commit that is measured, with `+dirty` if tracked files differ from it (results aside)."""
    try:
        head = _git(root, "rev-parse", "--short", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+dirty" if changed else head


def plot(
    name: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    folder: Path = RESULTS,
) -> Path | None:
    """Draw one line for each series of (x, y) points into `<folder>/<name>.png` and give the file.

    Without matplotlib nothing is drawn and stderr says so: a curve is not worth losing a long measurement for.
    """
    try:
        # Imported here: it takes a second, and most benches draw nothing.
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        print(f"no curve drawn for {name!r}: install matplotlib", file=sys.stderr)
        return None
    figure, axes = pyplot.subplots(figsize=(8, 5))
    for label, points in series.items():
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=label)
    axes.set(title=title, xlabel=x_label, ylabel=y_label, xscale="log" if log_x else "linear")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    return path


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
