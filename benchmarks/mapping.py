"""The map of a scene against the bare model on ready tiles, and memory that does not grow with the scene."""

import tempfile, time
from pathlib import Path

import numpy as np, rasterio, torch
from rasterio.windows import Window

from di3cl.tasks.predict import starts
from curves import in_fresh_process
from di3cl.encoder import Encoder
from di3cl.tasks.predict import predict
from di3cl.sar import Preprocess
from di3cl.scenes import simulate
from di3cl.tasks.segment import MODEL, RUN, Segmenter, load_model, save_model
from stopwatch import memory, race, rows_of, threads

def write_ground(path, n, rows=512):          # .tif; its side, pixels
    "An n x n scene of simulated ground in dB, tagged, packed, in blocks of 512."
    strip = torch.cat([*simulate(8, rows, start=40).image[:, 0]], 1).numpy()
    wide = np.tile(strip, -(-n // strip.shape[1]))[:, :n]
    with rasterio.open(path, "w", driver="GTiff", height=n, width=n, count=1, dtype="float32", crs="EPSG:32632", transform=rasterio.Affine(10, 0, 6e5, 0, -10, 66e5),
                       tiled=True, blockxsize=512, blockysize=512, compress="DEFLATE", zlevel=1, num_threads="ALL_CPUS", BIGTIFF="IF_SAFER") as f:
        f.update_tags(unit="db")
        for k, y in enumerate(range(0, n, rows)):
            h = min(rows, n - y)
            f.write(np.roll(wide[:h], 997 * k, 1)[None], window=Window(0, y, n, h))
    return path

def write_model(folder, arch="resnet10", decoder="unet", width=32):
    "The folder of an untrained model: as fast as a trained one."
    folder.mkdir()
    for name in RUN[1:]: (folder / name).write_text("")
    torch.manual_seed(0)
    model = Segmenter(Encoder(arch, 1, 16), Preprocess("db", (-12,), (5,), (-25, 0), ("VV",)), ("land", "water"), decoder, width)
    save_model(model, folder / MODEL, "water", ("#d9d4c5", "#2a5fa8"))
    return folder

MODELS = (("resnet10", "upernet", 32), ("resnet18", "unet", 64))      # a small and a common one

def bench_predict(config, device, n=2048, tile=640, overlap=128, models=MODELS, **kw):     # side of the scene
    "Tiles/s of whole maps against the bare model on ready tiles; on the CPU with one thread."
    out = []
    with tempfile.TemporaryDirectory() as d, threads(1):
        scene = write_ground(Path(d, "scene.tif"), n)
        for arch, decoder, width in models:
            folder = write_model(Path(d, f"{arch}_{decoder}"), arch, decoder, width)
            runners, tiles = _runners(scene, folder, tile, overlap, device)
            out += rows_of("predict", f"{arch}, {decoder}, {tile} px, 1 thread", race(runners, device, **kw), tiles, "tiles/s", "bare model", "x the rate of the bare model", device)
    return out

def _runners(scene, folder, tile, overlap, device):
    "({name: one whole map}, number of tiles)."
    net = load_model(folder).to(device, memory_format=torch.channels_last)
    with rasterio.open(scene) as f: x, at = torch.from_numpy(f.read()), starts(f.height, tile, overlap)
    ready = [x[None, :, i:i + tile, j:j + tile].to(device) for i in at for j in at]
    @torch.inference_mode()
    def bare():
        for t in ready: net(t, "db").softmax(1)
    def whole(**kw):
        with tempfile.TemporaryDirectory() as d: predict(scene, Path(d, "map.tif"), folder, tile=tile, overlap=overlap, device=str(device), **{k: Path(d, name) for k, name in kw.items()})
    return {"bare model": bare, "predict": whole, "predict, with probabilities": lambda: whole(probabilities="p.tif")}, len(ready)

def peak(scene, folder, tile=640, overlap=128, device="cpu"):
    "(MB of memory needed beyond what is held after the imports, seconds) of one map with probabilities."
    held, began = memory("cpu", reset=True), time.time()
    with tempfile.TemporaryDirectory(dir=Path(scene).parent) as d, threads(1): predict(scene, Path(d, "map.tif"), folder, tile=tile, overlap=overlap, device=device, probabilities=Path(d, "p.tif"))
    return (memory("cpu")[1] - held[0] if held else None), time.time() - began

def memory_curve(sizes=(2000, 8000, 20_000), model=MODELS[0], folder=None, **kw):     # sides of scenes; where they may lie for a while; kw as in `peak`
    "[{side, MB, seconds, scene in MB unpacked}] of scenes of these sides."
    out = []
    with tempfile.TemporaryDirectory(dir=folder) as d:
        net = write_model(Path(d, "model"), *model)
        for n in sizes:
            scene = write_ground(Path(d, "scene.tif"), n)
            mb, seconds = in_fresh_process(peak, scene, net, **kw)
            out.append(dict(side=n, megabytes=mb and round(mb), seconds=round(seconds, 1), scene_megabytes=round(n * n * 4 / 1e6)))
            scene.unlink()
    return out
