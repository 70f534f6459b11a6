"""Equal blocks one after the other, recorded once.

A trace by shape of 60 equal blocks would count the same operations 60 times. From the second block
on each leaves what the one before left: the same events, with storages numbered on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from dcsim.models.tape import Event, Tape, Tensor

Block = Callable[[int, list[Tensor]], Sequence[Tensor]]
"""Takes its tensors out of the list, which is left empty, and returns those of the next."""


def repeated(tape: Tape, count: int, block: Block, state: list[Tensor], *, stride: int = 1) -> None:
    """`state[:] = block(i, state)` for i in range(count), for blocks of equal shapes.

    A block is of `stride` numbers in the names of modules. Nobody else has names for the tensors of
    `state`; whatever else a block reads is the same for all. On a tape that does not execute,
    blocks after one that began and ended alike are copies of it.
    """
    for i in range(count):
        before = _Mark(tape, state)
        state[:] = block(i, state)
        if not tape.execute and before.same(_Mark(tape, state), stride):
            before.copy(count - 1 - i, state, stride)
            return


class _Mark:
    """Where a tape stands between two blocks."""

    def __init__(self, tape: Tape, state: Sequence[Tensor]) -> None:
        self.tape, self.next = tape, tape.numbered
        self.events, self.profile = len(tape.events), len(tape.profile)
        self.held, self.module = tuple(tape.held), tape.module
        self.numbers = {tensor.storage.number for tensor in state}
        self.shapes = [
            (tensor.shape, tensor.dtype, tensor.storage.size, tensor.storage.number - self.next)
            for tensor in state
        ]

    def same(self, after: _Mark, stride: int) -> bool:
        """Whether the block from here to there began as it ended, and let go of nothing else."""
        if (self.held, self.shapes) != (after.held, after.shapes):
            return False
        if _on(self.module, stride) != after.module:
            return False
        ours = self.tape.events[self.events : after.events]
        return all(
            event[0] == "op" or event[1] >= self.next or event[1] in self.numbers for event in ours
        )

    def copy(self, times: int, state: Iterable[Tensor], stride: int) -> None:
        """Append the events from here on `times` over; the state is that of the last copy."""
        tape = self.tape
        events, rows = tape.events[self.events :], tape.profile[self.profile :]
        step, length = tape.numbered - self.next, len(events)
        parts = [(e, e[:-1], *_numbered(e[-1])) for e in events if e[0] == "op"]
        for i in range(1, times + 1):
            more, on = i * step, i * length
            ops = iter(parts)
            tape.events += [
                _moved(*next(ops), stride * i) if e[0] == "op" else (e[0], e[1] + more, *e[2:])
                for e in events
            ]
            tape.profile += [(at + on, held) for at, held in rows]
        for storage in {tensor.storage for tensor in state}:
            storage.number += times * step
        tape.numbered += times * step
        tape.module = _on(tape.module, stride * times)


def _numbered(module: str) -> tuple[int | None, str]:
    """The block's number with which a module's name begins, if it is of a block, and the rest."""
    digits, dot, rest = module.partition(".")
    return (int(digits), dot + rest) if digits.isdecimal() else (None, module)


def _on(module: str, blocks: int) -> str:
    """The same module of a block so many further on."""
    number, rest = _numbered(module)
    return rest if number is None else f"{number + blocks}{rest}"


def _moved(event: Event, head: Event, number: int | None, rest: str, blocks: int) -> Event:
    return event if number is None else (*head, f"{number + blocks}{rest}")
