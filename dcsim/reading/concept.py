"""A concept of the YAML is one frozen dataclass: its annotations say how its fields are written.

Built in Python it takes values in base units; read from a file, its fields turn text into those.
The docstrings of the class and below each field are the reference page and the JSON Schema.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass
from functools import cache
from itertools import pairwise
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from dcsim.reading import units
from dcsim.reading.errors import did_you_mean
from dcsim.reading.forms import (
    HOLE,
    NEEDED,
    Anything,
    Flag,
    Form,
    Key,
    ListOf,
    MapOf,
    Number,
    Quantity,
    Reading,
    Row,
    Schema,
    Steps,
    Text,
    Unknown,
    Word,
)
from dcsim.reading.tree import Node, plain
from dcsim.reading.units import shown

Bytes = Annotated[int, Quantity(units.SIZE, positive=True)]
BytesOrZero = Annotated[int, Quantity(units.SIZE)]
Duration = Annotated[int, Quantity(units.TIME, positive=True)]
Instant = Annotated[int, Quantity(units.TIME)]
"""A time that may be 0."""
Bandwidth = Annotated[int, Quantity(units.BANDWIDTH, positive=True)]
Compute = Annotated[int, Quantity(units.COMPUTE, positive=True)]
PerSecond = Annotated[float, Quantity(units.RATE, exact=True)]
Watts = Annotated[float, Quantity(units.POWER, exact=True)]
Usd = Annotated[float, Quantity(units.MONEY, exact=True)]
UsdPerByte = Annotated[float, Quantity(units.UNIT_PRICE, exact=True)]
Count = Annotated[int, Number(1, under=2**63, whole=True)]
CountOrZero = Annotated[int, Number(0, under=2**63, whole=True)]
Positive = Annotated[float, Number(above=0)]
Share = Annotated[float, Number(above=0, high=1)]


Found = TypeVar("Found")


def once(make: Callable[[type[Concept]], Found]) -> Callable[[type[Concept]], Found]:
    """`functools.cache` for functions of a concept (mypy takes its classes for unhashable)."""
    cached: Any = cache(make)
    return cached  # type: ignore[no-any-return]


class Concept:
    """What all concepts have. Those with a `tag` are what their base stands for in the YAML."""

    by: ClassVar[str] = ""
    """The key that tells the concepts of a base apart, such as `process`."""
    tag: ClassVar[str] = ""
    """What stands there for this one, such as `poisson`."""
    like: ClassVar[str] = ""
    """What `extends` names, where the mapping may extend another."""
    named: ClassVar[bool] = False
    """Whether a bare name will do in place of the mapping."""
    whole: ClassVar[bool] = False
    """Whether it is replaced whole when files compose."""
    row: ClassVar[bool] = False
    """Whether it is written as a list of its fields."""

    def check(self) -> None:
        """Raises ValueError where fields, each right, do not go together."""


@dataclass(frozen=True)
class Called:
    """Marks a field whose key is not its name in Python."""

    key: str


@dataclass(frozen=True)
class Entry:
    """Marks the field that holds the name of the entry which the concept is."""

    key: str = ""
    """Where composition leaves the name, of what is no entry."""


@dataclass(frozen=True)
class Unwritten:
    """Marks a field that is no key."""


@dataclass(frozen=True)
class Least:
    """Marks a list or mapping that needs so many entries."""

    count: int


@dataclass(frozen=True)
class Default:
    """Marks a field that may be left out in the YAML, though not in Python."""

    value: Any


@once
def keys_of(concept: type[Concept]) -> dict[str, Key]:
    """The keys of a concept as they are written, in order."""
    found = {}
    if concept.by and concept.tag:
        found[concept.by] = Key(concept.by, Word((concept.tag,)), NEEDED, concept)
    hints = get_type_hints(concept, include_extras=True)
    for each in getattr(concept, "__dataclass_fields__", {}).values():
        hint = hints[each.name]
        entry, called = _mark(hint, Entry), _mark(hint, Called)
        name = called.key if called else each.name if entry is None else entry.key
        if name and not _mark(hint, Unwritten):
            default, hidden = _default(each, hint), entry is not None
            found[name] = Key(name, form_of(hint), default, concept, each.name, hidden)
    return found


def _default(field: Any, hint: Any) -> Any:
    marked = _mark(hint, Default)
    if marked is not None:
        return marked.value
    if field.default_factory is not MISSING:
        return field.default_factory()
    return NEEDED if field.default is MISSING else field.default


def shown_keys(concept: type[Concept]) -> list[str]:
    """The keys that people write."""
    return [name for name, key in keys_of(concept).items() if not key.hidden]


@once
def _entry_field(concept: type[Concept]) -> str | None:
    hints = get_type_hints(concept, include_extras=True)
    return next((name for name, hint in hints.items() if _mark(hint, Entry)), None)


def _mark(hint: Any, kind: type) -> Any:
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, kind)), None)


@cache
def form_of(kind: Any) -> Form:
    """The form in which values of an annotation are written."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        least = _mark(kind, Least)
        return _mark(kind, Form) or _form(inner[0], least.count if least else 0)
    return _form(kind, 0)


