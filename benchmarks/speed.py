"""The figures of speed that the book quotes, each beside a rival in the same run.

    python benchmarks/speed.py                      # the kept run: 10 minutes, 2 cores
    python benchmarks/speed.py views boxes          # some of it, at the preset `tiny`
    python benchmarks/speed.py step --preset small --set batch=32 --out mine.json
    python benchmarks/speed.py curves --keep        # results/curves.json

Without a word, each measurement has a process of its own, and the rows go to
benchmarks/results/speed_cpu.json (or speed_<GPU>.json). Ratios are taken within each
round of a race, so a machine that others use, too, changes them little; its rates it
does change.
"""
import argparse
import itertools
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from curves import bench_curves, in_fresh_process
from feeding import bench_store
from IPython.core.pylabtools import print_figure
from mapping import bench_predict
from PIL import Image
from rivals import (
    TwoViews,
    as_pil,
    eight_bit,
    in_a_worker,
    loop_boxes,
    pil_pipeline,
    smooth_pictures,
)
from steps import bench_compile, bench_step
from stopwatch import contest, machine, threads, write_json
from tqdm.auto import tqdm

from di3cl import explore
from di3cl.files import SarError
from di3cl.instances import sample_boxes
from di3cl.sar import Preprocess
from di3cl.scenes import simulate
from di3cl.tiles import FolderTiles, SimTiles
from di3cl.train.config import make_config
from di3cl.train.devices import describe, pick_device
from di3cl.views import make_views, sample_views

RESULTS = Path(__file__).parent / "results"


def seeded(k, device="cpu"):
    return torch.Generator(device).manual_seed(k)


def bench_sim(config, device, **kw):
    "Time the simulator."
    runners = {
        f"{size} px": lambda size=size: simulate(8, size, device=device)
        for size in (128, 256)}
    return contest("sim", "8 scenes", runners, 8, "scenes/s", "x the rate at 128 px",
                   device, **kw)


def _write_pngs(folder, n, side):
    "Write grey pictures of noise: nothing compresses worse, so nothing reads slower."
    rng = np.random.default_rng(0)
    for k in range(n):
        picture = rng.integers(0, 256, (side, side), dtype="uint8")
        Image.fromarray(picture).save(Path(folder) / f"{k:03}.png")


