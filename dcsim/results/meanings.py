"""What every column and key of a run's files means: one place, from which docs/results.md is
rendered. A test holds it equal to what a run writes."""

from __future__ import annotations

from collections.abc import Mapping

from dcsim.engine import CATEGORIES, CAUSES, OUTCOMES, TIERS
from dcsim.results.statistics import STATISTICS
from dcsim.results.table_meanings import COMPARED, TABLES, Entry, Table
from dcsim.results.wear import WRITTEN, YEAR_DAYS

__all__ = ["COMPARED", "COMPARISON", "MANIFEST", "NAMES", "SUMMARY", "TABLES", "Entry", "Table"]


NAMES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "TIER": (TIERS, "a tier"),
    "JOB": ((), "a job class, by its name in the scenario; of a job in stages `JOB/STAGE`"),
    "POOL": ((), "a pool, as in the timeline"),
    "LINK": (
        (),
        "links that differ by numbers alone, together: `agent/*/onboard`; one alone by its name",
    ),
    "WRITTEN": (WRITTEN, "what is written to NAND"),
    "CATEGORY": (CATEGORIES, "what bytes are held for"),
    "CAUSE": (CAUSES, "why bytes of finished objects came or went"),
    "OUTCOME": (OUTCOMES, "where a request stood at the end of the run"),
    "STATISTIC": (STATISTICS, "of all values of the run; pNN: percentile by nearest rank"),
    "PACKAGE": ((), "a package"),
    "VARIANT": ((), "`base`, or a variant of the comparison"),
}
"""What the capitals in keys stand for: the names, none where they are the scenario's, and a word
about them."""


def _over_time(key: str, what: str) -> tuple[Entry, ...]:
    path = f"tiers.TIER.{key}"
    return (
        Entry(f"{path}.mean", "int", "bytes", f"{what}, mean over the run."),
        Entry(f"{path}.p95", "int", "bytes", "95th percentile over time of the bins' means."),
        Entry(
            f"{path}.peak",
            "int",
            "bytes",
            "Most at any time, all pools together.",
        ),
        Entry(
            f"{path}.pools_peak",
            "int",
            "bytes",
            "Each pool's own peak, whenever it comes, added up.",
        ),
    )


def _engine(path: str) -> tuple[Entry, ...]:
    return (
        Entry(f"{path}.events", "int", "", "Events handled."),
        Entry(f"{path}.boundaries", "int", "", "Boundaries visited, between which it jumps."),
        Entry(f"{path}.steps", "int", "", "Steps of requests completed."),
        Entry(f"{path}.iterations", "int", "", "Iterations of replicas completed."),
        Entry(f"{path}.wall_seconds", "float", "s", "Wall time; differs from run to run."),
        Entry(f"{path}.requests_per_second", "float?", "1/s", "Requests over that time."),
    )


