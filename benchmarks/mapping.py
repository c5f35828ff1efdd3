"""The map of a scene against the bare model; memory against the size of a scene."""

import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import torch
from curves import in_fresh_process
from rasterio.windows import Window
from stopwatch import memory, race, rows_of, threads

from di3cl.encoder import Encoder
from di3cl.sar import Preprocess
from di3cl.scenes import simulate
from di3cl.tasks.predict import predict, starts
from di3cl.tasks.segment import MODEL, RUN, Segmenter, load_model, save_model

MODELS = (  # a small and a common one: encoder, decoder, width
    ("resnet10", "upernet", 32),
    ("resnet18", "unet", 64),
)


def write_ground(
    path,      # .tif
    n,         # its side, pixels
    rows=512,  # of a strip
):
    "Write an n x n scene of simulated ground in dB, tagged, packed, in blocks of 512."
    strip = torch.cat([*simulate(8, rows, start=40).image[:, 0]], 1).numpy()
    wide = np.tile(strip, -(-n // strip.shape[1]))[:, :n]
    look = dict(
        driver="GTiff", height=n, width=n, count=1, dtype="float32", crs="EPSG:32632",
        transform=rasterio.Affine(10, 0, 6e5, 0, -10, 66e5), tiled=True,
        blockxsize=512, blockysize=512, compress="DEFLATE", zlevel=1,
        num_threads="ALL_CPUS", BIGTIFF="IF_SAFER")
    with rasterio.open(path, "w", **look) as f:
        f.update_tags(unit="db")
        for k, y in enumerate(range(0, n, rows)):
            h = min(rows, n - y)
            x = np.roll(wide[:h], 997 * k, 1)[None]
            f.write(x, window=Window(0, y, n, h))
    return path


def write_model(
    folder,           # new
    arch="resnet10",  # of the encoder
    decoder="unet",   # one of segment.DECODERS
    width=32,         # of the decoder
):
    "Write the folder of an untrained model: as fast as a trained one."
    folder.mkdir()
    for name in RUN[1:]:
        (folder / name).write_text("")
    torch.manual_seed(0)
    preprocess = Preprocess("db", (-12,), (5,), (-25, 0), ("VV",))
    encoder = Encoder(arch, 1, 16)
    model = Segmenter(encoder, preprocess, ("land", "water"), decoder, width)
    save_model(model, folder / MODEL, "water", ("#d9d4c5", "#2a5fa8"))
    return folder


def bench_predict(
    config,         # not used: the models are MODELS
    device,         # torch device
    n=2048,         # side of the scene
    tile=640,       # side of a tile
    overlap=128,    # of two tiles
    models=MODELS,  # (encoder, decoder, width) each
    **kw,           # as in `race`
):
    "Time whole maps against the bare model on ready tiles; on a CPU with one thread."
    out = []
    with tempfile.TemporaryDirectory() as d, threads(1):
        scene = write_ground(Path(d, "scene.tif"), n)
        for arch, decoder, width in models:
            folder = write_model(Path(d, f"{arch}_{decoder}"), arch, decoder, width)
            runners, tiles = _runners(scene, folder, tile, overlap, device)
            out += rows_of(
                "predict", f"{arch}, {decoder}, {tile} px, 1 thread",
                race(runners, device, **kw), tiles, "tiles/s", "bare model",
                "x the rate of the bare model", device)
    return out


def _runners(scene, folder, tile, overlap, device):
    "Return {name: one whole map}, and the number of tiles."
    net = load_model(folder).to(device, memory_format=torch.channels_last)
    with rasterio.open(scene) as f:
        x, at = torch.from_numpy(f.read()), starts(f.height, tile, overlap)
    ready = [x[None, :, i:i + tile, j:j + tile].to(device) for i in at for j in at]

    @torch.inference_mode()
    def bare():
        for t in ready:
            net(t, "db").softmax(1)

    def whole(probabilities=None):
        with tempfile.TemporaryDirectory() as d:
            other = probabilities and Path(d, probabilities)
            predict(scene, Path(d, "map.tif"), folder, tile=tile, overlap=overlap,
                    device=str(device), probabilities=other)

    runners = {
        "bare model": bare,
        "predict": whole,
        "predict, with probabilities": lambda: whole("p.tif"),
    }
    return runners, len(ready)


def peak(
    scene,         # .tif
    folder,        # of the model
    tile=640,      # side of a tile
    overlap=128,   # of two tiles
    device="cpu",  # where to compute
):
    "Return the MB needed beyond what is held after the imports, and the seconds."
    held, began = memory("cpu", reset=True), time.time()
    place = Path(scene).parent
    with tempfile.TemporaryDirectory(dir=place) as d, threads(1):
        predict(scene, Path(d, "map.tif"), folder, tile=tile, overlap=overlap,
                device=device, probabilities=Path(d, "p.tif"))
    return (memory("cpu")[1] - held[0] if held else None), time.time() - began


def memory_curve(
    sizes=(2000, 8000, 20_000),  # sides of scenes
    model=MODELS[0],             # encoder, decoder, width
    folder=None,                 # where scenes may lie for a while
    **kw,                        # as in `peak`
):
    "Measure scenes of these sides, each in a new Python: [{side, megabytes, ...}]."
    out = []
    with tempfile.TemporaryDirectory(dir=folder) as d:
        net = write_model(Path(d, "model"), *model)
        for n in sizes:
            scene = write_ground(Path(d, "scene.tif"), n)
            mb, seconds = in_fresh_process(peak, scene, net, **kw)
            out.append(dict(
                side=n, megabytes=mb and round(mb), seconds=round(seconds, 1),
                scene_megabytes=round(n * n * 4 / 1e6)))
            scene.unlink()
    return out
