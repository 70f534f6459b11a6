"""The mechanism: what a field line and a subclass bring, and how reading goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

from dcsim.reading.concept import (
    Called,
    Concept,
    Duration,
    Entry,
    Fields,
    Instant,
    Least,
    concept_schema,
    keys_of,
    meaning,
)
from dcsim.reading.forms import HOLE, Number, Reading, Unknown, sure
from dcsim.reading.tree import Node, parse_yaml


class Pet(Concept):
    """An animal."""

    by = "kind"


@dataclass(frozen=True)
class Cat(Pet):
    """It purrs."""

    tag = "cat"

    nap: Duration
    """How long it sleeps."""


@dataclass(frozen=True)
class Dog(Pet):
    """It barks."""

    tag = "dog"

    loud: Annotated[float, Number(0, high=1)] = 0.5
    """How loud."""


@dataclass(frozen=True)
class Home(Concept):
    """Where pets live."""

    name: Annotated[str, Entry()]
    pets: Annotated[tuple[Pet, ...], Least(1)]
    """Who lives there."""
    since: Annotated[Instant | None, Called("from")] = None
    """When it began."""
    rooms: Mapping[str, Duration] = field(default_factory=dict)
    """Time in each."""

    def check(self) -> None:
        if len(self.rooms) > len(self.pets):
            raise ValueError("more rooms than pets")


def read(text: str) -> tuple[Any, list[str]]:
    reading = Reading()
    made = Fields(Home).read(parse_yaml(text), (), reading, "ours")
    return made, [str(problem) for problem in reading.problems]


def test_text_is_read_into_base_units() -> None:
    text = "{pets: [{kind: cat, nap: 2 s}, {kind: dog}], from: 1 ms, rooms: {hall: 1 us}}"
    made = Home("ours", (Cat(2 * 10**9), Dog(0.5)), 10**6, {"hall": 1000})
    assert read(text) == (made, [])


def test_reading_goes_on_past_what_is_wrong() -> None:
    made, problems = read(
        "pets: [{kind: cat, nap: 2}, {kind: dog, lout: 1, loud: 2}, {kind: cow}]\nfrom: -1 s\n"
        "rooms: {a: 1 s, b: 0 s}"
    )
    starts = [
        "pets.0.nap: 2 is a bare number",
        "pets.1.lout: unknown key; did you mean 'loud'? (known: kind, loud)",
        "pets.1.loud: 2 must be 1 or less",
        "pets.2: kind: 'cow' is not known; known: cat, dog",
        "from: '-1 s' must be 0 or more",
        "rooms.b: '0 s' must be more than 0",
    ]
    assert len(problems) == len(starts)
    for problem, start in zip(problems, starts, strict=True):
        assert problem.partition(": ")[0].startswith("<input>:")
        assert problem.partition(": ")[2].startswith(start)
    assert made.rooms["a"] == 10**9, "what is right has its value"
    assert made.rooms["b"] is HOLE
    with pytest.raises(Unknown):
        sure(made.since)
    for use in (lambda hole: hole + 1, lambda hole: hole.name, lambda hole: hole < 2, bool, list):
        with pytest.raises(Unknown):
            use(made.since)


def test_fields_are_checked_together_once_each_is_right() -> None:
    rooms = "rooms: {a: 1 s, b: 1 s}"
    assert [p.partition(": ")[2] for p in read(f"{{pets: [{{kind: dog}}], {rooms}}}")[1]] == [
        "more rooms than pets"
    ]
    (problem,) = read(f"{{pets: [], {rooms}}}")[1]
    assert problem.endswith("pets: needs at least 1")
    (problem,) = read("{}")[1]
    assert problem.endswith("pets: is required and not given")


def test_what_is_missing_in_a_partial_node_is_no_news() -> None:
    reading = Reading()
    made = Fields(Home).read(Node({}).hollow(), (), reading, "ours")
    assert made.pets is HOLE
    assert reading.problems == []


def test_docstrings_are_the_schema() -> None:
    defs: dict[str, Any] = {}
    schema = concept_schema(Home, defs)
    assert schema["required"] == ["pets"]
    assert list(schema["properties"]) == ["pets", "from", "rooms"]
    assert schema["properties"]["from"]["description"] == "When it began."
    assert defs["Dog"]["properties"]["loud"] == {
        "anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}],
        "default": 0.5,
        "description": "How loud.",
    }
    assert meaning(keys_of(Cat)["kind"]) == "It purrs."
