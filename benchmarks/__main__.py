"""`python -m benchmarks [BENCHMARK ...]`: measure, and print; by default `chain` and `startup`.

- chain: `vehins pipeline run` beside a plain script that trains the same LightGBM; then a run that reuses all.
- startup: `vehins --help` beside the `--help` of a bare Typer application.
- mongodb: reading MongoDB beside the bare driver, and the peak memory of 300,000 and of 3 million documents.
- growth: 11.5 million synthetic customers beside 381,109: seconds per row, and the peak memory of each stage.
- scores: `vehins predict` of 11.5 million synthetic customers, in several forms: seconds per row, and peak memory.
- quality: vehins beside scikit-learn, XGBoost and CatBoost on real customers; these need `pip install --group bench`.
- resampling: the same model on balanced rows, measured on real customers as they are.
- serving: `vehins serve` beside a bare FastAPI endpoint, MLflow and BentoML, loaded by `wrk`; makes an environment.
- registry: publish, promote and fetch on S3 beside a bare client that puts and gets the same bytes.

The rows of `chain` are those of the Parquet file of `--file`, else 381,109 synthetic customers.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

from benchmarks import measure
from benchmarks.mongodb import mongodb
from benchmarks.registry import registry
from vehins.data.demo import batches

HERE = Path(__file__).parent
VEHINS = [sys.executable, "-m", "vehins"]
STAGES = ("ingest", "validate", "transform", "train", "evaluate", "push")
PUBLISHED_ROWS, MANY_ROWS = 381_109, 11_500_000


def chain(runs: int, folder: Path, file: Path | None) -> None:
    """The whole chain beside a plain script."""
    source = file or _customers(folder)
    number = itertools.count()

    def ours() -> list[str]:
        return [*VEHINS, "pipeline", "run", "--source", str(source), "--workspace", str(folder / f"w{next(number)}")]

    def plain() -> list[str]:
        return [sys.executable, str(HERE / "plain_script.py"), str(source)]

    chains, scripts = measure.pairs(ours, plain, runs)
    print(measure.report("vehins pipeline run", chains))
    print(measure.report("plain script", scripts))
    print(measure.ratios(chains, scripts), "  (promised: at most 1.5)")
    again = [*VEHINS, "pipeline", "run", "--source", str(source), "--workspace", str(folder / "w0")]
    reused = [measure.run(again) for _ in range(runs)]
    print(measure.report("the same, all reused", reused), "  (promised: at most 1.0 s)")


def _customers(folder: Path) -> Path:
    """Synthetic customers as a file."""
    import polars as pl

    path = folder / "customers.parquet"
    pl.concat(batches(PUBLISHED_ROWS, seed=1)).write_parquet(path)
    return path


def startup(runs: int, _: Path, __: Path | None) -> None:
    """The price of `--help`."""
    ours, bare = measure.pairs(
        lambda: [*VEHINS, "--help"], lambda: [sys.executable, str(HERE / "bare_typer.py"), "--help"], 4 * runs
    )
    print(measure.report("vehins --help", ours))
    print(measure.report("bare Typer --help", bare))
    print(measure.ratios(ours, bare), "  (promised: at most 2.5)")


def growth(_: int, folder: Path, __: Path | None) -> None:
    """Thirty times the rows: time per row, and memory by stage."""
    few = _stages(PUBLISHED_ROWS, folder / "few")
    many = _stages(MANY_ROWS, folder / "many")
    print(f"{'stage':<10} {'us/row at 381,109':>18} {'us/row at 11.5 M':>18} {'peak MB at 11.5 M':>18}")
    for stage in STAGES:
        small, large = few[stage].seconds / PUBLISHED_ROWS * 1e6, many[stage].seconds / MANY_ROWS * 1e6
        print(f"{stage:<10} {small:18.2f} {large:18.2f} {many[stage].peak_mb:18,.0f}")
    totals = [sum(cost.seconds for cost in costs.values()) for costs in (few, many)]
    print(f"{'all':<10} {totals[0] / PUBLISHED_ROWS * 1e6:18.2f} {totals[1] / MANY_ROWS * 1e6:18.2f}")
    for rows in (PUBLISHED_ROWS, MANY_ROWS):
        command = [*VEHINS, "pipeline", "run", "--source", f"demo://?rows={rows}", "-w", str(folder / f"chain{rows}")]
        cost = measure.run(command)
        per_row = cost.seconds / rows * 1e6
        print(f"chain of {rows:>10,} rows: {cost.seconds:.1f} s, {per_row:.2f} us/row, peak {cost.peak_mb:,.0f} MB")


def scores(_: int, folder: Path, __: Path | None) -> None:
    """Bulk scoring with a model of the published size."""
    place = ["-w", str(folder / "w")]
    measure.run([*VEHINS, "pipeline", "run", "--source", f"demo://?rows={PUBLISHED_ROWS}", *place])
    many, file = f"demo://?rows={MANY_ROWS}", str(folder / "customers.csv")
    measure.run([*VEHINS, "load", many, "--to", file])
    forms: dict[str, list[str]] = {
        "synthetic to Parquet": [many, str(folder / "scores.parquet")],
        "CSV to CSV": [file, str(folder / "scores.csv")],
        "CSV to the best 100,000": [file, str(folder / "top.csv"), "--top", "100000"],
        "the same of 1,000, 3 reasons": [file, str(folder / "why.csv"), "--top", "1000", "--reasons", "3"],
    }
    for name, words in forms.items():
        cost = measure.run([*VEHINS, "predict", *words, *place])
        told = f"{cost.seconds:6.1f} s  {cost.seconds / MANY_ROWS * 1e6:5.2f} us/row  peak {cost.peak_mb:,.0f} MB"
        print(f"{name:<28} {told}  (promised: at most 2,000 MB)", flush=True)


def _stages(rows: int, workspace: Path) -> dict[str, measure.Cost]:
    """Every stage as a process of its own."""
    source = ["--source", f"demo://?rows={rows}"]
    return {
        stage: measure.run([*VEHINS, stage, "-w", str(workspace), *(source if stage == "ingest" else [])])
        for stage in STAGES
    }


def quality(_: int, folder: Path, file: Path | None) -> None:
    """How good the model is, beside those of other libraries."""
    from benchmarks.quality import quality as compare

    compare(folder, file)


def serving(runs: int, folder: Path, file: Path | None) -> None:
    """The service, under load."""
    from benchmarks.serving import serving as load

    load(runs, folder, file)


def resampling(_: int, folder: Path, file: Path | None) -> None:
    """What it does to a model when its training rows are balanced."""
    from benchmarks.resampling import resampling as compare

    compare(folder, file)


def main() -> None:
    """Run the benchmarks that were asked for."""
    known = {
        "chain": chain,
        "startup": startup,
        "growth": growth,
        "scores": scores,
        "mongodb": mongodb,
        "quality": quality,
        "registry": registry,
        "resampling": resampling,
        "serving": serving,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", nargs="*", choices=[*known, []], help="which ones")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each command (default 5)")
    parser.add_argument("--file", type=Path, help="Parquet file of customers for all but `growth`")
    arguments = parser.parse_args()
    for name in arguments.benchmark or ["chain", "startup"]:
        print(f"--- {name} ---", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            known[name](arguments.runs, Path(folder), arguments.file)


main()
