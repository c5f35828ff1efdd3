"""A model fine-tuned on some KOMPSAT-5 tiles maps the others: IoU of water with an
interval; and a georeferenced Sentinel-1 scene is mapped pixel on pixel.

    python benchmarks/real_map.py --data DATA [--weights random|FILE] [--steps 150]
        # -> benchmarks/results/real_map.json; about ten minutes on two cores

DATA is a folder laid out as the README of our trial data says; it is not part of the
project. Each of the four KOMPSAT-5 tiles (1,024 x 1,024 pixels, X band, southern
Norway; Kim et al., IROS 2021) is mapped by a model that learned from two of the others
(the third is watched in training, and decides nothing). All four lie in one region, so
the interval, over blocks of 256 x 256 pixels of all four, says how far the number holds
there, and nothing about other places.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import rasterio
import torch
from stopwatch import machine

from di3cl.evaluate.metrics import (
    bootstrap_interval,
    confusion_matrix,
    segmentation_report,
)
from di3cl.files import write_atomic
from di3cl.sar import read_sar
from di3cl.tasks.finetune import finetune
from di3cl.tasks.predict import predict

RESULT, BLOCK = Path(__file__).parent / "results" / "real_map.json", 256


def pairs(data):
    "[(name, image, mask)] of KOMPSAT-5."
    return [
        (p.stem.split("_")[0], p, data / "k5_water/mask" / f"{p.stem}_label.tif")
        for p in sorted((data / "k5_water/img").iterdir())
    ]


def map_others(held, found, folder, args):
    "(map, truth) of one image, from a model that learned from the others."
    name, image, mask = held
    data = folder / f"without_{name}"
    for other, i, m in found:
        part = data / ("test" if other == name else "train")
        for kind, file in (("images", i), ("masks", m)):
            (part / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, part / kind / f"{other}.tif")
    finetune(
        data,
        "water",
        args.weights,
        folder / f"model_{name}",
        size=128,
        unit="amplitude",
        arch="resnet10",
        device="cpu",
        steps=args.steps,
        decoder="upernet",
        width=32,
        seed=0,
        normalise="data",
    )
    predict(
        image,
        folder / f"{name}.tif",
        folder / f"model_{name}",
        unit="amplitude",
        device="cpu",
    )
    with rasterio.open(image) as a, rasterio.open(folder / f"{name}.tif") as b:
        assert (a.crs, a.transform, a.shape) == (b.crs, b.transform, b.shape)
    with rasterio.open(folder / f"{name}.tif") as f, rasterio.open(mask) as g:
        return torch.from_numpy(f.read(1)).long(), torch.from_numpy(
            (g.read(1) > 0).astype(int)
        )


def blocks(map_, truth):
    "(n, 2, 2) confusion of each block."
    return torch.stack(
        [
            confusion_matrix(
                truth[y : y + BLOCK, x : x + BLOCK],
                map_[y : y + BLOCK, x : x + BLOCK],
                2,
            )
            for y in range(0, truth.shape[0], BLOCK)
            for x in range(0, truth.shape[1], BLOCK)
        ]
    )


def iou(n):
    return float(segmentation_report(n.sum(0)).iou[1])


def georeferenced(data, model, folder):
    """A Sentinel-1 VV file in degrees: does its map lie on it, pixel on pixel, with
    nothing known exactly where the scene knows nothing?"""
    scene = next(
        p
        for p in sorted((data / "s1_geotiff/ssl4eo_0000200").rglob("*.tif"))
        if "VV" in p.name.upper()
    )
    predict(scene, folder / "s1.tif", model, unit="db", device="cpu")
    image = read_sar(scene, unit="db")
    with rasterio.open(folder / "s1.tif") as f:
        known = f.read(1) != 255
        corners = [
            max(abs(a - b) for a, b in zip(f.transform * c, image.transform * c))
            for c in ((0, 0), (f.width, 0), (0, f.height), (f.width, f.height))
        ]
        return dict(
            scene=scene.name,
            crs=str(f.crs),
            shape=list(f.shape),
            same_crs=f.crs == image.crs,
            largest_shift_of_a_corner=max(corners),
            same_pixels_known=bool((known == image.valid.numpy()).all()),
        )


if __name__ == "__main__":
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--weights", default="random")
    p.add_argument("--steps", type=int, default=150)
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as d:
        d, found, counts, by_image = Path(d), pairs(args.data), [], {}
        for held in found:
            counts.append(n := blocks(*map_others(held, found, d, args)))
            by_image[held[0]] = dict(
                iou_water=round(iou(n), 4),
                share_of_water=round(float(n.sum(0)[1].sum() / n.sum()), 4),
            )
        value, low, high = bootstrap_interval(torch.cat(counts), iou, 1000, seed=0)[:3]
        place = georeferenced(args.data, d / f"model_{found[0][0]}", d)
        result = dict(
            data="KOMPSAT-5 water tiles (myeungun/SAR-water-segmentation 8d85da4)",
            weights=Path(args.weights).name
            if Path(args.weights).exists()
            else args.weights,
            arch="resnet10, UPerNet, width 32",
            steps=args.steps,
            iou_water=[round(v, 4) for v in (value, low, high)],
            blocks=sum(map(len, counts)),
            by_image=by_image,
            sentinel_1=place,
        )
    write_atomic(
        RESULT, json.dumps(dict(machine=machine(), **result), indent=1).encode()
    )
