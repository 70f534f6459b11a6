"""What every column of a run's tables means; see `meanings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["COMPARED", "TABLES", "Entry", "Table"]


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


_START = Entry("start_ns", "int64", "ns", "Start of the bin.")
_END = Entry("end_ns", "int64", "ns", "End of the bin; the last ends with the run.")
_TIER = Entry("tier", "word", "", "`hbm`, `dram` or `nand`.")


def _held(name: str, meaning: str) -> Entry:
    return Entry(name, "int64", "bytes", f"Mean over the bin. {meaning}")


def _flow(name: str, meaning: str) -> Entry:
    return Entry(
        name, "int64", "bytes", f"Of objects and what is swapped, within the bin. {meaning}"
    )


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
            Entry("preemptions", "int32", "", "Times it had to leave a full HBM."),
            Entry(
                "swaps",
                "int32",
                "",
                "Of these those to DRAM; of the others it was recomputed. Only where a scheduler "
                "has `preemption: swap`.",
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
            Entry(
                "adapter_hbm_bytes",
                "int64",
                "bytes",
                "Of the adapter that it needs, found in HBM at its first admission. Only where "
                "jobs have adapters, as the five below.",
            ),
            Entry("adapter_dram_bytes", "int64", "bytes", "The same, from DRAM."),
            Entry("adapter_nand_bytes", "int64", "bytes", "From NAND that keeps it."),
            Entry("adapter_library_bytes", "int64", "bytes", "From where all of them lie."),
            Entry("adapter_again_bytes", "int64", "bytes", "Brought at later admissions."),
            Entry("adapter", "int64?", "", "Which of its job's adapters, the most popular is 0."),
            Entry(
                "handed_ns",
                "int64?",
                "ns",
                "What the stage before made has come; null: it has not, or there is none. Only "
                "where jobs are in stages or steps, as the two below.",
            ),
            Entry("asked", "word", "", "The job as it is written."),
            Entry("number", "int64", "", "Which of what is asked of it this is a part of."),
        ),
    ),
    "timeline": Table(
        "One row a pool and bin. A pool is the HBM of a replica (`chat/0/hbm`), the GPUs nobody "
        "uses (`rack0/node0/hbm`), the DRAM or the drives of a domain (of its nodes where they "
        "are apart: `rack0/node3/dram`, and `rack0/node0-1/dram` where a replica spans two), or a "
        "shelf. `weights` to "
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
            _held("adapters", "Adapters kept to be used again; only where jobs have any."),
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
    "wear": Table(
        "One row a NAND pool that has drives and bin.",
        (
            _START,
            _END,
            Entry("pool", "word", "", "The pool."),
            Entry("artifacts", "int64", "bytes", "Taken in the bin: finished clips and images."),
            Entry("contexts", "int64", "bytes", "Taken: contexts of jobs that only keep them."),
            Entry(
                "reused",
                "int64",
                "bytes",
                "Taken: contexts of jobs with `keep.reuse`, written through or back.",
            ),
            Entry(
                "written",
                "int64",
                "bytes",
                "What came to the drives in the bin; what is taken takes a while to come.",
            ),
            Entry("flash", "int64", "bytes", "`written` times the write amplification."),
            Entry(
                "rated",
                "int64?",
                "bytes",
                "What could be written in the bin to last just the warranty; null where the "
                "rating is unknown.",
            ),
            Entry(
                "budget", "int64?", "bytes", "What `write_budget` lets through; null without one."
            ),
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
    "asked": Table(
        "One row for each that users asked of a job in stages or steps, in order; only where there "
        "is such a job. As built.",
        (
            Entry("job", "word", "", "The job as it is written."),
            Entry("number", "int64", "", "As in `requests`, which has its stages."),
            Entry("arrival_ns", "int64?", "ns", "When it came; null: it has not."),
            Entry("start_ns", "int64?", "ns", "First admission of any; null: not yet."),
            Entry("first_ns", "int64?", "ns", "First result that the user sees; null: not yet."),
            Entry("end_ns", "int64?", "ns", "All completed; null: not yet."),
            Entry(
                "outcome",
                "word",
                "",
                "Of its requests: `completed` if all are, `rejected` or `abandoned` if one is, "
                "`running` if one has begun, else `queued` or `awaited`.",
            ),
            Entry("requests", "int64", "", "How many requests serve it."),
        ),
    ),
    "useful": Table(
        "What will be used again: one row a job, class of reuse gaps and bin, of those that occur; "
        "only where a job has `keep.reuse`. The gap is the time from when context was last left "
        "or asked for until it is asked for again; in between its bytes are useful, wherever they "
        "lie and whether they are kept or not.",
        (
            _START,
            _END,
            Entry("job", "word", "", "Job class whose context it is."),
            Entry("gap_from_ns", "int64", "ns", "Gaps of this length"),
            Entry("gap_to_ns", "int64?", "ns", "up to below this one; null: any longer."),
            Entry("useful_bytes", "int64", "bytes", "Mean over the bin, as built."),
            Entry("useful_demand_bytes", "int64", "bytes", "The same with capacities lifted."),
            Entry("reused_bytes", "int64", "bytes", "Asked for again within the bin, as built."),
            Entry("reused_demand_bytes", "int64", "bytes", "The same with capacities lifted."),
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
        Entry("section", "text", "", "`requests`, `tier`, `link` or `job`."),
        Entry("subject", "text", "", "The tier, links or job class; empty for all requests."),
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
