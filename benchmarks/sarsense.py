"""A store at its published size: how fast it is made, opened and read, what it needs,
and what it survives.

    python benchmarks/sarsense.py [PART ...] [--scratch /tmp/sarsense]
        # -> benchmarks/results/sarsense.json, part by part

Parts: cutting reading loader memory flat opening killed full real. `opening` needs the
store that `flat` leaves in the scratch folder; `full` needs the right to mount a tmpfs;
`real` the images of ../shared/data. 10 GB of disk. Ratios come from one run, in turns,
as medians; one thread where nothing else is said.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def scene(*args, **kw):
    from feeding import (
        write_fields,
    )  # not above: children, whose memory is measured, import no more than a build does

    return write_fields(*args, **kw)


def settings(paths, unit="amplitude", **kw):
    from di3cl.sarsense.sources import Settings, Source

    return Settings(
        tuple(Source(str(p), Path(p).name, unit=unit, bands=("VV",)) for p in paths),
        **kw,
    )


def turns(runners, n=5, clock=time.perf_counter):
    "Seconds of each, in turns: medians."
    times = {k: [] for k in runners}
    for r in runners.values():
        r()
    for _ in range(n):
        for k, r in runners.items():
            start = clock()
            r()
            times[k].append(clock() - start)
    return {k: median(v) for k, v in times.items()}


def cutting(scratch):
    """Cutting with all checks and the writing of shards, against merely reading.

    rasterio reads the same windows as float32 arrays; in seconds of the processor,
    since other programs had their share of it."""
    import feeding
    import torch

    torch.set_num_threads(1)
    out = {}
    for name, file in feeding.FILES.items():
        runners, n = feeding.cutting(scratch / "cutting", 4096, file)
        t = turns(runners, clock=time.process_time)
        shutil.rmtree(scratch / "cutting")
        out |= {
            f"{name}: ratio to reading": t["reading"] / t["cutting"],
            f"{name}: tiles per CPU second": n / t["cutting"],
            f"{name}: microseconds a tile beyond reading": (t["cutting"] - t["reading"])
            / n
            * 1e6,
        }
    return out


def reading(scratch):
    """Random batches of 256 from a store, against a folder of PNG files (8 bits), in
    the page cache; seconds of the processor."""
    import feeding
    import torch

    torch.set_num_threads(1)
    out, rng, n = {}, np.random.default_rng(0), 2048
    for side in (128, 256):
        runners = {
            name: lambda read=read: read(rng.integers(n, size=256))
            for name, read in feeding.reading(scratch / "read", side, n).items()
        }
        png, digital, db = turns(runners, 9, time.process_time).values()
        shutil.rmtree(scratch / "read")
        out |= {
            f"{side} px, PNG: tiles per CPU second": 256 / png,
            f"{side} px, db store: times PNG": png / db,
            f"{side} px, digital store: times PNG": png / digital,
            f"{side} px, db store: tiles per CPU second": 256 / db,
        }
    return out


def loader(scratch):
    """What a step of pre-training a ResNet-18 at 224 px spends on its tiles, two
    threads; seconds of the processor."""
    import feeding
    import torch

    from di3cl.train.config import make_config

    torch.set_num_threads(2)
    config = make_config(
        "small",
        arch="resnet18",
        stride=32,
        tile=256,
        view=224,
        batch=16,
        pairs=1600,
        queue_size=1024,
    )
    step, batch = turns(
        feeding.feeding(scratch / "load", config, torch.device("cpu")),
        3,
        time.process_time,
    ).values()
    shutil.rmtree(scratch / "load")
    return {
        "batch of 16, ms": batch * 1e3,
        "step, ms": step * 1e3,
        "share of the step": batch / step,
    }


def fresh(*words):
    done = subprocess.run(
        [sys.executable, __file__, "child", *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def rss():
    return (
        int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6
    )


def child(job, *words):
    "In a process of its own."
    import torch

    torch.set_num_threads(1)
    from di3cl.sarsense.build import build
    from di3cl.store import StoreTiles, _arrow

    if job == "build":
        store, workers, *paths = words
        print("ready", flush=True)
        notes = build(
            settings(paths, shard_mb=0.5 if int(workers) > 1 else 32.0),
            store,
            workers=int(workers),
        )
        return dict(
            peak_mb=int(
                re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]
            )
            / 1e3,
            counts=notes["counts"],
        )
    _arrow()

    before, start, cpu = rss(), time.perf_counter(), time.process_time()
    tiles = StoreTiles(words[0], split="all", max_bad=1)
    opened, cpu = time.perf_counter() - start, time.process_time() - cpu
    tiles.batch(range(256))
    return {
        "tiles": len(tiles),
        "CPU seconds to open": cpu,
        "seconds to open": opened,
        "seconds with a first batch of 256": time.perf_counter() - start,
        "megabytes above the import": rss() - before,
    }


def memory(scratch):
    "Peak memory of a build from one scene, small and large, in blocks and in strips."
    out = {}
    for name, kw in dict(
        blocks={}, strips=dict(tiled=False, blockxsize=None, blockysize=None)
    ).items():
        for side in (5_000, 20_000):
            path = scene(scratch / f"mem/{side}.tif", side, 3, **kw)
            out[f"{name}, {side} px: peak MB"] = fresh(
                "build", scratch / "mem/store", 1, path
            )["peak_mb"]
            shutil.rmtree(scratch / "mem")
        out[f"{name}: 20,000 px over 5,000 px"] = (
            out[f"{name}, 20000 px: peak MB"] / out[f"{name}, 5000 px: peak MB"]
        )
    return out


def flat(scratch):
    """CPU seconds for 1,000 tiles of a whole build, duplicates and splits included,
    from 1,000 to 100,000 tiles; one core."""
    import torch

    from di3cl.sarsense.build import build

    torch.set_num_threads(1)
    paths = [scene(scratch / f"flat/{k:03}.tif", 4096, k) for k in range(98)]
    out = dict(tiles=[], seconds_per_1000=[])
    build(settings(paths[:1]), scratch / "flat_store")  # warm
    for n in (1, 3, 10, 30, 98):
        shutil.rmtree(scratch / "flat_store", ignore_errors=True)
        start = time.process_time()
        notes = build(settings(paths[:n]), scratch / "flat_store")
        seconds = time.process_time() - start
        out["tiles"].append(notes["counts"]["kept"])
        out["seconds_per_1000"].append(seconds / notes["counts"]["kept"] * 1000)
        print(out, flush=True)
    shutil.rmtree(scratch / "flat")
    return out | {
        "most over least": max(out["seconds_per_1000"]) / min(out["seconds_per_1000"]),
        "tiles filled": out["tiles"][-1],
    }


def opening(scratch):
    """A manifest of 460,532 rows: the filled store's, and as many rows again of shards
    that are elsewhere."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    store = scratch / "flat_store"
    table = pq.read_table(store / "manifest.parquet")
    n, k = 460_532, 0
    parts, rng = [table], np.random.default_rng(0)
    while sum(t.num_rows for t in parts) < n:
        k += 1
        t = table.set_column(
            table.schema.get_field_index("shard"),
            "shard",
            pa.array(
                [f"{s}-{k}" for s in table["shard"].to_pylist()]
            ).dictionary_encode(),
        )
        t = t.set_column(
            t.schema.get_field_index("crc"),
            "crc",
            pa.array(rng.integers(2**32, size=len(t)), pa.uint32()),
        )
        parts.append(t)
    big = (
        pa.concat_tables(parts)
        .slice(0, n)
        .replace_schema_metadata(table.schema.metadata)
    )
    (scratch / "big").mkdir(exist_ok=True)
    shutil.copy(store / "store.json", scratch / "big")
    pq.write_table(big, scratch / "big/manifest.parquet", compression="zstd")
    if not (scratch / "big/shards").exists():
        os.symlink(store / "shards", scratch / "big/shards")
    rows = [fresh("open", scratch / "big") for _ in range(5)]
    shutil.rmtree(scratch / "big")
    return {k: median(r[k] for r in rows) for k in rows[0]} | {
        "of them filled": table.num_rows
    }


