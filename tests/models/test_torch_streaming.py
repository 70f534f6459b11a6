"""A stream's chunks with what is kept against PyTorch over all frames with a mask."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from model_scenes import options
from public import copied, drawn, randomised, relative
from test_torch_video import WAN
from vae_scenes import kl

from dcsim.models.denoisers.wan import Wan
from dcsim.models.pipeline import Networks, Pipeline
from dcsim.models.shapes import Clip
from dcsim.models.streaming import Streaming
from dcsim.models.tape import Tape

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
diffusers = pytest.importorskip("diffusers", reason="needs the torch extra", exc_type=ImportError)

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
CHUNK, FRAMES, TOKENS = 2, 8, 4


def masked(window: int) -> Any:
    """PyTorch's attention; of self-attention each chunk sees itself and the frames before it, of a
    window of so many (0: all)."""
    frame = torch.arange(FRAMES).repeat_interleave(TOKENS)
    chunk = frame // CHUNK
    allowed = chunk[None] <= chunk[:, None]
    if window:
        allowed &= frame[None] >= (chunk[:, None] + 1) * CHUNK - window

    def attend(query: Any, key: Any, value: Any, **_: Any) -> Any:
        among = query.shape[1] == key.shape[1]
        q, k, v = (each.transpose(1, 2) for each in (query, key, value))
        mask = allowed if among else None
        attention = torch.nn.functional.scaled_dot_product_attention
        return attention(q, k, v, attn_mask=mask).transpose(1, 2)

    return attend


@pytest.mark.parametrize("window", [0, 4, 6])
def test_chunks_equal_all_frames_under_a_mask(window: int) -> None:
    """Clean chunks at time 0, one after the other: the last predicts what the whole does.

    With a window a frame's own keys and values still carry what it saw, as in the masked whole."""
    model = randomised(
        diffusers.WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=4,
            text_dim=24,
            ffn_dim=40,
            num_layers=3,
        )
    )
    network = Wan(3, 2, 40, 16, channels=4, text_width=24, chunk=CHUNK, window=window)
    networks = Networks(network, kl(4, (16, 16, 16, 16), 1, video=True))
    latents, text = drawn(1, 4, FRAMES, 4, 4), drawn(1, 5, 24, seed=4)
    attention = "diffusers.models.transformers.transformer_wan.dispatch_attention_fn"
    with torch.no_grad(), mock.patch(attention, masked(window)):
        theirs = model(
            hidden_states=torch.from_numpy(latents),
            encoder_hidden_states=torch.from_numpy(text),
            timestep=torch.zeros(1),
        ).sample
    clip = Clip(32, 32, 1 + 4 * (FRAMES - 1), 2)
    given = options(networks, cfg="distilled", sampler="rectified_flow")
    arrays = {"denoiser": copied(network, model, WAN), "vae": {}}
    with mock.patch("dcsim.models.pipeline.vae.parameters", return_value=iter(())):
        run = Pipeline(Tape(execute=True), networks, given, clip, arrays=arrays)
    run.prepare(latents)
    run.conditions = [(run.tape.tensor(text.shape, "fp32", text),)]
    stream, ours = Streaming(run), []
    for at in range(0, FRAMES, CHUNK):
        with mock.patch.object(stream, "_pass", _watched(stream, ours)):
            stream.keep()
        assert stream.before.frames == at + CHUNK
    assert relative(np.concatenate(ours, 2), theirs) < 1e-4
    # A step of the next chunk leaves what is kept as it was.
    kept = [len(layer) for layer in stream.before.cache.layers]
    stream.before.frames -= CHUNK
    stream.step(0)
    assert [len(layer) for layer in stream.before.cache.layers] == kept


def _watched(stream: Streaming, found: list[Any]) -> Any:
    plain = stream._pass

    def run(latents: Any, time: float) -> Any:
        out = plain(latents, time)
        found.append(out.data)
        return out

    return run