def _form(kind: Any, least: int) -> Form:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return form_of(kind)
    if origin in (Union, UnionType):
        (one,) = (each for each in inner if each is not NoneType)
        return _form(one, least)
    if origin is Literal:
        return Word(inner)
    if origin is tuple:
        return ListOf(form_of(inner[0]), least)
    if origin is Mapping:
        return MapOf(form_of(inner[1]), least)
    if isinstance(kind, type) and issubclass(kind, Concept):
        if kind.row:
            return Row(tuple(key.form for key in keys_of(kind).values()), kind)
        return OneOf(kind) if kind.by and not kind.tag else Fields(kind)
    known: dict[Any, Form] = {str: Text(), bool: Flag(), Any: Anything()}
    return known[kind]


def variants(base: type[Concept]) -> dict[str, type[Concept]]:
    """The concepts that a base stands for, by their tags."""
    return {each.tag: each for each in base.__subclasses__()}


@dataclass(frozen=True)
class Fields(Form):
    """A mapping with the keys of a concept."""

    concept: type[Concept]

    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        if node.map is None:
            keys = ", ".join(shown_keys(self.concept))
            message = f"{shown(plain(node))} where a mapping is due (keys: {keys})"
            return reading.wrong(node.place, path, message)
        fine, values = self._values(node, path, reading)
        entry = _entry_field(self.concept)
        if entry is not None:
            values[entry] = name or values.get(entry, "")
        made = self.concept(**values)
        if not fine:
            return made
        try:
            made.check()
        except Unknown:
            return made
        except ValueError as error:
            return reading.wrong(node.place, path, str(error))
        return made

    def _values(self, node: Node, path: Steps, reading: Reading) -> tuple[bool, dict[str, Any]]:
        """Whether all keys are right, and the values of the fields: holes where they are not."""
        keys, given = keys_of(self.concept), node.map or {}
        values: dict[str, Any] = {}
        unknown = [name for name in given if name not in keys]
        for name in unknown:
            near = did_you_mean(name, shown_keys(self.concept))
            mark = given[name].key or given[name].mark
            reading.wrong(mark, (*path, name), f"unknown key; {near}")
        for key in keys.values():
            child = given.get(key.name)
            if child is None or (child.value is None and key.default is not NEEDED):
                unknown_yet = key.default is NEEDED or (node.partial and child is None)
                values[key.field] = HOLE if unknown_yet else key.default
                if key.default is NEEDED and not node.partial:
                    reading.wrong(node.place, (*path, key.name), "is required and not given")
            else:
                values[key.field] = key.form.read(child, (*path, key.name), reading)
        holes = any(value is HOLE for value in values.values())
        values.pop("", None)  # the tag is the class
        return not (unknown or holes or node.partial), values

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return {
            "$ref": defined(self.concept.__name__, defs, lambda: concept_schema(self.concept, defs))
        }

    def keys(self, node: Node) -> Mapping[str, Key]:
        return keys_of(self.concept)

    def replaces(self, base: Node, over: Node) -> bool:
        return self.concept.whole


