"""PyTorch modules traced under fake tensors, against arithmetic by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from trace_scenes import GPU

from dcsim import traces
from dcsim.models import ModelError
from dcsim.traces import Clip, Record

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)

from dcsim.traces.torch import Stage, TorchRequest, trace  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
nn, F = torch.nn, torch.nn.functional
ROOT = Path(__file__).resolve().parents[2]


def function(run: Callable[..., Any], *modules: Any) -> Any:
    """A module whose forward is `run(modules, *inputs)`."""

    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(modules)

        def forward(self, *inputs: Any) -> Any:
            return run(self.parts, *inputs)

    return Made()


def recorded(make: Callable[[], Any], **options: Any) -> Record:
    return trace(make, options).records["forward"]


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """What tracing changes in torch is as before, however it ended."""
    before = torch.nn.Module._apply, torch.set_autocast_enabled, torch.cuda.is_bf16_supported
    yield
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cuda")
    assert before == (
        torch.nn.Module._apply,
        torch.set_autocast_enabled,
        torch.cuda.is_bf16_supported,
    )


def test_a_feed_forward_by_hand() -> None:
    """64 rows, 512 wide, 2048 between, bf16."""

    def make() -> Any:
        return nn.Sequential(nn.Linear(512, 2048), nn.GELU(), nn.Linear(2048, 512)), torch.zeros(
            64, 512
        )

    found = trace(make)
    record = found.records["forward"]
    narrow, wide = 64 * 512 * 2, 64 * 2048 * 2
    assert record.names == ("addmm", "gelu", "addmm")
    assert record.modules == ("0", "1", "2")
    assert record.held.sum(axis=1).tolist() == [
        narrow + wide,
        narrow + 2 * wide,
        narrow + wide + narrow,  # the first product is gone
    ]
    assert record.live == 2 * narrow
    assert record.peak == 2 * wide - narrow
    assert record.flops.tolist() == [2 * 64 * 512 * 2048, 0, 2 * 64 * 512 * 2048]
    assert record.weights.tolist() == [2 * (512 * 2048 + 2048), 0, 2 * (512 * 2048 + 512)]
    assert record.moved.tolist() == [narrow + wide, 2 * wide, wide + narrow]
    [phase] = found.phases
    assert phase.params == 2 * 512 * 2048 + 2048 + 512
    assert phase.weights == phase.checkpoint == 2 * phase.params
    assert phase.reads == 2 * phase.params
    assert (phase.dtype, phase.dense_dtype) == ("bf16", "bf16")
    assert [(h.op, h.module, h.category, h.bytes) for h in record.holdings] == [
        ("addmm", "0", "activations", wide),
        ("gelu", "1", "activations", wide),
        ("", "", "inputs", narrow),
    ]


def test_sizes_are_rounded_and_views_hold_nothing() -> None:
    def run(_: Any, x: Any) -> Any:
        a = x + 1  # 600 B
        b = a.view(3, 100)[1:].transpose(0, 1)  # views
        a += 1
        b.mul_(2)
        c = b.contiguous()  # 400 B
        del a
        return c[0] * 2  # 4 B, while b keeps all of a

    record = recorded(lambda: (function(run), torch.zeros(300)))
    assert record.names == ("add", "add_", "mul_", "clone", "mul")
    # 300 and 200 numbers of 2 bytes are 600 and 400 B: two grains of 512 B and one.
    assert record.held.sum(axis=1).tolist() == [2048, 2048, 2048, 2560, 3072]
    assert record.live == 1024 + 512
    assert record.moved.tolist() == [1200, 1200, 800, 800, 8]


def heads(x: Any) -> Any:
    return x.view(2, 64, 4, 32).transpose(1, 2)


def attend(parts: Any, x: Any) -> Any:
    q = heads(parts[0](x))
    return F.scaled_dot_product_attention(q, q, q).transpose(1, 2).reshape(2, 64, 128)


def test_attention_holds_no_matrix_of_pairs_unless_asked_to() -> None:
    def make() -> Any:
        return function(attend, nn.Linear(128, 128)), torch.zeros(2, 64, 128)

    fused, math = recorded(make), recorded(make, attention="math")
    row, sums, pairs = 2 * 64 * 128 * 2, 2 * 4 * 64 * 4, 2 * 4 * 64 * 64
    assert fused.names == ("addmm", "attention")  # joining the heads copies nothing
    assert fused.held.sum(axis=1).tolist() == [2 * row, 3 * row + sums]
    assert fused.flops.tolist()[1] == 4 * pairs * 32
    assert math.total("flops", "attention") == 4 * pairs * 32
    # Scores in float32, and their softmax, which holds them both.
    assert math.held.sum(axis=1).max() >= 2 * 4 * pairs
    assert fused.held.sum(axis=1).max() < 4 * pairs * 2


def test_attention_below_python_is_fused_too() -> None:
    def make() -> Any:
        def run(parts: Any, x: Any) -> Any:
            return parts[0](x, x, x, need_weights=False)[0]

        return function(run, nn.MultiheadAttention(128, 4, batch_first=True)), torch.zeros(
            2, 64, 128
        )

    record = recorded(make)
    at = record.names.index("attention")
    assert record.flops[at] == 4 * 2 * 4 * 64 * 64 * 32


def test_a_causal_mask_halves_the_pairs() -> None:
    def run(_: Any, q: Any, k: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, k, is_causal=True)

    # Query i of 3 sees keys 0..i: 1 + 2 + 3 of 3; with 2 keys 1 + 2 + 2.
    for keys, pairs in ((3, 6), (2, 5)):
        record = recorded(
            lambda keys=keys: (function(run), (torch.zeros(1, 1, 3, 8), torch.zeros(1, 1, keys, 8)))
        )
        assert record.flops.tolist() == [2 * pairs * 16]


def test_inference_mode_is_traced_as_no_grad() -> None:
    class Decorated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([nn.Linear(128, 128)])

        @torch.inference_mode()
        def forward(self, x: Any) -> Any:
            y = attend(self.parts, x)
            return torch.matmul(y, y.transpose(1, 2))

    def run(parts: Any, x: Any) -> Any:
        y = attend(parts, x)
        return torch.matmul(y, y.transpose(1, 2))

    x = (2, 64, 128)
    one = recorded(lambda: (Decorated(), torch.zeros(x)))
    other = recorded(lambda: (function(run, nn.Linear(128, 128)), torch.zeros(x)))
    assert one.names == other.names == ("addmm", "attention", "bmm")
    assert one.held.tolist() == other.held.tolist()
    assert one.flops.tolist() == other.flops.tolist()


@pytest.mark.parametrize("way", ["option", "own"])
def test_autocast_of_cuda_is_followed(way: str) -> None:
    """float32 weights: products in bf16, norms in float32, regions as they say."""
    seen: dict[str, str] = {}

    def run(parts: Any, x: Any) -> Any:
        linear, norm = parts
        y = linear(x)
        seen["linear"] = str(y.dtype)
        seen["norm"] = str(norm(y).dtype)
        seen["softmax"] = str(torch.softmax(y, -1).dtype)
        q = torch.zeros(1, 2, 8, 16)
        seen["attention"] = str(F.scaled_dot_product_attention(q, q, q).dtype)
        with torch.autocast("cuda", enabled=False):
            seen["off"] = str(linear(x).dtype)
        with torch.autocast("cuda", dtype=torch.float32):
            seen["float32"] = str(linear(y).dtype)
        return linear(x)

    def own(parts: Any, x: Any) -> Any:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            return run(parts, x)

    def make() -> Any:
        body = own if way == "own" else run
        return function(body, nn.Linear(64, 64), nn.LayerNorm(64)), torch.zeros(4, 64)

    options = {"dtype": "fp32", "autocast": "bf16" if way == "option" else "none"}
    record = recorded(make, **options)
    bf16, fp32 = "torch.bfloat16", "torch.float32"
    assert seen == {
        "linear": bf16,
        "norm": fp32,
        "softmax": fp32,
        "attention": bf16,
        "off": fp32,
        "float32": fp32,
    }
    # The bf16 copies of weight and bias are made once.
    copies = [
        n
        for n, m in zip(record.names, record.weights.tolist(), strict=True)
        if n == "_to_copy" and m >= 64 * 64 * 4
    ]
    assert len(copies) == 1


def test_without_autocast_float32_stays() -> None:
    record = recorded(lambda: (nn.Linear(64, 64), torch.zeros(4, 64)), dtype="fp32")
    assert record.held.sum(axis=1).tolist() == [2 * 4 * 64 * 4]


def test_devices_and_conversions_of_a_factory() -> None:
    def make() -> Any:
        module = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64)).to("cuda", torch.float32)
        return module.cuda().half(), torch.zeros(4, 64, dtype=torch.float16, device="cuda:0")

    found = trace(make)
    assert found.weights_bytes == 2 * 64 * 64 + 3 * 512
    assert found.phases[0].dense_dtype == "fp16"


CASES = {
    "numbers": (lambda _, x: x.tolist(), "op aten._local_scalar_dense.default: a number is read"),
    "branches": (lambda _, x: x if x.sum() > 0 else -x, "_local_scalar_dense"),
    "sizes": (lambda _, x: x.nonzero(), "op aten.nonzero.default: its size depends on values"),
    "arrays": (lambda _, x: x.numpy(), "numpy array"),
    "shapes": (lambda _, x: x @ torch.zeros(3, 3), "op aten.mv.default"),
    "raises": (lambda _, x: 1 // 0, "ZeroDivisionError"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_needs_data_names_the_op_and_the_module(case: str) -> None:
    run, said = CASES[case]
    outer = function(lambda parts, x: parts[0](x), function(run))
    if case == "shapes":
        outer = function(lambda parts, x: parts[0](x), function(lambda _, x: torch.zeros(3, 3) @ x))
    with pytest.raises(ModelError) as error:
        trace(lambda: (outer, torch.zeros(4)))
    [(path, message)] = error.value.problems
    assert path == "--torch"
    assert message.startswith("stage 'forward', module parts.0")
    assert said in message


def test_stages_phases_and_steps() -> None:
    def make() -> TorchRequest:
        body, head = nn.Linear(64, 64), nn.Linear(64, 8)
        return TorchRequest(
            [
                Stage("encode", head, torch.zeros(4, 64)),
                Stage("denoise", body, torch.zeros(4, 64), steps=5, layers=7),
                Stage(
                    "tile",
                    lambda x: head(body(x)),
                    torch.zeros(2, 64),
                    phase="vae",
                    modules=[body, head],
                ),
            ],
            Clip(64, 32),
            artifact=1000,
        )

    found = trace(make)
    assert found.shape == Clip(64, 32, 1, 5)
    assert [(p.name, p.params, p.layers) for p in found.phases] == [
        ("encode", 64 * 8 + 8, 1),
        ("denoise", 64 * 64 + 64, 7),
        ("vae", 0, 1),  # counted where they are first needed
    ]
    rows = [(s.name, s.phase, s.steps, s.first, s.tokens) for s in found.segments]
    assert rows == [
        ("encode", "encode", 1, False, 4),
        ("first step", "denoise", 1, True, 4),
        ("denoise", "denoise", 4, False, 4),
        ("tile", "vae", 1, False, 2),
    ]
    assert found.params == 64 * 64 + 64
    assert [s.steps for s in found.with_steps(9).segments] == [1, 1, 8, 1]
    assert [s.steps for s in found.with_steps(1).segments] == [1, 1, 1]
    assert found.with_steps(1).with_steps(5) == found
    launch = traces.price(found, GPU).phases[1].launch
    assert launch == Fraction(7 * GPU.launch, 10**9)


def test_constants_made_outside_are_held() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.zeros(1000)  # no buffer

        def forward(self, x: Any) -> Any:
            return x + self.table

    record = recorded(lambda: (Table(), torch.zeros(1000)))
    assert record.held.sum(axis=1).tolist() == [3 * 2048]


def test_nearest_upsampling_is_one_kernel() -> None:
    def run(_: Any, x: Any) -> Any:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")

    record = recorded(lambda: (function(run), torch.zeros(1, 4, 16, 16)))
    assert record.held.sum(axis=1).tolist() == [5 * 4 * 16 * 16 * 2]


RETURNS = {
    "None": (lambda: None, "returned None"),
    "a module": (lambda: nn.Linear(2, 2), "Linear without example inputs"),
    "a pair": (lambda: (3, 4), "a tuple of int, int"),
    "no weights": (lambda: Stage("a", lambda x: x, ()), "whose weights"),
    "no name": (lambda: Stage("", nn.Linear(2, 2)), "a name is text"),
    "not callable": (lambda: Stage("a", 3), "a int cannot be called"),
    "steps": (lambda: Stage("a", nn.Linear(2, 2), steps=0), "steps is 0"),
    "twice": (lambda: [Stage("a", nn.Linear(2, 2))] * 2, "two stages are called 'a'"),
    "two repeat": (
        lambda: [Stage(n, nn.Linear(2, 2), steps=2) for n in "ab"],
        "several stages have steps",
    ),
    "nothing": (lambda: TorchRequest([]), "no stages"),
}


@pytest.mark.parametrize("case", RETURNS)
def test_what_a_factory_may_return(case: str) -> None:
    make, said = RETURNS[case]
    with pytest.raises(ModelError, match=said):
        trace(make)


def test_options_and_arguments() -> None:
    def make(rows: int, wide: int = 64) -> Any:
        return nn.Linear(wide, wide), torch.zeros(rows, wide)

    found = trace(make, arguments={"rows": 3})
    assert found.options["rows"] == 3
    assert found.rows[0].tokens == 3
    with pytest.raises(ModelError, match=r"the factory needs rows.*") as error:
        trace(make, arguments={"row": 3})
    assert [path for path, _ in error.value.problems] == ["row", "--torch"]
    with pytest.raises(ModelError, match="'int8' is not allowed"):
        trace(make, {"dtype": "int8"}, {"rows": 3})
    with pytest.raises(ModelError, match="option of tracing"):
        trace(make, {}, {"rows": 3, "dtype": "bf16"})


def test_the_example_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/models.md: a file of one's own, traced, saved and run."""
    from dcsim import planning

    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```py\n(.*?)^```", page, re.S | re.M)
    [job] = re.findall(r"^```yaml\n(  upscaler:.*?)^```", page, re.S | re.M)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("mine.py").write_text(code, encoding="utf-8")
    found = trace("mine:upscaler", arguments={"side": 128})
    traces.save(found, "upscaler.npz")
    head = "name: mine\nseed: 1\nduration: 2 min\nbin: 10 s\ntopology: hgx_h100\njobs:\n"
    Path("mine.yaml").write_text(head + job, encoding="utf-8")
    plan = planning.load(Path("mine.yaml"))
    results = planning.run(plan)
    requests = results.requests().to_pydict()
    assert requests["width"][0] == 512
    assert set(requests["steps"]) == {4}
    priced = traces.report(found, plan.scenario.topology.domains[0].gpu)["seconds"]
    alone = requests["end_ns"][0] - requests["start_ns"][0]
    assert alone == pytest.approx(priced * 1e9, rel=1e-3)
