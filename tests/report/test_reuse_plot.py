"""The picture of context that is used again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from results_scene import made_up
from scene import scene

from dcsim.assembly import make_plan
from dcsim.planning import run
from dcsim.report import plot_run
from dcsim.report.outline import Outline
from dcsim.report.reuse import reuses
from dcsim.report.terminal import remarks
from dcsim.spec import scenario_from_data


def test_reuse_is_drawn_where_context_is_used_again(tmp_path: Path) -> None:
    assert not reuses(Outline.of(made_up()))
    data = scene(duration="2 min")
    data["jobs"]["chat"] |= {"session": {"turns": 3, "think": "5 s"}}
    data["jobs"]["chat"]["keep"]["reuse"] = {}
    results = run(make_plan(scenario_from_data(data)))
    outline = Outline.of(results)
    assert reuses(outline)
    read = outline.tiers["dram"].columns["read"]
    seconds = np.diff(outline.edges) / 1e9
    total = results.summary["tiers"]["dram"]["flows"]["read"]
    assert abs((read * seconds).sum() - total) <= seconds.sum()  # rounded to whole bytes/s
    table = results.tables["useful"].to_pydict()
    columns = zip(table["gap_from_ns"], table["useful_demand_bytes"], strict=True)
    by_gap: dict[int, int] = {}
    for gap, size in columns:
        by_gap[gap] = by_gap.get(gap, 0) + size
    assert {gap[0]: int(held.sum()) for gap, held in outline.useful.items()} == by_gap
    assert list(by_gap) == sorted(by_gap)
    text = " ".join(remarks(results.summary))
    assert "of context on average" in text
    assert "for who knew what is used again" in text
    plot_run(results, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "demand.png",
        "contents.png",
        "latency.png",
        "links.png",
        "reuse.png",
        "wear.png",
    }
