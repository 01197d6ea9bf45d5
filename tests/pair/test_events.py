"""The vocabulary is whole: every event and action is in its union, and all are values."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from fortress.pair import events


def test_every_class_is_an_event_or_an_action() -> None:
    """Nothing is declared that the machine is neither told nor asks for."""
    declared = {value for value in vars(events).values() if dataclasses.is_dataclass(value)}
    assert declared == {*get_args(events.Event), *get_args(events.Action)}


@pytest.mark.parametrize("kind", [*get_args(events.Event), *get_args(events.Action)])
def test_events_and_actions_are_values(kind: type) -> None:
    """They cannot be changed, so a machine that keeps one keeps what it was told; and equal ones are one."""
    assert kind.__hash__ is not object.__hash__
