"""Implementation options of a model: named, with defaults and allowed values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dcsim.reading.errors import did_you_mean

Options = Mapping[str, Any]
"""A full set: every option of the model, by name."""


class ModelError(Exception):
    """A model, an option, a shape or a layout that cannot be; `problems` has them all.

    Each problem is (path, message); the path is relative to the job: `model`,
    `options.dtype`, `layout.tp`, `shape.resolution`.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(f"{path}: {message}" for path, message in self.problems))


@dataclass(frozen=True)
class Option:
    """One option: a choice among names, or a number within bounds.

    `allowed` is None for a number; `low` and `high` bound it, both included.
    """

    default: Any
    meaning: str
    allowed: tuple[Any, ...] | None = None
    low: float = 0
    high: float = float("inf")
    whole: bool = False
    """A number of bytes or tokens: int only."""

    def wrong(self, value: Any) -> str | None:
        """What is wrong with a value, or None."""
        if self.allowed is not None:
            if any(value == a and type(value) is type(a) for a in self.allowed):
                return None
            names = [str(a).lower() if isinstance(a, bool) else str(a) for a in self.allowed]
            return f"{value!r} is not allowed: {did_you_mean(str(value), names)}"
        number = isinstance(value, int) if self.whole else isinstance(value, int | float)
        if isinstance(value, bool) or not number:
            return f"{value!r} is not {'a whole number' if self.whole else 'a number'}"
        if not self.low <= value <= self.high:
            return f"{value!r} is outside [{self.low:g}, {self.high:g}]"
        return None


