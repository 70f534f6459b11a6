"""CLIP's text encoder against transformers' with the same random weights."""

from __future__ import annotations

import re

import numpy as np
import pytest
from public import drawn, randomised, relative

from dcsim.models import text
from dcsim.models.clip import ClipText, ClipVision
from dcsim.models.tape import Tape
from dcsim.models.weights import Weights, count

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
transformers = pytest.importorskip("transformers", reason="needs the torch extra")

pytestmark = pytest.mark.torch

NAMES = (
    (r"^embed$", "embeddings.token_embedding.weight"),
    (r"^positions$", "embeddings.position_embedding.weight"),
    (r"^norm", "final_layer_norm"),
    (r"^project", "text_projection"),
    (r"^(\d+)\.", r"encoder.layers.\1."),
    (r"\.norm(\d)", r".layer_norm\1"),
    (r"\.([qkv]|out)\.", r".self_attn.\1_proj."),
    (r"\.up", ".mlp.fc1"),
    (r"\.down", ".mlp.fc2"),
)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("skip", [0, 1])
def test_clip_equals_transformers(activation: str, skip: int) -> None:
    config = transformers.CLIPTextConfig(
        vocab_size=50,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=9,
        projection_dim=12,
        hidden_act=activation,
        eos_token_id=49,
    )
    model = randomised(transformers.CLIPTextModelWithProjection(config))
    encoder = ClipText(3, 24, 4, 40, 50, 9, 12, activation, skip)  # type: ignore[arg-type]
    state = {k.replace("text_model.", ""): v.numpy() for k, v in model.state_dict().items()}
    arrays = {}
    for name, _ in encoder.parameters():
        source = name
        for ours, theirs in NAMES:
            source = re.sub(ours, theirs, source)
        arrays[name] = state.pop(source)
    assert not state
    ids = np.array([[3, 7, 49, 1, 1], [9, 2, 4, 49, 5]])
    with torch.no_grad():
        theirs = model(torch.from_numpy(ids), output_hidden_states=True)
    tape = Tape(execute=True)
    weights = Weights(tape, encoder.parameters(), "fp32", arrays)
    ours = encoder.encode(weights, tape.tensor((2, 5), "int64", ids))
    last = theirs.last_hidden_state
    assert relative(ours.sequence.data, theirs.hidden_states[-2] if skip else last) < 1e-4
    assert ours.pooled is not None
    assert relative(ours.pooled.data, theirs.text_embeds) < 1e-4


VISION = (
    (r"^class$", "embeddings.class_embedding"),
    (r"^embed\.", "embeddings.patch_embedding."),
    (r"^positions$", "embeddings.position_embedding.weight"),
    (r"^before", "pre_layrnorm"),
    (r"^norm\.", "post_layernorm."),
    *NAMES[4:],
)


def test_clips_image_encoder_equals_transformers() -> None:
    config = transformers.CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=21,
        patch_size=7,
        hidden_act="gelu",
    )
    model = randomised(transformers.CLIPVisionModel(config))
    encoder = ClipVision(3, 24, 4, 40, 21, 7)
    state = {k.replace("vision_model.", ""): v.numpy() for k, v in model.state_dict().items()}
    state.pop("embeddings.position_ids", None)
    arrays = {}
    for name, _ in encoder.parameters():
        source = name
        for ours, theirs in VISION:
            source = re.sub(ours, theirs, source)
        arrays[name] = state.pop(source)
    assert not state
    pixels = drawn(1, 3, 21, 21)
    with torch.no_grad():
        theirs = model(torch.from_numpy(pixels), output_hidden_states=True).hidden_states[-2]
    tape = Tape(execute=True)
    weights = Weights(tape, encoder.parameters(), "fp32", arrays)
    ours = encoder.encode(weights, encoder.fed(tape, 10, "fp32", pixels)).sequence
    assert ours.shape == (1, encoder.tokens, 24) == (1, 10, 24)
    assert relative(ours.data, theirs) < 1e-4


def test_parameters_of_clips_image_encoder() -> None:
    config = transformers.CLIPVisionConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=16,
        image_size=224,
        patch_size=14,
    )
    with torch.device("meta"):
        model = transformers.CLIPVisionModel(config)
    want = sum(each.numel() for each in model.parameters())
    assert count(text.get("clip-h-vision").parameters()) == want


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("clip-l-projected", {"projection_dim": 768}),
        (
            "clip-g",
            {
                "hidden_size": 1280,
                "intermediate_size": 5120,
                "num_hidden_layers": 32,
                "num_attention_heads": 20,
                "projection_dim": 1280,
            },
        ),
    ],
)
def test_parameters_of_clip(name: str, given: dict[str, int]) -> None:
    """0.123 and 0.695 thousand million."""
    defaults = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    with torch.device("meta"):
        model = transformers.CLIPTextModelWithProjection(
            transformers.CLIPTextConfig(**(defaults | given))
        )
    assert count(text.get(name).parameters()) == sum(p.numel() for p in model.parameters())
