"""The pilot: which parts of DI3CL help a small encoder, on which task, and by how much?

    python benchmarks/pilot.py train --runs RUNS                     # resumable; one arm after the other, 20 minutes and more each on one core
    python benchmarks/pilot.py train --runs RUNS --only "DI3CL"      # one arm: two processes can share the work
"""
import argparse, csv, logging, warnings
from pathlib import Path

from rasterio.errors import NotGeoreferencedWarning

from di3cl.pretrain import pretrain

ARMS = {                                                     # settings of the tiny preset that differ; `random` needs no run
    "MoCo v2":         dict(loss_weights=(1, 0, 0)),
    "+ DI":            dict(loss_weights=(1, 0, 5)),
    "+ CC, published": dict(loss_weights=(0.8, 0.2, 0)),
    "+ CC, map":       dict(loss_weights=(0.8, 0.2, 0), contour="map"),
    "DI3CL":           dict(),
    "region 0.5":      dict(loss_weights=(0.8, 0.2, 0.5)),   # the better setting that the first honest question found on training areas
}

def folder(args, arm): return args.runs / arm.replace(" ", "_").replace(",", "")

def train(args):
    for arm, settings in ARMS.items():
        out = folder(args, arm)
        if (out / "weights.safetensors").exists() or args.only not in (None, arm): continue
        print(f"--- {arm}", flush=True)
        pretrain("sim", out, "tiny", seed=0, resume=(out / "config.json").exists(), checkpoint_seconds=60, pairs=args.pairs, n_sim=16384, **settings)

if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train",))
    parser.add_argument("--runs", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--only", choices=ARMS)
    parser.add_argument("--pairs", type=int, default=200_000)
    args = parser.parse_args()
    train(args)
