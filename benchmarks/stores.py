"""Which file format shall hold half a million tiles? Six of them, asked the same
questions on this machine.

    python benchmarks/stores.py [--tiles 20000] [--size 128] [--scratch /tmp/stores]
        # -> benchmarks/results/stores.json, a table on the terminal

Needs `pip install zarr lmdb webdataset litdata` beside di3cl. Every format is used
through the package that keeps it, one tile (int16) an entry; PNG, the folder that
everybody has, holds 8 bits a pixel, half of what the others carry. Files are in the
page cache, and seconds are the processor's: what is compared is the work of the format,
not the disk, nor what else the machine had to do.
"""

import argparse
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zlib
from pathlib import Path
from statistics import median

import numpy as np

SHARD = 1024


def tiles(n, size, seed=0, start=0):
    """n tiles in batches of SHARD: four-look speckle in dB, 256 steps a decibel. Any of
    them can be told from its number."""
    base = (
        10
        * np.log10(np.random.default_rng(seed).gamma(4, 1 / 4, (64, 1, size, size)))
        * 256
        - 12 * 256
    ).astype("int16")
    for k in range(start, n, SHARD):
        ids = np.arange(k, min(n, k + SHARD))
        batch = base[ids % 64]
        batch[:, 0, 0, :2] = np.stack([ids % 32768, ids // 32768], 1)
        yield k, batch


def numbers(batch):
    return batch[:, 0, 0, 0].astype(int) + 32768 * batch[:, 0, 0, 1].astype(int)


class Png:
    "a folder of 8-bit PNG"

    def write(self, folder, n, size):
        from PIL import Image

        for k, batch in tiles(n, size):
            (folder / f"{k // SHARD:05}").mkdir(parents=True, exist_ok=True)
            for i, t in enumerate(batch, k):
                Image.fromarray((t[0] // 32 + 128).clip(0, 255).astype("uint8")).save(
                    self.path(folder, i)
                )

    def path(self, folder, i):
        return folder / f"{i // SHARD:05}" / f"{i:07}.png"

    def open(self, folder):
        self.files = sorted(e.path for d in os.scandir(folder) for e in os.scandir(d))
        return len(self.files)

    def read(self, ids):
        from PIL import Image

        return np.stack([np.asarray(Image.open(self.files[i])) for i in ids])[:, None]


class NpyMap:
    ".npy shards, memory-mapped"

    def write(self, folder, n, size):
        folder.mkdir(parents=True, exist_ok=True)
        for k, batch in tiles(n, size):
            np.save(folder / "part.npy", batch)
            os.replace(folder / "part.npy", folder / f"{k // SHARD:05}.npy")

    def open(self, folder):
        self.maps = [np.load(p, mmap_mode="r") for p in sorted(folder.glob("0*.npy"))]
        return sum(map(len, self.maps))

    def read(self, ids):
        return np.stack([self.maps[i // SHARD][i % SHARD] for i in ids])


class NpyRead(NpyMap):
    ".npy shards, read at an offset, CRC-32 of every tile checked"

    def write(self, folder, n, size):
        super().write(folder, n, size)
        np.save(
            folder / "crc.npy",
            np.array([zlib.crc32(t) for _, b in tiles(n, size) for t in b], "uint32"),
        )

    def open(self, folder):
        files = sorted(folder.glob("0*.npy"))
        self.fds, self.crc = (
            [os.open(p, os.O_RDONLY) for p in files],
            np.load(folder / "crc.npy").tolist()
            if (folder / "crc.npy").exists()
            else None,
        )
        with open(files[0], "rb") as f:
            np.lib.format.read_magic(f)
            shape, _, dtype = np.lib.format.read_array_header_1_0(f)
            self.first = f.tell()
        self.shape, self.dtype = shape[1:], dtype
        self.bytes = int(np.prod(self.shape)) * dtype.itemsize
        return sum((p.stat().st_size - self.first) // self.bytes for p in files)

    def read(self, ids):
        out = np.empty((len(ids), *self.shape), self.dtype)
        for o, i in zip(out, ids):
            raw = os.pread(
                self.fds[i // SHARD], self.bytes, self.first + i % SHARD * self.bytes
            )
            if len(raw) < self.bytes or self.crc and zlib.crc32(raw) != self.crc[i]:
                raise OSError(f"tile {i} is damaged")
            o[...] = np.frombuffer(raw, self.dtype).reshape(self.shape)
        return out


class Tar:
    "WebDataset tar, with an index of offsets for random reads"

    def write(self, folder, n, size):
        import webdataset

        folder.mkdir(parents=True, exist_ok=True)
        for k, batch in tiles(n, size):
            with webdataset.TarWriter(str(folder / f"{k // SHARD:05}.tar")) as w:
                for i, t in enumerate(batch, k):
                    w.write({"__key__": f"{i:07}", "npy": t})

    def open(self, folder):
        self.index = []
        for p in sorted(folder.glob("*.tar")):
            f = open(p, "rb")
            with tarfile.open(p) as tar:
                self.index += [(f, m.offset_data, m.size) for m in tar]
        return len(self.index)

    def read(self, ids):
        return np.stack(
            [
                np.load(
                    io.BytesIO(
                        os.pread(self.index[i][0].fileno(), *self.index[i][:0:-1])
                    )
                )
                for i in ids
            ]
        )


class Zarr:
    "Zarr 3, sharded, a chunk a tile, CRC-32C"

    def write(self, folder, n, size):
        import zarr

        shape = (-(-n // SHARD) * SHARD, 1, size, size)
        a = zarr.create_array(
            folder,
            shape=shape,
            dtype="int16",
            chunks=(1, 1, size, size),
            shards=(SHARD, 1, size, size),
            compressors=[zarr.codecs.Crc32cCodec()],
            overwrite=True,
        )
        for k, batch in tiles(n, size):
            a[k : k + len(batch)] = batch

    def open(self, folder):
        import zarr

        self.a = zarr.open_array(folder, mode="r")
        return self.a.shape[0]

    def read(self, ids):
        return self.a.oindex[np.asarray(ids)]


class Lmdb:
    "LMDB"

    def write(self, folder, n, size):
        import lmdb

        with lmdb.open(str(folder), map_size=2**38) as env:
            for k, batch in tiles(n, size):
                with env.begin(write=True) as txn:
                    for i, t in enumerate(batch, k):
                        txn.put(f"{i:07}".encode(), t.tobytes(), append=True)

    def open(self, folder):
        import lmdb

        self.env = lmdb.open(str(folder), readonly=True, lock=False, readahead=False)
        return self.env.stat()["entries"]

    def read(self, ids):
        with self.env.begin(buffers=True) as txn:
            raw = [np.frombuffer(txn.get(f"{i:07}".encode()), "int16") for i in ids]
            out = np.stack(raw)
        side = int(out.shape[1] ** 0.5)
        return out.reshape(len(ids), 1, side, side)


class Lit:
    "LitData"

    def write(self, folder, n, size):
        from litdata.streaming.cache import Cache

        folder.mkdir(parents=True, exist_ok=True)
        cache = Cache(str(folder), chunk_size=SHARD)
        for k, batch in tiles(n, size):
            for i, t in enumerate(batch, k):
                cache[i] = t
        cache.done()
        cache.merge()

    def open(self, folder):
        from litdata import StreamingDataset

        self.d = StreamingDataset(str(folder))
        return len(self.d)

    def read(self, ids):
        return np.stack([self.d[int(i)] for i in ids])


FORMATS = dict(
    png=Png,
    npy_map=NpyMap,
    npy_read=NpyRead,
    tar=Tar,
    zarr=Zarr,
    lmdb=Lmdb,
    litdata=Lit,
)


def size_of(folder):
    return sum(p.stat().st_blocks * 512 for p in folder.rglob("*") if p.is_file())


def fresh(*words):
    """Run this script's `child` in a process of its own: a JSON line of what it found,
    or what it died of."""
    done = subprocess.run(
        [sys.executable, __file__, "child", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        return dict(
            error=f"exit code {done.returncode}: "
            + (done.stderr.strip().splitlines() or [""])[-1][:160]
        )
    return json.loads(done.stdout.splitlines()[-1])


def child(job, name, folder, n, size):
    folder, n, size, f = Path(folder), int(n), int(size), FORMATS[name]()
    if job == "write":
        f.write(folder, n, size)
        return {}
    if job == "open":  # packages are imported first: their cost is paid once

        if name != "png" and name in ("zarr", "lmdb", "litdata"):
            __import__(name)
        else:
            pass
        before, start = rss(), time.process_time()
        found = f.open(folder)
        f.read([0, n - 1])
        return dict(
            seconds=time.process_time() - start, megabytes=rss() - before, entries=found
        )
    found = f.open(folder)
    # "check": read all, a batch at a time where that works, and say which are what was
    # written; "count": only read
    good, bad, errors = 0, 0, {}

    def right(ids):
        got = f.read(ids)
        return len(ids) if job == "count" else int((numbers(got) == ids).sum())

    for k in range(0, min(found, n), 256):
        ids = np.arange(k, min(found, n, k + 256))
        try:
            good += right(ids)
        except Exception:
            for i in ids:
                try:
                    good += right(np.array([i]))
                except Exception as e:
                    bad += 1
                    errors[type(e).__name__] = errors.get(type(e).__name__, 0) + 1
    return dict(entries=found, good=good, refused=bad, errors=errors)


def rss():
    return (
        int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6
    )


def killed(name, folder, size, seconds, n):
    """SIGKILL in the middle of writing; then the format's own way of opening, and every
    tile it offers compared with what was written."""
    shutil.rmtree(folder, ignore_errors=True)
    writer = subprocess.Popen(
        [sys.executable, __file__, "child", "write", name, folder, str(n), str(size)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline, goal = (
        time.time() + 120,
        0.4 * n * size * size * (1 if name == "png" else 2),
    )
    while (
        time.time() < deadline and size_of(folder) < goal
        if folder.exists()
        else time.time() < deadline
    ):
        time.sleep(0.02)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    return fresh("check" if name != "png" else "count", name, folder, n, size)


def flipped(name, folder, n, size):
    "One byte in the middle of the data changed: is it told, or handed on?"
    biggest = max(
        (p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    with open(biggest, "r+b") as f:
        at = biggest.stat().st_size // 2 + 77
        f.seek(at)
        old = f.read(1)[0]
        f.seek(at)
        f.write(bytes([old ^ 0x40]))
    now = fresh("count", name, folder, n, size)
    return "told" if now.get("refused") or "error" in now else "handed on"


def main():
    args = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    args.add_argument("--tiles", type=int, default=5_000)
    args.add_argument("--size", type=int, default=128)
    args.add_argument("--entries", type=int, default=460_532)
    args.add_argument("--scratch", type=Path, default=Path("/tmp/stores"))
    a = args.parse_args()
    rows = {}
    rng = np.random.default_rng(1)
    readers = {}
    for name, make in FORMATS.items():
        folder = a.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        start = time.process_time()
        make().write(folder, a.tiles, a.size)
        seconds = time.process_time() - start
        rows[name] = dict(
            format=make.__doc__,
            written_per_s=a.tiles / seconds,
            bytes_per_tile=size_of(folder) / a.tiles,
        )
        readers[name] = make()
        assert readers[name].open(folder) >= a.tiles
        print(name, rows[name], flush=True)
    times = {name: [] for name in FORMATS}
    for turn in range(9):  # interleaved; medians
        ids = rng.choice(a.tiles, 256, replace=False)
        for name, r in readers.items():
            start = time.process_time()
            got = r.read(ids)
            times[name].append(time.process_time() - start)
            if name != "png":
                assert (numbers(got) == ids).all(), name
    for name in FORMATS:
        rows[name]["read_per_s"] = 256 / median(times[name])
    for name in FORMATS:
        rows[name]["times_png"] = rows[name]["read_per_s"] / rows["png"]["read_per_s"]
        rows[name]["flipped_byte"] = flipped(name, a.scratch / name, a.tiles, a.size)
        shutil.rmtree(a.scratch / name)
        rows[name]["killed"] = killed(name, a.scratch / name, a.size, 0, a.tiles)
        shutil.rmtree(a.scratch / name, ignore_errors=True)
        make = FORMATS[name]()
        entries = (
            a.entries if name in ("npy_map", "npy_read", "lmdb") else a.entries // 10
        )
        # as many entries as SARSense, tiny ones; a tenth where writing them takes
        # long
        make.write(a.scratch / name, entries, 8)
        rows[name]["open"] = fresh("open", name, a.scratch / name, entries, 8)
        shutil.rmtree(a.scratch / name, ignore_errors=True)
        print(name, rows[name], flush=True)
    out = Path(__file__).parent / "results/stores.json"
    from stopwatch import machine, write_json

    settings = dict(tiles=a.tiles, size=a.size, entries=a.entries, shard=SHARD)
    write_json(out, dict(machine=machine(), settings=settings, rows=rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        print(json.dumps(child(*sys.argv[2:])))
    else:
        main()
