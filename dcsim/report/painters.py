"""Pictures drawn by processes of their own, which import matplotlib while the run goes on.

A picture takes as long as the rest of a small run, and half of that is imports. What is drawn does
not depend on who draws it.
"""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Literal

from dcsim.cores import cores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dcsim.report.outline import Outline

__all__ = ["Painters", "serve"]

Drawing = Literal["draw_run", "draw_comparison"]
"""A function of `dcsim.report.pictures`."""

_SERVE = "import sys; sys.path[:] = sys.argv[1:]; from dcsim.report.painters import serve; serve()"


class Painters:
    """Up to `most` processes that draw, each on a core of its own; with none to spare, or `most`
    of 0, pictures are drawn here, one after another.

    To be closed, as by `with`: what is not drawn by then is given up. A painter ends with the
    process that started it, however that ends; Ctrl-C does not reach it.
    """

    def __init__(self, most: int = 0) -> None:
        count = min(most, cores()) if cores() > 1 and sys.executable else 0
        self._processes = _start(count)
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(max(count, 1), thread_name_prefix="dcsim-painter")
        self._tasks: list[Future[None]] = []

    def draw(
        self, drawing: Drawing, what: Outline | Mapping[str, Outline], directory: Path
    ) -> None:
        """Have the pictures of a run or a comparison drawn into a directory; see `all_drawn`."""
        if self._processes:
            self._tasks.append(self._threads.submit(self._hand_over, drawing, what, directory))
        else:
            _draw(drawing, what, directory)

    @contextmanager
    def all_drawn(self) -> Iterator[None]:
        """Ends when all that was asked for within is drawn; raises what went wrong with the first
        that was not. After any error nobody draws any more: a directory may be removed."""
        try:
            yield
            tasks, self._tasks = self._tasks, []
            for task in tasks:
                task.result()
        except BaseException:
            self.close()
            raise

    def _hand_over(self, *task: object) -> None:
        process = self._idle.get()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            pickle.dump(task, process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            problem = pickle.load(process.stdout)
        except (BrokenPipeError, EOFError):
            raise OSError("the process that draws the pictures was killed") from None
        finally:
            self._idle.put(process)
        if problem is not None:
            raise problem

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what was not taken is still in the buffer
                    if pipe is not None:
                        pipe.close()

    def __enter__(self) -> Painters:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _start(count: int) -> list[subprocess.Popen[bytes]]:
    """Painters that import what this process would; fewer where the system gives no more."""
    command = [sys.executable, "-c", _SERVE, *sys.path]
    started: list[subprocess.Popen[bytes]] = []
    with suppress(OSError):
        while len(started) < count:
            started.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                )
            )
    return started


def _draw(drawing: Drawing, what: object, directory: Path) -> None:
    from dcsim.report import pictures

    getattr(pictures, drawing)(what, directory)


def serve() -> None:
    """Draw what standard input asks for, until it ends; what went wrong goes to standard output."""
    gc.set_threshold(100_000, 20, 20)  # as the command itself
    from dcsim.report import pictures

    pictures.warm_up()  # now, while the run goes on
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            drawing, what, directory = pickle.load(requests)
        except EOFError:
            return
        problem: Exception | None = None
        try:
            _draw(drawing, what, directory)
        except Exception as error:
            problem = error
        try:
            pickle.dump(problem, answers)
            answers.flush()
        except BrokenPipeError:  # nobody waits for it any more
            os._exit(1)
