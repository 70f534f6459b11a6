"""The formats of request logs: the columns of each, and how its times are meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class LogFormat:
    """The columns of a log format and how its times are meant; others are passed over."""

    source: str
    """Whose logs have it."""
    time: str
    """The column of the arrival time."""
    prompt: str
    output: str
    per_second: float | None
    """The clock's ticks in a second; None: times are dates, and the first arrival is time 0."""
    json: bool = False
    """JSON lines rather than CSV."""
    tokens_optional: bool = False


AZURE = "LLM inference traces of Azure/AzurePublicDataset"
MOONCAKE = "FAST25 traces of kvcache-ai/Mooncake"
BURSTGPT = "HPMLL/BurstGPT, its files without fails"

FORMATS: Mapping[str, LogFormat] = {
    "azure": LogFormat(AZURE, "TIMESTAMP", "ContextTokens", "GeneratedTokens", None),
    "mooncake": LogFormat(MOONCAKE, "timestamp", "input_length", "output_length", 1e3, json=True),
    "csv": LogFormat("your own", "arrival_s", "prompt", "output", 1.0, tokens_optional=True),
    "burstgpt": LogFormat(BURSTGPT, "Timestamp", "Request tokens", "Response tokens", 1.0),
}
"""By the name that `format` takes."""