SUMMARY: tuple[Entry, ...] = (
    Entry("scenario", "text", "", "Name of the scenario."),
    Entry("seed", "int", "", "Seed of the random streams."),
    Entry("duration_ns", "int", "ns", "Simulated time."),
    Entry("bin_ns", "int", "ns", "Width of a bin."),
    Entry("requests.arrived", "int", "", "Requests of all job classes that have come."),
    Entry("requests.outcomes.OUTCOME", "int", "", "How many, as built."),
    Entry("requests.outcomes_lifted.OUTCOME", "int", "", "How many with capacities lifted."),
    Entry("requests.preemptions", "int", "", "All of them, as built."),
    Entry("tiers.TIER.pools", "int", "", "Pools of the tier."),
    Entry("tiers.TIER.capacity", "int", "bytes", "At the start, all pools together."),
    Entry("tiers.TIER.capacity_least", "int", "bytes", "Least over the run."),
    *_over_time("occupancy", "Bytes held"),
    *_over_time("demand", "Bytes demanded"),
    Entry("tiers.TIER.utilisation", "float?", "", "Mean occupancy over mean capacity."),
    Entry("tiers.TIER.occupancy_by_category.CATEGORY", "int", "bytes", "Mean over the run."),
    Entry("tiers.TIER.demand_by_category.CATEGORY", "int", "bytes", "Mean over the run."),
    Entry(
        "tiers.TIER.shortfall_peak",
        "int",
        "bytes",
        "Largest shortfall of a bin; each pool's own, added up, as none can use another's room.",
    ),
    Entry(
        "tiers.TIER.first_shortfall_ns", "int?", "ns", "Start of the first bin with a shortfall."
    ),
    Entry("tiers.TIER.first_shortfall_pool", "text?", "", "The pool that runs short first."),
    Entry(
        "tiers.TIER.first_shortfall_pool_peak", "int?", "B", "The most that this pool is short of."
    ),
    Entry(
        "tiers.TIER.first_shortfall_pool_ns",
        "int?",
        "ns",
        "Length of all bins in which it is short.",
    ),
    Entry("tiers.TIER.flows.CAUSE", "int", "bytes", "As the timeline, over the run."),
    Entry("tiers.nand.wear.bytes_written", "int", "bytes", "Written to NAND, all pools."),
    Entry(
        "tiers.nand.wear.flash_bytes_written",
        "int",
        "bytes",
        "What the flash took: times the write amplification.",
    ),
    Entry(
        "tiers.nand.wear.drive_writes_per_day", "float?", "1/d", "Over the capacity of all pools."
    ),
    Entry("tiers.nand.wear.lifetime_years", "float?", "years", "The least of the pools."),
    Entry("tiers.nand.wear.first_worn_out", "text?", "", "The pool of which that is the life."),
    Entry("tiers.nand.wear.pools.POOL.bytes_written", "int", "bytes", "Written in the run."),
    Entry(
        "tiers.nand.wear.pools.POOL.flash_bytes_written",
        "int",
        "bytes",
        "What its flash took: times `write_amplification`.",
    ),
    Entry(
        "tiers.nand.wear.pools.POOL.bytes_taken.WRITTEN",
        "int",
        "bytes",
        "As the columns of `wear.parquet`; with what was under way at the end.",
    ),
    Entry("tiers.nand.wear.pools.POOL.drive_writes_per_day", "float", "1/d", "Over its capacity."),
    Entry(
        "tiers.nand.wear.pools.POOL.rated_drive_writes_per_day",
        "float?",
        "1/d",
        "`dwpd` of its drives; null where unknown.",
    ),
    Entry(
        "tiers.nand.wear.pools.POOL.sustained_drive_writes_per_day",
        "float?",
        "1/d",
        "The pace at which it lasts just the warranty: rated times `rated_amplification` over "
        "`write_amplification`.",
    ),
    Entry(
        "tiers.nand.wear.pools.POOL.budget_drive_writes_per_day",
        "float?",
        "1/d",
        "`write_budget` of its drives; null without one.",
    ),
    Entry(
        "tiers.nand.wear.pools.POOL.endurance_used",
        "float?",
        "",
        "Share of all that it stands that the run used up.",
    ),
    Entry(
        "tiers.nand.wear.pools.POOL.lifetime_years",
        "float?",
        "years",
        f"Until its endurance is used up at the pace of this run, in years of {YEAR_DAYS} days; "
        "null where the rating is unknown or nothing is written.",
    ),
    Entry("links.LINK.links", "int", "", "How many they are."),
    Entry("links.LINK.bandwidth", "int", "bytes/s", "Of all of them."),
    Entry("links.LINK.bytes", "int", "bytes", "What they moved."),
    Entry("links.LINK.load", "float", "", "That as a share of what they could move."),
    Entry("links.LINK.load_fullest", "float", "", "The same in the fullest bin of one of them."),
    Entry("asked.JOB.arrived", "int", "", "Of jobs in stages or steps."),
    Entry("asked.JOB.outcomes.OUTCOME", "int", "", "How many, as built."),
    Entry("asked.JOB.outcomes_lifted.OUTCOME", "int", "", "How many with capacities lifted."),
    Entry("asked.JOB.wait_ns.STATISTIC", "int", "ns", "From arrival to first admission."),
    Entry("asked.JOB.first_ns.STATISTIC", "int", "ns", "From arrival to the first result."),
    Entry("asked.JOB.latency_ns.STATISTIC", "int", "ns", "From arrival to the end of all stages."),
    Entry("asked.JOB.per_token_ns.STATISTIC", "int", "ns", "Mean gap between tokens (LLMs)."),
    Entry("asked.JOB.throughput.requests_per_s", "float", "1/s", "Completed."),
    Entry("asked.JOB.throughput.output_tokens_per_s", "float", "1/s", "Of the completed (LLMs)."),
    Entry("jobs.JOB.service", "text", "", "The job that has the replicas."),
    Entry("jobs.JOB.arrived", "int", "", "Requests that have come."),
    Entry("jobs.JOB.outcomes.OUTCOME", "int", "", "How many, as built."),
    Entry("jobs.JOB.outcomes_lifted.OUTCOME", "int", "", "How many with capacities lifted."),
    Entry("jobs.JOB.preemptions", "int", "", "As built."),
    Entry("jobs.JOB.swap.preemptions", "int", "", "Those of them that went to DRAM (`swap`)."),
    Entry("jobs.JOB.swap.recomputed", "int", "", "The others: DRAM had no room."),
    Entry("jobs.JOB.swap.out_bytes", "int", "bytes", "From HBM to DRAM by preemption."),
    Entry("jobs.JOB.swap.back_bytes", "int", "bytes", "From DRAM back to HBM."),
    Entry("jobs.JOB.swap.no_room_bytes", "int", "bytes", "Of those that were recomputed."),
    Entry("jobs.JOB.swap.lost_bytes", "int", "bytes", "Lost in DRAM: a failure, less DRAM."),
    Entry("jobs.JOB.wait_ns.STATISTIC", "int", "ns", "From arrival to first admission."),
    Entry("jobs.JOB.first_ns.STATISTIC", "int", "ns", "From arrival to first token or first step."),
    Entry("jobs.JOB.latency_ns.STATISTIC", "int", "ns", "From arrival to end, of the completed."),
    Entry(
        "jobs.JOB.per_token_ns.STATISTIC",
        "int",
        "ns",
        "Mean gap between the tokens of a completed request, after the first (LLMs).",
    ),
    Entry(
        "jobs.JOB.handed_ns.STATISTIC",
        "int",
        "ns",
        "From first admission until what the stage before made has come (stages).",
    ),
    Entry("jobs.JOB.reuse.prompt_tokens", "int", "", "Of admitted requests (with `keep.reuse`)."),
    Entry("jobs.JOB.reuse.hbm_tokens", "int", "", "Found in HBM at first admissions."),
    Entry("jobs.JOB.reuse.dram_tokens", "int", "", "Loaded from DRAM at first admissions."),
    Entry("jobs.JOB.reuse.nand_tokens", "int", "", "Loaded from NAND at first admissions."),
    Entry(
        "jobs.JOB.reuse.again_tokens",
        "int",
        "",
        "Found or loaded at admissions after a preemption.",
    ),
    Entry("jobs.JOB.reuse.share", "float?", "", "HBM, DRAM and NAND tokens over prompt tokens."),
    Entry("jobs.JOB.reuse.hbm_share", "float?", "", "Of that found in HBM."),
    Entry("jobs.JOB.reuse.dram_share", "float?", "", "Of that from DRAM."),
    Entry("jobs.JOB.reuse.nand_share", "float?", "", "Of that from NAND."),
    Entry(
        "jobs.JOB.reuse.kept_bytes",
        "int",
        "bytes",
        "Context kept in DRAM and NAND, mean, as built.",
    ),
    Entry(
        "jobs.JOB.reuse.useful_bytes", "int", "bytes", "Context that will be used again, likewise."
    ),
    Entry("jobs.JOB.adapters.requests", "int", "", "Admitted requests (of jobs with `adapters`)."),
    Entry("jobs.JOB.adapters.used", "int", "", "Different adapters that they needed."),
    *(
        Entry(f"jobs.JOB.adapters.{place}_bytes", "int", "bytes", f"{what} at first admissions.")
        for place, what in (
            ("hbm", "Adapters that were in HBM"),
            ("dram", "Those that came from DRAM"),
            ("nand", "From NAND that keeps them"),
            ("library", "From where all of them lie"),
        )
    ),
    Entry("jobs.JOB.adapters.again_bytes", "int", "bytes", "That came at later admissions."),
    *(
        Entry(f"jobs.JOB.adapters.{place}_share", "float?", "", "Of these requests.")
        for place in ("hbm", "dram", "nand", "library")
    ),
    Entry("jobs.JOB.throughput.requests_per_s", "float", "1/s", "Completed."),
    Entry("jobs.JOB.throughput.frames_per_s", "float", "1/s", "Of completed clips."),
    Entry("jobs.JOB.throughput.prompt_tokens_per_s", "float", "1/s", "Of completed requests."),
    Entry("jobs.JOB.throughput.output_tokens_per_s", "float", "1/s", "Of completed requests."),
    Entry(
        "jobs.JOB.queue.waiting", "int", "", "Not admitted by the end; the rejected not counted."
    ),
    Entry(
        "jobs.JOB.queue.grows",
        "truth",
        "",
        "Its queue grows in the last three quarters of the run taken together, by ten requests "
        "and by three standard errors of the mean of twelve slices.",
    ),
    Entry("jobs.JOB.queue.arrivals_per_s", "float", "1/s", "In these three quarters."),
    Entry("jobs.JOB.queue.admissions_per_s", "float", "1/s", "In these three quarters."),
    *_engine("engine"),
    *_engine("engine.lifted"),
)
"""`summary.json`. Where no request has come so far, null stands for all statistics of a key."""

