"""The blocks of language models against transformers' own, random weights copied over.

With them the parameters of every model of the catalogue that transformers knows, counted there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from dcsim.models import llm
from dcsim.models.catalogue import get
from dcsim.models.delta import GatedDelta
from dcsim.models.feed_forward import Dense, Experts
from dcsim.models.gqa import Gqa
from dcsim.models.llm import Block, Cache, LlmConfig
from dcsim.models.mla import Mla
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import Array, Tape
from dcsim.models.weights import Weights, count

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
transformers = pytest.importorskip(
    "transformers", minversion="5.0", reason="needs the torch extra", exc_type=ImportError
)

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

IDS = np.arange(13) * 7 % 101
SIZES = {"vocab_size": 101, "hidden_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8}


def blocks(*parts: tuple[Any, Any], eps: float = 1e-6, tied: bool = False) -> LlmConfig:
    return LlmConfig(tuple(Block(*part) for part in parts), 48, 101, tied, eps)


def plain(theta: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}


def gqa(**given: Any) -> Gqa:
    return Gqa(6, 2, 8, **given)


def mla(**given: Any) -> Mla:
    return Mla(heads=4, kv_rank=24, nope=16, rope=8, value=12, **given)


LATENT = {
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "kv_lora_rank": 24,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "rope_interleave": False,
    "moe_intermediate_size": 16,
    "intermediate_size": 64,
    "first_k_dense_replace": 1,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
}
DENSE = Dense(64)
ROUTED = Experts(4, 2, 24)

CASES: Mapping[str, tuple[str, dict[str, Any], LlmConfig]] = {
    "llama": (
        "Llama",
        {**HEADS, "intermediate_size": 64, **plain(5e5)},
        blocks((gqa(theta=5e5), DENSE), (gqa(theta=5e5), DENSE)),
    ),
    "qwen2": (
        "Qwen2",
        {**HEADS, "intermediate_size": 64, **plain(1e6)},
        blocks(*[(gqa(theta=1e6, bias=True), DENSE)] * 2),
    ),
    "qwen3, tied": (
        "Qwen3",
        {**HEADS, "intermediate_size": 64, "tie_word_embeddings": True, **plain(1e6)},
        blocks(*[(gqa(theta=1e6, head_norm=True), DENSE)] * 2, tied=True),
    ),
    "qwen3 moe": (
        "Qwen3Moe",
        {
            **HEADS,
            "moe_intermediate_size": 24,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
            **plain(1e6),
        },
        blocks(*[(gqa(theta=1e6, head_norm=True), ROUTED)] * 2),
    ),
    "mixtral": (
        "Mixtral",
        {
            **HEADS,
            "intermediate_size": 24,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            **plain(1e6),
        },
        blocks(*[(gqa(theta=1e6), ROUTED)] * 2, eps=1e-5),
    ),
    "gpt-oss": (
        "GptOss",
        {
            **HEADS,
            "intermediate_size": 24,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 4,
            **plain(150_000.0),
        },
        blocks(
            *[
                (
                    gqa(theta=150_000.0, bias=True, out_bias=True, sinks=True, window=window),
                    Experts(4, 2, 24, bias=True, activation="clamped"),
                )
                for window in (4, None)
            ],
            eps=1e-5,
        ),
    ),
    "gemma 2": (
        "Gemma2",
        {
            **HEADS,
            "intermediate_size": 64,
            "query_pre_attn_scalar": 8,
            "sliding_window": 4,
            # Low enough that both bend what they cap.
            "attn_logit_softcapping": 1.5,
            "final_logit_softcapping": 2.0,
            **plain(1e4),
        },
        LlmConfig(
            tuple(
                Block(gqa(theta=1e4, softcap=1.5, window=window), Dense(64, "gelu"))
                for window in (4, None)
            ),
            48,
            101,
            tied=True,
            eps=1e-6,
            post_norms=True,
            scaled_embedding=True,
            softcap=2.0,
        ),
    ),
    "deepseek": (
        "DeepseekV3",
        {**LATENT, "q_lora_rank": 20, "n_group": 4, "topk_group": 2, **plain(1e4)},
        blocks(
            (mla(q_rank=20), DENSE),
            (
                mla(q_rank=20),
                Experts(
                    8,
                    2,
                    16,
                    shared=16,
                    router="sigmoid",
                    groups=4,
                    chosen_groups=2,
                    scale=2.5,
                ),
            ),
        ),
    ),
    "kimi": (
        "DeepseekV3",
        {
            **LATENT,
            "q_lora_rank": None,
            "n_group": 1,
            "topk_group": 1,
            "routed_scaling_factor": 2.827,
            **plain(5e4),
        },
        blocks(
            (mla(theta=5e4), DENSE),
            (
                mla(theta=5e4),
                Experts(8, 2, 16, shared=16, router="sigmoid", scale=2.827),
            ),
        ),
    ),
    "qwen3-next": (
        "Qwen3Next",
        {
            **HEADS,
            "num_hidden_layers": 4,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 12,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e7,
                "partial_rotary_factor": 0.5,
            },
        },
        blocks(
            *[
                (mixer, Experts(4, 2, 24, shared=16, shared_gate=True))
                for mixer in (
                    *[GatedDelta(2, 4, 8, 12)] * 3,
                    gqa(theta=1e7, rotary=4, head_norm=True, gate=True),
                )
            ]
        ),
    ),
}


def public(family: str, settings: Mapping[str, Any]) -> Any:
    """transformers' model with weights drawn so that every one of them tells."""
    torch.manual_seed(7)
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **settings})
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval().float()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            fan = tensor[0].numel() if tensor.dim() > 1 else 4
            if "experts." in name and tensor.dim() == 3:
                fan = tensor.shape[1] if family == "GptOss" else tensor.shape[2]
            tensor.copy_(torch.randn_like(tensor) / fan**0.5 + ("norm" in name))
    return model


