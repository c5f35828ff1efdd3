"""How many pairs a second a GPU trains, and where the time goes.

    python benchmarks/gpu_rates.py    # a minute -> benchmarks/results/gpu_rates.json

Tiles are random numbers that lie on the GPU already: reading is not measured. Each row
is a mean over eight steps after three that warm up.
"""
import argparse
import time
from pathlib import Path

import torch
from stopwatch import machine, write_json

from di3cl.pretrain import Pairs, new_model, trained
from di3cl.sar import Preprocess
from di3cl.train.config import make_config

OUT = Path(__file__).parent / "results" / "gpu_rates.json"
CASES = (
    ("tiny", {}),
    ("tiny", dict(batch=1024)),
    ("small", {}),
    ("paper", dict(start="random")),
    ("paper", dict(start="random", loss_weights=(1, 0, 0))),
)


class RandomTiles:
    "As many tiles as a batch needs, of noise, on the GPU."
    unit, names, channels = "db", ("VV",), 1

    def __init__(self, n, size):
        self.tiles = torch.randn(n, 1, size, size, device="cuda") * 5 - 12

    def __len__(self):
        return len(self.tiles)

    def batch(self, ids, epoch=0):
        return self.tiles[ids.to("cuda")]


def rate(step, batch, n=8):
    "Time `step(k)`: pairs a second."
    for k in range(3):
        step(k)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for k in range(n):
        step(k)
    torch.cuda.synchronize()
    return round(batch * n / (time.perf_counter() - began))


def measure(preset, settings):
    "Train a few steps of a preset in bf16; a row of the table."
    c = make_config(preset, **settings)
    channels = 3 if c.grey_to_rgb else 1
    contract = Preprocess("db", (-12.,) * channels, (5.,) * channels, (-40., 10.),
                          ("VV",) * channels)
    pairs = Pairs(RandomTiles(max(c.batch, 256), c.tile), contract, c, 0, "cuda")
    model = new_model(c, channels).cuda().train()
    optimizer = torch.optim.SGD(trained(model), lr=0.01, momentum=0.9, fused=True)
    torch.cuda.reset_peak_memory_stats()

    def train(arguments):
        with torch.autocast("cuda", torch.bfloat16):
            losses = model(*arguments)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()

    fixed = pairs[0]
    return dict(
        preset=preset, **settings,
        pairs_s=rate(lambda k: train(pairs[k]), c.batch),
        model_only=rate(lambda k: train(fixed), c.batch),
        views_only=rate(lambda k: pairs[k], c.batch),
        GB=round(torch.cuda.max_memory_allocated() / 1e9, 1))


def main():
    rows = []
    for preset, settings in CASES:
        rows.append(measure(preset, settings))
        print(rows[-1], flush=True)
    record = dict(machine=machine(), rows=rows)
    write_json(OUT, record)


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    main()
