"""`dcsim`, and `python -m dcsim`: Ctrl-C is heard tidily even while the rest is imported."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress


def main() -> None:
    """Entry point of the command."""
    gc.set_threshold(100_000, 20, 20)  # imports make little garbage; looking for it took a tenth
    try:
        from dcsim.cli import main as run

        run()
    except SystemExit as ended:
        if not ended.code:
            with suppress(OSError):  # what cannot be written is told as ever
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)  # all is done; to take it apart takes a fiftieth of a small run
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
