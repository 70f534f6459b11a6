"""What a language model keeps of a token, and how many tokens fit, as text."""

from __future__ import annotations

from dcsim.report.quantities import bytes_text
from dcsim.traces import KvBudget

__all__ = ["kv_text"]

GIB = 2**30


def kv_text(b: KvBudget) -> str:
    """The budget as text."""
    gpus = b.tp * b.pp * b.dp * b.cp
    lines = [f"{b.model} on {gpus} x {b.gpu}: weights {b.weights_dtype}, KV {b.kv_dtype}", ""]
    token = f"{b.kv_bytes_per_token:,} B of the model, {b.kv_bytes_per_token_per_gpu:,} B on a GPU"
    lines.append(f"{'a token of KV':<18}{token}")
    if b.window is not None:
        after = f"{b.kv_bytes_per_token_beyond_window:,} B of the model, "
        after += f"{b.kv_bytes_per_token_per_gpu_beyond_window:,} B on a GPU"
        lines.append(f"{f'  beyond {b.window}':<18}{after}")
    if b.kv_state_bytes_per_gpu:
        name = "  a full window" if b.window is not None else "a state"
        kept = bytes_text(b.kv_state_bytes_per_gpu)
        lines.append(f"{name:<18}{kept} a sequence on a GPU")
    lines += ["", *_terms(b), ""]
    if b.window is None:
        lines.append(
            f"{b.kv_tokens:,} tokens fit{', without states' * bool(b.kv_state_bytes_per_gpu)}"
        )
    else:
        lines.append(
            f"{b.kv_tokens:,} tokens fit in sequences of up to {b.window}, "
            f"{b.kv_tokens_beyond_window:,} in one endless sequence"
        )
    return "\n".join(lines)


def _terms(b: KvBudget) -> list[str]:
    """The budget of a GPU, term by term."""
    rows: list[tuple[str, int | None]] = [("given for KV", b.kv_bytes)]
    if b.hbm_bytes is not None:
        assert b.memory_utilization is not None
        rows = [
            (f"HBM x {b.memory_utilization:g}", int(b.hbm_bytes * b.memory_utilization)),
            ("- weights", b.weights_bytes),
            ("- activations", b.activation_bytes),
            ("- non-torch", b.non_torch_bytes),
            ("- CUDA graphs", b.cuda_graph_bytes),
            ("= for KV", b.kv_bytes),
        ]
    return [f"{name:<18}{(size or 0) / GIB:>10.2f} GiB a GPU" for name, size in rows]
