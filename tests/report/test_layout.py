"""What is written on a picture does not lie on other writing, however many variants there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from results_scene import made_up

from dcsim.report import comparison
from dcsim.report.outline import Outline

Plot = Callable[[Mapping[str, Outline], Path], None]


def drawn(plot: Plot, variants: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    figures: list[Any] = []
    monkeypatch.setattr(comparison, "save", lambda figure, _: figures.append(figure))
    outline = Outline.of(made_up())
    jobs = {f"thinking/{name}": each for name, each in outline.summary["jobs"].items()}
    outline = replace(outline, summary={**outline.summary, "jobs": jobs})
    plot({f"variant_{i}": outline for i in range(variants)}, Path("unused.png"))
    (figure,) = figures
    figure.canvas.draw()
    return figure


@pytest.mark.parametrize("variants", [1, 5, 40])
@pytest.mark.parametrize("plot", [comparison.plot_latencies, comparison.plot_outcomes])
def test_titles_do_not_lie_on_each_other(
    plot: Plot, variants: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = drawn(plot, variants, monkeypatch)
    texts = [*figure.texts, *(each._left_title for each in figure.axes)]
    seen = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    assert len(seen) > len(figure.axes)
    for (one, here), (other, there) in combinations(seen, 2):
        assert not here.overlaps(there), (one, other)


def test_a_job_that_a_variant_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    outline = Outline.of(made_up())
    figures: list[Any] = []
    monkeypatch.setattr(comparison, "save", lambda figure, _: figures.append(figure))
    job, *rest = outline.summary["jobs"]
    fewer = {**outline.summary, "jobs": {name: outline.summary["jobs"][name] for name in rest}}
    few = replace(outline, summary=fewer)
    comparison.plot_outcomes({"base": outline, "without": few}, Path("unused.png"))
    first = figures[0].axes[0]
    assert first._left_title.get_text() == job
    arrived = outline.summary["jobs"][job]["arrived"]
    told = [text.get_text() for text in first.texts]
    assert told[:2] == [f"{arrived:,} arrived", "no such job"]
