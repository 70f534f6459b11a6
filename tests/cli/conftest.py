"""Fixtures of the command line, in `cli_scenes` with what goes with them."""

from cli_scenes import dcsim, no_plots, nothing_runs, short

__all__ = ["dcsim", "no_plots", "nothing_runs", "short"]