MANIFEST: tuple[Entry, ...] = (
    Entry("scenario", "text", "", "Name of the scenario."),
    Entry("seed", "int", "", "Seed of the random streams."),
    Entry("duration_ns", "int", "ns", "Simulated time."),
    Entry("bin_ns", "int", "ns", "Width of a bin."),
    Entry("versions.PACKAGE", "text", "", "Version of Python and of what computes the results."),
    Entry("engine.version", "text", "", "Version of the engine."),
    Entry("engine.compiler", "text", "", "Compiler that built it."),
    Entry("engine.flags", "text", "", "Its flags."),
    Entry("engine.standard", "int", "", "Its C++ standard (`__cplusplus`)."),
    Entry("engine.sanitizers", "text", "", "Sanitizers built in; empty: none."),
    Entry(
        "hash",
        "text",
        "",
        "SHA-256 of seed, inputs and files of models: equal hashes and versions give equal "
        "results.",
    ),
    Entry(
        "requests_hash",
        "text",
        "",
        "SHA-256 of all arrivals and shapes: equal where two runs see the same requests.",
    ),
    Entry("inputs", "mapping", "", "The scenario with references, overrides and variant resolved."),
)
"""`manifest.json` of a run."""

COMPARISON: tuple[Entry, ...] = (
    Entry("base", "text", "", "The variant that the others are compared with."),
    Entry("variants.VARIANT.hash", "text", "", "As in its own manifest."),
    Entry("variants.VARIANT.requests_hash", "text", "", "As in its own manifest."),
    Entry("variants.VARIANT.seed", "int", "", "As in its own manifest."),
    Entry("versions.PACKAGE", "text", "", "As in the manifest of the base."),
)
"""`manifest.json` of a comparison."""
