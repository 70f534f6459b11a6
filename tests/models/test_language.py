"""The catalogue of language models against what their authors publish, and KV by hand."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from dcsim import traces
from dcsim.models import ModelError, get, language, llm, names
from dcsim.models.catalogue import aliases
from dcsim.models.feed_forward import Experts, Routing
from dcsim.models.llm import Cache, LlmConfig
from dcsim.models.tape import Tape
from dcsim.models.weights import Weights, count, size

LLMS = [name for name in names() if get(name).kind == "llm"]

# Total and active parameters in units of 10^9 as printed, with the value of the last digit printed,
# and whether the active ones include the embedding that a token only looks up.
PUBLISHED: dict[str, tuple[float, float, float | None, float, bool]] = {
    "llama-3.1-8b": (8.03, 0.01, None, 0, False),  # models/sku_list.py
    "llama-3.1-70b": (70.6, 0.1, None, 0, False),
    "llama-3.1-405b": (405, 1, None, 0, False),
    "llama-2-7b": (6.74, 0.01, None, 0, False),  # model card of the repository
    "llama-2-70b": (69, 1, None, 0, False),
    "qwen2-7b": (7.62, 0.01, None, 0, False),
    "qwen2.5-14b": (14.8, 0.1, None, 0, False),
    "qwen3-0.6b": (0.6, 0.1, None, 0, False),  # model cards; the next three without embedding below
    "qwen3-1.7b": (1.7, 0.1, None, 0, False),
    "qwen3-4b": (4.0, 0.1, None, 0, False),
    "qwen3-8b": (8.2, 0.1, None, 0, False),
    "qwen3-14b": (14.8, 0.1, None, 0, False),
    "qwen3-32b": (32.8, 0.1, None, 0, False),
    "qwen3-30b-a3b": (30.5, 0.1, 3.3, 0.1, True),
    "qwen3-235b-a22b": (235, 1, 22, 1, True),
    "qwen3-coder-480b-a35b": (480, 1, 35, 1, True),
    "mixtral-8x7b": (46.7, 0.1, 12.9, 0.1, True),  # mistral.ai/news/mixtral-of-experts
    "mixtral-8x22b": (141, 1, 39, 1, True),
    "gemma-2-2b": (2.61, 0.01, None, 0, False),  # Gemma Team 2024, table 2
    "gemma-2-9b": (9.24, 0.01, None, 0, False),
    "gpt-oss-20b": (20.91, 0.01, 3.61, 0.01, False),  # model card, table 1
    "gpt-oss-120b": (116.83, 0.01, 5.13, 0.01, False),
    "deepseek-v3": (671, 1, 36.6, 0.1, False),  # README_WEIGHTS.md
    "qwen3-next-80b-a3b": (80, 1, 3, 1, False),  # and the next two: transformers' count in
    "qwen3.6-35b-a3b": (35, 1, 3, 1, False),  # test_torch_llm
    "qwen3.6-27b": (27, 1, None, 0, False),
    "kimi-k2": (1026.408232448, 1e-9, 32, 1, False),  # "1T"; transformers' count in test_torch_llm
}


def config_of(name: str) -> LlmConfig:
    found = get(name).network
    assert isinstance(found, LlmConfig)
    return found


def test_every_model_is_held_against_a_published_count() -> None:
    assert set(PUBLISHED) == set(LLMS)


@pytest.mark.parametrize("name", LLMS)
def test_parameters_within_half_a_percent_or_the_digit_printed(name: str) -> None:
    total, digit, active, active_digit, looked_up = PUBLISHED[name]
    config = config_of(name)
    assert abs(get(name).params / 1e9 - total) <= max(0.005 * total, digit / 2)
    if active is None:
        assert not config.experts
        return
    ours = config.active + (config.vocabulary * config.hidden if looked_up else 0)
    # Qwen prints 3.3 where its own configuration has 3.353: digits cut, not rounded.
    assert abs(ours / 1e9 - active) <= max(0.005 * active, active_digit)


def test_active_parameters_by_hand() -> None:
    # Attention 4096 x (32 + 2 x 8) x 128 and 4096 x 4096, two experts of 3 x 4096 x 14336, a
    # router of 4096 x 8, two norms; a last norm and the head.
    layer = 4096 * 48 * 128 + 4096 * 4096 + 2 * 3 * 4096 * 14336 + 4096 * 8 + 2 * 4096
    assert config_of("mixtral-8x7b").active == 32 * layer + 4096 + 32000 * 4096
    # Tied: the embedding is the head.
    assert config_of("qwen3-0.6b").active == get("qwen3-0.6b").params
    # Non-embedding parameters of the model cards: 0.44, 1.4 and 3.6 billion.
    for name, billions, digit in (("0.6b", 0.44, 0.01), ("1.7b", 1.4, 0.1), ("4b", 3.6, 0.1)):
        config = config_of(f"qwen3-{name}")
        rest = get(f"qwen3-{name}").params - config.vocabulary * config.hidden
        assert abs(rest / 1e9 - billions) <= digit / 2


KV = {
    "llama-3.1-8b": 32 * 2 * 8 * 128 * 2,
    "llama-3.1-70b": 80 * 2 * 8 * 128 * 2,
    "llama-3.1-405b": 126 * 2 * 8 * 128 * 2,
    "llama-2-7b": 32 * 2 * 32 * 128 * 2,
    "llama-2-70b": 80 * 2 * 8 * 128 * 2,
    "qwen2-7b": 28 * 2 * 4 * 128 * 2,
    "qwen2.5-14b": 48 * 2 * 8 * 128 * 2,
    "qwen3-0.6b": 28 * 2 * 8 * 128 * 2,
    "qwen3-1.7b": 28 * 2 * 8 * 128 * 2,
    "qwen3-4b": 36 * 2 * 8 * 128 * 2,
    "qwen3-8b": 36 * 2 * 8 * 128 * 2,
    "qwen3-14b": 40 * 2 * 8 * 128 * 2,
    "qwen3-32b": 64 * 2 * 8 * 128 * 2,
    "qwen3-30b-a3b": 48 * 2 * 4 * 128 * 2,
    "qwen3-235b-a22b": 94 * 2 * 4 * 128 * 2,
    "qwen3-coder-480b-a35b": 62 * 2 * 8 * 128 * 2,
    "mixtral-8x7b": 32 * 2 * 8 * 128 * 2,
    "mixtral-8x22b": 56 * 2 * 8 * 128 * 2,
    "gemma-2-2b": 26 * 2 * 4 * 256 * 2,
    "gemma-2-9b": 42 * 2 * 8 * 256 * 2,
    "gpt-oss-20b": 24 * 2 * 8 * 64 * 2,
    "gpt-oss-120b": 36 * 2 * 8 * 64 * 2,
    "qwen3-next-80b-a3b": 12 * 2 * 2 * 256 * 2,
    "qwen3.6-35b-a3b": 10 * 2 * 2 * 256 * 2,
    "qwen3.6-27b": 16 * 2 * 4 * 256 * 2,
    "deepseek-v3": 61 * (512 + 64) * 2,
    "kimi-k2": 61 * (512 + 64) * 2,
}


# Layers, value heads of 128 x 128 in float32, and three inputs of the convolution in bf16.
STATES = {
    "qwen3-next-80b-a3b": 36 * (32 * 128 * 128 * 4 + 3 * (2 * 16 + 32) * 128 * 2),
    "qwen3.6-35b-a3b": 30 * (32 * 128 * 128 * 4 + 3 * (2 * 16 + 32) * 128 * 2),
    "qwen3.6-27b": 48 * (48 * 128 * 128 * 4 + 3 * (2 * 16 + 48) * 128 * 2),
}


@pytest.mark.parametrize("name", LLMS)
def test_kv_bytes_of_a_token_by_hand(name: str) -> None:
    config = config_of(name)
    assert config.kv(1, "bf16").token == KV[name]
    assert config.kv(1, "fp8").token == KV[name] // 2
    assert config.kv(1, "fp4").token == KV[name] * 9 // 32  # four bits, and eight for each 16
    # And what a pass of three tokens leaves behind.
    tape, cache = Tape(), Cache("bf16")
    weights = Weights(tape, llm.parameters(config), "bf16")
    llm.forward(config, weights, tape, None, 3, cache, logits=False)
    assert tape.live == 3 * KV[name] + STATES.get(name, 0)


def test_kv_on_each_of_several_gpus() -> None:
    # KV heads are divided as far as they go, then repeated; latents are always repeated.
    llama, kimi = config_of("llama-3.1-70b"), config_of("kimi-k2")
    assert [llama.kv(tp, "bf16").token for tp in (1, 2, 8, 16)] == [
        327_680,
        163_840,
        40_960,
        40_960,
    ]
    assert [kimi.kv(tp, "bf16").token for tp in (1, 8, 16)] == [70_272] * 3
    assert config_of("qwen3-235b-a22b").kv(8, "fp8").token == 94 * 2 * 128


def test_a_window_stops_growing() -> None:
    config = config_of("gpt-oss-120b")
    kept = config.kv(1, "bf16")
    half = 18 * 2 * 8 * 64 * 2
    assert (kept.growth, kept.state, kept.window) == (half, 128 * half, 128)
    tape, cache = Tape(), Cache("bf16")
    weights = Weights(tape, llm.parameters(config), "bf16")
    held = []
    for n in (100, 28, 1, 300):
        llm.forward(config, weights, tape, None, n, cache, logits=False)
        held.append(tape.live)
    assert held == [
        100 * 2 * half,
        128 * 2 * half,
        129 * half + 128 * half,
        429 * half + 128 * half,
    ]


@pytest.mark.parametrize("name", STATES)
def test_a_state_has_no_length(name: str) -> None:
    config = config_of(name)
    for tp in (1, 2, 8):
        kept = config.kv(tp, "fp8")
        assert (kept.state, kept.window) == (STATES[name] // tp, 0)
    tape, cache = Tape(), Cache("fp8")
    weights = Weights(tape, llm.parameters(config), "bf16")
    for n in (1, 700, 1):
        llm.forward(config, weights, tape, None, n, cache, logits=False)
        assert tape.live == cache.tokens * KV[name] // 2 + STATES[name]


def test_weights_as_published() -> None:
    """gpt-oss: 60.8 and 12.8 GiB on disk (model card); DeepSeek-V3: a byte a parameter."""
    for name, gib in (("gpt-oss-120b", 60.8), ("gpt-oss-20b", 12.8)):
        assert get(name).resolve()["weights_dtype"] == "mxfp4"
        found = size(llm.parameters(config_of(name)), "mxfp4") / 2**30
        assert found == pytest.approx(gib, abs=0.05)
    config = config_of("deepseek-v3")
    wide = 2 * config.vocabulary * config.hidden + 58 * 256 * config.hidden
    found = size(llm.parameters(config), "fp8")
    # All but the embedding, the head, the routers and vectors are one byte.
    vectors = config.layers * (2 * 7168 + 1536 + 512) + 7168 + 58 * 256
    assert found == count(llm.parameters(config)) + wide + vectors


def test_experts_are_divided_and_routers_repeated() -> None:
    config = config_of("qwen3-30b-a3b")
    whole, local = (dict(llm.parameters(config, tp)) for tp in (1, 4))
    assert whole["0.experts.up"] == (128, 2 * 768, 2048)
    assert local["0.experts.up"] == (128, 2 * 192, 2048)
    assert local["0.experts.down"] == (128, 2048, 192)
    assert local["0.router"] == whole["0.router"] == (128, 2048)
    latent = dict(llm.parameters(config_of("kimi-k2"), 16))
    assert latent["1.kv_a"] == (576, 7168)
    assert latent["1.q"] == (4 * 192, 1536)
    assert latent["1.kv"] == (4 * 256, 512)


def test_a_share_of_the_experts_is_read() -> None:
    config = config_of("qwen3-30b-a3b")
    read = []
    for share in (1.0, 0.5, 0.0625):
        tape, cache = Tape(), Cache("bf16")
        weights = Weights(tape, llm.parameters(config), "bf16")
        llm.forward(config, weights, tape, None, 1, cache, logits=True, routing=Routing(share))
        read.append(sum(e[4] for e in tape.events if e[0] == "op" and e[2] == "dense"))
    experts = 48 * 128 * 3 * 768 * 2048 * 2
    assert read[0] - read[1] == experts // 2
    assert read[0] - read[2] == experts // 16 * 15


def test_aliases_are_the_same_model() -> None:
    assert get("llama-3.3-70b") is get("llama-3.1-70b")
    assert get("deepseek-r1") is get("deepseek-v3")
    known = aliases()
    assert not set(known) & set(names())
    assert set(known.values()) <= set(names())


def test_options_follow_the_blocks() -> None:
    assert set(get("gpt-oss-20b").options) - set(get("llama-3.1-8b").options) == {
        "experts_read",
        "expert_imbalance",
        "window_kv",
    }
    with pytest.raises(ModelError, match="experts_read"):
        get("llama-3.1-8b").resolve({"experts_read": 0.5})
    with pytest.raises(ModelError, match="mxfp4"):
        get("llama-3.1-8b").resolve({"weights_dtype": "mxfp4"})
    with pytest.raises(ModelError, match="outside"):
        get("kimi-k2").resolve({"experts_read": 0})


GOOD = """
models:
  tiny:
    title: Tiny decoder
    source: a test
    hidden: 64
    vocabulary: 100
    attention:
      full: {kind: gqa, heads: 4, kv_heads: 2, head: 16}
    feed_forward:
      mixed: {kind: experts, experts: 4, chosen: 2, width: 32}
    layers:
      - {times: 2, of: [full + mixed, full + mixed]}