def contents(store):
    from di3cl.store import read_manifest

    return read_manifest(store)[0].to_pylist(), {
        p.name: p.read_bytes() for p in sorted((store / "shards").iterdir())
    }


def killed(scratch):
    "SIGKILL at 20 random moments of a build with two workers; then resumed."
    from di3cl.sar import SarError
    from di3cl.store import verify

    paths = [scene(scratch / f"kill/{k}.tif", 1024, k) for k in range(12)]
    rng = np.random.default_rng(0)
    fresh("build", scratch / "kill/whole", 2, *paths)
    wanted, found = contents(scratch / "kill/whole"), []
    for k in range(20):
        store = scratch / f"kill/{k}"
        p = subprocess.Popen(
            [
                sys.executable,
                __file__,
                "child",
                "build",
                str(store),
                "2",
                *map(str, paths),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        p.stdout.readline()
        wanted_parts = rng.integers(
            len(wanted[1]) + 1
        )  # as many shards, and a moment more
        while (
            p.poll() is None and len(list(store.glob("parts/*.parquet"))) < wanted_parts
        ):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        p.send_signal(signal.SIGKILL)
        p.wait()
        try:
            n, bad = verify(store)
        except SarError:
            n, bad = 0, []
        fresh("build", store, 2, *paths)
        found.append((n, len(bad), contents(store) == wanted))
        print(found[-1], flush=True)
        shutil.rmtree(store)
    shutil.rmtree(scratch / "kill")
    return {
        "moments": 20,
        "tiles seen after the kill": [n for n, _, _ in found],
        "damaged tiles ever seen": sum(b for _, b, _ in found),
        "identical after resuming": sum(same for *_, same in found),
    }


def full(scratch):
    """A disk of 6 MB for a store of 25: told, still opens, and finished when there is
    room."""
    from di3cl.sar import SarError
    from di3cl.sarsense.build import build
    from di3cl.store import StoreTiles, verify

    paths = [scene(scratch / f"disk/{k}.tif", 1024, k) for k in range(12)]
    small = scratch / "small"
    small.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", small], check=True
    )
    s = settings(paths, shard_mb=0.5)
    try:
        try:
            build(s, small / "store")
            told = ""
        except SarError as e:
            told = str(e)
        n, bad = verify(small / "store")
        StoreTiles(small / "store").batch(range(8))
        subprocess.run(["mount", "-o", "remount,size=100m", small], check=True)
        build(s, small / "store")
        build(s, scratch / "disk/whole")
        return {
            "told": told.replace(str(scratch), "..."),
            "tiles that open": n,
            "damaged": len(bad),
            "identical when finished": contents(small / "store")
            == contents(scratch / "disk/whole"),
        }
    finally:
        subprocess.run(["umount", small])
        shutil.rmtree(scratch / "disk")
        small.rmdir()


def real(scratch):
    """One store of everything that is radar under ../shared/data, by real.toml, and a
    short run from it."""
    from di3cl.pretrain import pretrain
    from di3cl.sarsense.build import build
    from di3cl.sarsense.sources import read_settings
    from di3cl.sarsense.summary import save_pictures
    from di3cl.store import read_manifest, verify
    from di3cl.train.run import read_metrics

    for p in ("real", "real_run"):
        shutil.rmtree(scratch / p, ignore_errors=True)
    notes = build(read_settings(ROOT / "benchmarks/real.toml"), scratch / "real")
    table = read_manifest(scratch / "real")[0]
    save_pictures(scratch / "real", scratch / "real_look")

    def count(c):
        found = table[c].value_counts().to_pylist()
        return {str(r["values"]): r["counts"] for r in found}

    pretrain(
        str(scratch / "real"),
        scratch / "real_run",
        "tiny",
        device="cpu",
        tile=96,
        view=64,
        pairs=64 * 30,
    )
    loss = read_metrics(scratch / "real_run")["total"]
    return {
        "tiles": count("source"),
        "units of their sources": count("unit"),
        "splits": count("split"),
        "kept and rejected": notes["counts"],
        "scenes used": notes["scenes"],
        "scenes skipped": [
            re.sub(r"\S*/shared/data/", "", v) for v in notes["skipped"].values()
        ],
        "damaged": len(verify(scratch / "real")[1]),
        "steps": len(loss),
        "loss, first five steps": float(np.mean(loss[:5])),
        "loss, last five steps": float(np.mean(loss[-5:])),
    }


PARTS = dict(
    cutting=cutting,
    reading=reading,
    loader=loader,
    memory=memory,
    flat=flat,
    opening=opening,
    killed=killed,
    full=full,
    real=real,
)


def main():
    args = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    args.add_argument("parts", nargs="*", help="all if left out")
    args.add_argument("--scratch", type=Path, default=Path("/tmp/sarsense"))
    from stopwatch import machine, write_json

    a = args.parse_args()
    out = ROOT / "benchmarks/results/sarsense.json"
    for name in a.parts or PARTS:
        a.scratch.mkdir(parents=True, exist_ok=True)
        found = PARTS[name](a.scratch)
        print(name, found, flush=True)
        results = (json.loads(out.read_text()) if out.exists() else {}) | {
            name: found | {"machine": machine()}
        }
        write_json(out, {k: results[k] for k in PARTS if k in results})


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        print(json.dumps(child(*sys.argv[2:])))
    else:
        main()
