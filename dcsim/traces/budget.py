"""How many tokens of KV a GPU holds beside a language model: vLLM's memory budget.

`utilization x HBM - weights - activations - non-torch - CUDA graphs` is left for KV, on each GPU
of the replica. Activations are those of vLLM's profile run: the larger of a pass of
`batched_tokens` and of sampling for `sequences` after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

from dcsim.models import llm
from dcsim.models.catalogue import Model, aliases, get, is_file, names
from dcsim.models.llm import Cache, LlmConfig
from dcsim.models.options import ModelError
from dcsim.models.tape import CATEGORIES, Tape
from dcsim.models.token_sampler import filtered, probabilities
from dcsim.models.weights import Weights, size
from dcsim.spec import Gpu, Layout, did_you_mean, load_parts
from dcsim.traces.turns import Server, kv_dtype, weights_dtype

GIB = 2**30
BATCHED_TOKENS, SEQUENCES = 8192, 1024
"""`max_num_batched_tokens` and `max_num_seqs` of a vLLM server on a GPU of 70 GiB or more that is
no A100 (vllm/engine/arg_utils.py, `get_batch_defaults`)."""
CUDA_GRAPHS_GIB = 0.36
"""What captured graphs take of a GPU, in a vLLM 0.27 log (gpustack/runner pull request 251);
0.26 in another (vllm-project/vllm pull request 30515). Counted since vLLM 0.21."""

Sampler = Literal["sort", "fused"]
SAMPLERS: tuple[Sampler, ...] = ("sort", "fused")


@dataclass(frozen=True)
class KvBudget:
    """What one GPU of a replica holds; bytes of one GPU unless the name says otherwise."""

    model: str
    gpu: str
    tp: int
    pp: int
    dp: int
    ep: int
    cp: int
    weights_dtype: str
    kv_dtype: str
    kv_bytes_per_token: int
    """Of the model, one copy: of a token within every window."""
    kv_bytes_per_token_per_gpu: int
    """As above on each GPU: latents and KV heads that cannot be divided are repeated."""
    kv_bytes_per_token_beyond_window: int
    """Of the model: of a token more, once the sequence is longer than every window."""
    kv_bytes_per_token_per_gpu_beyond_window: int
    kv_state_bytes_per_gpu: int
    """What a sequence keeps besides: full windows, and states of linear attention."""
    window: int | None
    """The widest window in tokens; None: there is none."""
    hbm_bytes: int | None
    """None, with all terms below but `kv_bytes`, where the bytes for KV were given."""
    memory_utilization: float | None
    weights_bytes: int | None
    activation_bytes: int | None
    non_torch_bytes: int | None
    cuda_graph_bytes: int | None
    kv_bytes: int
    kv_tokens: int
    """Tokens that fit in the replica, each as within every window, without states."""
    kv_tokens_beyond_window: int
    """Tokens of one endless sequence. The same where there is neither window nor state."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, by field."""
        return asdict(self)


