"""How fast a store is made and read, and what that costs beside a training step."""

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import rasterio
import torch
from PIL import Image
from rasterio.transform import from_origin
from steps import set_up, train_step
from stopwatch import contest, threads

from di3cl.sarsense.build import plan, run_job
from di3cl.sarsense.sources import Settings, Source
from di3cl.store import StoreTiles, create, pack, read_manifest, write_shard, write_sums

BLOCKS = dict(tiled=True, blockxsize=512, blockysize=512)
STRIPS = dict(tiled=False, blockxsize=None, blockysize=None)
FILES = {  # as `write_fields` takes them
    "float32 dB, deflate": dict(compress="deflate", db=True),
    "float32 dB, deflate with predictor": dict(
        compress="deflate", predictor=3, db=True),
    "float32 dB, LZW": dict(compress="lzw", db=True),
    "uint16, deflate": dict(compress="deflate"),
    "uint16, raw": {},
    "uint16, raw strips": STRIPS,
}


@cache
def _speckle():
    rng = np.random.default_rng(0)
    return np.sqrt(rng.gamma(4, 1 / 4, (2048, 2048))).astype("float32") * 300


def _strip(rng, height, width):
    "Draw the amplitude of a strip of fields of 32 x 32 pixels."
    fields = rng.uniform(0.3, 3, (height // 32 + 1, width // 32 + 1))
    fields = np.kron(fields, np.ones((32, 32)))[:height, :width]
    grain = np.roll(_speckle(), rng.integers(2048, size=2), (0, 1))[:height]
    return (fields * np.take(grain, np.arange(width) % 2048, 1)).astype("float32")


def write_fields(
    path,      # .tif
    side,      # pixels
    seed=1,    # another scene for every number
    db=False,  # float32 dB, or else 16-bit amplitude
    **kw,      # as rasterio.open takes them
):
    "Write a scene of fields under 4-look speckle at a place of its own."
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    x, y = 3e5 + 5e4 * (seed % 10), 5e6 + 5e4 * (seed // 10)
    look = dict(
        driver="GTiff", count=1, height=side, width=side, crs="EPSG:32632",
        dtype="float32" if db else "uint16", transform=from_origin(x, y, 10, 10))
    with rasterio.open(path, "w", **look | BLOCKS | kw) as f:
        for y in range(0, side, 512):
            h = min(512, side - y)
            x = _strip(rng, h, side)
            x = 20 * np.log10(x + 1) - 60 if db else x.astype("uint16")
            f.write(x[None], window=((y, y + h), (0, side)))
    return path


def cutting(
    folder,  # for scene and store
    side,    # of the scene, pixels
    file,    # one of FILES
):
    "Return runners (reading windows; cutting, checking, publishing), and the tiles."
    path = write_fields(Path(folder) / "in/scene.tif", side, **file)
    unit = "db" if "db" in file else "amplitude"
    s = Settings((Source(str(path), path.name, unit=unit, bands=("VV",)),))
    jobs, _ = plan(s)
    windows = [window for job in jobs for _, window in job.work]

    def read():
        with rasterio.open(path) as f:
            for y, x, h, w in windows:
                f.read(window=((y, y + h), (x, x + w)), out_dtype="float32")

    def cut():
        for job in jobs:
            run_job(job, s, Path(folder) / "cut")

    tiles = sum(h // s.size * (w // s.size) for _, _, h, w in windows)
    return {"reading": read, "cutting": cut}, tiles


def reading(
    folder,  # new
    side,    # of a tile
    n,       # tiles
):
    "Return {name: function of tile numbers that reads them as a float32 tensor}."
    folder, rng = Path(folder), np.random.default_rng(0)
    (folder / "png").mkdir(parents=True)
    x = 10 * np.log10(rng.gamma(4, 1 / 4, (min(n, 256), 1, side, side))) - 12
    db = torch.from_numpy(x.astype("float32"))
    grey = ((db + 40) * 5).clamp(0, 255)
    for k in range(n):
        image = Image.fromarray(pack(grey[k % 256, 0], "digital"))
        image.save(folder / f"png/{k:05}.png")

    def png(ids):
        images = [Image.open(folder / f"png/{i:05}.png") for i in ids]
        return torch.from_numpy(np.stack(images)[:, None]).float()

    return {
        "PNG files": png,
        "store of 8 bits": _filled(folder / "digital", "digital", grey, n).batch,
        "store of dB": _filled(folder / "db", "db", db, n).batch,
    }


def _filled(store, unit, x, n):
    "Make a store of n tiles: those of x, shard after shard."
    create(store, unit=unit, channels=["VV"], size=x.shape[-1])
    for k in range(0, n, len(x)):
        some = pack(x[:n - k], unit)
        sums = write_shard(store, f"{k:05}", some, [{}] * len(some))
        write_sums(store, sums, more=True)
    return StoreTiles(store, table=read_manifest(store)[0])


def feeding(
    store,   # a new folder
    config,  # Config
    device,  # torch device
    n=512,   # tiles
):
    "Return runners: a training step from a store, and its tiles alone."
    g = torch.Generator().manual_seed(0)
    shape = min(n, 64), 1, config.tile, config.tile
    x = torch.randn(shape, generator=g) * 2 - 12
    tiles = _filled(store, "db", x, n)
    step = pairs, steps, *_ = set_up(config, device, tiles)

    def read():
        epoch, ids = pairs.ids(next(steps))
        return tiles.batch(ids, epoch)

    return {"step": lambda: train_step(*step), "its tiles": read}


STEP = dict(arch="resnet18", stride=32, tile=256, view=224)


def bench_store(
    config,            # Config, of the step
    device,            # torch device, of the step
    side=2048,         # of a scene
    sides=(128, 256),  # of tiles
    n=1024,            # tiles
    step=STEP,         # settings of the step, whose batch is 16 at most
    **kw,              # as in `race`
):
    "Time cutting against reading, batches against PNG files, tiles against the step."
    config = replace(config, **step, batch=min(config.batch, 16))
    rng, rows = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as d:
        with threads(1):
            for k, (name, file) in enumerate(FILES.items()):
                runners, tiles = cutting(Path(d, f"cut{k}"), side, file)
                rows += contest(
                    "store", f"cutting, {name}, 1 thread", runners, tiles, "tiles/s",
                    "x the rate of merely reading", "cpu", **kw)
            for s in sides:
                runners = {}
                for name, read in reading(Path(d, f"read{s}"), s, n).items():
                    runners[name] = lambda read=read: read(rng.integers(n, size=256))
                rows += contest(
                    "store", f"random batches of 256, {s} px, 1 thread", runners, 256,
                    "tiles/s", "x the rate of PNG files", "cpu", **kw)
        setting = f"{config.arch}, {config.view} px, batch {config.batch}, 2 threads"
        with threads(2):
            runners = feeding(Path(d, "fed"), config, device)
            fed = contest("store", setting, runners, config.batch, "tiles/s",
                          "of the step", device, **kw)
    return rows + [r._replace(ratio=1 / r.ratio) for r in fed]  # a share of its time
