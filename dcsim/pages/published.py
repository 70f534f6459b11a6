"""The reference models against figures that others published.

`published.csv` holds the figures, one a row with its source; each names a check below that
computes ours. Nothing is tuned to a row: efficiencies are those of the parts files, and rows
that miss stay in the table. They are the first part of docs/validation.md, which
`python -m dcsim.pages.validation` prints.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files

import numpy as np

from dcsim.models import vae
from dcsim.models.catalogue import get
from dcsim.models.denoiser import Denoiser, Numerics
from dcsim.models.llm import LlmConfig
from dcsim.models.pipeline import Networks, Pipeline
from dcsim.models.shapes import Clip, Turn
from dcsim.models.t5 import T5
from dcsim.models.tape import Tape
from dcsim.models.weights import Weights, count
from dcsim.spec import Layout, load_parts
from dcsim.traces.api import trace
from dcsim.traces.budget import KvBudget, kv, profile_peak
from dcsim.traces.server import token_work

GIB = 2**30
Args = Mapping[str, str]


@dataclass(frozen=True)
class Row:
    """One published figure and ours."""

    subject: str
    published: float
    ours: float | None
    """None where the row cannot be expressed; the note says why."""
    unit: str
    kind: str
    """`measured` on hardware, `counted` by another program from the same architecture,
    `published` by the model's authors, or an `identity`: a count that follows from the inputs
    printed with it."""
    source: str
    note: str

    @property
    def error(self) -> float | None:
        """Ours over the published figure, less one."""
        return None if self.ours is None else self.ours / self.published - 1


def compare() -> tuple[Row, ...]:
    """Every row of `published.csv` beside what the reference models give."""
    text = files("dcsim.pages").joinpath("published.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return tuple(
        Row(
            row["subject"],
            float(row["published"]),
            None if row["check"] == "none" else CHECKS[row["check"]](_args(row["args"])),
            row["unit"],
            row["kind"],
            row["source"],
            row["note"],
        )
        for row in rows
    )


def _args(text: str) -> Args:
    return dict(pair.split("=") for pair in text.split(";"))


def markdown(rows: tuple[Row, ...] | None = None) -> str:
    """The first part of the page: a summary of errors by kind and unit, then every row."""
    rows = compare() if rows is None else rows
    groups: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.error is not None:
            groups.setdefault((row.kind, row.unit), []).append(abs(row.error))
    lines = [PREFACE, "| kind | unit | rows | median error | largest |", "|---|---|---|---|---|"]
    for (kind, unit), errors in groups.items():
        middle, worst = float(np.median(errors)), max(errors)
        lines.append(f"| {kind} | {unit} | {len(errors)} | {middle:.2%} | {worst:.2%} |")
    lines += ["", "### Rows", ""]
    lines += ["| what | published | ours | unit | error | kind | source | note |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for r in rows:
        lines.append(
            f"| {r.subject} | {_number(r.published)} | {_number(r.ours)} | {r.unit} "
            f"| {'' if r.error is None else f'{r.error:+.2%}'} | {r.kind} | {r.source} | {r.note} |"
        )
    return "\n".join(lines) + "\n"


PREFACE = """# Validation

What dcsim computes beside what others measured, published or proved. Rendered by
`python -m dcsim.pages.validation > docs/validation.md`; tests hold the page equal. Nothing is
tuned to a row.

## Models and traces

The rows of `dcsim/pages/published.csv`.

Kinds: `measured` on hardware by others; `counted` by another program from the same
architecture; `published` by the model's authors; `identity`, a count that follows from inputs
printed with it, and so says that bytes a token are right, not that a prediction is.

KV budgets are those of `dcsim kv --sampler sort --cuda-graphs-gib 0`, as vLLM was in these logs,
with a share of 0.9.

