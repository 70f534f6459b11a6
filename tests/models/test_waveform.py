"""The decoder of audio against that of diffusers' `AutoencoderOobleck`, weight norms folded."""

from __future__ import annotations

import re
from typing import Any

import pytest
from public import drawn, randomised, relative

from dcsim.models.tape import Tape
from dcsim.models.waveform import WaveDecoder
from dcsim.models.weights import Weights, count

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
diffusers = pytest.importorskip("diffusers", reason="needs the torch extra", exc_type=ImportError)

from dcsim.traces.torch import Stage, trace  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

NAMES = (
    (r"^first", "conv1"),
    (r"^last", "conv2"),
    (r"^snake", "snake1"),
    (r"^(\d+)\.snake", r"block.\1.snake1"),
    (r"^(\d+)\.up", r"block.\1.conv_t1"),
    (r"^(\d+)\.(\d+)", lambda m: f"block.{m[1]}.res_unit{int(m[2]) + 1}"),
)


def folded(decoder: Any) -> Any:
    """Without its weight norms."""
    for module in decoder.modules():
        if hasattr(module, "weight_g"):
            torch.nn.utils.remove_weight_norm(module)
    return decoder


def public(**config: Any) -> Any:
    return folded(diffusers.AutoencoderOobleck(**config).decoder)


@pytest.mark.parametrize("latents", [5, 8])
def test_it_equals_diffusers(latents: int) -> None:
    model = randomised(
        public(
            encoder_hidden_size=4,
            decoder_channels=6,
            decoder_input_channels=3,
            audio_channels=2,
            downsampling_ratios=[2, 6, 4],
            channel_multiples=[1, 2, 3],
        )
    )
    ours = WaveDecoder(channels=3, hidden=6, multiples=(1, 2, 3), strides=(2, 6, 4))
    state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    arrays = {}
    for name, shape in ours.parameters():
        source = name
        for mine, theirs in NAMES:
            source = re.sub(mine, theirs, source)
        arrays[name] = state.pop(source).reshape(shape)
    assert not state
    given = drawn(2, 3, latents)
    with torch.no_grad():
        theirs = model(torch.from_numpy(given))
    tape = Tape(execute=True)
    weights = Weights(tape, ours.parameters(), "fp32", arrays)
    found = ours.decode(weights, tape.tensor(given.shape, "fp32", given))
    assert found.shape[2] == 48 * latents
    assert relative(found.data, theirs) < 1e-4


def test_at_full_size_it_holds_what_diffusers_holds() -> None:
    """Ten seconds in bf16: parameters and FLOPs equal, activations within 1 %."""
    ours, latents = WaveDecoder(), 217
    theirs = trace(lambda: Stage("forward", public(), torch.zeros(1, 64, latents)), {})
    record = theirs.records["forward"]
    tape = Tape()
    weights = Weights(tape, ours.parameters(), "bf16")
    found = ours.decode(weights, tape.tensor((1, 64, latents), "bf16", category="inputs"))
    assert found.shape == (1, 2, 217 * 2048)
    assert count(ours.parameters()) == theirs.phases[0].params
    flops = [event[3] for event in tape.events if event[0] == "op" and event[3]]
    assert flops == [int(each) for each in record.flops if each]
    peak = max(sum(held) for _, held in tape.profile)
    assert peak == pytest.approx(int(record.held.sum(axis=1).max()), rel=0.01)


def test_flops_of_the_blocks_by_hand() -> None:
    """Of 3 latents, 2 channels, a level of 4 times 5 channels: each convolution by itself."""
    ours = WaveDecoder(channels=2, hidden=5, multiples=(4,), strides=(2,))
    tape = Tape()
    weights = Weights(tape, ours.parameters(), "fp32")
    ours.decode(weights, tape.tensor((1, 2, 3), "fp32"))
    flops = [event[3] for event in tape.events if event[0] == "op" and event[3]]
    first = 2 * 3 * 2 * 20 * 7
    up = 2 * 3 * 20 * 5 * 4  # a kernel of twice the stride for each of 3 entries
    unit = [2 * 6 * 5 * 5 * 7, 2 * 6 * 5 * 5]
    assert flops == [first, up, *unit * 3, 2 * 6 * 5 * 2 * 7]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strides": (2, 3), "multiples": (1, 2)}, "strides: 3 is odd"),
        ({"strides": (2, 4)}, "strides: 2 of 5 multiples"),
    ],
)
def test_what_it_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WaveDecoder(**given).check()
