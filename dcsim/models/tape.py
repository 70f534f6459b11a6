"""The record a model leaves while it runs: allocations, frees and ops, in order.

A `Tensor` belongs to a `Tape`. Creating one allocates its storage on the tape; the storage
is freed when the last tensor that views it dies (CPython counts references, so the moment is
exact and the same in every run). Sizes are rounded up to 512 bytes, the grain of PyTorch's
CUDA allocator. A tape that executes carries numpy data in its tensors; one that does not
carries shapes only. The model code cannot tell which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from types import EllipsisType
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]
Index = int | slice | EllipsisType | tuple[int | slice | EllipsisType, ...]

GRAIN = 512
"""Bytes an allocation is rounded up to (PyTorch `kMinBlockSize`)."""

# Quarters of a bit an element. NVFP4 holds 4 bits and a 16th of an 8-bit block scale, 4.5 in all;
# MXFP4 a 32nd, 4.25 in all.
_QUARTER_BITS = {
    "fp64": 256,
    "fp32": 128,
    "bf16": 64,
    "fp16": 64,
    "fp8": 32,
    "fp4": 18,
    "mxfp4": 17,
    "int8": 32,
    "nf4": 18,
    "uint8": 32,
    "int64": 256,
}
_RANK = {"fp16": 1, "bf16": 1, "fp32": 2, "fp64": 3}

CATEGORIES = (
    "activations",
    "inputs",
    "latents",
    "embeddings",
    "kv",
    "workspace",
    "output",
    "weights",
)
"""What a held byte is. Weights are resident before the tape starts and leave no events."""

DENSE, ATTENTION, CONV, MEMORY, COMM = KINDS = ("dense", "attention", "conv", "memory", "comm")
"""Classes of ops, each with an efficiency of its own in the parts files."""

Event = tuple[Any, ...]


def nbytes(shape: Sequence[int], dtype: str) -> int:
    """Bytes of an array of that shape, rounded up to whole bytes (not to the grain)."""
    return -(-prod(shape) * _QUARTER_BITS[dtype] // 32)


def promote(a: str, b: str) -> str:
    """The wider of two float dtypes; the first of two equally wide ones."""
    return b if _RANK[b] > _RANK[a] else a


class Storage:
    """Bytes held on a tape from now until this object dies."""

    __slots__ = ("_tape", "category", "number", "size")

    def __init__(self, tape: Tape, number: int, size: int, category: int) -> None:
        self._tape, self.number, self.size, self.category = tape, number, size, category

    def __del__(self) -> None:
        self._tape._free(self)


class Tape:
    """Events of one device in order, and the bytes held now by category.

    `events` holds tuples: `("alloc", number, bytes, category)`, `("free", number, bytes)`,
    `("keep", number, category)` and `("op", name, kind, flops, weights, moved, comm, module)`,
    where flops counts multiply and add as two (matrix products only), weights and moved are bytes
    of HBM traffic for parameters and for the rest, comm is bytes sent to other GPUs, and module
    is the part of the network whose parameters were looked up last.
    `profile` has a row an op: the op's index in events and the bytes held by category then.
    """

    def __init__(self, *, execute: bool = False) -> None:
        self.execute = execute
        self.transposes = False
        """Whether convolutions hold what they read and make once more, see `conv_workspace`."""
        self.events: list[Event] = []
        self.profile: list[tuple[int, tuple[int, ...]]] = []
        self.held = [0] * len(CATEGORIES)
        self.module = ""
        self._weights = CATEGORIES.index("weights")
        self.numbered = 0
        """Storages so far."""
        self._times = 1
        self.sharing = 1
        """GPUs that have a share of a picture's rows each, while an autoencoder runs."""

    @property
    def live(self) -> int:
        """Bytes held now, weights aside."""
        return sum(self.held)

    @contextmanager
    def times(self, count: int) -> Iterator[None]:
        """Ops recorded within stand for `count` of them each."""
        self._times *= count
        try:
            yield
        finally:
            self._times //= count

    def allocate(self, size: int, category: str = "activations", *, grain: int = GRAIN) -> Storage:
        """Hold `size` bytes, rounded up to `grain`, until the storage dies."""
        index = CATEGORIES.index(category) if category != "activations" else 0
        size = -(-size // grain) * grain
        if index == self._weights:
            return Storage(self, -1, size, index)
        number = self.numbered
        self.numbered = number + 1
        self.held[index] += size
        self.events.append(("alloc", number, size, category))
        return Storage(self, number, size, index)

    def _free(self, storage: Storage) -> None:
        if storage.category != self._weights:
            self.held[storage.category] -= storage.size
            self.events.append(("free", storage.number, storage.size))

    def keep(self, tensor: Tensor, category: str) -> Tensor:
        """Count the tensor's storage under another category from now on."""
        self.recount(tensor.storage, category)
        return tensor

    def recount(self, storage: Storage, category: str) -> None:
        """Count a storage under another category from now on."""
        index = CATEGORIES.index(category)
        if storage.category != index:
            self.held[storage.category] -= storage.size
            self.held[index] += storage.size
            storage.category = index
            self.events.append(("keep", storage.number, category))

    def tensor(
        self,
        shape: Shape,
        dtype: str,
        data: Array | None = None,
        category: str = "activations",
        *,
        grain: int = GRAIN,
    ) -> Tensor:
        """A new tensor with storage of its own; `data` is kept only by a tape that executes."""
        storage = self.allocate(nbytes(shape, dtype), category, grain=grain)
        return Tensor(self, shape, dtype, storage, data if self.execute else None)

    def run(
        self,
        name: str,
        kind: str,
        inputs: Sequence[Tensor],
        shape: Shape,
        dtype: str,
        compute: Callable[[], Array],
        *,
        flops: int = 0,
        comm: int = 0,
        scratch: int = 0,
        grain: int = GRAIN,
    ) -> Tensor:
        """Allocate an output, record the op that fills it from `inputs`, and compute it.

        `scratch` bytes are held while the op runs. `compute` is called only when executing.
        """
        out = self.tensor(shape, dtype, compute() if self.execute else None, grain=grain)
        extra = self.allocate(scratch) if scratch else None
        self.record(name, kind, inputs, out.nbytes + scratch, flops=flops, comm=comm)
        del extra
        return out

    def record(
        self,
        name: str,
        kind: str,
        inputs: Sequence[Tensor],
        written: int,
        *,
        flops: int = 0,
        comm: int = 0,
    ) -> None:
        """Record an op that reads `inputs` and writes `written` bytes to memory held already."""
        weights = moved = 0
        for tensor in inputs:
            if tensor.storage.category == self._weights:
                weights += tensor.nbytes
            else:
                moved += tensor.nbytes
        self.op(name, kind, flops, weights, moved + written, comm)

    def op(self, name: str, kind: str, flops: int, weights: int, moved: int, comm: int = 0) -> None:
        """Record an op whose traffic is known, in bytes."""
        self.profile.append((len(self.events), tuple(self.held)))
        sums = (each * self._times for each in (flops, weights, moved, comm))
        self.events.append(("op", name, kind, *sums, self.module))


class Tensor:
    """An array of the model: shape, dtype, storage on a tape and, when executing, data.

    The data are float32 whatever `dtype` says (numpy has no bfloat16): `dtype` is what the
    memory and traffic are counted in. Indexing, `reshape`, `permute` and `chunk` are views.
    """

    __slots__ = ("_data", "dtype", "nbytes", "shape", "storage", "tape")

    def __init__(
        self, tape: Tape, shape: Shape, dtype: str, storage: Storage, data: Array | None
    ) -> None:
        self.tape, self.shape, self.dtype = tape, shape, dtype
        self.storage, self._data = storage, data
        self.nbytes = nbytes(shape, dtype)

    @property
    def data(self) -> Array:
        """The values; ValueError on a tape that does not execute."""
        if self._data is None:
            raise ValueError("a shape-only tensor has no data")
        return self._data

    def _view(self, shape: Shape, look: Callable[[Array], Array]) -> Tensor:
        data = None if self._data is None else look(self._data)
        return Tensor(self.tape, shape, self.dtype, self.storage, data)

    def reshape(self, *shape: int) -> Tensor:
        """The same elements under another shape."""
        if prod(shape) != prod(self.shape):
            raise ValueError(f"cannot view {self.shape} as {shape}")
        return self._view(shape, lambda d: d.reshape(shape))

    def permute(self, *axes: int) -> Tensor:
        """The axes in another order."""
        return self._view(tuple(self.shape[a] for a in axes), lambda d: d.transpose(axes))

    def chunk(self, count: int, axis: int) -> tuple[Tensor, ...]:
        """`count` equal pieces along an axis."""
        axis %= len(self.shape)
        size = self.shape[axis] // count
        before = (slice(None),) * axis
        return tuple(self[(*before, slice(i * size, (i + 1) * size))] for i in range(count))

    def __getitem__(self, index: Index) -> Tensor:
        return self._view(_indexed(self.shape, index), lambda d: d[index])


def _indexed(shape: Shape, index: Index) -> Shape:
    parts = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    out = []
    for size, part in zip(shape, parts, strict=True):
        if isinstance(part, slice):
            out.append(len(range(*part.indices(size))))
    return tuple(out)
