"""The commands that look at models: `trace`, `kv`, `models`, `explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dcsim.cli.trouble import explained

AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


def trace(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="A reference model, or a trace file (.npz)."),
    ] = None,
    torch: Annotated[
        str | None,
        typer.Option(
            "--torch",
            metavar="MODULE:FACTORY",
            help="Trace a PyTorch module in place of a model, without weights or GPU.",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="DEVICE",
            help="fake, or cuda: with --torch, add what a run on the GPU allocates.",
        ),
    ] = "fake",
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Shape, option or layout, or argument of the factory; may be repeated.",
        ),
    ] = None,
    gpu: Annotated[
        str, typer.Option("--gpu", metavar="PART", help="A GPU of the catalogue.")
    ] = "h100",
    profile: Annotated[
        str | None,
        typer.Option("--profile", metavar="NAME", help="How far a serving stack gets on the GPU."),
    ] = None,
    as_json: AsJson = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Save the trace to a file (.npz).")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="Draw it, and what holds its peaks (.png, .svg, .pdf)."
        ),
    ] = None,
    perfetto: Annotated[
        Path | None,
        typer.Option(
            "--perfetto", metavar="FILE", help="Write a timeline for ui.perfetto.dev (.json)."
        ),
    ] = None,
) -> None:
    """Print the memory trace of one request, phase by phase."""
    with explained():
        from dcsim.cli.trace import trace_command

        text = trace_command(
            model,
            sets or [],
            gpu,
            profile=profile,
            as_json=as_json,
            out=out,
            plot=plot,
            perfetto=perfetto,
            torch=torch,
            device=device,
        )
        print(text)


def kv(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A language model, such as llama-3.1-70b.")
    ],
    gpu: Annotated[
        str, typer.Option("--gpu", metavar="PART", help="A GPU of the catalogue.")
    ] = "h100",
    tp: Annotated[int, typer.Option("--tp", metavar="N", help="GPUs that share the model.")] = 1,
    kv_dtype: Annotated[
        str, typer.Option("--kv-dtype", metavar="TYPE", help="auto (as the model), fp8, fp4.")
    ] = "auto",
    kv_gib: Annotated[
        float | None,
        typer.Option("--kv-gib", metavar="X", help="GiB a GPU for KV [what the budget leaves]."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="An option, or pp, dp, ep, cp; repeatable."
        ),
    ] = None,
    batched_tokens: Annotated[
        int, typer.Option("--batched-tokens", metavar="N", help="Most tokens of an iteration.")
    ] = 8192,
    sequences: Annotated[
        int, typer.Option("--sequences", metavar="N", help="Most sequences of an iteration.")
    ] = 1024,
    sampler: Annotated[
        str, typer.Option("--sampler", metavar="KIND", help="fused or sort.")
    ] = "fused",
    cuda_graphs_gib: Annotated[
        float, typer.Option("--cuda-graphs-gib", metavar="X", help="GiB a GPU for CUDA graphs.")
    ] = 0.36,
    as_json: AsJson = False,
) -> None:
    """Print KV bytes a token, and the tokens that fit beside a language model."""
    with explained():
        from dcsim.cli.kv import kv_command

        text = kv_command(
            model,
            gpu,
            tp,
            kv_dtype=kv_dtype,
            sets=sets or [],
            as_json=as_json,
            kv_gib=kv_gib,
            batched_tokens=batched_tokens,
            sequences=sequences,
            sampler=sampler,
            cuda_graphs_gib=cuda_graphs_gib,
        )
        print(text)


def models(as_json: AsJson = False) -> None:
    """Print the models there are: kind, parameters, a typical request."""
    with explained():
        from dcsim.cli.models import models_text

        print(models_text(as_json=as_json))


def explain(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model by name, or a trace file (.npz).")
    ],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Shape, option or layout; repeatable."),
    ] = None,
    gpu: Annotated[
        str, typer.Option("--gpu", metavar="PART", help="A GPU of the catalogue.")
    ] = "h100",
    profile: Annotated[
        str | None,
        typer.Option("--profile", metavar="NAME", help="How far a serving stack gets on the GPU."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Walk the calculation of one request, line by line, so that it can be checked by hand."""
    with explained():
        from dcsim.cli.explain import explain_command

        print(explain_command(model, sets or [], gpu, profile=profile, as_json=as_json))


COMMANDS = (trace, kv, models, explain)
