"""A model fine-tuned on some KOMPSAT-5 tiles maps the others; a scene of Sentinel-1.

    python benchmarks/real_map.py --data DATA [--weights random|FILE] [--steps 150]

writes benchmarks/results/real_map.json: IoU of water with an interval, and whether a
georeferenced Sentinel-1 scene is mapped pixel on pixel; about ten minutes on two cores.

DATA is a folder laid out as the README of our trial data says; it is not part of the
project. Each of the four KOMPSAT-5 tiles (1,024 x 1,024 pixels, X band, southern
Norway; Kim et al., IROS 2021) is mapped by a model that learned from two of the others
(the third is watched in training, and decides nothing). All four lie in one region, so
the interval, over blocks of 256 x 256 pixels of all four, says how far the number holds
there, and nothing about other places.
"""
import argparse
import shutil
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import rasterio
import torch
from stopwatch import machine, write_json

from di3cl.evaluate.metrics import (
    bootstrap_interval,
    confusion_matrix,
    segmentation_report,
)
from di3cl.sar import read_sar
from di3cl.tasks.finetune import finetune
from di3cl.tasks.predict import predict

RESULT = Path(__file__).parent / "results" / "real_map.json"
BLOCK = 256


def find_pairs(data):
    "List (name, image, mask) of KOMPSAT-5."
    masks = data / "k5_water/mask"
    return [(path.stem.split("_")[0], path, masks / f"{path.stem}_label.tif")
            for path in sorted((data / "k5_water/img").iterdir())]


def read(path):
    with rasterio.open(path) as f:
        return torch.from_numpy(f.read(1)).long()


def map_held(held, found, folder, args):
    "(map, truth) of one image, from a model that learned from the others."
    name, image, mask = held
    data, out = folder / f"without_{name}", folder / f"{name}.tif"
    for other, *files in found:
        part = data / ("test" if other == name else "train")
        for kind, file in zip(("images", "masks"), files):
            (part / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, part / kind / f"{other}.tif")
    finetune(data, "water", args.weights, folder / f"model_{name}", unit="amplitude",
             device="cpu", arch="resnet10", steps=args.steps, width=32,
             normalise="data")
    predict(image, out, folder / f"model_{name}", unit="amplitude", device="cpu")
    with rasterio.open(image) as a, rasterio.open(out) as b:
        assert (a.crs, a.transform, a.shape) == (b.crs, b.transform, b.shape)
    return read(out), (read(mask) > 0).long()


def blocks(map_, truth):
    "(n, 2, 2) confusion of each block."
    corners = product(range(0, truth.shape[0], BLOCK), range(0, truth.shape[1], BLOCK))
    parts = [(slice(y, y + BLOCK), slice(x, x + BLOCK)) for y, x in corners]
    return torch.stack([confusion_matrix(truth[p], map_[p], 2) for p in parts])


def iou(n):
    return float(segmentation_report(n.sum(0)).iou[1])


def map_georeferenced(data, model, folder):
    """Does the map of a Sentinel-1 VV file in degrees lie on it, pixel on pixel?

    And is nothing known exactly where the scene knows nothing?"""
    files = sorted((data / "s1_geotiff/ssl4eo_0000200").rglob("*.tif"))
    scene = next(path for path in files if "VV" in path.name.upper())
    predict(scene, folder / "s1.tif", model, unit="db", device="cpu")
    image = read_sar(scene, unit="db")
    with rasterio.open(folder / "s1.tif") as f:
        known = f.read(1) != 255
        corners = np.array([(x, y) for x in (0, f.width) for y in (0, f.height)]).T
        shift = np.subtract(f.transform * corners, image.transform * corners)
        return dict(
            scene=scene.name, crs=str(f.crs), shape=list(f.shape),
            same_crs=f.crs == image.crs,
            largest_shift_of_a_corner=float(np.abs(shift).max()),
            same_pixels_known=bool((known == image.valid.numpy()).all()))


def measure(args, folder):
    "What goes into the file of results."
    found, counts, by_image = find_pairs(args.data), [], {}
    for held in found:
        n = blocks(*map_held(held, found, folder, args))
        water = float(n.sum(0)[1].sum() / n.sum())
        by_image[held[0]] = dict(iou_water=round(iou(n), 4),
                                 share_of_water=round(water, 4))
        counts.append(n)
    interval = bootstrap_interval(torch.cat(counts), iou, 1000, seed=0)[:3]
    model = folder / f"model_{found[0][0]}"
    weights = Path(args.weights)
    return dict(
        data="KOMPSAT-5 water tiles (myeungun/SAR-water-segmentation 8d85da4)",
        weights=weights.name if weights.exists() else args.weights,
        arch="resnet10, UPerNet, width 32", steps=args.steps,
        iou_water=[round(v, 4) for v in interval], blocks=sum(map(len, counts)),
        by_image=by_image, sentinel_1=map_georeferenced(args.data, model, folder))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="random")
    parser.add_argument("--steps", type=int, default=150)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(args, Path(folder))
    write_json(RESULT, dict(machine=machine(), **result))


if __name__ == "__main__":
    main()
