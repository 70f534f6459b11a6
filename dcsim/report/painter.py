"""Pictures drawn by a process of its own, which imports matplotlib while the run goes on.

A picture takes as long as the rest of a small run, and half of that is imports. What is drawn does
not depend on who draws it.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dcsim.cores import cores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dcsim.report.outline import Outline

__all__ = ["Painter", "serve"]

Drawing = Literal["pictures_of_run", "pictures_of_comparison"]
"""A function of `dcsim.report.pictures`."""

_SERVE = "import sys; sys.path[:] = sys.argv[1:]; from dcsim.report.painter import serve; serve()"


class Painter:
    """A process that draws, some pictures at once; without one to spare, or not `elsewhere`,
    pictures are drawn here, one after another.

    To be closed, as by `with`: what is not drawn by then is given up. The process ends with the
    one that started it, however that ends; Ctrl-C does not reach it.
    """

    def __init__(self, elsewhere: bool = False) -> None:
        wanted = elsewhere and cores() > 1 and bool(sys.executable)
        self._process = _start() if wanted else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dcsim-painter")
        self._sent: list[Future[None]] = []

    def draw(
        self, drawing: Drawing, what: Outline | Mapping[str, Outline], directory: Path
    ) -> None:
        """Have the pictures of a run or a comparison drawn into a directory; see `all_drawn`."""
        if self._process:
            self._sent.append(self._thread.submit(self._send, (drawing, what, directory)))
        else:
            for picture in _pictures(drawing, what, directory):
                picture()

    @contextmanager
    def all_drawn(self) -> Iterator[None]:
        """Ends when all that was asked for within is drawn; raises what went wrong with the first
        that was not. After any error nobody draws any more: a directory may be removed."""
        try:
            yield
            sent, self._sent = self._sent, []
            for task in sent:
                task.result()
            if sent:
                self._thread.submit(self._hear).result()
        except BaseException:
            self.close()
            raise

    def _send(self, task: object) -> None:
        assert self._process
        assert self._process.stdin
        try:
            pickle.dump(task, self._process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise OSError(_KILLED) from None

    def _hear(self) -> None:
        self._send(None)
        assert self._process
        assert self._process.stdout
        try:
            problem = pickle.load(self._process.stdout)
        except EOFError:
            raise OSError(_KILLED) from None
        if problem is not None:
            raise problem

    def close(self) -> None:
        """End the process, and those that it started."""
        process, self._process = self._process, None
        if process:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self._thread.shutdown(cancel_futures=True)
        if process:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what was not taken is still in the buffer
                    if pipe is not None:
                        pipe.close()

    def __enter__(self) -> Painter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_KILLED = "the process that draws the pictures was killed"


def _start() -> subprocess.Popen[bytes] | None:
    """A painter that imports what this process would; None where the system gives no more."""
    with suppress(OSError):
        return subprocess.Popen(
            [sys.executable, "-c", _SERVE, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # it forks; and multiplies nothing
        )
    return None


def _pictures(drawing: Drawing, what: object, directory: Path) -> list[Callable[[], None]]:
    from dcsim.report import pictures

    found: list[Callable[[], None]] = getattr(pictures, drawing)(what, directory)
    return found


def serve() -> None:
    """Draw what standard input asks for, until it ends.

    Asked for nothing (None), say on standard output what went wrong with the first that could not
    be drawn, or None.
    """
    gc.set_threshold(100_000, 20, 20)  # as the command itself
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from dcsim.report import pictures

    pictures.warm_up()  # now, while the run goes on; forks have it all
    gc.freeze()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    drawn: list[Future[None]] = []
    with ProcessPoolExecutor(cores(), get_context("fork")) as pool:
        pool.submit(int)  # starts them
        with suppress(EOFError):
            while True:
                task = pickle.load(requests)
                if task is not None:
                    drawn += [pool.submit(picture) for picture in _pictures(*task)]
                    continue
                problems = [each.exception() for each in drawn]
                drawn.clear()
                pickle.dump(next((each for each in problems if each is not None), None), answers)
                answers.flush()
        pool.shutdown(cancel_futures=True)