PLACES = {
    "norm1": "input_layernorm.weight",
    "norm2": "post_attention_layernorm.weight",
    "norm1_post": "after_attention.weight",
    "norm2_post": "post_feedforward_layernorm.weight",
    "q_norm": "self_attn.q_norm.weight",
    "k_norm": "self_attn.k_norm.weight",
    "out": "self_attn.o_proj.weight",
    "out_bias": "self_attn.o_proj.bias",
    "sinks": "self_attn.sinks",
    "kv_a": "self_attn.kv_a_proj_with_mqa.weight",
    "kv_norm": "self_attn.kv_a_layernorm.weight",
    "kv": "self_attn.kv_b_proj.weight",
    "q_a": "self_attn.q_a_proj.weight",
    "router": "mlp.gate.weight",
    "router_bias": "mlp.gate.e_score_correction_bias",
    "down": "mlp.down_proj.weight",
    "shared.down": "mlp.shared_experts.down_proj.weight",
    "beta_decay": "linear_attn.in_proj_ba.weight",
    "conv": "linear_attn.conv1d.weight",
    "decay_bias": "linear_attn.dt_bias",
    "decay_rate": "linear_attn.A_log",
    "out_norm": "linear_attn.norm.weight",
    "shared.gate": "mlp.shared_expert_gate.weight",
    "experts.up": "mlp.experts.gate_up_proj",
    "experts.down": "mlp.experts.down_proj",
}