def wrong_options(table: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with each unknown option and each wrong value, by name."""
    found = {}
    for name, value in given.items():
        if name not in table:
            found[name] = f"unknown option: {did_you_mean(name, table)}"
        elif (message := table[name].wrong(value)) is not None:
            found[name] = message
    return found


def resolve(table: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` over the defaults; ModelError names every unknown option and wrong value."""
    if wrong := wrong_options(table, given):
        raise ModelError([(f"options.{name}", message) for name, message in wrong.items()])
    return {name: given.get(name, option.default) for name, option in table.items()}


def kept_dtype(options: Options, name: str) -> str:
    """The dtype that an option says, or that of the model."""
    kept: str = options[name]
    return str(options["dtype"]) if kept == "as dtype" else kept


FLOATS = ("bf16", "fp16", "fp32")

RUNTIME = Option(
    139_586_437,
    "Bytes a GPU holds beside tensors: CUDA context and libraries. Default 0.13 GiB, vLLM's "
    "non-torch memory on one H100 (llm-d-benchmark config_explorer/"
    "empirical-vllm-memory-results.md).",
    whole=True,
)

WEIGHTS = Option(
    "as dtype",
    "Of the matrices of the transformer, where it differs from dtype: quantised weights, with "
    "matrix products at that precision's peak.",
    ("as dtype", "fp8", "fp4"),
)

QUANTISED = replace(
    WEIGHTS,
    meaning="Of the matrices of the transformer, where it differs from dtype. fp8 and fp4 are "
    "multiplied at their peak, int8 at fp8's if there is one; nf4 (4 bits, a scale for 64 of them) "
    "is widened as it is read, fp32 narrowed, as under autocast.",
    allowed=("as dtype", "fp32", "fp8", "int8", "fp4", "nf4"),
)

DIT = {
    "dtype": Option("bf16", "Of the transformer and the text encoder.", FLOATS),
    "weights_dtype": QUANTISED,
    "residual_dtype": Option("as dtype", "Of hidden states between blocks.", ("as dtype", "fp32")),
    "modulation_dtype": Option(
        "as dtype", "Of a block's normalised and modulated input.", ("as dtype", "fp32")
    ),
    "cfg": Option(
        "batched",
        "Guidance: both branches in one pass, one after the other, or distilled into one.",
        ("batched", "sequential", "distilled"),
    ),
    "guidance": Option(4.0, "Guidance scale; changes no cost.", low=0),
    "attention": Option("fused", "`math` holds the scores of all pairs.", ("fused", "math")),
    "sampler": Option("ddpm", "How a step follows from a prediction.", ()),
    "text_weights_dtype": Option(
        "as dtype",
        "Of the matrices of the text encoders, where it differs from dtype.",
        ("as dtype", "fp32", "fp8", "int8", "nf4"),
    ),
    "text_encoders": Option(
        "gpu",
        "Where text encoders run; on the host's `cpu` they hold no HBM, and their time is not "
        "counted.",
        ("gpu", "cpu"),
    ),
    "offload": Option(
        "none",
        "What stays in host memory: nothing; each network but while its phase runs (`model`); all "
        "but the layer at hand (`sequential`), or but two, of which one is on its way (`group`). "
        "For one request at a time.",
        ("none", "model", "group", "sequential"),
    ),
    "fsdp": Option(
        False,
        "Weights of the text encoders and the denoiser are shared out over the GPUs, and gathered "
        "block by block.",
        (False, True),
    ),
    "feature_cache": Option(
        "none",
        "What is kept from step to step so that others can skip most of the network: the blocks' "
        "residual (`teacache`; `fbcache`, which computes the first block to decide), each "
        "attention's output (`pab`), or each output and its change (`taylorseer`, order 1).",
        ("none", "teacache", "fbcache", "pab", "taylorseer"),
    ),
    "cache_computed": Option(
        0.0,
        "Share of the steps that `feature_cache` computes in full; 0 is the method's own, an "
        "assumption: teacache and fbcache 0.6 (HunyuanVideo 3000 to 1800 s, FLUX.1 26.36 to "
        "17.01 s), pab 0.5 (each second attention), taylorseer 0.2 (each fifth step).",
        low=0,
        high=1,
    ),
    "vae_dtype": Option("bf16", "Of the VAE.", FLOATS),
    "vae_tiling": Option(
        "none",
        "What a decode is cut into: tiles in space, runs of frames, or both, as the VAE's code has "
        "them. VAEs that keep features of the frames before work in chunks of frames always.",
        ("none", "spatial", "temporal", "spacetime"),
    ),
    "vae_cache": Option(
        "none",
        "Of a VAE that works in chunks of frames: features kept of the chunk before are `renewed` "
        "beside them (diffusers' CogVideoX since 0.31) or `replaced` layer by layer (before, and "
        "Wan's).",
        ("none",),
    ),
    "vae_parallel": Option(
        False,
        "Spread a decode over the replica's GPUs: its tiles (`true`), or the rows of the picture "
        "(`patch`, as xDiT's DistVAE): neighbours swap rows at their edges before a convolution.",
        (False, True, "patch"),
    ),
    "conv_workspace": Option(
        "transposed",
        "Scratch memory of convolutions, which no shape shows. `transposed`: what a convolution "
        "reads and makes once more, channels last, as cuDNN's kernels for tensor cores want it; "
        "`none`: of tensors that are laid out so (`channels_last`).",
        ("transposed", "none"),
    ),
    "artifact": Option(
        "encoded", "What is stored of a finished clip.", ("encoded", "raw", "latent")
    ),
    "bits_per_pixel": Option(
        2.0, "Of an encoded clip, a pixel and frame. An assumption.", low=1e-6, high=64
    ),
    "runtime_overhead": RUNTIME,
}

LLM = {
    "dtype": Option("bf16", "Of weights and activations.", ("bf16", "fp16")),
    "weights_dtype": WEIGHTS,
    "kv_dtype": Option(
        "as dtype", "Of the KV cache; fp4 with a scale a block of 16.", ("as dtype", "fp8", "fp4")
    ),
    "memory_utilization": Option(
        0.9,
        "Share of a GPU's memory the server uses; the rest stays free (vLLM's default 0.9).",
        low=0.01,
        high=1.0,
    ),
    "runtime_overhead": RUNTIME,
}
