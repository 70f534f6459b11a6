"""`dcsim validate`."""

from __future__ import annotations

import json
from pathlib import Path

from cli_scenes import Dcsim

HEAD = "kind,model,config,gpu,value,unit,source,check,settings\n"
ROW = "kv_tokens,mine,ours,h100,31211,tokens,a log,kv_fit,model=llama-3.1-8b; memory=3.81\n"


def test_rows_of_a_file_as_json(dcsim: Dcsim, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(HEAD + ROW, encoding="utf-8")
    done = dcsim("validate", "--csv", "mine.csv", "--json")
    assert (done.code, done.err) == (0, "")
    (row,) = json.loads(done.out)["rows"]
    assert (row["model"], row["quantity"]) == ("mine", "KV tokens")
    assert (row["published"], row["predicted"], row["error"]) == (31211, 31211, 0)


def test_the_page_goes_where_it_is_told(dcsim: Dcsim, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(HEAD + ROW, encoding="utf-8")
    done = dcsim("validate", "--csv", "mine.csv", "--out", "page.md")
    assert (done.code, done.out) == (0, "1 rows: page.md\n")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| mine | ours | h100 | 31,211 | 31,211 | tokens | +0.00% |" in page
    assert dcsim("validate", "--csv", "mine.csv").out.startswith(page[:100])


def test_what_is_wrong_is_told(dcsim: Dcsim, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(HEAD + ROW.replace("31211", "?"), encoding="utf-8")
    done = dcsim("validate", "--csv", "mine.csv")
    assert done.code == 2
    assert "mine.csv:2:1: value: '?' is not a number" in done.err
    done = dcsim("validate", "--out", "none/page.md")
    assert done.code == 2
    assert "there is no directory none" in done.err
