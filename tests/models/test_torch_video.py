"""Wan, CogVideoX, LTX-Video and Mochi against diffusers' classes, with the same random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from public import copied, drawn, predicted, randomised, relative

from dcsim.models.denoisers.cogvideox import CogVideoX
from dcsim.models.denoisers.ltx import Ltx
from dcsim.models.denoisers.mochi import Mochi
from dcsim.models.denoisers.wan import Wan

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
diffusers = pytest.importorskip("diffusers", reason="needs the torch extra", exc_type=ImportError)

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

get_3d_rotary_pos_embed = diffusers.models.embeddings.get_3d_rotary_pos_embed


STEPS = np.array([17.0, 903.0])


WAN = (
    (r"^time\.0", "condition_embedder.time_embedder.linear_1"),
    (r"^time\.1", "condition_embedder.time_embedder.linear_2"),
    (r"^modulation", "condition_embedder.time_proj"),
    (r"^text\.0", "condition_embedder.text_embedder.linear_1"),
    (r"^text\.1", "condition_embedder.text_embedder.linear_2"),
    (r"^embed\.", "patch_embedding."),
    (r"^final\.offset", "scale_shift_table"),
    (r"^final\.out", "proj_out"),
    (r"^(\d+)\.", r"blocks.\1."),
    (r"\.offset", ".scale_shift_table"),
    (r"\.norm\.", ".norm2."),
    (r"^image\.([01])\.", r"condition_embedder.image_embedder.ff.net.\1."),
    (r"ff\.net\.1\.", "ff.net.2."),
    (r"ff\.net\.0\.", "ff.net.0.proj."),
    (r"^image\.(norm\d)", r"condition_embedder.image_embedder.\1"),
    (r"\.image\.([kv])\.", r".attn2.add_\1_proj."),
    (r"\.image\.k_norm", ".attn2.norm_added_k.weight"),
    (r"\.cross\.([qkv])\.", r".attn2.to_\1."),
    (r"\.cross\.([qk])_norm", r".attn2.norm_\1.weight"),
    (r"\.cross\.out\.", r".attn2.to_out.0."),
    (r"(blocks\.\d+)\.([qkv])\.", r"\1.attn1.to_\2."),
    (r"(blocks\.\d+)\.([qk])_norm", r"\1.attn1.norm_\2.weight"),
    (r"(blocks\.\d+)\.out\.", r"\1.attn1.to_out.0."),
    (r"\.up\.", ".ffn.net.0.proj."),
    (r"\.down\.", ".ffn.net.2."),
)


@pytest.mark.parametrize("each_token", [False, True])
def test_wan_equals_diffusers(each_token: bool) -> None:
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
    network = Wan(3, 2, 40, 16, channels=4, text_width=24, each_token=each_token)
    latents, text = drawn(2, 4, 3, 8, 12), drawn(2, 5, 24, seed=4)
    steps = torch.from_numpy(STEPS)
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(latents),
            encoder_hidden_states=torch.from_numpy(text),
            timestep=steps[:, None].expand(2, 72) if each_token else steps,
        ).sample
    ours = predicted(network, copied(network, model, WAN), latents, STEPS, (text,))
    assert relative(ours, theirs) < 1e-4


@pytest.mark.parametrize("image", [True, False])
def test_wan_of_an_image_equals_diffusers(image: bool) -> None:
    """A mask and the image's latents come beside the clip's; in 2.1 its encoding is attended to.
    The class finds the text by its 512 tokens."""
    more = {"image_dim": 20, "added_kv_proj_dim": 32} if image else {}
    model = randomised(
        diffusers.WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=10,
            out_channels=4,
            text_dim=24,
            ffn_dim=40,
            num_layers=2,
            **more,
        )
    )
    network = Wan(2, 2, 40, 16, channels=4, text_width=24, masked=2, image_width=20 if image else 0)
    latents, text, seen = drawn(2, 10, 3, 4, 6), drawn(2, 512, 24, seed=4), drawn(2, 7, 20, seed=5)
    given = (text, seen) if image else (text,)
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(latents),
            encoder_hidden_states=torch.from_numpy(text),
            encoder_hidden_states_image=torch.from_numpy(seen) if image else None,
            timestep=torch.from_numpy(STEPS),
        ).sample
    ours = predicted(network, copied(network, model, WAN), latents, STEPS, given)
    assert ours.shape == (2, 4, 3, 4, 6)
    assert relative(ours, theirs) < 1e-4


COGVIDEOX = (
    (r"^positions", "patch_embed.pos_embedding"),
    (r"^embed\.", "patch_embed.proj."),
    (r"^text\.", "patch_embed.text_proj."),
    (r"^time\.0", "time_embedding.linear_1"),
    (r"^time\.1", "time_embedding.linear_2"),
    (r"^offset\.0", "ofs_embedding.linear_1"),
    (r"^offset\.1", "ofs_embedding.linear_2"),
    (r"^final\.norm1", "norm_final"),
    (r"^final\.norm2", "norm_out.norm"),
    (r"^final\.modulation", "norm_out.linear"),
    (r"^final\.out", "proj_out"),
    (r"^(\d+)\.", r"transformer_blocks.\1."),
    (r"\.norm(\d)\.modulation", r".norm\1.linear"),
    (r"\.norm(\d)\.(weight|bias)", r".norm\1.norm.\2"),
    (r"\.([qkv])\.", r".attn1.to_\1."),
    (r"\.([qk])_norm", r".attn1.norm_\1"),
    (r"(blocks\.\d+)\.out\.", r"\1.attn1.to_out.0."),
    (r"\.up\.", ".ff.net.0.proj."),
    (r"\.down\.", ".ff.net.2."),
)


@pytest.mark.parametrize(("positions", "frames"), [("sines", 1), ("rotary", 1), ("rotary", 2)])
def test_cogvideox_equals_diffusers(positions: Any, frames: int) -> None:
    model = randomised(
        diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=32,
            in_channels=4,
            out_channels=4,
            time_embed_dim=12,
            text_embed_dim=24,
            num_layers=3,
            sample_width=12,
            sample_height=8,
            sample_frames=13,
            patch_size_t=None if frames == 1 else frames,
            max_text_seq_length=5,
            use_rotary_positional_embeddings=positions == "rotary",
        )
    )
    network = CogVideoX(
        3, 2, positions, 32, (frames, 2, 2), 4, text_width=24, time_width=12, table=(4, 4, 6)
    )
    latents, text = drawn(2, 4, 4, 8, 12), drawn(2, 5, 24, seed=4)
    rope = get_3d_rotary_pos_embed(32, ((0, 0), (4, 6)), (4, 6), 4 // frames)
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(latents.transpose(0, 2, 1, 3, 4)),
            encoder_hidden_states=torch.from_numpy(text),
            timestep=torch.from_numpy(STEPS),
            image_rotary_emb=rope if positions == "rotary" else None,
        ).sample
    arrays = copied(network, model, COGVIDEOX)
    if positions == "sines":  # the class keeps them in no checkpoint
        arrays["positions"] = model.patch_embed.pos_embedding[0, 5:].numpy()
    ours = predicted(network, arrays, latents, STEPS, (text,))
    assert relative(ours.transpose(0, 2, 1, 3, 4), theirs) < 1e-4
    # Made anew they are the same.
    other = replace(network, table=(1, 1, 1))
    arrays["positions"] = np.zeros((1, 64), np.float32)
    assert (
        relative(predicted(other, arrays, latents, STEPS, (text,)).transpose(0, 2, 1, 3, 4), theirs)
        < 1e-4
    )


@pytest.mark.parametrize(("positions", "frames"), [("both", 1), ("rotary", 2)])
def test_cogvideox_of_an_image_equals_diffusers(positions: Any, frames: int) -> None:
    """Its latents come beside the clip's: in 1.0 with a table that was learned, in 1.5 with a
    second number that modulates."""
    later = frames == 2
    model = randomised(
        diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=32,
            in_channels=8,
            out_channels=4,
            time_embed_dim=12,
            ofs_embed_dim=12 if later else None,
            text_embed_dim=24,
            num_layers=2,
            sample_width=12,
            sample_height=8,
            sample_frames=13,
            patch_size_t=2 if later else None,
            max_text_seq_length=5,
            use_rotary_positional_embeddings=True,
            use_learned_positional_embeddings=not later,
        )
    )
    network = CogVideoX(
        2,
        2,
        positions,
        32,
        (frames, 2, 2),
        4,
        text_width=24,
        time_width=12,
        table=(4, 4, 6),
        paired=True,
        offset_width=12 if later else 0,
    )
    latents, text, places = drawn(2, 8, 4, 8, 12), drawn(2, 5, 24, seed=4), drawn(96, 64, seed=6)
    if not later:  # ours has no places of words; theirs, of a checkpoint, are zero
        model.patch_embed.pos_embedding[0, 5:] = torch.from_numpy(places)
        assert "patch_embed.pos_embedding" in model.state_dict()
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(latents.transpose(0, 2, 1, 3, 4)),
            encoder_hidden_states=torch.from_numpy(text),
            timestep=torch.from_numpy(STEPS),
            ofs=torch.full((1,), 2.0) if later else None,
            image_rotary_emb=get_3d_rotary_pos_embed(32, ((0, 0), (4, 6)), (4, 6), 4 // frames),
        ).sample
    names = [pair for pair in COGVIDEOX if later or pair[0] != r"^positions"]
    arrays = copied(network, Words(model), names)
    if not later:
        arrays["positions"] = places
    ours = predicted(network, arrays, latents, STEPS, (text,))
    assert relative(ours.transpose(0, 2, 1, 3, 4), theirs) < 1e-4


class Words:
    """A model without the table of positions, which has rows for the words too."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def state_dict(self) -> dict[str, Any]:
        found = self.model.state_dict()
        return {name: each for name, each in found.items() if "pos_embedding" not in name}