def copied(model: Any, config: LlmConfig) -> dict[str, Array]:
    """The public model's weights under our names; all of them must be used."""
    state = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    if config.tied:
        del state["lm_head.weight"]
    gpt_oss = any("router" in name for name in state)
    if any("linear_attn" in name for name in state):
        _as_others(state, config)
    if config.post_norms:
        _of_gemma(state)
    out: dict[str, Array] = {}

    def take(*names: str) -> Array:
        return np.concatenate([state.pop(name) for name in names])

    for name, shape in llm.parameters(config):
        if not name[0].isdigit():
            where = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
            out[name] = take(f"{where[name]}.weight")
            continue
        number, part = name.split(".", 1)
        at = f"model.layers.{number}."
        mixed = config.blocks[int(number)].attention
        if part in ("qkv", "qkv_bias"):
            kind = "weight" if part == "qkv" else "bias"
            out[name] = take(*(f"{at}self_attn.{x}_proj.{kind}" for x in "qkv"))
        elif part == "q":
            press = isinstance(mixed, Mla) and mixed.q_rank is not None
            out[name] = take(f"{at}self_attn.q{'_b' if press else ''}_proj.weight")
        elif part == "qkvz":
            out[name] = take(f"{at}linear_attn.in_proj_qkvz.weight")
        elif part == "q_norm" and isinstance(mixed, Mla):
            out[name] = take(f"{at}self_attn.q_a_layernorm.weight")
        elif part in ("up", "shared.up"):
            inner = "shared_experts." if part == "shared.up" else ""
            out[name] = take(*(f"{at}mlp.{inner}{x}_proj.weight" for x in ("gate", "up")))
        elif gpt_oss and part.startswith(("router", "experts")):
            out[name] = _gpt_oss(part, take, at)
        else:
            out[name] = take(at + PLACES[part])
        assert out[name].shape == shape, name
    assert not state
    return out


def _as_others(state: dict[str, Array], config: LlmConfig) -> None:
    """Qwen3-Next's weights in the order that others have: norms about one, heads after kinds."""
    for name in list(state):
        if name.endswith("norm.weight") and "linear_attn" not in name:
            state[name] = state[name] + 1
        state[name.replace("shared_expert.", "shared_experts.")] = state.pop(name)
    for i, block in enumerate(config.blocks):
        mixer, at = block.attention, f"model.layers.{i}."
        if isinstance(mixer, Gqa):
            q = state[f"{at}self_attn.q_proj.weight"].reshape(mixer.heads, 2, mixer.head, -1)
            both = q.swapaxes(0, 1).reshape(2 * mixer.heads * mixer.head, -1)
            state[f"{at}self_attn.q_proj.weight"] = both
            continue
        assert isinstance(mixer, GatedDelta)
        at += "linear_attn."
        state[f"model.layers.{i}.self_attn.o_proj.weight"] = state.pop(f"{at}out_proj.weight")
        state[f"{at}conv1d.weight"] = state[f"{at}conv1d.weight"][:, 0]
        # A group is a key head: its q, k, and v and z of its value heads.
        each = mixer.value_heads // mixer.key_heads * mixer.value
        qkvz = state[f"{at}in_proj_qkvz.weight"].reshape(mixer.key_heads, -1, config.hidden)
        edges = np.cumsum([mixer.key, mixer.key, each])
        parts = np.split(qkvz, edges, axis=1)
        whole = np.concatenate([part.reshape(-1, config.hidden) for part in parts])
        state[f"{at}in_proj_qkvz.weight"] = whole
        signs = state[f"{at}in_proj_ba.weight"].reshape(mixer.key_heads, 2, -1, config.hidden)
        state[f"{at}in_proj_ba.weight"] = signs.swapaxes(0, 1).reshape(-1, config.hidden)


def _of_gemma(state: dict[str, Array]) -> None:
    """Gemma's norms about one, and under the names that others have for those before a half."""
    for name in [name for name in state if name.endswith("norm.weight")]:
        changed = name.replace("post_attention_layernorm", "after_attention")
        changed = changed.replace("pre_feedforward_layernorm", "post_attention_layernorm")
        state[changed] = state.pop(name) + 1


def _gpt_oss(part: str, take: Any, at: str) -> Array:
    """Its experts are stored (in, out), with gate and up in turns."""
    if part.startswith("router"):
        return take(f"{at}mlp.router.{'bias' if part.endswith('bias') else 'weight'}")
    source = part.replace("experts.up", "experts.gate_up_proj")
    source = source.replace("experts.down", "experts.down_proj")
    found = take(f"{at}mlp.{source}")
    if not part.endswith("bias"):
        found = found.transpose(0, 2, 1)
    if ".up" in part:
        found = np.concatenate([found[:, ::2], found[:, 1::2]], 1)
    return np.ascontiguousarray(found)


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_transformers(case: str) -> None:
    family, settings, config = CASES[case]
    model = public(family, settings)
    with torch.no_grad():
        want = model(torch.from_numpy(IDS)[None]).logits[0].numpy()
    arrays = copied(model, config)
    # The whole in one pass, in pieces, and token by token: MLA computes these in two ways.
    for pieces in ([13], [6, 4, 3], [5, *[1] * 8]):
        tape = Tape(execute=True)
        weights = Weights(tape, llm.parameters(config), "fp32", arrays)
        cache, done = Cache("fp32"), 0
        for n in pieces:
            ids = IDS[done : done + n]
            out = llm.forward(config, weights, tape, ids, n, cache, logits=True)
            done += n
            assert out is not None
            error = np.abs(out.data[0] - want[done - 1]).max() / np.abs(want).max()
            assert error < 2e-5, (pieces, done, error)


