"""The simulator, the tiles, the views, the boxes and the training step on your machine, each beside a rival in the same run."""

import itertools, json, logging, os, tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from di3cl.files import write_atomic
from di3cl.explore import draw_info_nce
from curves import bench_curves, bench_processes
from di3cl.explore import draw_speckle
from di3cl.train.devices import pick_device
from di3cl.explore import canvas, draw_contours, draw_views, untrained
from IPython.core.pylabtools import print_figure as png
from feeding import bench_store
from di3cl.instances import sample_boxes
from mapping import bench_predict
from di3cl.explore import draw_map
from di3cl.train.config import make_config
from rivals import TwoViews, _as_pil, _eight_bit, _pictures, in_a_worker, loop_boxes, pil_pipeline
from di3cl.sar import Preprocess, SarError
from di3cl.scenes import simulate
from steps import bench_compile, bench_step
from stopwatch import contest, machine, threads
from di3cl.tiles import FolderTiles, SimTiles
from di3cl.views import make_views, sample_views

def bench_sim(config, device, **kw):
    "Scenes/s of the simulator."
    runners = {f"{size} px": lambda size=size: simulate(8, size, device=device) for size in (128, 256)}
    return contest("sim", "8 scenes", runners, 8, "scenes/s", "x the rate at 128 px", device, **kw)

def _write_pngs(folder, n, side):
    "n grey pictures of noise: nothing compresses worse, so nothing reads slower."
    rng = np.random.default_rng(0)
    for k in range(n): Image.fromarray(rng.integers(0, 256, (side, side), dtype="uint8")).save(Path(folder) / f"{k:03}.png")

