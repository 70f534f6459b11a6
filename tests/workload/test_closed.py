"""Closed arrivals: so many clients, each with one request under way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scene import scene

from dcsim import traces
from dcsim.assembly import make_plan
from dcsim.planning import simulate
from dcsim.spec import Scenario, SpecError, scenario_from_data
from dcsim.workload import generate


def load(arrivals: dict[str, Any], **chat: Any) -> Scenario:
    """The scene with a closed load in place of its chat."""
    data = scene(duration="10 min")
    data["jobs"]["chat"] |= {"arrivals": {"process": "closed"} | arrivals} | chat
    return scenario_from_data(data)


def test_each_client_waits_for_its_own_requests() -> None:
    requests = generate(load({"clients": 3, "requests": 8}))
    rows = np.flatnonzero(requests.klass == 0)
    assert requests.after is not None
    assert requests.delay is not None
    assert (requests.arrival[rows] == 0).all()
    waits = requests.after[rows]
    assert waits.tolist() == [-1, -1, -1, *rows[:5]]
    assert not requests.delay[rows].any()


def test_never_more_under_way_than_clients() -> None:
    plan = make_plan(load({"clients": 5, "requests": 60, "think": "100 ms"}))
    table = simulate(plan).outputs
    mine = plan.tables["klass"] == 0
    arrived, end = table["arrived"][mine], table["end"][mine]
    assert (end >= 0).all()
    times = np.concatenate([arrived, end])
    steps = np.concatenate([np.ones(60), -np.ones(60)])
    under_way = np.cumsum(steps[np.lexsort((steps, times))])
    assert 1 < under_way.max() <= 5
    pause = arrived[5:] - end[:-5]
    assert (pause >= 0).all()
    # Exponential with a mean of 100 ms: the mean of 55 is off by 13.5 ms, one sigma.
    assert pause.mean() == pytest.approx(100e6, rel=0.5)


def test_a_load_of_one_client_is_the_latency_of_one() -> None:
    one = load({"clients": 1, "requests": 4}, shape={"prompt": 100, "output": 10})
    table = simulate(make_plan(one)).outputs
    mine = make_plan(one).tables["klass"] == 0
    taken = table["end"][mine] - table["arrived"][mine]
    assert np.ptp(taken) <= 1, "alike, but for what rounding to ns does"
    assert (table["arrived"][mine][1:] == table["end"][mine][:-1]).all()


def test_clients_wait_for_what_was_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    traces.save(traces.trace("dit-xl-2", None, traces.Clip(256, 256, 1, 50)), "image.npz")
    data = scene(duration="10 min")
    image = data["jobs"]["image"]
    image["arrivals"] = {"process": "closed", "clients": 3, "requests": 8, "think": "1 s"}
    drawn = generate(scenario_from_data(data))
    image["model"] = "image.npz"
    del image["shape"]  # as traced
    filed = generate(scenario_from_data(data))
    assert drawn.after is not None
    assert drawn.delay is not None
    assert filed.after is not None
    assert filed.delay is not None
    assert filed.after.tolist() == drawn.after.tolist()
    assert filed.delay.tolist() == drawn.delay.tolist()
    assert filed.shapes == drawn.shapes


def test_no_sessions_of_clients() -> None:
    with pytest.raises(SpecError, match="one request after the other; leave session out"):
        load({"clients": 1, "requests": 4}, session={"turns": 2})
