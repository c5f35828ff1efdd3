"""Scenes to maps: the rate against the bare model, and memory as a scene grows.

    python benchmarks/predict.py [--sizes 2000 8000 20000] [--tmp DIR]

writes benchmarks/results/predict.json; the largest of the three scenes takes about half
an hour and 5 GB of disk. One thread. Scenes are simulated and made strip by strip; the
models are untrained, which changes nothing about their speed.
"""
import argparse
import json
from pathlib import Path

import torch
from mapping import bench_predict, memory_curve
from stopwatch import machine, write_json

RESULT = Path(__file__).parent / "results" / "predict.json"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[2000, 8000, 20_000])
    parser.add_argument("--tmp", help="where scenes lie for a while")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if args.repeats:
        rows = bench_predict(
            None, torch.device("cpu"), repeats=args.repeats, seconds=240)
        result["rate"] = [row._asdict() for row in rows]
    if args.sizes:
        result["memory"] = memory_curve(args.sizes, folder=args.tmp)
    kept = {k: result[k] for k in ("rate", "memory") if k in result}
    write_json(RESULT, dict(machine=machine(), **kept))


if __name__ == "__main__":
    main()
