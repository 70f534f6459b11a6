"""Building blocks of the written form: quantities as types, and models that explain themselves."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated, Any, ClassVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    Strict,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError

from dcsim.spec import units
from dcsim.spec.errors import did_you_mean
from dcsim.spec.units import Dimension


def _schema(dimension: Dimension, *, positive: bool = False) -> WithJsonSchema:
    """A pattern cannot say well that 0 is allowed; an example can."""
    examples = [dimension.example] if positive else [dimension.example, dimension.nothing]
    return WithJsonSchema({"type": "string", "pattern": dimension.pattern, "examples": examples})


def _read(dimension: Dimension, *, positive: bool) -> Callable[[object], int]:
    def read(value: object) -> int:
        number = units.whole(value, dimension)
        _check_sign(value, number, positive)
        return number

    return read


def _read_float(dimension: Dimension) -> Callable[[object], float]:
    def read(value: object) -> float:
        number = units.parse(value, dimension)
        _check_sign(value, number, positive=False)
        try:
            return float(number)
        except OverflowError:
            raise ValueError(f"{value!r} is more than a number can be") from None

    return read


def _check_sign(value: object, number: int | Fraction, positive: bool) -> None:
    if number < 0 or (positive and number == 0):
        raise ValueError(f"{value!r} must be {'more than 0' if positive else '0 or more'}")


Bytes = Annotated[
    int,
    BeforeValidator(_read(units.SIZE, positive=True)),
    _schema(units.SIZE, positive=True),
]
BytesOrZero = Annotated[
    int, BeforeValidator(_read(units.SIZE, positive=False)), _schema(units.SIZE)
]
"""Bytes, or `0 B`."""
Duration = Annotated[
    int,
    BeforeValidator(_read(units.TIME, positive=True)),
    _schema(units.TIME, positive=True),
]
Instant = Annotated[int, BeforeValidator(_read(units.TIME, positive=False)), _schema(units.TIME)]
"""A time that may be 0."""
Bandwidth = Annotated[
    int,
    BeforeValidator(_read(units.BANDWIDTH, positive=True)),
    _schema(units.BANDWIDTH, positive=True),
]
Compute = Annotated[
    int,
    BeforeValidator(_read(units.COMPUTE, positive=True)),
    _schema(units.COMPUTE, positive=True),
]
PerSecond = Annotated[float, BeforeValidator(_read_float(units.RATE)), _schema(units.RATE)]
Watts = Annotated[float, BeforeValidator(_read_float(units.POWER)), _schema(units.POWER)]
Usd = Annotated[float, BeforeValidator(_read_float(units.MONEY)), _schema(units.MONEY)]
UsdPerByte = Annotated[
    float, BeforeValidator(_read_float(units.UNIT_PRICE)), _schema(units.UNIT_PRICE)
]

Count = Annotated[int, Strict(), Field(ge=1, le=units.INT64)]
CountOrZero = Annotated[int, Strict(), Field(ge=0, le=units.INT64)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]

_SIZE = re.compile(r"^([1-9][0-9]{0,5})x([1-9][0-9]{0,5})$")


def resolution(value: str) -> tuple[int, int]:
    """`1280x720` as (width, height) in pixels. Raises ValueError."""
    match = _SIZE.match(value)
    if match is None:
        raise ValueError(f"{value!r} is no resolution: width x height in pixels, as '1280x720'")
    return int(match[1]), int(match[2])


def _is_resolution(value: str) -> str:
    resolution(value)
    return value


Resolution = Annotated[
    str,
    AfterValidator(_is_resolution),
    WithJsonSchema({"type": "string", "pattern": _SIZE.pattern, "examples": ["1280x720"]}),
]


class Written(BaseModel):
    """A mapping in the YAML: immutable, no unknown keys, every error in plain words."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_by_alias=True,
    )

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
        keys = cls.keys()
        if not isinstance(data, dict):
            message = f"{units.shown(data)} where a mapping is due (keys: {', '.join(keys)})"
            raise PydanticCustomError("spec", "{message}", {"message": message})
        try:
            return handler(data)
        except ValidationError as error:
            found = error.errors()
            lines = [_plain_words(line, keys) for line in found if not _follows(line, found)]
            raise ValidationError.from_exception_data(cls.__name__, lines) from None

    @classmethod
    def keys(cls) -> list[str]:
        """The keys as they are written."""
        named = ((name, field.alias or name) for name, field in cls.model_fields.items())
        return [alias for name, alias in named if name != "part"]  # that one is filled in