def kv(
    model: str,
    gpu: str | Gpu = "h100",
    tp: int = 1,
    *,
    layout: Layout | None = None,
    options: Mapping[str, Any] | None = None,
    kv_gib: float | None = None,
    batched_tokens: int = BATCHED_TOKENS,
    sequences: int = SEQUENCES,
    sampler: Sampler = "fused",
    cuda_graphs_gib: float = CUDA_GRAPHS_GIB,
) -> KvBudget:
    """KV bytes of a token and tokens that fit beside a language model on GPUs of one part.

    `layout` takes the place of `tp`. `options` are the model's (`kv_dtype`, `weights_dtype`,
    `memory_utilization`, `runtime_overhead`, ...). `kv_gib`: GiB a GPU for KV, as a server's log
    prints them; None: what the budget leaves. `sampler`: `fused`, vLLM's with FlashInfer, which
    keeps logits and probabilities alone, or `sort`, as without it, six times as much.
    `cuda_graphs_gib`: 0 as vLLM before 0.21, which took them from what `memory_utilization` leaves.
    ModelError has all that is
    wrong: unknown names with the nearest known, degrees that do not divide the heads, weights
    that do not fit.
    """
    problems: list[tuple[str, str]] = []
    part = _part(gpu, problems)
    numbers = {
        "--kv-gib": (kv_gib, kv_gib is None or 0 < kv_gib < 1e9),
        "--batched-tokens": (batched_tokens, 0 < batched_tokens <= 2**20),
        "--sequences": (sequences, 0 < sequences <= 2**20),
        "--cuda-graphs-gib": (cuda_graphs_gib, 0 <= cuda_graphs_gib < 1e9),
        "--tp": (tp, 0 < tp <= 2**20),
    }
    layout = layout or Layout(max(tp, 1))
    problems += [(k, f"{v} is out of range") for k, (v, fine) in numbers.items() if not fine]
    if sampler not in SAMPLERS:
        problems.append(("--sampler", f"{sampler!r}: {did_you_mean(sampler, SAMPLERS)}"))
    found, chosen = _chosen(model, options or {}, problems)
    if found is not None:
        assert isinstance(found.network, LlmConfig)
        for name, wrong in found.network.unfit(layout):
            allowed = ", ".join(map(str, degrees(found.network)))
            more = f"; {found.name} can be spread over {allowed}" if name == "tp" else ""
            problems.append((f"--{name}", wrong + more))
    if problems or found is None or part is None:
        raise ModelError(problems)
    config = found.network
    assert isinstance(config, LlmConfig)
    server = Server.of(config, chosen, layout)
    if kv_gib is not None:
        room = int(Fraction(str(kv_gib)) * GIB)
        return _budget(found, chosen, part, layout, room, None)
    spent = {
        "weights": size(llm.parameters(server.stage, layout.tp, layout.ep), weights_dtype(chosen)),
        "activation": profile_peak(config, chosen, layout, batched_tokens, sequences, sampler),
        "non_torch": chosen["runtime_overhead"],
        "cuda_graph": int(Fraction(str(cuda_graphs_gib)) * GIB),
    }
    share = Fraction(str(chosen["memory_utilization"]))
    room = int(part.hbm * share) - sum(spent.values())
    if room < server.kv().token:
        raise ModelError([("--tp", _too_large(found, chosen, part, layout, spent, share))])
    return _budget(found, chosen, part, layout, room, spent)


def _part(gpu: str | Gpu, problems: list[tuple[str, str]]) -> Gpu | None:
    if isinstance(gpu, Gpu):
        return gpu
    gpus = load_parts().gpus
    if gpu not in gpus:
        problems.append(("--gpu", f"no GPU {gpu!r}; {did_you_mean(gpu, gpus)}"))
    return gpus.get(gpu)


def _chosen(
    model: str, options: Mapping[str, Any], problems: list[tuple[str, str]]
) -> tuple[Model | None, Mapping[str, Any]]:
    """The language model, and all its options."""
    try:
        found = get(model)
    except ModelError as error:
        if is_file(model):
            problems += error.problems
            return None, {}
        llms = [name for name in (*names(), *aliases()) if get(name).kind == "llm"]
        problems.append(("model", f"no model {model!r}: {did_you_mean(model, llms)}"))
        return None, {}
    if not isinstance(found.network, LlmConfig):
        problems.append(("model", f"{model} is no language model and keeps no KV"))
        return None, {}
    try:
        return found, found.resolve(options)
    except ModelError as error:
        problems += error.problems
        return found, {}


