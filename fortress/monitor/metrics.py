"""Metrics for Prometheus, made from one snapshot at each scrape, so nothing is counted twice.

The table `ROWS` says which key of the snapshot becomes which metric. A key that the snapshot lacks is a metric that
does not appear. Names are in base units; no label names a user, an account or a payment. The shapes of the values are
described in `fortress.monitor.site`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

Snapshot = Mapping[str, Any]
Statistics = Callable[[], Snapshot]
Histogram = tuple[tuple[tuple[float, int], ...], float, int]
"""Buckets as (upper bound, observations in this bucket alone), rising; the sum; the count of all, over the last too."""

ROLES = ("primary", "standby")

Family = type[CounterMetricFamily] | type[GaugeMetricFamily] | type[HistogramMetricFamily]
COUNTER, GAUGE, HISTOGRAM = CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily


@dataclass(frozen=True, slots=True)
class Row:
    """One metric: the key of the snapshot it is made from, its name, kind, help and labels."""

    key: str
    name: str
    family: Family
    help: str
    labels: tuple[str, ...] = ()


# prometheus_client adds _total to the names of counters
ROWS = (
    Row("connections", "fortress_connections", GAUGE, "Connections open now."),
    Row("connections_total", "fortress_connections_opened", COUNTER, "Connections accepted since the start."),
    Row("connections_refused", "fortress_connections_refused", COUNTER, "Connections closed at once.", ("reason",)),
    Row("sessions_ended", "fortress_sessions_ended", COUNTER, "Connections that the node ended.", ("reason",)),
    Row("bytes_received", "fortress_received_bytes", COUNTER, "Bytes received inside TLS."),
    Row("bytes_sent", "fortress_sent_bytes", COUNTER, "Bytes sent inside TLS."),
    Row("tasks_processed", "fortress_tasks_processed", COUNTER, "Valid requests answered since the start."),
    Row("requests", "fortress_requests", COUNTER, "Requests answered.", ("op", "result")),
    Row("request_seconds", "fortress_request_duration_seconds", HISTOGRAM, "From request to answer.", ("op",)),
    Row("commit_seconds", "fortress_commit_duration_seconds", HISTOGRAM, "Time of each commit stage.", ("stage",)),
    Row("commit_batch_size", "fortress_commit_batch_size", HISTOGRAM, "Entries in one group commit."),
    Row("queue", "fortress_commit_queue", GAUGE, "Commands that wait for a commit."),
    Row("unapplied_entries", "fortress_unapplied_entries", GAUGE, "Entries durable and not yet in the tables."),
    Row("position", "fortress_position", GAUGE, "Entries committed since the bank began."),
    Row("lsn", "fortress_lsn", GAUGE, "Number of the last record committed."),
    Row("term", "fortress_term", GAUGE, "Term of the pair as this node knows it."),
    Row("copies", "fortress_copies", GAUGE, "Machines that hold each acknowledged record."),
    Row("behind", "fortress_replication_lag_records", GAUGE, "Records that the standby has yet to receive."),
    Row("failovers", "fortress_failovers", COUNTER, "Times that this node took over from the other one."),
    Row(
        *("unavailable_s", "fortress_unavailable_seconds", COUNTER),
        help="Time without a primary, as this node saw it when it took over.",
    ),
    Row("payments", "fortress_payments", COUNTER, "Payments across banks decided here, by outcome.", ("outcome",)),
    Row("banks_connected", "fortress_banks_connected", GAUGE, "Banks that are linked to this gateway."),
    Row("payments_in_doubt", "fortress_payments_in_doubt", GAUGE, "Payments across banks that wait for a decision."),
    Row(
        *("imbalance", "fortress_ledger_imbalance_minor_units", GAUGE),
        help="Sum of all balances of a currency; anything but 0 is a broken ledger.",
        labels=("currency",),
    ),
    Row("auth_failures", "fortress_auth_failures", COUNTER, "Logins that failed.", ("reason",)),
    Row("event_loop_lag_s", "fortress_event_loop_lag_seconds", GAUGE, "How late the event loop runs its timers."),
    Row("last_backup", "fortress_last_backup_timestamp_seconds", GAUGE, "When the node's last backup was made."),
    Row(
        *("certificate_expiry", "fortress_tls_certificate_expiry_timestamp_seconds", GAUGE),
        help="When the TLS certificate expires.",
    ),
)


class SnapshotCollector(Collector):
    """Turn the present snapshot into metric families, at each scrape anew."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def collect(self) -> Iterable[Metric]:
        """Give all families that the snapshot has values for."""
        snapshot = self._statistics()
        for row in ROWS:
            if snapshot.get(row.key) is not None:
                yield _family(row, snapshot[row.key])
        if "role" in snapshot:
            yield _role(str(snapshot["role"]))
        if register := snapshot.get("register"):
            yield _register(register)
        if "version" in snapshot:
            yield InfoMetricFamily("fortress_build", "Version of the program.", {"version": str(snapshot["version"])})


class Metrics:
    """The node's metrics page: the snapshot's metrics and those of the process (CPU, memory, open files)."""

    def __init__(self, statistics: Statistics) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(SnapshotCollector(statistics))
        ProcessCollector(registry=self._registry)

    def page(self, accept: str = "") -> tuple[bytes, str]:
        """Give the page and its content type, in the format that the scraper's Accept header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def quantile(histogram: Histogram, share: float) -> float | None:
    """Give an upper bound for a share of the observations, as exact as the buckets are.

    None without observations; infinity when the share reaches past the last bound.
    """
    buckets, _, count = histogram
    seen = 0
    for bound, alone in buckets:
        seen += alone
        if count and seen >= share * count:
            return bound
    return float("inf") if count else None


def _family(row: Row, value: Any) -> Metric:
    family = row.family(row.name, row.help, labels=row.labels)
    for labels, child in _children(row, value):
        if isinstance(family, HistogramMetricFamily):
            family.add_metric(labels, list(_cumulative(child)), sum_value=child[1])
        else:
            family.add_metric(labels, child)
    return family


def _children(row: Row, value: Any) -> Iterator[tuple[list[str], Any]]:
    if not row.labels:
        yield [], value
        return
    for key, child in value.items():
        yield [key] if isinstance(key, str) else list(key), child


def _cumulative(histogram: Histogram) -> Iterator[tuple[str, float]]:
    buckets, _, count = histogram
    seen = 0
    for bound, alone in buckets:
        seen += alone
        yield repr(float(bound)), seen
    yield "+Inf", count


def _role(role: str) -> Metric:
    family = GaugeMetricFamily("fortress_role", "1 for the role that this node has.", labels=("role",))
    for name in dict.fromkeys((*ROLES, role)):
        family.add_metric([name], float(name == role))
    return family


def _register(register: Mapping[str, Any]) -> Metric:
    text = "1 if the register of the pair answers; while both nodes run, nothing waits for it."
    family = GaugeMetricFamily("fortress_register_reachable", text, labels=("kind",))
    family.add_metric([str(register.get("kind", ""))], float(bool(register.get("reachable"))))
    return family
