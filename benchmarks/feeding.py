"""How fast a store is made, how fast it is read, and what that costs beside a training step."""

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np, rasterio, torch
from PIL import Image
from rasterio.transform import from_origin

from di3cl.files import _remembered
from di3cl.sarsense.build import plan, run_job
from di3cl.sarsense.sources import Settings, Source
from steps import set_up, train_step
from stopwatch import contest, threads
from di3cl.store import StoreTiles, create, pack, write_shard, read_manifest

@cache
def _speckle(): return np.sqrt(np.random.default_rng(0).gamma(4, 1 / 4, (2048, 2048))).astype("float32") * 300

def write_fields(path, side, seed=1, db=False, **kw):   # .tif; pixels; another scene for every seed; float32 dB, or 16-bit amplitude; as rasterio.open takes them
    "A scene of fields under 4-look speckle at a place of its own, in blocks of 512."
    path.parent.mkdir(parents=True, exist_ok=True); rng = np.random.default_rng(seed)
    place = dict(crs="EPSG:32632", transform=from_origin(3e5 + 5e4 * (seed % 10), 5e6 + 5e4 * (seed // 10), 10, 10))
    with rasterio.open(path, "w", driver="GTiff", count=1, height=side, width=side, dtype="float32" if db else "uint16", **place, **dict(tiled=True, blockxsize=512, blockysize=512) | kw) as f:
        for y in range(0, side, 512):
            h = min(512, side - y)
            fields = np.kron(rng.uniform(0.3, 3, (h // 32 + 1, side // 32 + 1)), np.ones((32, 32)))[:h, :side]
            x = (fields * np.take(np.roll(_speckle(), rng.integers(2048, size=2), (0, 1))[:h], np.arange(side) % 2048, 1)).astype("float32")
            f.write((20 * np.log10(x + 1) - 60 if db else x.astype("uint16"))[None], window=((y, y + h), (0, side)))
    return path

STRIPS = dict(tiled=False, blockxsize=None, blockysize=None)
FILES = {"float32 dB, deflate": dict(compress="deflate", db=True), "float32 dB, deflate with predictor": dict(compress="deflate", predictor=3, db=True), "float32 dB, LZW": dict(compress="lzw", db=True),
         "uint16, deflate": dict(compress="deflate"), "uint16, raw": {}, "uint16, raw strips": STRIPS}      # as `write_fields` takes them

def cutting(folder, side, file):   # for scene and store; of the scene, pixels; one of FILES
    "({name: function}, tiles): all windows read and no more, and all cut, checked and published."
    path = write_fields(Path(folder) / "in/scene.tif", side, **file)
    s = Settings((Source(str(path), path.name, unit="db" if "db" in file else "amplitude", bands=("VV",)),)); jobs, _ = plan(s)
    work = [(y, x, h, w) for job in jobs for _, (y, x, h, w) in job.work]
    def read():
        with rasterio.open(path) as f:
            for y, x, h, w in work: f.read(window=((y, y + h), (x, x + w)), out_dtype="float32")
    def cut():
        _remembered.cache_clear()
        for job in jobs: run_job(job, s, Path(folder) / "cut")
    return {"reading": read, "cutting": cut}, sum(h // s.size * (w // s.size) for _, _, h, w in work)

def reading(folder, side, n):   # new; of a tile; tiles
    "{name: function of tile numbers that reads them as a float32 tensor}"
    folder, rng = Path(folder), np.random.default_rng(0); (folder / "png").mkdir(parents=True)
    db = torch.from_numpy((10 * np.log10(rng.gamma(4, 1 / 4, (min(n, 256), 1, side, side))) - 12).astype("float32"))
    grey = ((db + 40) * 5).clamp(0, 255)
    for k in range(n): Image.fromarray(pack(grey[k % 256, 0], "digital")).save(folder / f"png/{k:05}.png")
    def png(ids): return torch.from_numpy(np.stack([np.asarray(Image.open(folder / f"png/{i:05}.png")) for i in ids])[:, None]).float()
    return {"PNG files": png} | {name: _filled(folder / unit, unit, x, n).batch for name, unit, x in (("store of 8 bits", "digital", grey), ("store of dB", "db", db))}

def _filled(store, unit, x, n):    # folder; of x; (N, 1, side, side); tiles
    "A store of n tiles: these, shard after shard."
    create(store, unit=unit, channels=["VV"], size=x.shape[-1])
    for k in range(0, n, len(x)): write_shard(store, f"{k:05}", pack(x[:n - k], unit), {})
    return StoreTiles(store, table=read_manifest(store)[0])

def feeding(store, config, device, n=512):    # a new folder; Config; torch device; tiles
    "{name: function}: a training step from a store, and its tiles alone."
    x = torch.randn(min(n, 64), 1, config.tile, config.tile, generator=torch.Generator().manual_seed(0)) * 2 - 12
    tiles = _filled(store, "db", x, n)
    step = pairs, steps, *_ = set_up(config, device, tiles)
    def read(): epoch, ids = pairs.ids(next(steps)); return tiles.batch(ids, epoch)
    return {"step": lambda: train_step(*step), "its tiles": read}

def bench_store(config, device, side=2048, sides=(128, 256), n=1024, step=dict(arch="resnet18", stride=32, tile=256, view=224), **kw):   # of a scene; of tiles; how many; Config of the step, whose batch is 16 at most
    "Cutting against reading, random batches against PNG files, and the tiles of a step against the step."
    config, rng = replace(config, **step, batch=min(config.batch, 16)), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as d:
        with threads(1):
            rows = [r for k, (name, file) in enumerate(FILES.items())
                    for r in contest("store", f"cutting, {name}, 1 thread", *cutting(Path(d, f"cut{k}"), side, file), "tiles/s", "x the rate of merely reading", "cpu", **kw)]
            for s in sides:
                runners = {name: lambda read=read: read(rng.integers(n, size=256)) for name, read in reading(Path(d, f"read{s}"), s, n).items()}
                rows += contest("store", f"random batches of 256, {s} px, 1 thread", runners, 256, "tiles/s", "x the rate of PNG files", "cpu", **kw)
        with threads(2):
            fed = contest("store", f"{config.arch}, {config.view} px, batch {config.batch}, 2 threads", feeding(Path(d, "fed"), config, device), config.batch, "tiles/s", "of the step", device, **kw)
    return rows + [r._replace(ratio=1 / r.ratio) for r in fed]        # a share of its time
