"""Ops between the GPUs of a replica, and what the ranks of a layout hold.

Bytes sent are those of ring algorithms, per GPU: an all-reduce of b bytes over n GPUs sends
2 (n-1)/n b, an all-to-all (n-1)/n b, an all-gather of pieces of b bytes (n-1) b, a ring (n-1) b.
Per block of a transformer with tokens p and width h that is the cost table of xDiT's README:
tensor parallel 4 O(p h), Ulysses 4/n O(p h), ring 2 O(p h).
"""

from __future__ import annotations

from collections.abc import Callable

from dcsim.models import ops
from dcsim.models.tape import ATTENTION, COMM, Array, Shape, Tape, Tensor, nbytes
from dcsim.spec import Layout

ALONE = Layout()
"""One GPU."""


def check_execution(tape: Tape, layout: Layout) -> None:
    """ValueError where a tape executes a layout of several GPUs: one rank has not all data."""
    if tape.execute and layout.gpus > 1:
        raise ValueError("a layout of several GPUs is traced by shape, not executed")


def nothing() -> Array:
    """What is computed on several GPUs is not executed."""
    raise AssertionError("unreachable: check_execution refuses layouts of several GPUs")


def all_reduce_(x: Tensor, n: int) -> None:
    """Sum over n GPUs, in place."""
    if n > 1:
        x.tape.record("all_reduce", COMM, (x,), x.nbytes, comm=-(-2 * (n - 1) * x.nbytes // n))


def all_to_all(x: Tensor, n: int, shape: Shape) -> Tensor:
    """Swap pieces among n GPUs into a new tensor of `shape`; x itself where n is 1."""
    if n == 1:
        return x
    comm = -(-(n - 1) * x.nbytes // n)
    return x.tape.run("all_to_all", COMM, (x,), shape, x.dtype, nothing, comm=comm)


def all_gather(x: Tensor, n: int, axis: int) -> Tensor:
    """The pieces of n GPUs joined along an axis; x itself where n is 1."""
    if n == 1:
        return x
    axis %= len(x.shape)
    shape = (*x.shape[:axis], x.shape[axis] * n, *x.shape[axis + 1 :])
    comm = (n - 1) * x.nbytes
    return x.tape.run("all_gather", COMM, (x,), shape, x.dtype, nothing, comm=comm)


def halo(x: Tensor, n: int) -> Tensor:
    """A share of the rows of (batch, channels, rows, columns) between one row of each neighbour
    among n GPUs, in a new tensor; x itself where n is 1."""
    if n == 1:
        return x
    batch, channels, rows, columns = x.shape
    shape = (batch, channels, rows + 2, columns)
    comm = 2 * x.nbytes // rows
    return x.tape.run("halo", COMM, (x,), shape, x.dtype, nothing, comm=comm)


def beside(x: Tensor, rows: int) -> Tensor | None:
    """x (.., rows, columns) between so many rows of its neighbours, in new memory, on GPUs that
    share the rows of a picture; None where there is nothing to bring."""
    if x.tape.sharing == 1 or not rows:
        return None
    *outer, own, columns = x.shape
    shape = (*outer, own + rows, columns)
    return x.tape.run("halo", COMM, (x,), shape, x.dtype, nothing, comm=rows * x.nbytes // own)


def summed_statistics(x: Tensor, numbers: int) -> None:
    """Sums of so many float32 numbers over the GPUs that share the rows of a picture."""
    if (n := x.tape.sharing) > 1:
        size = ops.FLOAT * numbers
        x.tape.op("all_reduce", COMM, 0, 0, 2 * size, -(-2 * (n - 1) * size // n))


def received(tape: Tape, shape: Shape, dtype: str) -> Tensor:
    """What the stage before has put out, in new memory. As many bytes are sent: of a group of
    tensor-parallel GPUs each sends its share on, and what has come to the others of its group."""
    return tape.run("receive", COMM, (), shape, dtype, nothing, comm=nbytes(shape, dtype))


def sent(tape: Tape, shape: Shape, dtype: str) -> None:
    """What the stage after is given."""
    size = nbytes(shape, dtype)
    tape.op("send", COMM, 0, 0, size, size)


def evenly(count: int, parts: int) -> list[int]:
    """`count` in so many parts, the first of them one more where they do not divide."""
    each, more = divmod(count, parts)
    return [each + (i < more) for i in range(parts)]


def passed_round(x: Tensor) -> Tensor:
    """What the neighbour in a ring has in place of x, in new memory. It is on its way while
    attention computes."""
    return x.tape.run("pass", ATTENTION, (x,), x.shape, x.dtype, nothing, comm=x.nbytes)


def ring_attention(
    parts: tuple[Tensor, ...], ring: int, attend: Callable[[tuple[Tensor, ...]], Tensor]
) -> Tensor:
    """Attention of this GPU's queries to the `parts` (K and V, or latents) of `ring` GPUs, which go
    round; `attend` takes those of one. What comes out of each is added up in float32. Whoever
    gives the first ones holds them."""
    if ring == 1:
        return attend(parts)
    done: Tensor | None = None
    dtype = ""
    for turn in range(ring):
        coming = () if turn == ring - 1 else tuple(passed_round(part) for part in parts)
        found = attend(parts)
        parts = coming
        del coming
        if done is None:
            dtype = found.dtype
            done = ops.cast(found, "fp32")
        else:
            done = ops.pointwise("merge", _merged, done, found)
        del found
    assert done is not None
    return ops.cast(done, dtype)


def _merged(*_: Array) -> Array:
    return nothing()
