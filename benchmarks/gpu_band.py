"""How far runs of one seed lie apart on a GPU, and a run that was stopped and resumed.

    python benchmarks/gpu_band.py       # two minutes -> results/gpu_band.json
    python benchmarks/gpu_band.py --device cpu --pairs 1280     # there: no gap at all

Three runs of the preset `tiny` on simulated scenes, in the precision that the device
picks and in 32 bits: one, the same again, and the same stopped by SIGTERM half-way and
resumed. A gap is between two losses of one step, as a share of the first run's.
"""
import argparse
import os
import signal
import tempfile
from pathlib import Path

import pandas as pd
import torch
from fastai.callback.core import Callback
from safetensors.torch import load_file
from stopwatch import machine, write_json

from di3cl.pretrain import pretrain

LOSSES = ["total", "image", "contour", "region"]


class StopAt(Callback):
    "Send this process SIGTERM after a step."

    def __init__(self, step):
        self.step = step

    def after_batch(self):
        if self.train_iter == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def train(args, out, **options):
    pretrain("sim", out, "tiny", seed=0, device=args.device, n_sim=1024,
             pairs=args.pairs, checkpoint_seconds=1e9, **options)


def stopped_and_resumed(args, out, **options):
    "Train half the run, be stopped, go on."
    half = args.pairs // 64 // 2
    try:
        train(args, out, cbs=[StopAt(half)], **options)
    except SystemExit:
        train(args, out, resume=True, **options)


def gaps(first, other):
    "Compare two runs: losses step by step, and the weights at the end."
    a, b = (pd.read_csv(run / "metrics.csv")[LOSSES] for run in (first, other))
    gap = ((a - b).abs() / a.abs()).to_numpy()
    v, w = (load_file(run / "weights.safetensors") for run in (first, other))
    apart = torch.stack([(v[k].float() - w[k].float()).norm() for k in v]).norm()
    size = torch.stack([x.float().norm() for x in v.values()]).norm()
    tenth = max(1, len(gap) // 10)
    return dict(steps=len(gap), first_tenth_largest=float(gap[:tenth].max()),
                largest=float(gap.max()), last_tenth_mean=float(gap[-tenth:].mean()),
                weights=float(apart / size))


def main(args):
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for amp in ("auto", "no"):
            first, again, resumed = (Path(folder, f"{amp} {k}") for k in range(3))
            train(args, first, amp=amp)
            train(args, again, amp=amp)
            stopped_and_resumed(args, resumed, amp=amp)
            found[amp] = dict(again=gaps(first, again), resumed=gaps(first, resumed))
    write_json(args.out, dict(command="python benchmarks/gpu_band.py",
                              machine=machine(), pairs=args.pairs, gaps=found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--pairs", type=int, default=9600, help="of views, a run")
    parser.add_argument("--out", type=Path, help="a .json file",
                        default=Path(__file__).parent / "results/gpu_band.json")
    main(parser.parse_args())
