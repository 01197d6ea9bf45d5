"""Metrics: each key of the snapshot becomes its metric, counted once, in names that Prometheus accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from fortress.monitor.metrics import ROWS, Histogram, Metrics, quantile

HISTOGRAM: Histogram = (((0.001, 2), (0.01, 5), (1, 0)), 0.5, 8)

SNAPSHOT: dict[str, Any] = {
    "version": "0.1.0",
    "role": "primary",
    "term": 3,
    "position": 12,
    "lsn": 7,
    "behind": 0,
    "failovers": 2,
    "unavailable_s": 0.7,
    "register": {"kind": "witness", "reachable": False},
    "copies": 1,
    "connections": 2,
    "connections_total": 5,
    "connections_refused": {"too_many": 1},
    "sessions_ended": {"idle": 2},
    "bytes_received": 1000,
    "bytes_sent": 2000,
    "tasks_processed": 9,
    "requests": {("transfer", "ok"): 3, ("transfer", "exceeds_available"): 1, ("balance", "ok"): 5},
    "request_seconds": {"transfer": HISTOGRAM},
    "commit_seconds": {"write": HISTOGRAM},
    "commit_batch_size": (((1.0, 1), (10.0, 1)), 11, 2),
    "queue": 0,
    "unapplied_entries": 4,
    "auth_failures": {"password": 2},
    "imbalance": {"EUR": 0},
    "payments_in_doubt": 0,
    "payments": {"done": 7, "refused": 2},
    "banks_connected": 2,
    "event_loop_lag_s": 0.0001,
    "certificate_expiry": 1.9e9,
    "last_backup": 1.8e9,
}


def samples(snapshot: Mapping[str, Any], accept: str = "") -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page, _ = Metrics(lambda: snapshot).page(accept)
    parse = parse_openmetrics if "openmetrics" in accept else parse_text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(page.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("fortress_connections", {}, 2),
        ("fortress_connections_opened_total", {}, 5),
        ("fortress_connections_refused_total", {"reason": "too_many"}, 1),
        ("fortress_sessions_ended_total", {"reason": "idle"}, 2),
        ("fortress_received_bytes_total", {}, 1000),
        ("fortress_sent_bytes_total", {}, 2000),
        ("fortress_tasks_processed_total", {}, 9),
        ("fortress_requests_total", {"op": "transfer", "result": "exceeds_available"}, 1),
        ("fortress_requests_total", {"op": "balance", "result": "ok"}, 5),
        ("fortress_request_duration_seconds_count", {"op": "transfer"}, 8),
        ("fortress_request_duration_seconds_sum", {"op": "transfer"}, 0.5),
        ("fortress_request_duration_seconds_bucket", {"op": "transfer", "le": "0.001"}, 2),
        ("fortress_request_duration_seconds_bucket", {"op": "transfer", "le": "0.01"}, 7),
        ("fortress_request_duration_seconds_bucket", {"op": "transfer", "le": "1.0"}, 7),
        ("fortress_request_duration_seconds_bucket", {"op": "transfer", "le": "+Inf"}, 8),
        ("fortress_commit_duration_seconds_count", {"stage": "write"}, 8),
        ("fortress_commit_batch_size_bucket", {"le": "10.0"}, 2),
        ("fortress_commit_batch_size_sum", {}, 11),
        ("fortress_commit_queue", {}, 0),
        ("fortress_unapplied_entries", {}, 4),
        ("fortress_position", {}, 12),
        ("fortress_lsn", {}, 7),
        ("fortress_term", {}, 3),
        ("fortress_copies", {}, 1),
        ("fortress_replication_lag_records", {}, 0),
        ("fortress_failovers_total", {}, 2),
        ("fortress_unavailable_seconds_total", {}, 0.7),
        ("fortress_register_reachable", {"kind": "witness"}, 0),
        ("fortress_role", {"role": "primary"}, 1),
        ("fortress_role", {"role": "standby"}, 0),
        ("fortress_auth_failures_total", {"reason": "password"}, 2),
        ("fortress_ledger_imbalance_minor_units", {"currency": "EUR"}, 0),
        ("fortress_payments_in_doubt", {}, 0),
        ("fortress_payments_total", {"outcome": "done"}, 7),
        ("fortress_payments_total", {"outcome": "refused"}, 2),
        ("fortress_banks_connected", {}, 2),
        ("fortress_event_loop_lag_seconds", {}, 0.0001),
        ("fortress_tls_certificate_expiry_timestamp_seconds", {}, 1.9e9),
        ("fortress_last_backup_timestamp_seconds", {}, 1.8e9),
        ("fortress_build_info", {"version": "0.1.0"}, 1),
    ],
)
@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"], ids=["text", "openmetrics"])
def test_each_key_becomes_its_metric(name: str, labels: dict[str, str], value: float, accept: str) -> None:
    """Both formats carry every value of the snapshot."""
    assert samples(SNAPSHOT, accept)[name, tuple(sorted(labels.items()))] == value


def test_every_row_is_in_the_sample() -> None:
    """The test above leaves no metric out."""
    assert {row.key for row in ROWS} <= set(SNAPSHOT)


def test_what_a_node_does_not_count_does_not_appear() -> None:
    """An empty snapshot gives a page with the process's own metrics only."""
    assert all(not name.startswith("fortress_") for name, _ in samples({}))
    assert any(name == "process_resident_memory_bytes" for name, _ in samples({}))


def test_each_scrape_asks_anew() -> None:
    """The page is made from one present snapshot each time and remembers nothing."""
    asked: list[int] = []

    def statistics() -> dict[str, int]:
        asked.append(1)
        return {"tasks_processed": len(asked)}

    metrics = Metrics(statistics)
    assert asked == []
    assert [b"processed_total 1.0" in metrics.page()[0], b"processed_total 2.0" in metrics.page()[0]] == [True, True]


def test_an_unknown_role_is_shown_too() -> None:
    """A role that a later version adds is not hidden."""
    assert samples({"role": "resting"})["fortress_role", (("role", "resting"),)] == 1


def test_the_content_type_follows_what_is_asked_for() -> None:
    """Prometheus says which format it reads."""
    metrics = Metrics(dict)
    assert metrics.page()[1].startswith("text/plain; version=0.0.4")
    assert metrics.page("application/openmetrics-text")[1].startswith("application/openmetrics-text")


@pytest.mark.parametrize(
    ("histogram", "share", "bound"),
    [
        ((((1.0, 1), (2.0, 1)), 3.0, 2), 0.5, 1.0),
        ((((1.0, 1), (2.0, 1)), 3.0, 2), 0.51, 2.0),
        ((((1.0, 0), (2.0, 1)), 2.0, 1), 0.0, 1.0),
        ((((1.0, 1), (2.0, 0)), 9.0, 2), 0.99, float("inf")),
        ((((1.0, 0),), 0.0, 0), 0.5, None),
        (((), 0.0, 0), 0.5, None),
    ],
)
def test_a_quantile_is_a_bound_of_its_bucket(histogram: Histogram, share: float, bound: float | None) -> None:
    """As exact as the buckets; infinite past the last one; nothing without observations."""
    assert quantile(histogram, share) == bound