class Composable(Written):
    """A mapping that may be given by name, or `extends` a named one and overrides the rest.

    References are resolved before validation, so the model itself sees neither; the JSON
    Schema, which describes files as written, allows both and requires no key.
    """

    like: ClassVar[str]
    """What `extends` names."""
    by_name: ClassVar[bool] = True
    """Whether a bare name will do."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        body = handler.resolve_ref_schema(schema)
        body.pop("required", None)
        extends = {
            "type": "string",
            "description": f"{cls.like} that this is like, but for the other keys.",
        }
        own = {k: v for k, v in cast(dict[str, Any], body["properties"]).items() if k != "part"}
        body["properties"] = {"extends": extends, **own}
        name = {"type": "string", "description": "By name."}
        nothing = {"type": "null", "description": "Take away what an extended file has."}
        return {"anyOf": [name, schema, nothing] if cls.by_name else [schema, nothing]}


def _follows(line: ErrorDetails, found: list[ErrorDetails]) -> bool:
    """A list is "too short" for pydantic when its entries are wrong; those tell enough."""
    if line["type"] != "too_short":
        return False
    loc = line["loc"]
    return any(other["loc"][: len(loc)] == loc and other is not line for other in found)


def _plain_words(line: ErrorDetails, keys: list[str]) -> InitErrorDetails:
    """One of pydantic's errors with its message in this project's words."""
    at_top = len(line["loc"]) == 1
    if line["type"] == "spec":
        message = line["msg"]
    elif line["type"] == "extra_forbidden" and at_top:
        message = f"unknown key; {did_you_mean(str(line['loc'][0]), keys)}"
    else:
        message = _message(line)
    error = PydanticCustomError("spec", "{message}", {"message": message})
    return InitErrorDetails(type=error, loc=line["loc"], input=line["input"])


def _message(line: ErrorDetails) -> str:
    """What pydantic found, said with the value and what is allowed."""
    context = line.get("ctx", {})
    value = units.shown(line["input"])
    match line["type"]:
        case "missing":
            return "is required and not given"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            allowed = re.findall(r"'([^']*)'", str(context["expected"]))
            return f"{value} is not allowed; {did_you_mean(str(line['input']), allowed)}"
        case "union_tag_not_found":
            return f"{str(context['discriminator']).strip(chr(39))} is required and not given"
        case "union_tag_invalid":
            allowed = re.findall(r"'([^']*)'", str(context["expected_tags"]))
            key, tag = str(context["discriminator"]).strip("'"), str(context["tag"])
            return f"{key}: {tag!r} is not known; {did_you_mean(tag, allowed)}"
        case "int_type":
            return f"{value} where a whole number is due"
        case "float_type":
            return f"{value} where a number is due"
        case "string_type":
            return f"{value} where text is due"
        case "bool_type":
            return f"{value} where true or false is due"
        case "tuple_type":
            return f"{value} where a list is due"
        case "dict_type" | "model_attributes_type":
            return f"{value} where a mapping is due"
        case "finite_number":
            return f"{value} is not a finite number"
        case "greater_than_equal":
            return f"{value} must be {context['ge']} or more"
        case "too_short":
            return f"needs at least {context['min_length']}"
        case "less_than":
            return f"{value} must be less than {context['lt']}"
        case "greater_than":
            return f"{value} must be more than {context['gt']:g}"
        case "less_than_equal":
            return f"{value} must be {context['le']} or less"
    return f"{value}: {line['msg']}"
