"""Clips made chunk by chunk: what attention sees, what is held and kept, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scene import scene

from dcsim import planning, traces
from dcsim.assembly import make_plan
from dcsim.models import ModelError, get
from dcsim.models.pipeline import Networks, Pipeline
from dcsim.models.streaming import Streaming
from dcsim.models.tape import Tape
from dcsim.planning import check
from dcsim.planning.compare import variants
from dcsim.spec import Layout, load_parts, scenario_from_data
from dcsim.testing import check_all
from dcsim.traces import Clip, MemoryTrace, Segment
from dcsim.traces.explain import explain
from dcsim.traces.files import load, save

H100 = load_parts().gpus["h100"]
NAME = "self-forcing-1.3b"
CLIP = Clip(832, 480, 81, 4)
TOKENS, HIDDEN, LAYERS = 30 * 52, 1536, 30
FRAME = 2 * LAYERS * HIDDEN * TOKENS * 2
"""KV of a latent frame: K and V, 30 layers of width 1536, 1,560 tokens, bf16: 287,539,200 bytes."""


def rows(trace: MemoryTrace, *names: str) -> list[Segment]:
    return [each for each in trace.rows if each.name.split()[0] in names]


def test_what_a_chunk_sees_and_holds_grows() -> None:
    """Seven chunks of 3 latent frames: attention over 3, 6, ... 21 frames of 1,560 tokens."""
    found = traces.trace(NAME, None, CLIP)
    steps, keeps = rows(found, "chunk"), rows(found, "keep")
    assert [each.steps for each in steps] == [4] * 7
    assert [each.steps for each in keeps] == [1] * 7
    assert [each.first for each in steps] == [True] + [False] * 6
    n = 3 * TOKENS
    text = LAYERS * 4 * n * 512 * HIDDEN
    assert [s.attn_flops for s in steps] == [
        LAYERS * 4 * n * (n * (i + 1)) * HIDDEN + text for i in range(7)
    ]
    assert FRAME == 287_539_200
    embeddings, latents = 512 * 4096 * 2, 16 * 21 * 60 * 104 * 4
    assert [s.live for s in steps] == [3 * i * FRAME + embeddings + latents for i in range(7)]
    # The window is 21 frames, of which 3 are the next chunk's own.
    kept = [min(3 * (i + 1), 18) * FRAME + embeddings + latents for i in range(7)]
    assert [s.live for s in keeps] == kept
    assert found.context == 18 * FRAME
    assert {s.dense_flops for s in steps} == {steps[0].dense_flops}


def test_beyond_the_window_nothing_grows() -> None:
    found = traces.trace(NAME, None, Clip(832, 480, 1 + 4 * 29, 4))
    steps = rows(found, "chunk")
    assert len(steps) == 10
    assert len({s.attn_flops for s in steps[6:]}) == len({s.live for s in steps[6:]}) == 1
    assert steps[5].attn_flops < steps[6].attn_flops
    assert found.context == 18 * FRAME


@pytest.mark.parametrize(
    ("frames", "layout"), [(33, Layout()), (129, Layout()), (69, Layout(2, 3))]
)
def test_the_segments_are_those_of_the_whole_run(frames: int, layout: Layout) -> None:
    """Every chunk run one after the other, by shape: the same figures, and the same peak."""
    clip = Clip(256, 192, frames, 2)
    found = traces.trace(NAME, {"conv_workspace": "none"}, clip, layout)
    model, tape = get(NAME), Tape()
    assert isinstance(model.network, Networks)
    run = Pipeline(tape, model.built(found.options), found.options, clip, layout=layout)  # type: ignore[arg-type]
    run.encode()
    run.prepare()
    stream, gpus = Streaming(run), layout.gpus
    for step, keep in zip(rows(found, "chunk"), rows(found, "keep"), strict=True):
        for row, passes in ((step, 2), (keep, 1)):
            at = len(tape.events)
            first = len(tape.profile)
            for i in range(passes):
                stream.step(i) if row is step else stream.keep()
            ops = [event for event in tape.events[at:] if event[0] == "op"]
            flops = sum(event[3] for event in ops if event[2] == "attention")
            assert gpus * flops == passes * row.attn_flops
            moved = sum(event[5] for event in ops if event[2] == "attention")
            assert gpus * moved == passes * row.attn_bytes
            assert gpus * tape.live == row.live
            held = max(sum(each) for _, each in tape.profile[first:])
            assert gpus * held == row.live + row.peak
    assert found.context == gpus * tape.held[4]


def test_steps_are_free() -> None:
    found = traces.trace(NAME, None, CLIP)
    assert found.with_steps(2) == traces.trace(NAME, None, Clip(832, 480, 81, 2))


def test_a_session_goes_on() -> None:
    """33 frames are 9 latent ones: their KV comes from the host; the others are 4 chunks."""
    fresh = traces.trace(NAME, None, CLIP)
    found = traces.trace(NAME, None, Clip(832, 480, 81, 4, 33))
    (load_,) = rows(found, "session")
    assert load_.host_bytes == 9 * FRAME
    assert rows(found, "chunk") == [
        s.__class__(**{**vars(s), "first": i == 0, "record": r.record})
        for i, (s, r) in enumerate(zip(rows(fresh, "chunk")[3:], rows(found, "chunk"), strict=True))
    ]
    assert found.context == fresh.context
    # What is new is decoded, behind the last frame that was there: 12 latent frames and it.
    assert rows(found, "decode")[0].steps == 13
    assert found.artifact == -(-832 * 480 * 48 * 15 // 800)
    assert traces.price(found, H100).segments[1].cost.host == pytest.approx(9 * FRAME / 63e9)


def test_a_session_is_rebuilt() -> None:
    """Without it the frames are encoded in 9 passes, and each chunk is run once, clean."""
    kept = traces.trace(NAME, None, Clip(832, 480, 81, 4, 33))
    found = traces.trace(NAME, {"session": "rebuilt"}, Clip(832, 480, 81, 4, 33))
    assert not rows(found, "session")
    (bring,) = [each for each in found.rows if each.name == "encode input"]
    assert bring.steps == 9
    again = rows(found, "rebuild")
    assert [each.steps for each in again] == [1, 1, 1]
    fresh = rows(traces.trace(NAME, None, CLIP), "keep")
    assert [each.attn_flops for each in again] == [each.attn_flops for each in fresh[:3]]
    assert [s.attn_flops for s in rows(found, "chunk")] == [
        s.attn_flops for s in rows(kept, "chunk")
    ]
    assert [s.live for s in rows(found, "keep")] == [s.live for s in rows(kept, "keep")]


def test_it_is_saved_and_explained(tmp_path: Path) -> None:
    clip = Clip(832, 480, 57, 4, 33)
    for session in ("kept", "rebuilt"):
        found = traces.trace(NAME, {"session": session}, clip)
        save(found, tmp_path / "a.npz")
        assert load(tmp_path / "a.npz") == found
        said = {line.what: line for line in explain(NAME, found, H100)}
        frame = said["K and V of a latent frame, all layers"]
        assert (frame.expression, frame.value) == ("2 x 30 x 1,536 x 1,560 x 2", FRAME)
        left = said["what is left for a clip that goes on"]
        assert (left.expression, left.value) == (f"15 x {FRAME:,}", 15 * FRAME)
        assert ("frames that are encoded" in said) == (session == "rebuilt")


@pytest.mark.parametrize(
    ("clip", "options", "path", "message"),
    [
        (Clip(832, 480, 17, 4), {}, "shape.frames", r"5 latent ones, not chunks of 3 \(nearest: 9"),
        (Clip(832, 480, 33, 4, 17), {}, "shape.input", "17 frames are 5 latent ones"),
        (Clip(832, 480, 33, 4, 33), {}, "shape.input", "it cannot be edited"),
        (CLIP, {"cfg": "batched"}, "options.cfg", "without guidance"),
        (CLIP, {"code": "authors"}, "options.code", "with diffusers alone"),
        (CLIP, {"feature_cache": "pab"}, "options.feature_cache", "with none alone"),
    ],
)
def test_what_cannot_be_streamed_is_told(
    clip: Clip, options: dict[str, Any], path: str, message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        traces.trace(NAME, options, clip)
    assert [p for p, _ in caught.value.problems] == [path]


@pytest.mark.parametrize("layout", [Layout(sp=2, ring=2), Layout(pp=2, in_flight=2)])
def test_a_stream_is_spread_by_tp_and_sp(layout: Layout) -> None:
    with pytest.raises(ModelError, match="by tp and sp alone"):
        traces.trace(NAME, None, CLIP, layout)


# In a run


def session(**job: Any) -> dict[str, Any]:
    shape = {"resolution": "832x480", "frames": 57, "steps": 4, "input": 33}
    arrivals = {"process": "constant", "rate": "2/min"}
    found = {"model": NAME, "replicas": 1, "arrivals": arrivals, "shape": shape, **job}
    return scene(jobs={"world": found})


def test_what_a_stream_leaves_lies_in_dram_and_nand() -> None:
    """15 latent frames, 4.31 GB, 2 min in DRAM and 10 min in NAND after every request."""
    kept = {"context": {"dram": "2 min", "nand": "10 min"}, "store": "shelf"}
    results = planning.run(make_plan(scenario_from_data(session(keep=kept))))
    check_all(results)
    table = {name: np.asarray(each) for name, each in results.arrays("requests").items()}
    done = table["outcome"] == "completed"
    assert done.sum() >= 15
    assert set(table["context_bytes"]) == {15 * FRAME}
    grid = {name: np.asarray(each) for name, each in results.arrays("timeline").items()}
    dram = (grid["tier"] == "dram") & (grid["cache"] > 0)
    # Every half minute one comes, and stays for two: four or, while one is on its way, five.
    assert grid["cache"][dram].max() <= 5 * 15 * FRAME
    assert grid["cache"][dram].max() > 3 * 15 * FRAME
    assert grid["cache"][grid["tier"] == "nand"].max() > 3 * 15 * FRAME


def test_only_a_stream_leaves_something_to_go_on_from(tmp_path: Path) -> None:
    data = session(model="wan2.1-t2v-1.3b", keep={"context": {"dram": "1 min"}})
    del data["jobs"]["world"]["shape"]["input"]
    file = tmp_path / "scene.yaml"
    file.write_text(json.dumps(data), encoding="utf-8")
    said = [str(each) for each in check(file)]
    assert any(
        "jobs.world.keep.context: a diffusion job leaves no context" in each for each in said
    )


def test_the_shipped_streams_keep_their_sessions() -> None:
    """A new clip of 33 frames leaves 9 latent frames, one that went on 15 or, by the window, 18."""
    found = planning.compare(variants("streams_hgx_h100", what_if=["rebuilt"]))
    for each in found.values():
        check_all(each)
    left = {}
    for name, each in found.items():
        rows = {key: np.asarray(value) for key, value in each.arrays("requests").items()}
        left[name] = {
            job: set(rows["context_bytes"][rows["job"] == job]) for job in ("begin", "go_on")
        }
        took = rows["end_ns"] - rows["start_ns"]
        one = (rows["job"] == "go_on") & (rows["frames"] == 57) & (rows["outcome"] == "completed")
        left[name]["took"] = int(took[one].min())
    assert left["base"]["begin"] == {9 * FRAME}
    assert left["base"]["go_on"] == {15 * FRAME, 18 * FRAME}
    # A session of 2.59 GB comes in 41 ms; to encode and run 9 latent frames again takes longer.
    assert left["rebuilt"]["took"] > left["base"]["took"] + 500_000_000