@dataclass(frozen=True)
class OneOf(Form):
    """A mapping with the keys of one of several concepts, told apart by one of its keys."""

    base: type[Concept]

    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        if node.map is None:
            return reading.wrong(node.place, path, f"{shown(plain(node))} where a mapping is due")
        by, tag = self.base.by, node.child(self.base.by)
        if tag is None:
            return reading.wrong(node.place, path, f"{by} is required and not given")
        form = self.of(node)
        if form is None:
            near = did_you_mean(str(plain(tag)), variants(self.base))
            return reading.wrong(node.place, path, f"{by}: {plain(tag)!r} is not known; {near}")
        return form.read(node, path, reading, name)

    def of(self, node: Node) -> Form | None:
        """The form of the concept that the node names."""
        tag = node.child(self.base.by)
        found = variants(self.base).get(tag.text or "") if tag is not None else None
        return None if found is None else Fields(found)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        refs = {tag: Fields(each).schema(defs) for tag, each in variants(self.base).items()}
        mapping = {tag: ref["$ref"] for tag, ref in refs.items()}
        discriminator = {"propertyName": self.base.by, "mapping": mapping}
        return {"discriminator": discriminator, "oneOf": [*refs.values()]}

    def keys(self, node: Node) -> Mapping[str, Key]:
        form = self.of(node)
        return {} if form is None else form.keys(node)

    def replaces(self, base: Node, over: Node) -> bool:
        old, new = base.child(self.base.by), over.child(self.base.by)
        return old is not None and new is not None and old.value != new.value


# What it is for


def doc_of(concept: type[Concept]) -> str:
    """What a concept is."""
    return inspect.cleandoc(concept.__doc__ or "")


def meaning(key: Key) -> str:
    """What a key means."""
    return _docs(key.owner).get(key.field) or doc_of(key.owner)


@once
def _docs(concept: type[Concept]) -> dict[str, str]:
    """The docstrings below fields, by field."""
    found = {}
    for each in reversed(concept.__mro__):
        if not issubclass(each, Concept):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        for line, below in pairwise(tree.body):  # type: ignore[attr-defined]
            match line, below:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                    found[name] = inspect.cleandoc(text)
    return found


TAKEN_AWAY: Schema = {"type": "null", "description": "Take away what an extended file has."}


def defined(name: str, defs: dict[str, Schema], make: Any) -> str:
    """The reference to a schema, made and defined where it is not yet."""
    if name not in defs:
        defs[name] = {}  # it may contain itself
        defs[name] = make()
    return f"#/$defs/{name}"


def concept_schema(concept: type[Concept], defs: dict[str, Schema]) -> Schema:
    """JSON Schema of a concept; one that may extend another needs no key."""
    properties: Schema = {}
    if concept.like:
        text = f"{concept.like} that this is like, but for the other keys."
        properties["extends"] = {"type": "string", "description": text}
    properties |= dict(_properties(concept, defs))
    needed = [name for name, key in keys_of(concept).items() if key.default is NEEDED]
    body: Schema = {"type": "object", "description": doc_of(concept), "properties": properties}
    body["additionalProperties"] = False
    if not concept.like:
        return body | ({"required": needed} if needed else {})
    name = [{"type": "string", "description": "By name."}] if concept.named else []
    return {"anyOf": [*name, body, TAKEN_AWAY]}


def _properties(concept: type[Concept], defs: dict[str, Schema]) -> Iterator[tuple[str, Schema]]:
    for name, key in keys_of(concept).items():
        if key.hidden:
            continue
        schema = key.form.schema(defs)
        if key.default is not NEEDED:
            schema = {"anyOf": [*schema.get("anyOf", [schema]), {"type": "null"}]}
            default = key.form.written(key.default) if key.default is not None else None
            schema |= {} if default is None else {"default": default}
        yield name, schema | {"description": meaning(key)}