def bench_tiles(config, device, **kw):
    "Tiles/s of three sources, and of the copy to the device where that is not the CPU."
    n, ids = min(config.batch, 64), range(min(config.batch, 64))
    with tempfile.TemporaryDirectory() as folder:
        _write_pngs(folder, max(1, n // 4), 2 * config.tile)
        sources = dict(memory=SimTiles(n, config.tile), decoded=FolderTiles(folder, config.tile, "digital"), files=FolderTiles(folder, config.tile, "digital", cache_bytes=0))
        runners = {name: lambda s=s: s.batch(ids) for name, s in sources.items()}
        if device.type != "cpu": runners["copy"] = lambda tiles=sources["memory"].tiles: tiles.to(device)
        return contest("tiles", f"{n} of {config.tile} px", runners, n, "tiles/s", "x the rate from memory", device, **kw)

def _views_rgb(size, n, device):
    "Runners: three equal channels from n pictures."
    pictures, g = _pictures(n, 512).to(device), torch.Generator(device).manual_seed(0)
    views, three = TwoViews(_as_pil(pictures.cpu()), pil_pipeline(size)), replace(_eight_bit(3), channels=("grey",) * 3)
    return {"PIL": lambda: [views[k] for k in range(n)], "PIL, a worker process": in_a_worker(views),
            "make_views": lambda: make_views(pictures, "digital", three, size, "published", generator=g)}

def _views_grey(size, n, device):
    "Runners: one channel from n pictures, or from n tiles in dB."
    pictures, g = _pictures(n, 512).to(device), torch.Generator(device).manual_seed(0)
    views, db = TwoViews(_as_pil(pictures.cpu(), 1), pil_pipeline(size, 1)), Preprocess("db", (-12,), (5,), (-25, 0), ("VV",))
    return {"PIL": lambda: [views[k] for k in range(n)],
            "make_views": lambda: make_views(pictures, "digital", _eight_bit(1), size, "published", generator=g),
            "make_views, sar recipe": lambda: make_views(pictures / 255 * 25 - 25, "db", db, size, "sar", generator=g)}

def bench_views(config, device, **kw):
    "Views/s at 224 and 448 pixels against `pil_pipeline`, on one CPU thread."
    n = min(config.batch, 16)
    with threads(1): return [row for size in (224, 448) for name, runners in (("three channels", _views_rgb), ("one channel", _views_grey))
                             for row in contest("views", f"{size} px, {name}, 1 thread", runners(size, n, device), 2 * n, "views/s", "x the rate of PIL", device, **kw)]

def bench_boxes(config, device, **kw):
    "The boxes of 256 pairs, ten each, against `loop_boxes`; one CPU thread."
    p1, p2 = (sample_views(256, 512, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    q1, q2, g = p1.to(device), p2.to(device), torch.Generator(device).manual_seed(0)
    runners = {"a loop": lambda: loop_boxes(p1, p2, 448), "sample_boxes": lambda: sample_boxes(q1, q2, 448, generator=g)}
    with threads(1): return contest("boxes", "256 x 10, 1 thread", runners, 256, "pairs/s", "x the rate of the loop", device, **kw)

def bench_explore(config, device, **kw):
    "Pictures/s of the explorers, on a tile of 256 pixels and scores of 512; on the CPU, whatever `device` is."
    tile, big, seed = simulate(1, 256).image[0], simulate(1, 512).image[0], itertools.count()
    scores, network = torch.randn(10, 512, 512, generator=torch.Generator().manual_seed(0)), untrained(tile)
    runners = {"an empty figure": lambda: canvas(4)[0], "views": lambda: draw_views(tile, seed=next(seed)), "contours": lambda: draw_contours(tile, network=network, stage="stage 2", seed=next(seed)),
               "speckle": lambda: draw_speckle(tile, radius=8, seed=next(seed)), "info_nce": lambda: draw_info_nce(80, negatives=96, seed=next(seed)), "map": lambda: draw_map(scores, big, threshold=0.2)}
    return contest("explore", "256 px tile", {k: lambda f=f: png(f()) for k, f in runners.items()}, 1, "pictures/s", "x the rate of an empty figure", "cpu", **kw)

_log = logging.getLogger("di3cl")
MEASURES = dict(sim=bench_sim, tiles=bench_tiles, views=bench_views, boxes=bench_boxes, step=bench_step, compile=bench_compile, processes=bench_processes, curves=bench_curves, predict=bench_predict, store=bench_store, explore=bench_explore)
USUAL = ("sim", "tiles", "views", "boxes", "step")     # compile and curves take many minutes; store needs the extra `store`

def bench(what=USUAL,             # any of MEASURES, in any order
          preset="tiny",          # "tiny" | "small" | "paper": of the step, and the tiles
          device="auto",          # "auto" | "cpu" | "cuda" | "mps"
          repeats=5,              # rounds, the median of which counts
          seconds=60,             # no further round of a race begins after that long
          **overrides):           # any field of Config, for example batch=32
    "Measure, and return the rows of the table."
    config, device = make_config(preset, **overrides), pick_device(device)
    if unknown := set(what) - set(MEASURES): raise SarError(f"cannot measure {', '.join(sorted(unknown))}: one of {', '.join(MEASURES)}")
    if repeats < 1: raise SarError(f"repeats must be at least 1, not {repeats}: 5 is a good number")
    _warn_if_busy()
    rows = []
    for name in (bar := tqdm(what, unit="measurement")):
        bar.set_description(name)
        rows += MEASURES[name](config, device, repeats=repeats, seconds=seconds)
    return rows

def _warn_if_busy():
    load = os.getloadavg()[0] / os.cpu_count() if hasattr(os, "getloadavg") else 0
    if load > 0.5: _log.warning(f"this machine is busy (load {load:.0%} of its cores): ratios may be trusted, rates not")

def print_bench(rows):
    "The table, one block a measurement."
    block = None
    for r in rows:
        if (r.what, r.setting) != block:
            block = r.what, r.setting
            print(f"\n{r.what}: {r.setting}, {r.device}")
        need = "" if r.memory is None else f"{r.memory:,.0f} MB"
        print(f"  {r.name:28}{1e3 * r.seconds:11,.2f} ms{r.rate:13,.1f} {r.unit:9}{r.ratio:9.3f} {r.of:27}{need:>10}")

def save_bench(rows,    # from `bench`
               path):   # a .json file; its folder is made
    "Rows and machine as JSON."
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(dict(machine=machine(), rows=[r._asdict() for r in rows]), indent=1).encode())
