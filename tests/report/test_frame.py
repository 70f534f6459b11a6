"""The frame of a panel: its labels stand where they should."""

from __future__ import annotations

import pytest

from dcsim.report.frame import frame
from dcsim.report.style import new_figure


def test_the_label_of_y_is_in_the_middle() -> None:
    """It began at the middle and went down from there, which long labels showed."""
    figure = new_figure(6.0, 4.0)
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    frame(axes, {0.0: "0"}, {0.0: "0"}, y_label="a long label of some axis (%)")
    label = next(text for text in axes.texts if text.get_rotation() == 90)
    box, panel = label.get_window_extent(), axes.get_window_extent()
    assert (box.y0 + box.y1) / 2 == pytest.approx((panel.y0 + panel.y1) / 2, abs=1.5)
    assert box.x1 < panel.x0