def bench_tiles(config, device, **kw):
    "Time three sources of tiles, and the copy to the device where it is not the CPU."
    n = min(config.batch, 64)
    with tempfile.TemporaryDirectory() as folder:
        _write_pngs(folder, max(1, n // 4), 2 * config.tile)
        memory = SimTiles(n, config.tile)
        decoded = FolderTiles(folder, config.tile, "digital")
        files = FolderTiles(folder, config.tile, "digital", cache_bytes=0)
        runners = {
            "memory": lambda: memory.batch(range(n)),
            "decoded": lambda: decoded.batch(range(n)),
            "files": lambda: files.batch(range(n)),
        }
        if device.type != "cpu":
            runners["copy"] = lambda: memory.tiles.to(device)
        return contest("tiles", f"{n} of {config.tile} px", runners, n, "tiles/s",
                       "x the rate from memory", device, **kw)


def _views_rgb(size, n, device):
    "Return runners: three equal channels from n pictures."
    pictures, g = smooth_pictures(n, 512).to(device), seeded(0, device)
    views = TwoViews(as_pil(pictures.cpu()), pil_pipeline(size))
    three = replace(eight_bit(3), channels=("grey",) * 3)
    return {
        "PIL": lambda: [views[k] for k in range(n)],
        "PIL, a worker process": in_a_worker(views),
        "make_views": lambda: make_views(
            pictures, "digital", three, size, "published", generator=g),
    }


def _views_grey(size, n, device):
    "Return runners: one channel from n pictures, or from n tiles in dB."
    pictures, g = smooth_pictures(n, 512).to(device), seeded(0, device)
    views = TwoViews(as_pil(pictures.cpu(), 1), pil_pipeline(size, 1))
    db = Preprocess("db", (-12,), (5,), (-25, 0), ("VV",))
    return {
        "PIL": lambda: [views[k] for k in range(n)],
        "make_views": lambda: make_views(
            pictures, "digital", eight_bit(1), size, "published", generator=g),
        "make_views, sar recipe": lambda: make_views(
            pictures / 255 * 25 - 25, "db", db, size, "sar", generator=g),
    }


def bench_views(config, device, **kw):
    "Time views of 224 and 448 pixels against `pil_pipeline`, on one CPU thread."
    n, rows = min(config.batch, 16), []
    kinds = {"three channels": _views_rgb, "one channel": _views_grey}
    with threads(1):
        for size, (name, make) in itertools.product((224, 448), kinds.items()):
            rows += contest(
                "views", f"{size} px, {name}, 1 thread", make(size, n, device), 2 * n,
                "views/s", "x the rate of PIL", device, **kw)
    return rows


def bench_boxes(config, device, **kw):
    "Time the boxes of 256 pairs, ten each, against `loop_boxes`; one CPU thread."
    p1, p2 = (sample_views(256, 512, generator=seeded(k)) for k in (0, 1))
    q1, q2, g = p1.to(device), p2.to(device), seeded(0, device)
    runners = {
        "a loop": lambda: loop_boxes(p1, p2, 448),
        "sample_boxes": lambda: sample_boxes(q1, q2, 448, generator=g),
    }
    with threads(1):
        return contest("boxes", "256 x 10, 1 thread", runners, 256, "pairs/s",
                       "x the rate of the loop", device, **kw)


def bench_explore(config, device, **kw):
    "Time the explorers' pictures of a tile of 256 px and scores of 512; on the CPU."
    tile, big = simulate(1, 256).image[0], simulate(1, 512).image[0]
    scores = torch.randn(10, 512, 512, generator=seeded(0))
    seed = itertools.count()
    draw = {
        "an empty figure": lambda: explore.canvas(4)[0],
        "views": lambda: explore.draw_views(tile, seed=next(seed)),
        "map": lambda: explore.draw_map(scores, big, threshold=0.2),
    }
    runners = {name: lambda f=f: print_figure(f()) for name, f in draw.items()}
    return contest("explore", "256 px tile", runners, 1, "pictures/s",
                   "x the rate of an empty figure", "cpu", **kw)


MEASURES = dict(
    sim=bench_sim, tiles=bench_tiles, views=bench_views, boxes=bench_boxes,
    step=bench_step, compile=bench_compile, curves=bench_curves, predict=bench_predict,
    store=bench_store, explore=bench_explore,
)


def bench(
    what,           # any of MEASURES, in any order
    preset="tiny",  # "tiny" | "small" | "paper": of the step, and the tiles
    device="auto",  # "auto" | "cpu" | "cuda" | "mps"
    repeats=5,      # rounds, the median of which counts
    seconds=60,     # no further round of a race begins after that long
    **overrides,    # any field of Config, for example batch=32
):
    "Measure, and return the rows of the table."
    config, device = make_config(preset, **overrides), pick_device(device)
    if unknown := set(what) - set(MEASURES):
        raise SarError(f"cannot measure {', '.join(sorted(unknown))}: "
                       f"one of {', '.join(MEASURES)}")
    if repeats < 1:
        raise SarError(f"repeats must be at least 1, not {repeats}: 5 is a good number")
    _warn_if_busy()
    rows = []
    for name in (bar := tqdm(what, unit="measurement")):
        bar.set_description(name)
        rows += MEASURES[name](config, device, repeats=repeats, seconds=seconds)
    return rows


def _warn_if_busy():
    load = os.getloadavg()[0] / os.cpu_count() if hasattr(os, "getloadavg") else 0
    if load > 0.5:
        print(f"this machine is busy (load {load:.0%} of its cores): "
              "ratios may be trusted, rates not", file=sys.stderr)


def print_rows(rows):
    "Print the table, one block a measurement."
    block = None
    for r in rows:
        if (r.what, r.setting) != block:
            block = r.what, r.setting
            print(f"\n{r.what}: {r.setting}, {r.device}")
        need = "" if r.memory is None else f"{r.memory:,.0f} MB"
        print(f"  {r.name:24}{1e3 * r.seconds:10,.2f} ms{r.rate:11,.1f} {r.unit:9}"
              f"{r.ratio:7.2f} {r.of}{need and ', ' + need}")


def save_rows(
    rows,  # from `bench`
    path,  # a .json file; its folder is made
):
    "Write rows and machine as JSON."
    rows = [r._asdict() for r in rows]
    write_json(Path(path), dict(machine=machine(), rows=rows))


def plan(cuda):
    "List (measurement, preset, overrides) of every block of the kept run."
    sizes = [(224, 32, "resnet18"), (224, 16, "resnet50")]
    if cuda:
        sizes = [(224, 256, "resnet18"), (224, 256, "resnet50"), (448, 128, "resnet50")]
    large = [
        ("paper", dict(view=view, tile=view * 8 // 7, batch=batch, arch=arch))
        for view, batch, arch in sizes]
    steps = [("tiny", {}), ("small", {} if cuda else dict(batch=64)), *large]
    blocks = [(what, "tiny", {}) for what in ("sim", "tiles", "views", "boxes")]
    blocks += [("step", *s) for s in steps]
    blocks += [("compile", *s) for s in (large if cuda else [("tiny", {})])]
    return blocks


def number(text):
    "Read a setting: batch=32 -> ('batch', 32)."
    name, _, value = text.partition("=")
    return name, json.loads(value)


def main(args):
    device = pick_device(args.device)
    keep = args.out
    blocks = [(what, args.preset, dict(args.set)) for what in args.what]
    if args.keep:
        keep = RESULTS / f"{'_'.join(args.what)}.json"
    if not args.what:
        gpu = describe(device).replace(" ", "_").lower()
        name = gpu if device.type == "cuda" else device.type
        blocks, keep = plan(device.type == "cuda"), RESULTS / f"speed_{name}.json"
    done = []
    for what, preset, settings in blocks:
        rows = in_fresh_process(bench, (what,), preset, str(device), args.repeats,
                                args.seconds, **settings)
        print_rows(rows)
        done += rows
        if keep:
            save_rows(done, keep)  # whatever is done is kept


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help=f"some of {', '.join(MEASURES)}; "
                        "the kept run if left out")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--set", type=number, action="append", default=[],
                        metavar="NAME=VALUE", help="a setting of the preset")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of each race")
    parser.add_argument("--seconds", type=float, default=45,
                        help="no further round of a race begins after that long")
    parser.add_argument("--out", help="a .json file for the rows")
    parser.add_argument("--keep", action="store_true",
                        help="write the rows to benchmarks/results")
    try:
        main(parser.parse_args())
    except SarError as error:
        parser.error(str(error))
