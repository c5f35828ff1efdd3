"""All figures of speed that the notebooks quote, in one command, each measurement in a process of its own:

    python benchmarks/speed.py            # on a machine with nothing else to do: about an hour on 2 CPU cores

writes benchmarks/results/speed_cpu.json (or speed_<GPU>.json) and curves.json, which 90d draws."""
import argparse
from pathlib import Path

from di3cl.bench import bench, print_bench, save_bench
from di3cl.curves import in_fresh_process
from di3cl.devices import describe, pick_device

RESULTS = Path(__file__).parent / "results"

def plan(cuda):
    "(measurement, preset, overrides) of every block."
    sizes = [(224, 32, "resnet18"), (224, 16, "resnet50")] if not cuda else [(224, 256, "resnet18"), (224, 256, "resnet50"), (448, 128, "resnet50")]
    large = [("paper", dict(view=view, tile=view * 8 // 7, batch=batch, arch=arch)) for view, batch, arch in sizes]
    steps = [("tiny", {}), ("small", {} if cuda else dict(batch=64)), *large]
    compiled = large if cuda else [("tiny", {})]
    return [*((what, "tiny", {}) for what in ("sim", "tiles", "views", "boxes")), *(("step", *s) for s in steps), *(("compile", *s) for s in compiled), ("curves", "small" if cuda else "tiny", {})]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto"); parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    device, done = pick_device(args.device), []
    name = describe(device).replace(" ", "_").lower() if device.type == "cuda" else device.type
    for what, preset, overrides in plan(device.type == "cuda"):
        rows = in_fresh_process(bench, (what,), preset, str(device), args.repeats, 600, **overrides)
        print_bench(rows)
        if what == "curves": save_bench(rows, RESULTS / "curves.json")
        else: save_bench(done := done + rows, RESULTS / f"speed_{name}.json")      # whatever is done is kept
