"""Lay out real radar for the comparison of Table II: images, and labelled ground.

    python benchmarks/ground.py --data DATA --out GROUND

DATA holds open and trial sets as its README says; it is not part of the project. GROUND
then has `tiles/db` and `tiles/digital`, single-channel images to pre-train on, and a
folder for each of TASKS, with images and masks in train, val and test. Whatever lies in
a val or a test folder is not among the tiles. Who goes where was decided by places and
labels alone, before any score:

- Flevoland: whole columns of blocks. Of all ways to share them out this one leaves most
  of the fifteen classes with 300 pixels in train and test.
- SEN1-2 scenes: windows overlap, so whole groups of linked patches: the number modulo 3
  (0 train, 1 val, 2 test); the three groups of more than 100 patches are in train, with
  every third patch, for they show the same ground again and again.
- Sen1Floods11: whole chips, of other countries. Ghana's and Spain's have no water, or
  16 pixels of it, so they cannot validate. KOMPSAT-5 and the freeways: whole images.
"""
import argparse
import csv
from collections import Counter
from functools import cache, partial
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
import rasterio
from testing import write_raster

from di3cl.files import NoDataError
from di3cl.sar import read_sar, to_unit
from di3cl.scenes import CLASSES, TEST_START, simulate

OPEN = {    # folders whose licence lets weights be released: unit, what is no data
    "sen12_scene5": ("digital", None),
    "s1_la/vh": ("digital", None),
    "cems_flood": ("digital", 0),
    "s1_grd_sites": ("amplitude", None),
    "s1_misc": ("db", -99),
    "s1_geotiff/ssl4eo_0000200": ("db", None),
    "sen1floods11/S1Hand": ("db", None),
}
FLEVOLAND = dict(train="0247", val="5", test="136")    # columns of blocks
HELD = {    # beginnings of names
    "val": ("Paraguay", "Mekong", "163"),
    "test": ("India", "Somalia", "021", "176", "WTR00001", "WTR00008"),
}
SCENES = ("farmland", "forest", "gorge", "residential", "river")
CROPS = ("water", "forest", "lucerne", "grass", "rapeseed", "beet", "potatoes", "peas",
         "stem beans", "bare soil", "wheat", "wheat 2", "wheat 3", "barley",
         "buildings")
KINDS = ("water", "forest", "crops", "bare", "buildings")


def in_db(path, unit, nodata=None):
    "Read all bands of a physical image: dB, NaN where there is no data."
    image = read_sar(path, unit=unit, nodata=nodata)
    x = to_unit(image.data, unit, "db")
    return np.where(image.valid.numpy(), x.numpy(), np.nan).astype("float32")


def grey(path):
    "Read a picture, (H, W) uint8."
    with rasterio.open(path) as f:
        return f.read(1)


@cache
def scene_parts(data):
    "Where each patch of the SEN1-2 scenes is, {path: (part, group, large)}."
    with open(data / "index.csv") as f:
        rows = [r for r in csv.DictReader(f) if r["set"] == "sen12_scene5"]
    size, found = Counter(r["group"] for r in rows), {}
    for r in rows:
        part = ("train", "val", "test")[int(r["group"]) % 3]
        large = size[r["group"]] > 100
        found[r["path"]] = "train" if large else part, int(r["group"]), large
    return found


def part_of(path, data):
    "Tell where an image belongs: train, val or test."
    name = path.relative_to(data).as_posix()
    if name.startswith("sen12_scene5"):
        return scene_parts(data)[name][0]
    held = [part for part, names in HELD.items() if path.name.startswith(names)]
    return held[0] if held else "train"


def pictures(data, folder):
    "Yield the images of a set, and no masks."
    for path in sorted((data / folder).rglob("*")):
        if path.suffix in (".tif", ".png", ".jpg") and path.parent.name != "label":
            yield path


def flevoland_scene(data):
    "Put the blocks of the scene in their places, T11 in dB: (735, 1024), NaN between."
    scene = np.full((5 * 147, 8 * 128), np.nan, "float32")
    for path in (data / "flevoland_airsar_l").glob("*.tif"):
        scene[block(path)] = in_db(path, "intensity")[0]
    return scene


def block(path):
    "Find the place of a block, r1c2 say, in the scene."
    row, column = int(path.name[1]), int(path.name[3])
    return np.s_[147 * row:147 * row + 147, 128 * column:128 * column + 128]


def make_tiles(data, out):
    "Write the unlabelled images, one channel each."
    for folder, (unit, nodata) in OPEN.items():
        for path in pictures(data, folder):
            if part_of(path, data) != "train":
                continue
            name = path.relative_to(data).with_suffix("").as_posix().replace("/", "_")
            if unit == "digital":
                write_raster(out / f"digital/{name}.tif", grey(path), nodata=nodata,
                             tags=dict(unit="digital"))
                continue
            for k, band in enumerate(in_db(path, unit, nodata)):
                write_raster(out / f"db/{name}_{k}.tif", band, nodata=np.nan,
                             tags=dict(unit="db"))
    for path in sorted((data / "flevoland_airsar_l").glob("*.tif")):
        if path.name[3] in FLEVOLAND["train"]:
            for k, band in enumerate(in_db(path, "intensity")):
                write_raster(out / f"db/flevoland_{path.stem}_{k}.tif", band,
                             nodata=np.nan, tags=dict(unit="db"))


