"""A GPU to price on, and shapes to draw."""

from __future__ import annotations

from hypothesis import strategies as st

from dcsim import models
from dcsim.models.options import FLOATS
from dcsim.spec import Gpu, Layout
from dcsim.traces import Clip, Turn

GPU = Gpu(
    "test",
    hbm=80 * 10**9,
    hbm_bandwidth=3 * 10**12,
    flops={"bf16": 10**15, "fp8": 2 * 10**15},
    scale_up=450 * 10**9,
    host_link=64 * 10**9,
    efficiency={"dense": 0.6, "attention": 0.5, "conv": 0.4, "memory": 0.8, "comm": 0.7},
    launch=5_000,
)
VIDEO = Clip(256, 192, 17, 4)

IMAGE_SHAPES = st.builds(
    Clip,
    width=st.integers(1, 12).map(lambda n: 64 * n),
    height=st.integers(1, 12).map(lambda n: 64 * n),
    frames=st.just(1),
    steps=st.integers(1, 60),
)
VIDEO_SHAPES = st.builds(
    Clip,
    width=st.integers(4, 40).map(lambda n: 16 * n),
    height=st.integers(4, 40).map(lambda n: 16 * n),
    frames=st.integers(0, 12).map(lambda k: 1 + 4 * k),
    steps=st.integers(1, 60),
)
LAYOUTS = st.builds(
    Layout,
    tp=st.sampled_from([1, 2, 4]),
    sp=st.sampled_from([1, 2, 4]),
    cfg=st.sampled_from([1, 2]),
)


def clip_options(*tilings: str) -> st.SearchStrategy[dict[str, str]]:
    """Some options of a diffusion model whose VAE is cut so."""
    return st.fixed_dictionaries({}, optional=_OPTIONS | {"vae_tiling": st.sampled_from(tilings)})


_OPTIONS = {
    "dtype": st.sampled_from(FLOATS),
    "residual_dtype": st.sampled_from(["as dtype", "fp32"]),
    "modulation_dtype": st.sampled_from(["as dtype", "fp32"]),
    "cfg": st.sampled_from(["batched", "sequential"]),
    "attention": st.sampled_from(["fused", "math"]),
    "conv_workspace": st.sampled_from(["transposed", "none"]),
    "artifact": st.sampled_from(["encoded", "raw", "latent"]),
    "weights_dtype": st.sampled_from(["as dtype", "fp8"]),
}
CLIP_OPTIONS = clip_options("none", "spatial", "temporal", "spacetime")
IMAGE_OPTIONS = clip_options("none", "spatial")
TURNS = st.builds(
    Turn,
    prompt=st.integers(1, 5000),
    output=st.integers(1, 2000),
    chunk=st.integers(1, 3000),
)
LLMS = [name for name in models.names() if models.get(name).kind == "llm"]
UNEVEN = ["deepseek-v3", "kimi-k2", "gpt-oss-20b", "gpt-oss-120b"]
UNEVEN += ["qwen3-next-80b-a3b", "qwen3.6-35b-a3b", "qwen3.6-27b"]
UNEVEN += ["gemma-2-2b", "gemma-2-9b"]
"""Windows, latents and states: what a pass costs is not linear in its context."""
EVEN = [name for name in LLMS if name not in UNEVEN]