LTX = (
    (r"^time\.0", "time_embed.emb.timestep_embedder.linear_1"),
    (r"^time\.1", "time_embed.emb.timestep_embedder.linear_2"),
    (r"^modulation", "time_embed.linear"),
    (r"^text\.0", "caption_projection.linear_1"),
    (r"^text\.1", "caption_projection.linear_2"),
    (r"^embed\.", "proj_in."),
    (r"^final\.offset", "scale_shift_table"),
    (r"^final\.out", "proj_out"),
    (r"^(\d+)\.", r"transformer_blocks.\1."),
    (r"\.offset", ".scale_shift_table"),
    (r"\.cross\.([qkv])\.", r".attn2.to_\1."),
    (r"\.cross\.([qk])_norm", r".attn2.norm_\1.weight"),
    (r"\.cross\.out\.", r".attn2.to_out.0."),
    (r"(blocks\.\d+)\.([qkv])\.", r"\1.attn1.to_\2."),
    (r"(blocks\.\d+)\.([qk])_norm", r"\1.attn1.norm_\2.weight"),
    (r"(blocks\.\d+)\.out\.", r"\1.attn1.to_out.0."),
    (r"\.up\.", ".ff.net.0.proj."),
    (r"\.down\.", ".ff.net.2."),
)


def test_ltx_video_equals_diffusers() -> None:
    model = randomised(
        diffusers.LTXVideoTransformer3DModel(
            in_channels=6,
            out_channels=6,
            num_attention_heads=2,
            attention_head_dim=16,
            cross_attention_dim=32,
            num_layers=3,
            caption_channels=24,
        )
    )
    network = Ltx(3, 16, 2, 6, 24)
    latents, text = drawn(2, 6, 3, 4, 5), drawn(2, 5, 24, seed=4)
    tokens = latents.reshape(2, 6, 60).transpose(0, 2, 1)
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(np.ascontiguousarray(tokens)),
            encoder_hidden_states=torch.from_numpy(text),
            timestep=torch.from_numpy(STEPS),
            encoder_attention_mask=torch.ones(2, 5),
            num_frames=3,
            height=4,
            width=5,
            rope_interpolation_scale=(8 / 25, 32, 32),
        ).sample
    ours = predicted(network, copied(network, model, LTX), latents, STEPS, (text,))
    assert relative(ours.reshape(2, 6, 60).transpose(0, 2, 1), theirs) < 1e-4


