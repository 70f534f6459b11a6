"""The catalogue against published figures: how near some rows must stay, and files of a user's."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import dcsim
from dcsim.spec import SpecError
from dcsim.validation import CHECKS, Row, as_data, markdown, validate
from dcsim.validation.rows import ALSO, NEEDED, UNITS, shipped

PAGE = Path(__file__).parents[2] / "docs" / "validation.md"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return validate()


def test_counts_hold_to_half_a_percent(rows: list[Row]) -> None:
    counted = [
        r for r in rows if r.unit in ("parameters", "MAC", "B") or r.basis == "identity" if r.ours
    ]
    assert len(counted) > 70
    # Parameters printed as 22B, 32B, 2.6B and 1.1B; logs of which one GPU of several is printed.
    rough = {"Qwen3-235B-A22B active", "Kimi-K2 active", "TP4 default util", "hybrid"}
    rough |= {"latent DiffiT ImageNet-256, one forward"}  # without the products of attention
    rough |= {"DeepSeek-R1-Distill-Qwen-14B", "as printed"}
    for row in counted:
        assert row.error is not None
        if not any(part in f"{row.model} {row.config}" for part in rough):
            assert abs(row.error) < 0.005, row


def test_budgets_of_stated_settings_hold_to_three_percent(rows: list[Row]) -> None:
    """What vLLM leaves for KV on an H100, and its activation peak, from the model alone."""
    mine = [r for r in rows if r.basis == "measured" and r.check in ("activation", "kv_budget")]
    assert len(mine) == 7
    for row in mine:
        assert row.error is not None
        assert abs(row.error) < 0.03, row


def test_load_of_clients_holds_where_nothing_was_fitted(rows: list[Row]) -> None:
    """Runs of the engine against TensorRT-LLM on H100 and H200: rows that no profile saw."""
    timed = [r for r in rows if r.check in ("ttft", "itl", "throughput") and r.use != "fit"]
    assert len(timed) > 30
    errors = sorted(abs(r.error) for r in timed if r.error is not None)
    assert len(errors) == len(timed)
    assert errors[len(errors) // 2] < 0.10


def test_every_row_says_what_it_is(rows: list[Row]) -> None:
    for row in rows:
        assert row.source, row
        assert row.unit in UNITS, row
        assert not row.check or row.check in CHECKS, row
        assert row.ours is None or row.ours > 0, row
        assert row.ours is not None or row.note, row


def test_a_miss_of_over_5_percent_has_a_reason_or_is_unexplained(rows: list[Row]) -> None:
    silent = 0
    for row, plain in zip(rows, as_data(rows)["rows"], strict=True):
        if row.error is None:
            continue
        missed = abs(row.error) > 0.05
        assert plain["note"] == row.note or (missed and plain["note"] == "unexplained")
        assert plain["note"] or not missed, row
        silent += missed and not row.note
    assert silent > 20


def test_every_published_kv_count_is_there(rows: list[Row]) -> None:
    """The 17 counts of tokens that logs print, by their figures."""
    logs = [31232, 23648, 91056, 93872, 464848, 412944, 450192, 1192160, 366400, 178880, 367404]
    logs += [117616, 333840, 81536, 567978, 302921, 6048]
    assert set(logs) <= {row.published for row in rows if row.unit == "tokens"}


def test_the_page_begins_with_them(rows: list[Row]) -> None:
    fresh = PAGE.read_text(encoding="utf-8").startswith(markdown(rows))
    assert fresh, "stale; render it: python -m dcsim.pages.validation > docs/validation.md"


# Files of a user's


def written(path: Path, rows: list[dict[str, str]], names: tuple[str, ...] = NEEDED) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, names, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return path


MINE = {
    "kind": "kv_tokens",
    "model": "mine",
    "config": "a log of ours",
    "gpu": "h100",
    "value": "30000",
    "unit": "tokens",
    "source": "ours",
}


def test_a_row_of_ones_own(tmp_path: Path) -> None:
    """3.81 GiB over 131,072 bytes a token: 31,211 tokens."""
    told = MINE | {"check": "kv_fit", "settings": "model=llama-3.1-8b; memory=3.81"}
    file = written(tmp_path / "mine.csv", [told], (*NEEDED, "check", "settings"))
    (row,) = dcsim.validate(file)
    assert row.ours == int(3.81 * 2**30 / 131_072)
    assert row.error == pytest.approx(31_211 / 30_000 - 1)


def test_a_published_row_without_settings_is_known_by_its_words(tmp_path: Path) -> None:
    ours = next(row for row in shipped() if row.check == "kv_fit")
    plain = {name: str(getattr(ours, name)) for name in NEEDED if name != "value"}
    file = written(tmp_path / "plain.csv", [plain | {"value": str(ours.published)}])
    (row,) = validate(file)
    assert row.check == "kv_fit"
    assert row.error is not None


def test_what_cannot_be_expressed_says_why(tmp_path: Path) -> None:
    names = (*NEEDED, "check", "settings")
    bad = [
        MINE,
        MINE | {"check": "kv_fitt"},
        MINE | {"check": "kv_fit", "settings": "model=llama-3.1-8b"},
        MINE | {"check": "kv_fit", "settings": "model=lama-3.1-8b; memory=1"},
        MINE | {"check": "throughput", "settings": "model=llama-3.1-8b; gpu=h100; profile=x"},
        MINE | {"check": "kv_fit", "unit": "tokenz", "settings": "model=llama-3.1-8b; memory=1"},
    ]
    found = validate(written(tmp_path / "bad.csv", bad, names))
    for row, why in zip(
        found,
        (
            "no check is named",
            "did you mean 'kv_fit'?",
            "needs memory=",
            "did you mean 'llama-3.1-8b'?",
            "h100 has no profile 'x'",
            "did you mean 'tokens'?",
        ),
        strict=True,
    ):
        assert row.error is None
        assert why in row.note
    for plain in as_data(found)["rows"]:
        assert plain["predicted"] is None
        assert plain["error"] is None
        assert plain["reason"]


def test_all_that_is_wrong_with_a_file_is_told_at_once(tmp_path: Path) -> None:
    bad = [MINE | {"value": "many"}, MINE | {"model": "", "unit": ""}, MINE | {"basis": "guessed"}]
    file = written(tmp_path / "bad.csv", bad, (*NEEDED, *ALSO))
    with pytest.raises(SpecError) as caught:
        validate(file)
    told = [str(problem) for problem in caught.value.problems]
    assert len(told) == 4
    assert all(
        words in line
        for line, words in zip(
            told,
            (":2:1: value: 'many'", ":3:1: model is empty", ":3:1: unit is empty", "'guessed'"),
            strict=True,
        )
    )
    with pytest.raises(SpecError, match="cannot be read"):
        validate(tmp_path / "none.csv")
    (tmp_path / "head.csv").write_text("kind,model\na,b\n", encoding="utf-8")
    with pytest.raises(SpecError, match="the header has no column 'value'"):
        validate(tmp_path / "head.csv")


def test_rows_are_data(rows: list[Row]) -> None:
    data = json.loads(json.dumps(as_data(rows)))["rows"]
    assert len(data) == len(rows)
    for plain in data:
        assert {"model", "quantity", "published", "predicted", "error"} <= set(plain)
