"""The reference pages: equal to what the code renders, and to what a run writes and takes."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from dcsim import planning, report
from dcsim.cli import app
from dcsim.pages.keys import anchor
from dcsim.pages.reference import PAGES, main, page
from dcsim.results import Results, meanings
from dcsim.results.meanings import NAMES, Entry
from dcsim.spec import json_schema, load_scenario

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
YAML = (DOCS / "yaml.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", YAML, re.S | re.M))

KINDS: tuple[Literal["scenario", "topology", "parts"], ...] = ("scenario", "topology", "parts")


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_up_to_date(name: str) -> None:
    fresh = (DOCS / name).read_text(encoding="utf-8") == page(DOCS / name)
    assert fresh, "stale; render it: python -m dcsim.pages.reference docs"


def test_the_command_renders_only_what_is_below_the_mark(tmp_path: Path) -> None:
    for name in PAGES:
        head = (DOCS / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(head + "stale", encoding="utf-8")
    main([str(tmp_path)])
    for name in PAGES:
        assert (tmp_path / name).read_bytes() == (DOCS / name).read_bytes()
    (tmp_path / "yaml.md").write_text("# The YAML\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has no line"):
        page(tmp_path / "yaml.md")


@pytest.mark.parametrize("name", PAGES)
def test_links_within_a_page_lead_somewhere(name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)
    anchors = [anchor(heading) for heading in headings]
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= set(anchors)


# The YAML


@pytest.mark.parametrize("name", BLOCKS)
def test_examples_load(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCSIM_TRACES", str(tmp_path))
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    rows += [f"2023-11-16 18:{minute:02}:00,{100 + minute},5" for minute in range(60)]
    with gzip.open(tmp_path / "azure2023_llm_conv.csv.gz", "wt") as log:
        log.write("\n".join(rows))
    for file, text in BLOCKS.items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    assert planning.check(tmp_path / name) == []


def test_all_examples_are_tried(tmp_path: Path) -> None:
    assert len(BLOCKS) == YAML.count("```yaml") > 8
    for file, text in BLOCKS.items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    command = re.search(r"^dcsim run small.yaml (.*)$", YAML, re.M)
    assert command is not None
    sets = command[1].replace("--set ", "").split()
    sets += ["topology.racks.rack0.node.gpu.hbm=96 GB", "operations.2.every=5 s"]
    sets += ["topology.racks.0.dram=4 TB"]
    assert load_scenario(tmp_path / "trouble.yaml", overrides=sets)
    more = load_scenario(tmp_path / "more-memory.yaml").topology.domains[0]
    assert (more.dram, more.nand) == (3 * 10**12, 16 * 384 * 10**10)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_the_schema_is_on_the_page(
    kind: Literal["scenario", "topology", "parts"],
) -> None:
    keys = set(re.findall(r"^\| `([^`]*)` \|", YAML, re.M))

    def written(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from node.get("properties", ())
        for child in node.values() if isinstance(node, dict) else node:
            if isinstance(child, dict | list):
                yield from written(child)

    assert set(written(json_schema(kind))) <= keys


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_is_printed(kind: Literal["scenario", "topology", "parts"]) -> None:
    printed = CliRunner().invoke(app, ["schema", kind])
    assert json.loads(printed.stdout) == json_schema(kind)


def test_the_example_of_a_trace_works() -> None:
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    command = re.search(r"^dcsim (trace .*)$", text, re.M)
    assert command is not None
    assert "81 frames" in text
    assert "frames 49" in CliRunner().invoke(app, command[1].split()).stdout


# The results


@pytest.fixture(scope="module")
def results() -> Results:
    """A short run with clips, turns, stages, wear and samples."""
    changes = [
        "duration=10 min",
        "jobs.chat.arrivals={process: poisson, rate: 2/s}",
        "jobs.chat.session={turns: 3, think: 10 s}",
        "jobs.chat.keep.reuse={}",
        "jobs.helper={extends: chat, session: null, adapters: null, replicas: null, keep: {}, "
        "stages: {prefill: {replicas: 1}, decode: {replicas: 1}}}",
        "jobs.chat.replicas=1",
        "jobs.chat.adapters={count: 3, rank: 8}",
        "jobs.chat.scheduler.preemption=swap",
        "topology.racks.rack0.node.ssd.dwpd=3",
        "operations=[{kind: sampler, every: 1 min}]",
    ]
    return planning.run(planning.load(ROOT / "scenarios" / "quickstart.yaml", overrides=changes))


def arrow(entry: Entry) -> Any:
    types = {"int64": pa.int64(), "int32": pa.int32(), "float64": pa.float64()}
    types |= {"text": pa.string(), "word": pa.dictionary(pa.int32(), pa.string())}
    return types[entry.type.removesuffix("?")]


def check_columns(table: Any, columns: Sequence[Entry]) -> None:
    assert table.column_names == [entry.name for entry in columns]
    for entry in columns:
        column = table[entry.name]
        assert column.type == arrow(entry), entry
        assert column.null_count == 0 or entry.type.endswith("?"), entry


def test_columns_are_described(results: Results) -> None:
    assert list(results.tables) == list(meanings.TABLES)
    for name, table in meanings.TABLES.items():
        check_columns(results.tables[name], table.columns)


TYPES = {"int": int, "float": (int, float), "text": str, "truth": bool, "mapping": dict}


def leaves(tree: dict[str, Any], whole: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and key not in whole:
            yield from (((key, *path), leaf) for path, leaf in leaves(value, whole))
        else:
            yield (key,), value


def fits(path: Sequence[str], entry: Entry) -> bool:
    parts = entry.name.split(".")
    return len(parts) == len(path) and all(
        mine == due or (due in NAMES and (mine in NAMES[due][0] or not NAMES[due][0]))
        for mine, due in zip(path, parts, strict=True)
    )


def check_keys(tree: dict[str, Any], entries: Sequence[Entry]) -> None:
    whole = [entry.name for entry in entries if entry.type == "mapping"]
    seen = set()
    for path, value in leaves(tree, whole):
        matching = [entry for entry in entries if fits(path, entry)]
        assert len(matching) == 1, path
        entry = matching[0]
        seen.add(entry.name)
        if value is None:
            assert entry.type.endswith("?"), entry
        else:
            assert isinstance(value, TYPES[entry.type.removesuffix("?")]), entry
    assert seen == {entry.name for entry in entries}


def test_keys_are_described(results: Results) -> None:
    check_keys(results.summary, meanings.SUMMARY)
    check_keys(results.manifest, meanings.MANIFEST)


def test_names_in_keys_are_all_there_are(results: Results) -> None:
    paths = [path for path, _ in leaves(results.summary, ())]
    for entry in meanings.SUMMARY:
        for place, part in enumerate(entry.name.split(".")):
            for name in NAMES.get(part, ((), ""))[0]:
                assert any(fits(path, entry) and path[place] == name for path in paths), entry


def test_a_comparison_is_described(results: Results, tmp_path: Path) -> None:
    report.write_comparison({"base": results, "same": results}, tmp_path / "out", plots=False)
    check_columns(pq.read_table(tmp_path / "out" / "comparison.parquet"), meanings.COMPARED.columns)
    check_keys(json.loads((tmp_path / "out" / "manifest.json").read_text()), meanings.COMPARISON)
