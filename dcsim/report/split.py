"""Where useful context belongs, as text."""

from __future__ import annotations

from dcsim.planning.split import Split
from dcsim.report.quantities import bytes_text, gap_text, time_text

__all__ = ["split_text"]

_NAMES = {"dram": "DRAM", "nand": "NAND", "recompute": "compute again"}
GB = 10**9


def split_text(found: Split) -> str:
    """The split as text: break-even gaps, classes of gaps, and what falls to each place."""
    lines = []
    for key, gap in found.break_even_ns.items():
        first, second = (_NAMES[name] for name in key.split("_"))
        says = "none: one is always cheaper" if gap is None else time_text(gap)
        lines.append(f"break-even of {first} and {second}: {says}")
    lines.append(
        f"a drive is full of writes or reads below a gap of {time_text(found.least_gap_ns)}"
    )
    heads = ("gap", "DRAM", "NAND", "again", "useful", "reused", "belongs to")
    lines += ["", "{:<16}{:>10}{:>10}{:>10}{:>11}{:>11}  {}".format(*heads)]
    lines.append(f"{'':<16}{'USD a TB and reuse':^30}")
    for each in found.classes:
        costs = "".join(f"{cost * 1000 * GB:>10.3g}" for cost in each.costs.values())
        sizes = f"{bytes_text(each.useful_bytes):>11}{bytes_text(each.reused_bytes):>11}"
        name = gap_text(each.gap_from_ns, each.gap_to_ns)
        lines.append(f"{name:<16}{costs}{sizes}  {_NAMES[each.place]}")
    lines.append("")
    for name, place in found.places.items():
        text = (
            f"demand {bytes_text(place.demand_mean)} on average, {bytes_text(place.demand_peak)} "
        )
        text += f"at the most; {bytes_text(place.reused_bytes_per_s)}/s used again; "
        what = f"buy {bytes_text(place.capacity_bytes)} for" if name != "recompute" else "costs"
        lines.append(f"{_NAMES[name]}: {text}{what} {place.usd:,.0f} USD")
    return "\n".join(lines)
