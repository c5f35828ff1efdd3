"""The figures of speed that the notebooks quote, in one command, each measurement in a process of its own:

    python benchmarks/speed.py            # about 10 minutes on 2 CPU cores -> benchmarks/results/speed_cpu.json (or speed_<GPU>.json), which 91 draws
    python benchmarks/speed.py curves     # as long again -> benchmarks/results/curves.json, which 90d draws
    python benchmarks/speed.py --try      # everything once, at sizes that take no time; nothing is kept

Ratios are taken within each round of a race, so a machine that others use, too, changes them little; its rates it does change."""
import argparse
from pathlib import Path

from bench import bench, print_bench, save_bench
from curves import in_fresh_process
from di3cl.train.devices import describe, pick_device

RESULTS = Path(__file__).parent / "results"
SMALLEST = dict(tile=40, view=32, batch=2, min_size=8, queue_size=32, dim=16)

def plan(cuda):
    "(measurement, preset, overrides) of every block."
    sizes = [(224, 32, "resnet18"), (224, 16, "resnet50")] if not cuda else [(224, 256, "resnet18"), (224, 256, "resnet50"), (448, 128, "resnet50")]
    large = [("paper", dict(view=view, tile=view * 8 // 7, batch=batch, arch=arch)) for view, batch, arch in sizes]
    steps = [("tiny", {}), ("small", {} if cuda else dict(batch=64)), *large]
    compiled = large if cuda else [("tiny", {})]
    return [*((what, "tiny", {}) for what in ("sim", "tiles", "views", "boxes")), *(("step", *s) for s in steps), *(("compile", *s) for s in compiled), ("processes", "tiny", {})]

def main(args):
    device, done = pick_device(args.device), []
    name = describe(device).replace(" ", "_").lower() if device.type == "cuda" else device.type
    blocks = [("curves", "small" if device.type == "cuda" else "tiny", {})] if args.what == "curves" else plan(device.type == "cuda")
    for what, preset, overrides in blocks:
        rows = in_fresh_process(bench, (what,), preset, str(device), args.repeats, args.seconds, **overrides | (SMALLEST if args.smallest else {}))
        print_bench(rows)
        done += rows
        if not args.smallest: save_bench(done, RESULTS / ("curves.json" if args.what == "curves" else f"speed_{name}.json"))      # whatever is done is kept

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("speed", "curves"), default="speed")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of each race")
    parser.add_argument("--seconds", type=float, default=45, help="no further round of a race begins after that long")
    parser.add_argument("--try", dest="smallest", action="store_true")
    args = parser.parse_args()
    if args.smallest: args.repeats, args.seconds = 1, 0
    main(args)
