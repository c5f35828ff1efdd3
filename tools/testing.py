"""What tests share: small rasters, a clock that stands still, the log, commands, a hub.
"""

import base64
import io
import json
import logging
import os
import time
import warnings
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from unittest import mock
from zlib import crc32

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


def write_set(folder, name, size=64):
    "Write a tiny set in the layout of a public one, bystanders too; return the folder."
    rng = np.random.default_rng(0)
    for path, kind in SETS[name].items():
        if isinstance(kind, str):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(kind)
        else:
            write_raster(folder / path, kind(rng, size))
    return folder


def _db(bands=2):
    return lambda rng, size: rng.normal(-12, 3, (bands, size, size)).astype("float32")


def _power(rng, size):
    x = rng.gamma(4, .05, (2, size, size)).astype("float32")
    x[:, :, :4] = np.nan
    return x


def _grey(rng, size):
    return rng.integers(1, 255, (size, size), dtype="uint8")


def _mask(*values, dtype="uint8"):
    "Stripes of these values."
    return lambda rng, size: np.broadcast_to(
        np.resize(np.repeat(values, 4), size), (size, size)).astype(dtype)


_PATCH = "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_{0}_57"
_BEN = f"BigEarthNet-S1-v1.0/{_PATCH}/{_PATCH}_{{1}}"
_GRD = "s1/0000200/S1A_IW_GRDH_1SDV_20200{}07T010800_20200607T010825_032904_03C_D457/"
_SN6 = "{0}/AOI_11_Rotterdam/{2}/SN6_{1}_AOI_11_Rotterdam_{2}_20190804_tile_{3}.tif"
_FLOOD = "v1.1/data/flood_events/{0}Labeled/{1}{0}/{2}_{1}{0}.tif"
_LIST = "v1.1/splits/flood_handlabeled/flood_{}_data.csv"
SETS = dict(      # path: what is written there
    bigearthnet={
        _BEN.format(k, p): _db(1) for k in (24, 25) for p in ("VV.tif", "VH.tif")}
    | {_BEN.format(24, "labels_metadata.json"): "{}"},
    ssl4eo={_GRD.format(k) + p: _db(1) for k in (6, 9) for p in ("VV.tif", "VH.tif")}
    | {_GRD.format(6) + "metadata.json": "{}"},
    sen1floods11={
        _FLOOD.format("Hand", "S1", chip): _db() for chip in (
            "Bolivia_1", "Ghana_2", "India_3", "Spain_4")}
    | {_FLOOD.format("Hand", "Label", chip): _mask(-1, 0, 1, dtype="int16")
       for chip in ("Bolivia_1", "Ghana_2", "India_3", "Spain_4")}
    | {_FLOOD.format("Weak", "S1", "Mekong_5"): _db(),
       _FLOOD.format("Hand", "S2", "Ghana_2"): _db(13),
       _LIST.format("test"): "Ghana_2_S1Hand.tif,Ghana_2_LabelHand.tif\n",
       _LIST.format("train"): "India_3_S1Hand.tif,India_3_LabelHand.tif\n",
       _LIST.format("valid"): "Spain_4_S1Hand.tif,Spain_4_LabelHand.tif\n"},
    mmflood={f"activations/EMSR{k}/{part}/EMSR{k}-0.tif": kind
             for k in ("107-1", "548-0") for part, kind in (
                 ("s1_raw", _power), ("mask", _mask(0, 1)), ("DEM", _db(1)))},
    dfc2020={f"ROIs0000_{a}/{part}_{b}/ROIs0000_{a}_{part}_0_p{k}.tif": kind
             for a, b, k in (("test", "0", 1), ("test", "0", 2),
                             ("validation", "validation", 4))
             for part, kind in (("s1", _db()), ("dfc", _mask(0, 1, 5, 10)))},
    spacenet6={_SN6.format(a, b, part, k): kind
               for a, b, k in (("train", "Train", 1), ("test_public", "Test_Public", 2))
               for part, kind in (("SAR-Intensity", _db(4)), ("PS-RGB", _db(3)))},
    openearthmap_sar={f"train/{part}/TrainArea_000{k}.tif": kind
                      for k in (1, 2) for part, kind in (
                          ("sar_images", _grey), ("labels", _mask(*range(9))),
                          ("rgb_images", _db(3)))}
    | {"val/sar_images/ValArea_001.tif": _grey},
)


class Hub(BaseHTTPRequestHandler):
    "A hub with one revision, main. `files` maps user/name to {file: bytes}."

    files = {}

    def do_HEAD(self, body=False):
        user, name, _, revision, file = self.path.strip("/").split("/")
        repo = self.files.get(f"{user}/{name}")
        wrong = None
        if repo is None:
            wrong = "RepoNotFound"
        elif revision != "main":
            wrong = "RevisionNotFound"
        elif file not in repo:
            wrong = "EntryNotFound"
        data = b"" if wrong else repo[file]
        self.answer(404 if wrong else 200, data, body, wrong)

    def do_GET(self):
        self.do_HEAD(body=True)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        lines = [json.loads(line) for line in body.splitlines()]
        if "Authorization" not in self.headers:
            return self.answer(401, b"{}")
        here, made = f"http://{self.headers['Host']}", dict(commitOid="c" * 40)
        if self.path.endswith("/create"):
            repo = "{organization}/{name}".format(**lines[0])
            self.files.setdefault(repo, {})
            made["url"] = f"{here}/{repo}"
        elif "/preupload/" in self.path:
            names = [file["path"] for file in lines[0]["files"]]
            made["files"] = [dict(path=name, uploadMode="regular", shouldIgnore=False)
                             for name in names]
        elif "/commit/" in self.path:
            repo = "/".join(self.path.split("/")[3:5])
            for file in (line["value"] for line in lines if line["key"] == "file"):
                data = base64.b64decode(file["content"])
                self.files[repo][file["path"]] = data
            made["commitUrl"] = f"{here}/{repo}/commit/{'c' * 40}"
        return self.answer(200, json.dumps(made).encode())

    def answer(self, code, data, body=True, wrong=None):
        self.send_response(code)
        for k, v in {
            "X-Error-Code": wrong or "",
            "X-Repo-Commit": "c" * 40,
            "ETag": f'"{crc32(data)}"',
            "Content-Length": str(len(data)),
        }.items():
            self.send_header(k, v)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *args):
        pass


@contextmanager
def small_hub(
    cache,         # folder for what is downloaded
    token="hf_x",  # of who asks; False: nobody logged in
    **files,       # {"user/name": {file: bytes}}, what the hub holds already
):
    "Send the hub's real client to a hub on this machine; yield what downloads."
    import huggingface_hub as hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Hub,), {"files": files}))
    Thread(target=server.serve_forever, daemon=True).start()
    where = dict(endpoint=f"http://127.0.0.1:{server.server_port}", token=token)
    download = partial(hub.hf_hub_download, cache_dir=cache, **where)
    try:
        with (
            mock.patch("huggingface_hub.hf_hub_download", download),
            mock.patch("huggingface_hub.HfApi", partial(hub.HfApi, **where)),
            mock.patch.dict(os.environ, no_proxy="127.0.0.1"),
        ):
            yield download
    finally:
        server.shutdown()
        server.server_close()