MOCHI = (
    (r"^time\.0", "time_embed.timestep_embedder.linear_1"),
    (r"^time\.1", "time_embed.timestep_embedder.linear_2"),
    (r"^pooler\.", "time_embed.pooler.to_"),
    (r"^text\.", "time_embed.caption_proj."),
    (r"^embed\.", "patch_embed.proj."),
    (r"^turns", "pos_frequencies"),
    (r"^final\.modulation", "norm_out.linear"),
    (r"^final\.out", "proj_out"),
    (r"^2\.text\.modulation", "transformer_blocks.2.norm1_context.linear_1"),
    (r"^(\d+)\.", r"transformer_blocks.\1."),
    (r"\.text\.modulation", ".norm1_context.linear"),
    (r"\.modulation", ".norm1.linear"),
    (r"\.text\.([qkv])\.", r".attn1.add_\1_proj."),
    (r"\.text\.([qk])_norm", r".attn1.norm_added_\1.weight"),
    (r"\.text\.out\.", ".attn1.to_add_out."),
    (r"\.text\.up\.", ".ff_context.net.0.proj."),
    (r"\.text\.down\.", ".ff_context.net.2."),
    (r"(blocks\.\d+)\.([qkv])\.", r"\1.attn1.to_\2."),
    (r"(blocks\.\d+)\.([qk])_norm", r"\1.attn1.norm_\2.weight"),
    (r"(blocks\.\d+)\.out\.", r"\1.attn1.to_out.0."),
    (r"\.up\.", ".ff.net.0.proj."),
    (r"\.down\.", ".ff.net.2."),
)


def test_mochi_equals_diffusers() -> None:
    model = randomised(
        diffusers.MochiTransformer3DModel(
            num_attention_heads=3,
            attention_head_dim=16,
            num_layers=3,
            pooled_projection_dim=24,
            in_channels=4,
            text_embed_dim=32,
        )
    )
    network = Mochi(3, 3, 16, 24, 2, 4, 32)
    latents, text = drawn(2, 4, 3, 8, 12), drawn(2, 5, 32, seed=4)
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(latents),
            encoder_hidden_states=torch.from_numpy(text),
            timestep=torch.from_numpy(STEPS),
            encoder_attention_mask=torch.ones(2, 5),
        ).sample
    ours = predicted(network, copied(network, model, MOCHI), latents, STEPS, (text,))
    assert relative(ours, theirs) < 1e-4
