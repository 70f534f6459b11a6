"""What every column and key of a run's files means: one place, from which docs/results.md is
rendered. A test holds it equal to what a run writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dcsim.engine import CATEGORIES, CAUSES, OUTCOMES, TIERS
from dcsim.results.statistics import STATISTICS
from dcsim.results.tiers import WARRANTY_YEARS

__all__ = ["COMPARED", "COMPARISON", "MANIFEST", "NAMES", "SUMMARY", "TABLES", "Entry", "Table"]


@dataclass(frozen=True)
class Entry:
    """A column of a table, or a key of a JSON file."""

    name: str
    """A key is dotted; its parts in capitals stand for the names in `NAMES`."""
    type: str
    """`int64`, `int32`, `float64`, `word` (a dictionary of strings) or `text`; of a key `int`,
    `float`, `truth`, `text` or `mapping`. A `?` after it: may be null."""
    unit: str
    meaning: str


@dataclass(frozen=True)
class Table:
    """A Parquet file."""

    row: str
    """What one row is."""
    columns: tuple[Entry, ...]


NAMES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "TIER": (TIERS, "a tier"),
    "JOB": ((), "a job class, by its name in the scenario"),
    "POOL": ((), "a pool, as in the timeline"),
    "CATEGORY": (CATEGORIES, "what bytes are held for"),
    "CAUSE": (CAUSES, "why bytes of finished objects came or went"),
    "OUTCOME": (OUTCOMES, "where a request stood at the end of the run"),
    "STATISTIC": (STATISTICS, "of all values of the run; pNN: percentile by nearest rank"),
    "PACKAGE": ((), "a package"),
    "VARIANT": ((), "`base`, or a variant of the comparison"),
}
"""What the capitals in keys stand for: the names, none where they are the scenario's, and a word
about them."""

_START = Entry("start_ns", "int64", "ns", "Start of the bin.")
_END = Entry("end_ns", "int64", "ns", "End of the bin; the last ends with the run.")
_TIER = Entry("tier", "word", "", "`hbm`, `dram` or `nand`.")


def _held(name: str, meaning: str) -> Entry:
    return Entry(name, "int64", "bytes", f"Mean over the bin. {meaning}")


def _flow(name: str, meaning: str) -> Entry:
    return Entry(name, "int64", "bytes", f"Of objects, within the bin. {meaning}")


TABLES: Mapping[str, Table] = {
    "requests": Table(
        "One row a request, in order of arrival, as built; a turn stands where its session began.",
        (
            Entry("job", "word", "", "Job class."),
            Entry("replica", "word?", "", "Where it last ran or waits; null: nowhere yet."),
            Entry("after", "int64?", "", "Row of the turn before it; null: it waits for none."),
            Entry("arrival_ns", "int64?", "ns", "When it came; null: it has not."),
            Entry("start_ns", "int64?", "ns", "First joined a batch; null: not yet."),
            Entry(
                "first_ns", "int64?", "ns", "First token, or first denoising step; null: not yet."
            ),
            Entry("end_ns", "int64?", "ns", "Completed; null: not yet."),
            Entry(
                "outcome",
                "word",
                "",
                "At the end of the run: `queued`, `running`, `completed`, `rejected`: it needs "
                "more HBM than a replica has beside its weights; `awaited`: what it waits for has "
                "not ended, or its think time has not; `abandoned`: that was rejected.",
            ),
            Entry(
                "preemptions", "int32", "", "Times it had to leave a full HBM and was recomputed."
            ),
            Entry("prompt_tokens", "int64?", "tokens", "Null for a clip."),
            Entry("output_tokens", "int64?", "tokens", "Null for a clip."),
            Entry("width", "int64?", "pixels", "Null for an LLM's request."),
            Entry("height", "int64?", "pixels", "Null for an LLM's request."),
            Entry("frames", "int64?", "", "1 is an image; null for an LLM's request."),
            Entry("steps", "int64?", "", "Denoising steps; null for an LLM's request."),
            Entry("artifact_bytes", "int64?", "bytes", "Size of the finished clip or image."),
            Entry("context_bytes", "int64?", "bytes", "Size of the KV when the turn is finished."),
            Entry(
                "hit_hbm_tokens",
                "int64?",
                "tokens",
                "Of its prompt, found in HBM at its first admission; null without reuse.",
            ),
            Entry("hit_dram_tokens", "int64?", "tokens", "The same, loaded from DRAM."),
            Entry("hit_nand_tokens", "int64?", "tokens", "The same, loaded from NAND."),
            Entry("hit_again_tokens", "int64?", "tokens", "Found or loaded at later admissions."),
        ),
    ),
    "timeline": Table(
        "One row a pool and bin. A pool is the HBM of a replica (`chat/0/hbm`), the GPUs nobody "
        "uses (`rack0/node0/hbm`), the DRAM or the drives of a domain, or a shelf. `weights` to "
        "`artifacts` and `free` add up to `capacity`.",
        (
            _START,
            _END,
            Entry("pool", "word", "", "The pool."),
            _TIER,
            Entry("capacity", "int64", "bytes", "Mean over the bin: operations may change it."),
            Entry("capacity_low", "int64", "bytes", "Least in the bin."),
            Entry("capacity_high", "int64", "bytes", "Greatest in the bin."),
            _held("weights", "Parameters of the models."),
            _held("live", "What running jobs keep from step to step: KV, latents, embeddings."),
            _held("transient", "Activations while a step runs."),
            _held("cache", "Contexts kept after their turns have ended, to be used again or not."),
            _held("artifacts", "Finished clips and images."),
            _held("free", "What is left of the capacity."),
            Entry("peak", "int64", "bytes", "Most held at any time of the bin, all categories."),
            Entry("demand", "int64", "bytes", "Mean held with capacities lifted."),
            Entry("demand_peak", "int64", "bytes", "Most held with capacities lifted."),
            Entry("shortfall", "int64", "bytes", "`demand_peak - capacity_low`, at least 0."),
            Entry("headroom", "int64", "bytes", "`capacity_low - demand_peak`, at least 0."),
            _flow("taken", "Came in."),
            _flow(
                "moved",
                "Left DRAM for NAND, due or written back; of exclusive tiers NAND for DRAM too.",
            ),
            _flow("expired", "Left for good when their time was over."),
            _flow("evicted", "Contexts that made room for newer objects."),
            _flow("lost", "No longer fitted when the pool shrank."),
            _flow("dropped", "Found no room here and were given up; never came in."),
            _flow("spilled", "Found no room in DRAM and went on to NAND; never came in."),
            _flow("read", "Loaded from here instead of computed again; stays where it is."),
        ),
    ),
    "tiers": Table(
        "One row a tier and bin: the most of what its pools hold together. Their own peaks, of the "
        "timeline, need not come at the same time.",
        (
            _START,
            _END,
            _TIER,
            Entry("peak", "int64", "bytes", "Most held at any time of the bin, all pools."),
            Entry("demand_peak", "int64", "bytes", "The same with capacities lifted."),
        ),
    ),
    "contents": Table(
        "Whose bytes: one row a tier, category, job and bin, where any are held or demanded in "
        "the run. Weights, live and transient bytes are those of the job that has the replicas.",
        (
            _START,
            _END,
            _TIER,
            Entry("category", "word", "", "As the columns of the timeline."),
            Entry("job", "word", "", "Job class."),
            Entry("mean_bytes", "int64", "bytes", "Mean over the bin, as built."),
            Entry("demand_bytes", "int64", "bytes", "Mean over the bin, capacities lifted."),
        ),
    ),
    "channels": Table(
        "One row a channel and bin. A channel is one direction of a link or of a drive: "
        "`chat/0/onboard` (DRAM to HBM), `chat/0/offload`, `rack0/node0/nand/write`, "
        "`rack0/node0/nic/in`, `context/network/in`. Transfers at once share the channels of their "
        "paths max-min fairly.",
        (
            _START,
            _END,
            Entry("channel", "word", "", "The channel."),
            Entry("bandwidth", "int64", "bytes/s", "What it can move."),
            Entry("bytes", "int64", "bytes", "What it moved in the bin, as built."),
        ),
    ),
    "events": Table(
        "One row an event, in order of time. `loading`, `up`, `down`: a replica. `capacity`: a "
        "pool was resized. `evicted`, `lost`, `dropped`, `spilled`: bytes of a job at a pool "
        "within a bin. `shortfall`: bins on end in which demand exceeds the capacity of a pool.",
        (
            Entry("time_ns", "int64", "ns", "When; the start of a bin or stretch."),
            Entry("end_ns", "int64?", "ns", "End of the bin or stretch; null for an instant."),
            Entry("kind", "word", "", "As above."),
            Entry("subject", "word", "", "The replica or the pool."),
            Entry("job", "word?", "", "Whose objects; null where it is not about objects."),
            Entry(
                "bytes",
                "int64?",
                "bytes",
                "The new capacity, the objects' bytes, or the worst of the shortfall; null of "
                "replicas.",
            ),
        ),
    ),
    "samples": Table(
        "One row a reading; only with an operation `sampler`, or where a process of yours calls "
        "`datacenter.sample()`. As built.",
        (
            Entry("time_ns", "int64", "ns", "When."),
            Entry("subject", "word", "", "A pool (`used`), or a job that has replicas."),
            Entry("quantity", "word", "", "`used`, `running`, `waiting` or `up`."),
            Entry("value", "int64", "bytes, jobs or replicas", "The reading."),
        ),
    ),
}

COMPARED = Table(
    "`comparison.parquet`, one row a figure of the summary and variant.",
    (
        Entry("section", "text", "", "`requests`, `tier` or `job`."),
        Entry("subject", "text", "", "The tier or the job class; empty for all requests."),
        Entry("figure", "text", "", "The key below it in the summary, such as `demand.p95`."),
        Entry(
            "unit", "text", "", "`bytes`, `ns`, `requests`, `per_s`, `per_day`, `years` or `share`."
        ),
        Entry("variant", "text", "", "`base`, a name of `what_if`, or `changed` for `--set`."),
        Entry("value", "float64?", "as `unit`", "The figure; null where the variant has none."),
        Entry("difference", "float64?", "as `unit`", "Value less that of the base."),
        Entry("ratio", "float64?", "", "Difference over the value of the base."),
    ),
)
"""What `dcsim compare` writes beside the directories of the variants."""


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
        "tiers.nand.wear.drive_writes_per_day", "float?", "1/d", "Over the capacity of all pools."
    ),
    Entry("tiers.nand.wear.lifetime_years", "float?", "years", "The least of the pools."),
    Entry("tiers.nand.wear.first_worn_out", "text?", "", "The pool of which that is the life."),
    Entry("tiers.nand.wear.pools.POOL.bytes_written", "int", "bytes", "Written in the run."),
    Entry(
        "tiers.nand.wear.pools.POOL.bytes_taken.cache",
        "int",
        "bytes",
        "Of this contexts; with what was under way at the end.",
    ),
    Entry("tiers.nand.wear.pools.POOL.bytes_taken.artifacts", "int", "bytes", "Likewise."),
    Entry("tiers.nand.wear.pools.POOL.drive_writes_per_day", "float", "1/d", "Over its capacity."),
    Entry(
        "tiers.nand.wear.pools.POOL.rated_drive_writes_per_day",
        "float?",
        "1/d",
        "`dwpd` of its drives; null where unknown.",
    ),
    Entry(
        "tiers.nand.wear.pools.POOL.lifetime_years",
        "float?",
        "years",
        f"Until the rated writes of {WARRANTY_YEARS} years are used up, at the pace of this run; "
        "null where the rating is unknown or nothing is written.",
    ),
    Entry("jobs.JOB.service", "text", "", "The job that has the replicas."),
    Entry("jobs.JOB.arrived", "int", "", "Requests that have come."),
    Entry("jobs.JOB.outcomes.OUTCOME", "int", "", "How many, as built."),
    Entry("jobs.JOB.outcomes_lifted.OUTCOME", "int", "", "How many with capacities lifted."),
    Entry("jobs.JOB.preemptions", "int", "", "As built."),
    Entry("jobs.JOB.wait_ns.STATISTIC", "int", "ns", "From arrival to first admission."),
    Entry("jobs.JOB.first_ns.STATISTIC", "int", "ns", "From arrival to first token or first step."),
    Entry("jobs.JOB.latency_ns.STATISTIC", "int", "ns", "From arrival to end, of the completed."),
    Entry(
        "jobs.JOB.per_token_ns.STATISTIC",
        "int",
        "ns",
        "Mean gap between the tokens of a completed request, after the first (LLMs).",
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
