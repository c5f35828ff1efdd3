"""Scenes to maps: the rate against the bare model, and memory at scenes of 2,000, 8,000
and 20,000 pixels square.

    python benchmarks/predict.py [--sizes 2000 8000 20000] [--tmp DIR]
        # -> benchmarks/results/predict.json; the largest takes about half an hour and 5
        # GB of disk

With one thread. Scenes are simulated and made strip by strip; the models are untrained,
which changes nothing about their speed.
"""

import argparse
import json
from pathlib import Path

import torch
from mapping import bench_predict, memory_curve
from stopwatch import machine

from di3cl.files import write_atomic

RESULT = Path(__file__).parent / "results" / "predict.json"

if __name__ == "__main__":
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--sizes", type=int, nargs="*", default=[2000, 8000, 20_000])
    p.add_argument("--tmp", help="where scenes lie for a while")
    p.add_argument("--repeats", type=int, default=7)
    args = p.parse_args()
    torch.set_num_threads(1)
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if args.repeats:
        result["rate"] = [
            r._asdict()
            for r in bench_predict(
                None, torch.device("cpu"), repeats=args.repeats, seconds=240
            )
        ]
    if args.sizes:
        result["memory"] = memory_curve(args.sizes, folder=args.tmp)
    write_atomic(
        RESULT,
        json.dumps(
            dict(
                machine=machine(),
                **{k: result[k] for k in ("rate", "memory") if k in result},
            ),
            indent=1,
        ).encode(),
    )
