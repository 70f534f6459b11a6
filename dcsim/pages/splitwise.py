"""Iteration times of LLMs on A100s that Splitwise measured, as rows of the validation.

The public file has the time of one prefill of a batch and the mean time of its decode steps, for
Llama-2-70B and BLOOM-176B (Patel et al. 2024, github.com/Mutinifni/splitwise-sim); DCSIM_TRACES
says where it lies. BLOOM is not in the catalogue: it has no grouped heads, no rotary positions.
"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np

from dcsim.validation.rows import Row

FILE = "splitwise_llm_timings_a100.csv.gz"
SOURCE = "github.com/Mutinifni/splitwise-sim data/perf_model.csv"
FITTED = ("2", "8")
"""Degrees of tensor parallelism that the A100's `vllm-2023` was fitted to; 4 tests it."""


def rows(folder: Path) -> list[Row]:
    """Medians of the repetitions, two rows a setting."""
    groups: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    with gzip.open(folder / FILE, "rt", encoding="utf-8", newline="") as text:
        for line in csv.DictReader(text):
            if line["model"] != "llama2-70b":
                continue
            names = ("tensor_parallel", "batch_size", "prompt_size", "token_size")
            key = tuple(line[name] for name in names)
            times = (float(line["prompt_time"]), float(line["token_time"]))
            groups.setdefault(key, []).append(times)
    found = []
    for key in sorted(groups, key=lambda key: [int(part) for part in key]):
        times = np.median(np.array(groups[key]), axis=0)
        found += [_row(key, check, float(t)) for check, t in zip(_CHECKS, times, strict=True)]
    return found


_CHECKS = ("prefill_seconds", "decode_seconds")


def _row(key: tuple[str, ...], check: str, milliseconds: float) -> Row:
    tp, batch, prompt, output = key
    settings = f"model=llama-2-70b; gpu=a100-80gb; profile=vllm-2023; tp={tp}; batch={batch}; "
    # A prefill of 64 prompts in less time than one of 8 cannot be: half the batch is not there.
    broken = key == ("2", "64", "512", "128")
    return Row(
        kind="latency",
        model="Llama-2-70B",
        config=f"TP {tp}, batch {batch}, prompt {prompt}, output {output}",
        gpu=f"A100 80G x{tp}",
        published=milliseconds,
        unit="ms",
        source=SOURCE,
        check=check,
        settings=settings + f"prompt={prompt}; output={output}",
        use="fit" if tp in FITTED and not broken else "",
        note="its prefill is shorter than that of 8 prompts: not a whole run" if broken else "",
    )
