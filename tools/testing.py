"""What tests share: small rasters, a clock that stands still, the log, commands."""

import io
import logging
import time
import warnings
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin

DRIVERS = {
    ".tif": "GTiff", ".tiff": "GTiff", ".png": "PNG", ".jpg": "JPEG",
    ".bin": "ENVI", ".bmp": "BMP",
}


def write_raster(
    path,         # where; its suffix decides the format
    data,         # (H, W) or (C, H, W) array
    driver=None,  # of GDAL, in place of the suffix's
    tags=None,    # {name: value} of the file
    after=None,   # function of the open file: what else shall be done to it
    **kw,         # as rasterio.open takes them: crs, transform, nodata, dtype, ...
):
    "Write a small raster, folders and all, over whatever is there; return its path."
    path, data = Path(path), np.asarray(data)
    count, height, width = (1, *data.shape)[-3:]
    kw = {"dtype": data.dtype} | kw
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(
                path, "w", driver=driver or DRIVERS[path.suffix],
                count=count, height=height, width=width, **kw) as f:
            f.write(data.reshape(count, height, width))
            if tags:
                f.update_tags(**tags)
            if after:
                after(f)
    return path


def write_scene(
    path,                          # as in `write_raster`
    data,                          # (H, W) or (C, H, W) array
    crs="EPSG:32632",              # None: without a map
    origin=(600_000, 6_600_000),   # easting and northing of its upper left corner
    pixel=10.,                     # side, metres
    names=(),                      # of its bands
    transform=None,                # in place of origin and pixel
    **kw,                          # as in `write_raster`
):
    "Write a small raster at a place on the ground; return its path."
    def describe(f):
        for i, name in enumerate(names, 1):
            f.set_band_description(i, name)

    if crs:
        kw |= dict(crs=crs, transform=transform or from_origin(*origin, pixel, pixel))
    return write_raster(path, data, after=describe, **kw)


def write_pairs(
    folder,  # where
    images,  # (n, C, H, W) array
    masks,   # (n, H, W) array
    unit,    # of the images
):
    "Write 0.tif, ..., tagged with their unit, and 0_mask.tif, ...; return the folder."
    for k, (image, mask) in enumerate(zip(images, masks)):
        write_raster(f"{folder}/{k}.tif", image, tags=dict(unit=unit))
        write_raster(f"{folder}/{k}_mask.tif", np.asarray(mask, "uint8"))
    return folder


@contextmanager
def heard():
    "Collect what is logged meanwhile in a list."
    lines, handler = [], logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    log = logging.getLogger("di3cl")
    log.addHandler(handler)
    try:
        yield lines
    finally:
        log.removeHandler(handler)


def typed(
    main,       # the entry point of a command
    words,      # what is typed after its name
    place=".",  # the folder it is typed in
):
    "Return exit code, stdout and stderr (log included) of a command."
    out, err, log = io.StringIO(), io.StringIO(), logging.getLogger("di3cl")
    handler = logging.StreamHandler(err)
    log.addHandler(handler)
    log.propagate = False
    argv = mock.patch("sys.argv", ["di3cl", *map(str, words)])
    try:
        with chdir(place), argv, mock.patch("logging.basicConfig"):
            with redirect_stdout(out), redirect_stderr(err):
                main()
    except SystemExit as e:
        return SimpleNamespace(code=e.code, out=out.getvalue(), err=err.getvalue())
    finally:
        log.removeHandler(handler)
        log.propagate = True


class FakeTime:
    "A clock that moves only when told to, in place of time.perf_counter."

    def __init__(self):
        self.now = 0.

    def __call__(self):
        return self.now

    def work(self, seconds):
        "Make a job that takes so long."
        def job():
            self.now += seconds
        return job

    def installed(self):
        "Stand in for time.perf_counter while the context lasts."
        return mock.patch.object(time, "perf_counter", self)


def _alone(work, args, kw):
    torch.set_num_threads(1)
    work(*args, **kw)


@contextmanager
def apart(work, *args, **kw):
    "Run work(*args, **kw) in a forked process on one thread; kill it at the end."
    process = get_context("fork").Process(
        target=_alone, args=(work, args, kw), daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
