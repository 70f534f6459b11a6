"""Tables in the terminal."""

from __future__ import annotations

from typing import Any

from results_scene import GB, made_up, make_plan, make_results
from rich.console import Console

from dcsim.report import comparison_table, summary_table
from dcsim.results import compare


def printed(what: Any) -> str:
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_the_summary_fits_eighty_columns() -> None:
    text = printed(summary_table(made_up()))
    assert "…" not in text
    tiers = {line.split()[0]: line for line in text.splitlines() if line[:4] in ("HBM ", "DRAM")}
    assert "1.28 TB" in tiers["HBM"]
    assert tiers["HBM"].rstrip().endswith("never")
    assert "700 GB" in tiers["DRAM"]
    assert "at 60.0 min" in tiers["DRAM"]
    assert "tok/s" in text
    assert "clips/h" in text
    assert "drive writes per day" in text


def test_what_is_short_and_what_was_left_is_said() -> None:
    results = make_results(make_plan(dram=700 * GB), troubled=True)
    text = " ".join(printed(summary_table(results)).split())
    dram = results.summary["tiers"]["dram"]
    pool = [row for row in results.events().to_pylist() if row["kind"] == "shortfall"]
    stretches = [row for row in pool if row["subject"] == dram["first_shortfall_pool"]]
    assert dram["first_shortfall_pool_peak"] == max(row["bytes"] for row in stretches)
    assert "Short of DRAM: node.dram first, at 60.0 min, by up to 506 GB, for 60.0 min" in text
    for job, figures in results.summary["jobs"].items():
        missing = figures["arrived"] - figures["outcomes"]["completed"]
        said = f"{job}: {missing:,} of {figures['arrived']:,} requests were not completed" in text
        assert said == bool(missing)


def test_a_queue_that_grows_is_said_to() -> None:
    results = make_results()
    assert "queue grows" not in printed(summary_table(results))
    results.summary["jobs"]["chat"]["queue"] = {
        "grows": True, "waiting": 1234, "arrivals_per_s": 2.0, "admissions_per_s": 1.5
    }  # fmt: skip
    text = " ".join(printed(summary_table(results)).split())
    said = "chat: the queue grows without end: 2.00 requests/s arrive, 1.50 requests/s are admitted"
    assert f"{said}, and 1,234 wait at the end" in text


def test_the_summary_knows_no_clock() -> None:
    slower = make_results(make_plan(dram=700 * GB), troubled=True)
    slower.summary["engine"]["wall_seconds"] = 1e6
    assert printed(summary_table(slower)) == printed(summary_table(made_up()))


def test_a_comparison_shows_values_and_differences() -> None:
    more = make_results(make_plan(dram=1400 * GB))
    text = printed(comparison_table(compare({"base": made_up(), "more": more})))
    assert "…" not in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "capacity 700 GB 1.40 TB" in lines
    assert "+700 GB" in lines
    assert any(line.startswith("held, peak ") for line in lines)
    assert "its pool, by up to 506 GB -" in lines
    assert "first short at 60.0 min -" in lines
    assert lines[0] == "Variants, and their differences to base"
    assert lines[1] == "base more"
    for heading in ("requests", "HBM", "DRAM", "NAND", "chat", "video"):
        assert heading in lines
    assert any(line.startswith("completed, p99") for line in lines)
