"""Requests of whole scenarios: order, independence of the classes, shapes, replay."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from workload_scenes import SECOND, job, public_log, scene

from dcsim.spec import (
    Choice,
    ClipShape,
    Constant,
    Empirical,
    Fixed,
    FromLog,
    GammaArrivals,
    Job,
    LogNormal,
    Numbers,
    Poisson,
    Rate,
    Replay,
    SpecError,
    TokenShape,
    Uniform,
)
from dcsim.workload import Clip, LogError, Requests, generate, stream
from dcsim.workload.shapes import draw_numbers

SIZES = Choice(((832, 480), (1280, 720)), (3.0, 1.0))
CLIPS = ClipShape(SIZES, Choice((81, 49), (1.0, 1.0)), Fixed(50))
VIDEO = job("video", Poisson(Rate.flat(0.5)), CLIPS)
CHAT = job("chat", Poisson(Rate.flat(5.0)), TokenShape(Uniform(1, 9), LogNormal(20, 1.0, 1, 99)))
BURSTS = job("bursts", GammaArrivals(Rate.flat(3.0), 4.0))


def test_a_stream_depends_on_seed_and_name_alone() -> None:
    first = stream(3, "chat", "arrivals").random(4)
    stream(3, "video", "arrivals").random(1000)
    assert (stream(3, "chat", "arrivals").random(4) == first).all()
    others = [stream(4, "chat", "arrivals"), stream(3, "chat", "prompt"), stream(3, "chatarrivals")]
    assert all((other.random(4) != first).all() for other in others)
    with pytest.raises(ValueError, match="not -1"):
        stream(-1, "chat")


def test_streams_stay_what_they_are() -> None:
    """Results of older versions can be made again: these figures may not change."""
    assert stream(1, "chat", "arrivals").random(2).tolist() == FIRST_DRAWS


FIRST_DRAWS = [0.6905340124740245, 0.9861216429513227]


def test_requests_are_sorted_and_complete() -> None:
    got = generate(scene(VIDEO, CHAT, BURSTS))
    assert (np.diff(got.arrival) >= 0).all()
    assert got.arrival[0] >= 0
    assert got.arrival[-1] < 1000 * SECOND
    assert np.bincount(got.klass).tolist() == pytest.approx([500, 5000, 3000], rel=0.2)
    video = got.klass == 0
    assert (got.prompt[video] == 0).all()
    assert (got.output[~video] >= 1).all()
    assert (got.shape[~video] == 0).all()
    assert got.shapes == (
        (
            Clip(832, 480, 49, 50),
            Clip(832, 480, 81, 50),
            Clip(1280, 720, 49, 50),
            Clip(1280, 720, 81, 50),
        ),
        (),
        (),
    )
    assert np.bincount(got.shape[video]) == pytest.approx([187, 187, 63, 63], abs=45)


@pytest.mark.parametrize("jobs", [(CHAT,), (CHAT, VIDEO), (VIDEO, CHAT, BURSTS)])
def test_another_class_changes_no_request_of_this_one(jobs: tuple[Job, ...]) -> None:
    alone, beside = generate(scene(CHAT)), generate(scene(*jobs))
    mine = beside.klass == jobs.index(CHAT)
    for column in ("arrival", "prompt", "output", "shape"):
        assert (getattr(beside, column)[mine] == getattr(alone, column)).all()


def test_ties_go_by_class() -> None:
    jobs = [job(name, Constant(Rate.flat(1.0))) for name in "abc"]
    assert generate(scene(*jobs, seconds=3.0)).klass.tolist() == [0, 1, 2] * 3


def test_no_jobs_or_no_arrivals() -> None:
    assert len(generate(scene())) == 0
    rare = job("rare", Constant(Rate.flat(1e-9)), CLIPS)
    got = generate(scene(rare))
    assert len(got) == 0
    assert got.shapes == ((),)


def test_another_rate_and_another_size_leave_the_rest_as_it_was() -> None:
    base = generate(scene(VIDEO))
    twice = generate(scene(job("video", Poisson(Rate.flat(1.0)), CLIPS)))
    big = ClipShape(Fixed((1920, 1080)), CLIPS.frames, CLIPS.steps)
    large = generate(scene(job("video", VIDEO.arrivals, big)))

    def frames(requests: Requests, count: int) -> list[int]:
        return [requests.shapes[0][row].frames for row in requests.shape[:count]]

    assert frames(twice, len(base)) == frames(base, len(base)) == frames(large, len(base))
    assert (large.arrival == base.arrival).all()


@pytest.mark.parametrize(
    ("numbers", "mean", "low", "high"),
    [
        (Fixed(7), 7.0, 7, 7),
        (Choice((1, 10), (9.0, 1.0)), 1.9, 1, 10),
        (Uniform(3, 8), 5.5, 3, 8),
        (LogNormal(100.0, 0.5, 1, 10**6), 100.0 * np.exp(0.125), 1, 10**6),
        (LogNormal(100.0, 5.0, 90, 110), 100.0, 90, 110),
        (Empirical((2, 4, 4, 6)), 4.0, 2, 6),
    ],
)
def test_distributions(numbers: Numbers, mean: float, low: int, high: int) -> None:
    got = draw_numbers(numbers, 100_000, stream(1, "numbers"))
    assert got.mean() == pytest.approx(mean, rel=0.02)
    assert got.min() >= low
    assert got.max() <= high
    if isinstance(numbers, (Choice, Uniform)):
        assert (got.min(), got.max()) == (low, high)


def test_a_fixed_number_draws_nothing() -> None:
    random = stream(1, "numbers")
    draw_numbers(Fixed(3), 1000, random)
    assert random.random() == stream(1, "numbers").random()


@pytest.mark.traces
def test_replay_of_the_azure_log() -> None:
    log = public_log("azure2023_llm_conv.csv.gz")
    shape = TokenShape(FromLog(), FromLog())
    whole = generate(scene(job("a", Replay(log, "azure"), shape), seconds=4000.0))
    assert len(whole) == 19_366
    assert (whole.prompt[0], whole.output[0]) == (374, 44)
    part = Replay(log, "azure", speed=2.0, start=600 * SECOND, until=1200 * SECOND)
    some = generate(scene(job("a", part, shape), seconds=4000.0))
    inside = (whole.arrival >= 600 * SECOND) & (whole.arrival < 1200 * SECOND)
    assert (some.prompt == whole.prompt[inside]).all()
    assert (some.arrival == (whole.arrival[inside] - 600 * SECOND) // 2).all()


def test_a_log_may_drive_clips(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("arrival_s\n1\n2\n")
    got = generate(scene(job("video", Replay(log, "csv"), CLIPS)))
    assert got.arrival.tolist() == [SECOND, 2 * SECOND]


def test_the_broken_rows_of_all_logs_come_together(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text("arrival_s,prompt,output\n-1,1,1\n1,0,1\n")
    jobs = [job(name, Replay(tmp_path / name, "csv")) for name in ("one", "two")]
    values = Empirical(file=tmp_path / "one", column="prompt")
    jobs.append(job("three", shape=TokenShape(values, Fixed(1))))
    with pytest.raises(LogError) as error:
        generate(scene(*jobs))
    got = [(each.path, each.line) for each in error.value.problems]
    assert got == [
        ("jobs.one.arrivals.log", 2),
        ("jobs.one.arrivals.log", 3),
        ("jobs.two.arrivals.log", 2),
        ("jobs.two.arrivals.log", 3),
        ("jobs.three.shape.prompt", 3),
    ]


def test_tokens_from_a_log_need_a_log_that_has_them(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("arrival_s\n1\n")
    shape = TokenShape(FromLog(), Fixed(1))
    with pytest.raises(SpecError, match="no column 'prompt'"):
        generate(scene(job("a", Replay(log, "csv"), shape)))
    with pytest.raises(SpecError, match="only a replayed request log has tokens"):
        generate(scene(job("a", shape=shape)))


def test_a_million_requests_take_a_moment() -> None:
    tokens = TokenShape(LogNormal(500, 1.0, 1, 20_000), LogNormal(200, 1.0, 1, 4_000))
    busy = scene(job("a", Poisson(Rate.flat(1000.0)), tokens))
    begin = time.perf_counter()
    assert len(generate(busy)) > 990_000
    assert time.perf_counter() - begin < 5.0