def _budget(
    found: Model,
    options: Mapping[str, Any],
    part: Gpu,
    layout: Layout,
    room: int,
    spent: Mapping[str, int] | None,
) -> KvBudget:
    assert isinstance(found.network, LlmConfig)
    local = Server.of(found.network, options, layout).fullest()
    whole = Server.of(found.network, options, Layout()).kv()
    ranks = layout.dp * layout.cp
    known = spent is not None
    terms = {f"{name}_bytes": None if spent is None else spent[name] for name in TERMS}
    return KvBudget(
        model=found.name,
        gpu=part.name,
        tp=layout.tp,
        pp=layout.pp,
        dp=layout.dp,
        ep=layout.ep,
        cp=layout.cp,
        weights_dtype=weights_dtype(options),
        kv_dtype=kv_dtype(options),
        kv_bytes_per_token=whole.token,
        kv_bytes_per_token_per_gpu=local.token,
        kv_bytes_per_token_beyond_window=whole.growth,
        kv_bytes_per_token_per_gpu_beyond_window=local.growth,
        kv_state_bytes_per_gpu=local.state,
        window=local.window or None,
        hbm_bytes=part.hbm if known else None,
        memory_utilization=options["memory_utilization"] if known else None,
        **terms,
        kv_bytes=room,
        kv_tokens=ranks * (room // local.token),
        kv_tokens_beyond_window=layout.cp * (max(0, room - local.state) // local.growth),
    )


TERMS = ("weights", "activation", "non_torch", "cuda_graph")


def degrees(config: LlmConfig) -> list[int]:
    """Over how many GPUs its heads can be spread."""
    return [tp for tp in range(1, config.heads + 1) if config.wrong(tp) is None]


def _too_large(
    found: Model,
    options: Mapping[str, Any],
    part: Gpu,
    layout: Layout,
    spent: Mapping[str, int],
    share: Fraction,
) -> str:
    """What does not fit where, and what would."""
    config = found.network
    assert isinstance(config, LlmConfig)
    needs = ", ".join(f"{name.replace('_', ' ')} {n / GIB:.1f}" for name, n in spent.items())
    usable = int(part.hbm * share)
    other = sum(spent.values()) - spent["weights"]
    dtype = weights_dtype(options)
    fit = [
        n
        for n in degrees(config)
        if n > layout.tp and size(llm.parameters(config, n), dtype) + other < usable
    ]
    more = f"tp {fit[0]} would fit" if fit else "no tp would fit"
    return (
        f"{found.name} on {layout.gpus} x {part.name} leaves no room for KV: {needs} GiB of "
        f"{usable / GIB:.1f} GiB a GPU ({options['memory_utilization']:g} x {part.hbm / GIB:.1f}); "
        f"{more}, or a larger GPU or smaller weights_dtype"
    )


def profile_peak(
    config: LlmConfig,
    options: Mapping[str, Any],
    layout: Layout,
    tokens: int,
    sequences: int,
    sampler: Sampler,
) -> int:
    """The most bytes of activations that one GPU holds in vLLM's profile run.

    The hidden states of all tokens stay while logits of the first `sequences` of them (all, if
    there are fewer) are computed and sampled from.
    """
    tape, config = Tape(), config.stage(layout.pp)
    weights = Weights(tape, llm.parameters(config, layout.tp, layout.ep), weights_dtype(options))
    weights.dtype = options["dtype"]
    cache = Cache(kv_dtype(options))
    tokens = -(-tokens // layout.cp)
    llm.forward(config, weights, tape, None, tokens, cache, logits=False, layout=layout)
    del cache
    if not config.last:
        return _most(tape)
    hidden = tape.tensor((tokens, config.hidden), weights.dtype)
    rows = hidden[: min(sequences, tokens)]
    logits = llm.logits_of(config, weights, rows, layout.tp)
    found = filtered(logits, config.vocabulary, 1.0) if sampler == "sort" else logits
    drawn = probabilities(found)
    del drawn
    return _most(tape)


def _most(tape: Tape) -> int:
    # What is written of K and V goes to the pool, which is no activation.
    pool = CATEGORIES.index("kv")
    return max(sum(held) - held[pool] for _, held in tape.profile)
