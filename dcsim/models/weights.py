"""Parameters of a model: their shapes, and their tensors on a tape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

import numpy as np

from dcsim.models.tape import Array, Shape, Tape, Tensor, nbytes

QUANTISED = ("fp8", "fp4", "mxfp4", "int8", "nf4")
"""Dtypes of weights that activations are not kept in."""

UNQUANTISED = (".router", "bias", ".conv", ".offset")
"""Ends of names of matrices that stay wide."""

Parameters = Iterator[tuple[str, Shape]]


def count(parameters: Parameters) -> int:
    """How many numbers the parameters are."""
    return sum(prod(shape) for _, shape in parameters)


def stored_dtype(name: str, shape: Shape, dtype: str) -> str:
    """The dtype a parameter is kept in: only the matrices of blocks are quantised.

    Parameters of block i are named `i.`; vectors, biases, routers, convolutions, embeddings and
    heads stay at bf16. `mxfp4` quantises the experts alone, as gpt-oss is published.
    """
    matrix = name[0].isdigit() and len(shape) > 1 and not name.endswith(UNQUANTISED)
    if dtype == "mxfp4":
        matrix = matrix and ".experts." in name
    return "bf16" if dtype in QUANTISED and not matrix else dtype


def size(parameters: Parameters, dtype: str) -> int:
    """Bytes of the parameters."""
    return sum(nbytes(shape, stored_dtype(name, shape, dtype)) for name, shape in parameters)


def random_arrays(parameters: Parameters, seed: int) -> dict[str, Array]:
    """Float32 arrays drawn from a normal law, scaled by the fan-in."""
    rng = np.random.Generator(np.random.Philox(seed))
    arrays = {}
    for name, shape in parameters:
        fan = prod(shape[1:]) if len(shape) > 1 else 16
        arrays[name] = (rng.standard_normal(shape) / fan**0.5).astype(np.float32)
    return arrays


class Weights:
    """The parameters of one model, resident before the tape's first event."""

    def __init__(
        self,
        tape: Tape,
        parameters: Parameters,
        dtype: str,
        arrays: Mapping[str, Array] | None = None,
    ) -> None:
        self.dtype = "bf16" if dtype in QUANTISED else dtype
        """The dtype of activations that meet these weights."""
        self.stored = dtype
        """The dtype of matrices of blocks."""
        self._tape = tape
        self._shapes = dict(parameters)
        self._arrays: Mapping[str, Array] = {}
        self._tensors: dict[str, Tensor] = {}
        if tape.execute:
            self._arrays = arrays or {}
            for name, shape in self._shapes.items():
                self._check(name, shape)

    def _check(self, name: str, shape: Shape) -> None:
        if name not in self._arrays:
            raise ValueError(f"no array for the parameter {name}")
        given = self._arrays[name].shape
        if given != shape:
            raise ValueError(f"{name}: the array is {given}, the model has {shape}")

    def _tensor(self, name: str) -> Tensor:
        """Made when it is first asked for: of equal blocks most never are."""
        found = self._tensors.get(name)
        if found is None:
            shape, data = self._shapes[name], self._arrays.get(name)
            kind = stored_dtype(name, shape, self.stored)
            found = self._tensors[name] = self._tape.tensor(shape, kind, data, "weights")
        return found

    def get(self, name: str) -> Tensor | None:
        """The parameter of that name, if there is one."""
        return self[name] if name in self._shapes else None

    def __getitem__(self, name: str) -> Tensor:
        self._tape.module = name.rpartition(".")[0] or name
        return self._tensor(name)

    def linear(self, name: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of a layer."""
        self._tape.module = name
        return self._tensor(name + ".weight"), self._tensor(name + ".bias")
