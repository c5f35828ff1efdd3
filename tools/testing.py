"""Small rasters made on the spot, a clock that moves only when told, an ear for the log, and a hand that types commands."""

import io, logging, time, warnings
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np, rasterio, torch
from rasterio.transform import from_origin

FORMATS = {".tif": "GTiff", ".tiff": "GTiff", ".png": "PNG", ".jpg": "JPEG", ".bin": "ENVI", ".bmp": "BMP"}

def write_raster(path,         # where; its suffix decides the format
                 data,         # (H, W) or (C, H, W) array
                 driver=None,  # of GDAL, in place of the suffix's
                 tags={},      # of the file
                 after=None,   # a function of the open file: what else shall be done to it
                 **kw):        # as rasterio.open takes them: crs, transform, nodata, dtype, compress, ...
    "Write a small raster, folders and all, over whatever is there; returns its path."
    path, data = Path(path), np.asarray(data)
    data = data[None] if data.ndim == 2 else data
    path.parent.mkdir(parents=True, exist_ok=True); path.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", driver=driver or FORMATS[path.suffix], count=len(data), height=data.shape[1], width=data.shape[2], **{"dtype": data.dtype} | kw) as f:
            f.write(data)
            if tags: f.update_tags(**tags)
            if after: after(f)
    return path

def write_scene(path, data,                    # as for write_raster
                crs="EPSG:32632",              # None: without a map
                origin=(600_000, 6_600_000),   # easting and northing of its upper left corner
                pixel=10.,                     # side, metres
                names=(),                      # of its bands
                transform=None,                # in place of origin and pixel
                **kw):                         # as for write_raster
    "The same at a place on the ground."
    place = dict(crs=crs, transform=transform or from_origin(*origin, pixel, pixel)) if crs else {}
    def describe(f):
        for i, n in enumerate(names, 1): f.set_band_description(i, n)
    return write_raster(path, data, after=describe, **place, **kw)

def write_pairs(folder, images, masks, unit):  # (n, C, H, W), (n, H, W) arrays; of the images
    "Images 0.tif, 1.tif, ..., tagged with their unit, and masks 0_mask.tif, ...; returns the folder."
    for k, (image, mask) in enumerate(zip(images, masks)):
        write_raster(f"{folder}/{k}.tif", image, tags=dict(unit=unit))
        write_raster(f"{folder}/{k}_mask.tif", np.asarray(mask, "uint8"))
    return folder

@contextmanager
def heard():
    "The list of what is logged meanwhile."
    lines, handler = [], logging.Handler()
    handler.emit = lambda r: lines.append(r.getMessage())
    log = logging.getLogger("di3cl"); log.addHandler(handler)
    try: yield lines
    finally: log.removeHandler(handler)

def typed(main,        # the entry point of a command
          words,       # what is typed after its name
          place="."):  # the folder it is typed in
    "Exit code, stdout and stderr of a command; its log goes to stderr, as it would."
    out, err, log = io.StringIO(), io.StringIO(), logging.getLogger("di3cl")
    log.addHandler(ear := logging.StreamHandler(err)); log.propagate = False
    try:
        with chdir(place), mock.patch("sys.argv", ["di3cl", *map(str, words)]), mock.patch("logging.basicConfig"), redirect_stdout(out), redirect_stderr(err): main()
    except SystemExit as e: return SimpleNamespace(code=e.code, out=out.getvalue(), err=err.getvalue())
    finally: log.removeHandler(ear); log.propagate = True

class FakeTime:
    "A clock that moves only when told to, in place of time.perf_counter."
    def __init__(self): self.now = 0.
    def __call__(self): return self.now
    def work(self, seconds): return lambda: setattr(self, "now", self.now + seconds)   # a job that takes so long
    def installed(self): return mock.patch.object(time, "perf_counter", self)

def _alone(work, args, kw):
    torch.set_num_threads(1)
    work(*args, **kw)

@contextmanager
def apart(work, *args, **kw):
    "work(*args, **kw) in a process forked from this one, on one thread; killed at the end, if it still lives."
    process = get_context("fork").Process(target=_alone, args=(work, args, kw), daemon=True)
    process.start()
    try: yield process
    finally: process.kill(); process.join()