Throughput is a closed form, not a run: as many jobs as fit `memory_utilization` of the HBM at
their mean length (at most 2,048, TensorRT-LLM's default), each iteration with its share of
prefills. Efficiencies and launch costs are the assumptions of the parts catalogue, FP8 weights
and KV. So these rows say how far the assumptions are off.

### Errors
"""


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _networks(model: str, embedders: str = "one") -> Networks:
    found = get(model)
    network = found.built(found.resolve({"embedders": embedders}))
    assert isinstance(network, Networks)
    return network


def _peak(tape: Tape) -> float:
    return max(sum(held) for _, held in tape.profile) / GIB


def _params(a: Args) -> float:
    found = get(a["model"])
    if "embedders" in a:
        return count(_networks(a["model"], a["embedders"]).denoiser.parameters())
    return found.params


def _part_params(a: Args) -> float:
    return get(a["model"]).all_params()[a["part"]]


def _forward(network: Denoiser, batch: int, side: int, dtype: str) -> Tape:
    tape = Tape()
    network.forward(
        Weights(tape, network.parameters(), dtype),
        tape.tensor((batch, network.latent_channels, 1, side, side), dtype),
        np.zeros(batch),
        (tape.tensor((batch,), "int64"),),
        numerics=Numerics(dtype, dtype, dtype),
    )
    return tape


def _macs(a: Args) -> float:
    network = _networks(a["model"], a.get("embedders", "one"))
    tape = _forward(network.denoiser, 1, int(a["side"]) // network.vae.space, "bf16")
    flops: int = sum(event[3] for event in tape.events if event[0] == "op")
    return flops / 2


def _pass(a: Args) -> tuple[int, int]:
    """FLOPs and tokens of one branch of a denoiser's pass, at the model's typical request or a
    size that is given."""
    model = get(a["model"])
    options = model.resolve()
    network, clip = model.built(options), model.request
    assert isinstance(network, Networks)
    assert isinstance(clip, Clip)
    frames, height, width = (
        int(a.get(key, getattr(clip, key))) for key in ("frames", "height", "width")
    )
    tape = Tape()
    run = Pipeline(tape, network, options, (frames, height, width), 1)
    for i in range(len(network.prompts)):
        run.encode(encoder=i)
    run.prepare()
    start = len(tape.events)
    run.predict(0)
    found: int = sum(event[3] for event in tape.events[start:] if event[0] == "op")
    return found // run.branches, network.denoiser.tokens(*run.latent)


def _flops(a: Args) -> float:
    return _pass(a)[0] / 1e12


def _tokens(a: Args) -> float:
    return _pass(a)[1]


def _dit_peak(a: Args) -> float:
    network = _networks("dit-xl-2", "block")
    return _peak(_forward(network.denoiser, 2, int(a["side"]) // 8, "fp32"))


def _vae_peak(a: Args) -> float:
    config, side = vae.VaeConfig(), int(a["side"]) // 8
    tape = Tape()
    weights = Weights(tape, vae.parameters(config), "bf16")
    vae.decode(config, weights, tape.tensor((1, config.channels, side, side), "bf16"))
    return _peak(tape)


def _video_vae_peak(a: Args) -> float:
    model = get("video-dit-xl")
    options = model.resolve({"vae_tiling": "temporal", "conv_workspace": "none"})
    size = (int(a["frames"]), int(a["height"]), int(a["width"]))
    tape = Tape()
    assert isinstance(model.network, Networks)
    run = Pipeline(tape, model.network, options, size, 1)
    run.prepare()
    run.begin_decode()
    run.decode_tile(run.tiles.all()[0])
    return _peak(tape)


def _t5_peak(a: Args) -> float:
    encoder, tape = T5(), Tape()
    weights = Weights(tape, encoder.parameters(), "bf16")
    encoder.encode(weights, tape.tensor((1, int(a["tokens"])), "int64"))
    return _peak(tape)


def _turn(a: Args) -> tuple[int, int]:
    """Weights of one GPU, and KV bytes of a token in the replica."""
    tp = int(a.get("tp", "1"))
    options = {"weights_dtype": a["weights_dtype"]} if "weights_dtype" in a else None
    found = trace(a["model"], options, Turn(1, 1), Layout(tp))
    return found.weights_bytes // tp, found.rows[0].live


def _weights(a: Args) -> float:
    return _turn(a)[0] / GIB


def _weights_part(a: Args) -> float:
    found = trace(a["model"])
    return next(p.weights for p in found.phases if p.name == a["part"]) / GIB


def _kv_token(a: Args) -> float:
    return _turn(a)[1]


def _kv_memory(a: Args) -> float:
    """vLLM's identity: what is left of a share of HBM beside weights and activations."""
    total, share, activation, other = (
        float(a[k]) for k in ("total", "share", "activation", "other")
    )
    return total * share - _weights(a) - activation - other


def _kv_tokens(a: Args) -> float:
    return _kv_memory(a) * GIB / _turn(a)[1]


def _kv_fit(a: Args) -> float:
    return kv(a["model"], tp=int(a.get("tp", "1")), kv_gib=float(a["memory"])).kv_tokens


def _kv_sequences(a: Args) -> float:
    """As vLLM prints it for models with states: sequences of the longest length, times that."""
    options = {"kv_dtype": a["kv_dtype"]}
    budget = kv(a["model"], tp=int(a.get("tp", "1")), kv_gib=float(a["memory"]), options=options)
    longest = int(a["length"])
    one = budget.kv_bytes_per_token_per_gpu_beyond_window * longest + budget.kv_state_bytes_per_gpu
    return budget.kv_bytes / one * longest


def _active(a: Args) -> float:
    config = get(a["model"]).network
    assert isinstance(config, LlmConfig)
    return config.active + (config.vocabulary * config.hidden if "embedding" in a else 0)


def _activation(a: Args) -> float:
    found = get(a["model"])
    assert isinstance(found.network, LlmConfig)
    layout = Layout(int(a.get("tp", "1")))
    tokens, sequences = int(a["tokens"]), int(a["sequences"])
    peak = profile_peak(found.network, found.resolve(), layout, tokens, sequences, "sort")
    return peak / GIB


def _budget(a: Args) -> KvBudget:
    """What is left for KV by the model alone, HBM and what is not torch's as the log has them."""
    part = load_parts().gpus[a.get("gpu", "h100")]
    if "total" in a:
        part = replace(part, hbm=int(float(a["total"]) * GIB))
    options: dict[str, object] = {"weights_dtype": a.get("weights_dtype", "as dtype")}
    if "other" in a:
        options["runtime_overhead"] = int(float(a["other"]) * GIB)
    return kv(
        a["model"],
        part,
        int(a.get("tp", "1")),
        options=options,
        batched_tokens=int(a["tokens"]),
        sequences=int(a["sequences"]),
        sampler="sort",
        cuda_graphs_gib=0,
    )


def _kv_budget(a: Args) -> float:
    return _budget(a).kv_bytes / GIB


def _kv_budget_tokens(a: Args) -> float:
    return _budget(a).kv_tokens


def _throughput(a: Args) -> float:
    """Output tokens a second in a steady state of as many jobs as fit."""
    gpu = load_parts().gpus[a["gpu"]]
    layout = Layout(int(a["tp"]))
    prompt, output = int(a["prompt"]), int(a["output"])
    options = {"weights_dtype": "fp8", "kv_dtype": "fp8"}
    work = token_work(a["model"], options, layout, gpu, 2048, 8192, 2048)
    (phase,), (first, then) = work.phases, work.segments
    prefill, decode = first.cost, then.cost
    room = layout.gpus * gpu.hbm - work.weights - work.reserve
    context = prompt + output / 2
    jobs = min(2048.0, room / (then.demand.live * context))
    fed = jobs / output * prompt
    dense = max(float(phase.weights), decode.dense * jobs + prefill.dense * fed)
    writing = float(decode.other) + max(decode.attention, decode.reading) * context
    feeding = prefill.other + max(prefill.attention * prompt / 2, prefill.reading)
    return jobs / (phase.launch + dense + jobs * writing + fed * feeding)


CHECKS: Mapping[str, Callable[[Args], float]] = {
    "params": _params,
    "part_params": _part_params,
    "macs": _macs,
    "flops": _flops,
    "tokens": _tokens,
    "weights": _weights,
    "weights_part": _weights_part,
    "kv_token": _kv_token,
    "kv_sequences": _kv_sequences,
    "kv_tokens": _kv_tokens,
    "kv_memory": _kv_memory,
    "kv_fit": _kv_fit,
    "activation": _activation,
    "active": _active,
    "kv_budget": _kv_budget,
    "kv_budget_tokens": _kv_budget_tokens,
    "dit_peak": _dit_peak,
    "vae_peak": _vae_peak,
    "video_vae_peak": _video_vae_peak,
    "t5_peak": _t5_peak,
    "throughput": _throughput,
}