"""


def test_a_file_gives_a_model(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(GOOD, encoding="utf-8")
    config = language.read(file)["tiny"].config()
    assert config.layers == 4
    assert isinstance(config.blocks[3].feed_forward, Experts)
    # 64 x (4 + 2 x 2) x 16 + 64 x 64, four experts of 3 x 32 x 64, a router, two norms.
    layer = 64 * 128 + 64 * 64 + 4 * 3 * 32 * 64 + 4 * 64 + 128
    assert count(llm.parameters(config)) == 4 * layer + 64 + 2 * 100 * 64


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hidden: 64", "hiden: 64", "hiden"),
        ("kind: gqa", "kind: gqb", "gqb"),
        ("heads: 4, kv_heads", "kv_heads", "heads"),
        ("width: 32", "width: wide", "width"),
        ("full + mixed,", "full + dense,", "full + dense"),
        ("times: 2", "times: 0", "times"),
        ("heads: 4", "heads: 0", "full.heads: 0 must be 1 or more"),
        ("kv_heads: 2", "kv_heads: 3", "kv_heads: 3 does not divide 4"),
        ("chosen: 2", "chosen: 5", "chosen: 5 of 4 experts"),
        ("head: 16", "head: 15", "2 does not divide 15"),
        ("width: 32", "width: 32, groups: 3", "groups: 3 does not divide 4"),
        ("hidden: 64", "weights_dtype: fp5\n    hidden: 64", "fp5"),
        ("models:", "- models:", "a list where a mapping is due"),
        ("title: Tiny decoder", "title: [", "not YAML"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    file = tmp_path / "tiny.yaml"
    assert old in GOOD
    file.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        language.read(file)
    assert caught.value.problems[0][0] == "model"
    assert str(file) in caught.value.problems[0][1]


def test_a_model_is_named_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD, encoding="utf-8")
    assert get(str(file)).params == get(f"{file}#tiny").params
    assert traces.trace(str(file)).params == get(str(file)).params
    file.write_text(GOOD.replace("hidden: 64", "hidden: 128"), encoding="utf-8")
    os.utime(file, ns=(1, 1))
    assert get(str(file)).network.hidden == 128  # type: ignore[union-attr]
    assert traces.trace(str(file)).params == get(str(file)).params
    two = GOOD + GOOD.partition("models:\n")[2].replace("tiny:", "other:")
    file.write_text(two, encoding="utf-8")
    os.utime(file, ns=(2, 2))
    with pytest.raises(ModelError, match="has tiny, other; name one"):
        get(str(file))
    assert get(f"{file}#other").kind == "llm"
    for name in (f"{file}#none", str(tmp_path / "none.yaml"), str(tmp_path / "none.yml#a")):
        with pytest.raises(ModelError):
            get(name)
    with pytest.raises(ModelError, match=r"none\.yaml"):
        traces.kv(str(tmp_path / "none.yaml"))