@pytest.mark.parametrize("window", [1, 4, 13])
def test_a_window_alone(window: int) -> None:
    """Sliding-window attention against torch's own with the same mask."""
    rng = np.random.Generator(np.random.Philox(3))
    q, k, v = (rng.standard_normal((1, 13, heads, 8)).astype(np.float32) for heads in (4, 2, 2))
    tape = Tape(execute=True)
    ours = softmax_attention(
        *(tape.tensor(x.shape, "fp32", x) for x in (q, k, v)), causal=True, window=window
    )
    mask = torch.ones(13, 13, dtype=torch.bool).tril().triu(1 - window)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        *(torch.from_numpy(x).transpose(1, 2) for x in (q, k, v)), attn_mask=mask, enable_gqa=True
    )
    np.testing.assert_allclose(ours.data, theirs.transpose(1, 2).numpy(), rtol=1e-4, atol=1e-5)
    assert tape.events[-1][0] == "free"
    flops = sum(e[3] for e in tape.events if e[0] == "op")
    assert flops == 2 * 2 * 4 * 8 * int(mask.sum())


PUBLISHED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "llama-3.1-8b": (
        "Llama",
        {
            "vocab_size": 128256,
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "intermediate_size": 14336,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
        },
    ),
    "mixtral-8x7b": ("Mixtral", {}),
    "gemma-2-2b": ("Gemma2", {}),
    "gemma-2-9b": (
        "Gemma2",
        {
            "hidden_size": 3584,
            "intermediate_size": 14336,
            "num_hidden_layers": 42,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
        },
    ),
    "gpt-oss-120b": ("GptOss", {}),
    "gpt-oss-20b": ("GptOss", {"num_hidden_layers": 24, "num_local_experts": 32}),
    "deepseek-v3": ("DeepseekV3", {}),
    "qwen3-30b-a3b": (
        "Qwen3Moe",
        {
            "vocab_size": 151936,
            "hidden_size": 2048,
            "num_hidden_layers": 48,
            "moe_intermediate_size": 768,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "num_experts": 128,
        },
    ),
    "qwen3-next-80b-a3b": ("Qwen3Next", {}),
    "qwen3.6-35b-a3b": ("Qwen3_5MoeText", {}),
    "qwen3.6-27b": (
        "Qwen3_5Text",
        {
            "hidden_size": 5120,
            "intermediate_size": 17408,
            "num_hidden_layers": 64,
            "num_attention_heads": 24,
            "linear_num_value_heads": 48,
        },
    ),
    "kimi-k2": (
        "DeepseekV3",
        {
            "vocab_size": 163840,
            "num_attention_heads": 64,
            "num_key_value_heads": 64,
            "n_routed_experts": 384,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
        },
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_equal_transformers(name: str) -> None:
    """Without settings: transformers' defaults, which are those of the published model."""
    family, settings = PUBLISHED[name]
    config = getattr(transformers, f"{family}Config")(**settings)
    with torch.device("meta"):
        model = getattr(transformers, f"{family.removesuffix('Text')}ForCausalLM")(config)
    # The router's bias of DeepSeek-V3 is a buffer there.
    biases = sum(b.numel() for n, b in model.named_buffers() if n.endswith("correction_bias"))
    found = get(name).network
    assert isinstance(found, LlmConfig)
    ours = count(llm.parameters(found))
    assert ours == sum(p.numel() for p in model.parameters()) + biases
