"""YAML 1.2 reading with places, and what is wrong with a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import dcsim
from dcsim.reading.tree import locate, parse_yaml, plain, read_yaml
from dcsim.spec import SpecError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.5e9", 1.5e9),
        ("1e9", 1e9),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("12:30:45", "12:30:45"),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("1_000", "1_000"),
        ("'5'", "5"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, expected: Any) -> None:
    value = plain(parse_yaml(f"key: {text}"))["key"]
    assert value == expected
    assert type(value) is type(expected)


def test_nan() -> None:
    assert math.isnan(plain(parse_yaml("[.nan]"))[0])


def test_places_count_from_one() -> None:
    tree = parse_yaml("a: 1\nb:\n  - x\n  - {c: 2}\n", Path("f.yaml"))
    assert (locate(tree, ["b", 1, "c"]).line, locate(tree, ["b", 1, "c"]).column) == (4, 9)
    assert locate(tree, ["b", 7]).line == 2, "the nearest parent there is"
    assert locate(tree, ["b", 1, "(tag)", "c"]).line == 4, "steps the tree lacks are passed over"


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("a: [", [":1:5: is not YAML: while parsing a flow node"]),
        ("a: b: c", [":1:5: is not YAML: mapping values are not allowed here"]),
        ("", [":1:1: is empty"]),
        ("a: 1\n---\nb: 2", ["expected a single document"]),
        ("a: *x", ["undefined alias 'x'"]),
        ("a: &x [*x]", ["an alias to what contains it"]),
        ("a: !!python/object:os.system 1", ["is not supported"]),
        ("a: 1\nb: {c: 1, c: 2}\na: 3", [":2:11: b.c: given twice, first in line 2", ":3:1: a:"]),
        ("? [1]\n: 2", [":1:3: a key must be a plain name"]),
    ],
)
def test_broken_yaml_is_placed(text: str, messages: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        parse_yaml(text, Path("f.yaml"))
    for message in messages:
        assert message in str(caught.value)


def test_aliases_cannot_grow_without_end() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(SpecError, match="by aliases"):
        parse_yaml("\n".join(lines))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)
    (tmp_path / "latin").write_bytes(b"a: \xff")
    with pytest.raises(SpecError, match="is not UTF-8 text"):
        read_yaml(tmp_path / "latin")


names = st.text("abcdefghijklmnopqrstuvwxyz_-. 0123456789:#'", max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | names,
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple) | st.dictionaries(names, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_what_pyyaml_writes_is_read_back(value: Any) -> None:
    """Quoted strings stay strings; dumped with the safe dumper, lists for tuples."""

    def listed(item: Any) -> Any:
        if isinstance(item, tuple):
            return [listed(i) for i in item]
        return {k: listed(v) for k, v in item.items()} if isinstance(item, dict) else item

    text = yaml.safe_dump({"value": listed(value)}, default_style='"')
    again = plain(parse_yaml(text))["value"]
    if isinstance(value, dict | tuple) or value is None or isinstance(value, str):
        assert _as_text(again) == _as_text(value)


def _as_text(value: Any) -> Any:
    """Scalars as PyYAML's tags make them; only the structure and strings are compared."""
    if isinstance(value, dict):
        return {key: _as_text(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_as_text(item) for item in value)
    return value if isinstance(value, str) else None


PACKAGE = Path(dcsim.__file__).parent
OURS = sorted((PACKAGE / "models").rglob("*.yaml"))


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_both_parsers_read_our_files_alike(path: Path) -> None:
    assert read_yaml(path, ours=True) == read_yaml(path)