# ---------------------------------------------------------------- labelled ground

class Ground(NamedTuple):
    "A task: its images, what is asked, and how it is scored."
    images: Callable      # data -> (part, name, unit, image, mask) of each
    task: str             # of di3cl.labels.TASKS
    size: int             # side of a tile, pixels
    legend: dict          # value in the masks: class
    score: str            # "f1": mean over classes; "iou": of the second class; "miou"


def flevoland(data, labels):
    scene = flevoland_scene(data)
    for part, columns in FLEVOLAND.items():
        mask = np.zeros(scene.shape, "uint8")
        for path in (data / "flevoland_airsar_l").glob(f"r?c[{columns}].tif"):
            mask[block(path)] = grey(path.with_name(f"{path.stem}_{labels}.png"))
        yield part, "scene", "db", scene, mask


def scenes(data):
    parts = scene_parts(data)
    for k, (name, (part, group, large)) in enumerate(sorted(parts.items())):
        if large and k % 3:
            continue
        image, kind = grey(data / name), SCENES.index(name.split("/")[1])
        mask = np.full(image.shape, kind, "uint8")
        yield part, f"{group}_{Path(name).stem}", "digital", image, mask


def floods(data):
    for path in pictures(data, "sen1floods11/S1Hand"):
        mask = grey(str(path).replace("S1Hand", "LabelHand")).astype("int16")
        mask = np.where(mask < 0, 255, mask).astype("uint8")
        try:
            image = in_db(path, "db")[0]
        except NoDataError as why:
            print(f"left out: {why}")
            continue
        yield part_of(path, data), path.stem, "db", image, mask


def kompsat(data):
    for path in pictures(data, "k5_water/img"):
        mask = grey(data / f"k5_water/mask/{path.stem}_label.tif")
        image = in_db(path, "amplitude")[0]
        yield part_of(path, data), path.stem, "db", image, (mask > 0).astype("uint8")


def freeways(data):
    for path in pictures(data, "s1_la/freeway_mask"):
        image = grey(data / f"s1_la/vh/{path.name}")
        yield part_of(path, data), path.stem, "digital", image, grey(path)


def simulated(data):
    starts = dict(train=0, val=64, test=96, end=160)
    for (part, start), end in zip(starts.items(), [*starts.values()][1:]):
        s = simulate(end - start, 128, 0, TEST_START + start)
        for k, (image, label) in enumerate(zip(s.image, s.label)):
            yield part, str(start + k), "db", image[0].numpy(), label.numpy()


def numbered(names, first=0):
    return {first + k: name for k, name in enumerate(names)} | {255: "unlabelled"}


def crops(names):
    return numbered(names, 1) | {0: "unlabelled"}


WATER, FREEWAY = numbered(("land", "water")), numbered(("other", "road"))
TASKS = {
    "Flevoland, 5": Ground(
        partial(flevoland, labels="label5"), "landcover", 64, crops(KINDS), "f1"),
    "Flevoland, 15": Ground(
        partial(flevoland, labels="label15"), "landcover", 64, crops(CROPS), "f1"),
    "scenes": Ground(scenes, "landcover", 256, numbered(SCENES), "f1"),
    "floods": Ground(floods, "water", 128, WATER, "iou"),
    "KOMPSAT-5": Ground(kompsat, "water", 128, WATER, "iou"),
    "freeways": Ground(freeways, "road", 128, FREEWAY, "iou"),
    "simulated": Ground(simulated, "landcover", 128, numbered(CLASSES), "miou"),
}


def make_ground(name, data, out):
    "Write images and masks of a task, and its legend."
    ground = TASKS[name]
    for part, stem, unit, image, mask in ground.images(data):
        nodata = np.nan if unit == "db" else None
        write_raster(out / f"{part}/images/{stem}.tif", image, nodata=nodata,
                     tags=dict(unit=unit))
        write_raster(out / f"{part}/masks/{stem}.tif", mask)
    rows = [f"{value},{kind}" for value, kind in ground.legend.items()]
    (out / "legend.csv").write_text("\n".join(["value,class", *rows]) + "\n")


def make(data, out):
    "Write all that is not there yet; what is half written is written again."
    for name in ("tiles", *TASKS):
        done = out / f"{name}.done"
        if not done.exists():
            print(f"laying out {name}", flush=True)
            if name == "tiles":
                make_tiles(data, out / name)
            else:
                make_ground(name, data, out / name)
            done.touch()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the real data")
    parser.add_argument("--out", type=Path, required=True, help="where to lay them out")
    args = parser.parse_args()
    make(args.data, args.out)
