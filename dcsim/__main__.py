"""`dcsim`, and `python -m dcsim`: Ctrl-C is heard tidily even while the rest is imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the command."""
    try:
        from dcsim.cli import main as run

        run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
