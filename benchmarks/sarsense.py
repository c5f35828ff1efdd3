"""A store at its published size: how fast it is made, opened and read, what it needs, and what it survives.

    python benchmarks/sarsense.py [PART ...] [--scratch /tmp/sarsense]     # -> benchmarks/results/sarsense.json, part by part

Parts: cutting reading loader memory flat opening killed full real. `opening` needs the store that `flat` leaves in the scratch folder; `full` needs the right to mount a tmpfs; `real` the images
of ../shared/data. 10 GB of disk. Ratios come from one run, in turns, as medians; one thread where nothing else is said.
"""
import argparse, json, os, re, resource, shutil, signal, subprocess, sys, time
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BASE = None

def scene(path, side, seed, db=False, **kw):
    "A scene of fields under 4-look speckle, uint16 amplitude or float32 dB; different for every seed."
    import rasterio
    from rasterio.transform import from_origin
    global BASE
    rng = np.random.default_rng(seed)
    if BASE is None: BASE = np.sqrt(np.random.default_rng(0).gamma(4, 1 / 4, (2048, 2048))).astype("float32") * 300
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", count=1, height=side, width=side, dtype="float32" if db else "uint16", crs="EPSG:32632", transform=from_origin(3e5 + 5e4 * (seed % 10), 5e6 + 5e4 * (seed // 10), 10, 10),
                       **dict(tiled=True, blockxsize=512, blockysize=512) | kw) as f:
        for y in range(0, side, 512):
            h = min(512, side - y)
            fields = np.kron(rng.uniform(0.3, 3, (h // 32 + 1, side // 32 + 1)), np.ones((32, 32)))[:h, :side]
            noise = np.take(np.roll(BASE, rng.integers(2048, size=2), (0, 1))[:h], np.arange(side) % 2048, 1)
            x = (fields * noise).astype("float32")
            f.write((20 * np.log10(x + 1) - 60 if db else x.astype("uint16"))[None], window=((y, y + h), (0, side)))
    return path

def settings(paths, unit="amplitude", **kw):
    from di3cl.sources import Settings, Source
    return Settings(tuple(Source(str(p), Path(p).name, unit=unit, bands=("VV",)) for p in paths), **kw)

def turns(runners, n=5, clock=time.perf_counter):
    "Seconds of each, in turns: medians."
    times = {k: [] for k in runners}
    for r in runners.values(): r()
    for _ in range(n):
        for k, r in runners.items(): start = clock(); r(); times[k].append(clock() - start)
    return {k: median(v) for k, v in times.items()}

def cutting(scratch):
    """Cutting with all checks and the writing of shards, against rasterio merely reading the same windows as float32 arrays; in seconds of the processor, since other programs had their share of it.
    What `read_sar` remembers of sound blocks is forgotten each time: a build meets every block once."""
    import rasterio, torch
    from di3cl.files import _remembered
    from di3cl.jobs import plan, run_job
    torch.set_num_threads(1); out = {}
    strips = dict(tiled=False, blockxsize=None, blockysize=None)
    for name, kw in {"float32 dB, deflate": dict(compress="deflate", db=True), "float32 dB, deflate with predictor": dict(compress="deflate", predictor=3, db=True), "float32 dB, LZW": dict(compress="lzw", db=True),
                     "uint16, deflate": dict(compress="deflate"), "uint16, raw": {}, "uint16, raw strips": strips}.items():
        path = scene(scratch / "in" / "scene.tif", 4096, 1, **kw); s = settings([path], unit="db" if "db" in kw else "amplitude")
        (jobs, _), store = plan(s), scratch / "cut"
        def read():
            with rasterio.open(path) as f:
                for _, l, (y, x, h, w) in (k for j in jobs for k in j.work): f.read(window=((y, y + h), (x, x + w)), out_dtype="float32")
        def make():
            _remembered.cache_clear()
            for j in jobs: run_job(j, s, store)
        t = turns(dict(read=read, cut=make), clock=time.process_time); shutil.rmtree(store)
        out |= {f"{name}: ratio to reading": t["read"] / t["cut"], f"{name}: tiles per CPU second": 1024 / t["cut"], f"{name}: microseconds a tile beyond reading": (t["cut"] - t["read"]) / 1024 * 1e6}
    return out

def reading(scratch):
    "Random batches of 256 from a store, against a folder of PNG files (8 bits), in the page cache; seconds of the processor."
    import torch
    from PIL import Image
    from di3cl.store import StoreTiles, create, pack, publish_shard, unpack
    torch.set_num_threads(1); out, rng, n = {}, np.random.default_rng(0), 2048
    for side in (128, 256):
        shutil.rmtree(scratch / "read", ignore_errors=True)
        x = torch.from_numpy((10 * np.log10(rng.gamma(4, 1 / 4, (256, 1, side, side))) - 12).astype("float32"))
        for unit, y in dict(db=x, digital=((x + 40) * 5).clamp(0, 255)).items():
            create(scratch / "read" / unit, unit=unit, channels=["VV"], size=side)
            for k in range(0, n, 256): publish_shard(scratch / "read" / unit, f"{k:05}", pack(y + (k // 256) / 100, unit), {})
        (scratch / "read/png").mkdir()
        for k in range(n): Image.fromarray(pack(y[k % 256, 0], "digital")).save(scratch / f"read/png/{k:05}.png")
        stores = {u: StoreTiles(scratch / "read" / u) for u in ("db", "digital")}
        def png(): return torch.from_numpy(np.stack([np.asarray(Image.open(scratch / f"read/png/{i:05}.png")) for i in rng.integers(n, size=256)])[:, None]).float()
        t = turns(dict(png=png) | {u: lambda s=s: s.batch(rng.integers(n, size=256)) for u, s in stores.items()}, 9, time.process_time)
        out |= {f"{side} px, PNG: tiles per CPU second": 256 / t["png"]} | {f"{side} px, {u} store: times PNG": t["png"] / t[u] for u in stores} | {f"{side} px, db store: tiles per CPU second": 256 / t["db"]}
    shutil.rmtree(scratch / "read")
    return out

def loader(scratch):
    "What a step of pre-training a ResNet-18 at 224 px spends on its tiles, two threads; seconds of the processor."
    import torch
    from di3cl.pairs import Pairs, fit_preprocess, make_config
    from di3cl.pretrain import new_model
    from di3cl.store import StoreTiles, create, pack, publish_shard
    torch.set_num_threads(2); x = torch.randn(64, 1, 256, 256) * 2 - 12
    create(scratch / "load", unit="db", channels=["VV"], size=256)
    for k in range(8): publish_shard(scratch / "load", f"{k}", pack(x + k / 10, "db"), {})
    c = make_config("small", arch="resnet18", stride=32, tile=256, view=224, batch=16, pairs=1600, queue_size=1024); tiles = StoreTiles(scratch / "load")
    pairs = Pairs(tiles, fit_preprocess(tiles, c), c); model = new_model(c, 1, 0); ids = np.random.default_rng(0).permutation(512)[:16]
    def step(k=[0]): k[0] += 1; model(*pairs[k[0]]).total.backward(); model.zero_grad(set_to_none=True)
    t = turns(dict(batch=lambda: tiles.batch(ids), step=step), 3, time.process_time); shutil.rmtree(scratch / "load")
    return {"batch of 16, ms": t["batch"] * 1e3, "step, ms": t["step"] * 1e3, "share of the step": t["batch"] / t["step"]}

def fresh(*words):
    done = subprocess.run([sys.executable, __file__, "child", *map(str, words)], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    if done.returncode: raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])

def rss(): return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6

def child(job, *words):
    "In a process of its own."
    import torch; torch.set_num_threads(1)
    from di3cl.jobs import build
    from di3cl.store import StoreTiles, _arrow
    if job == "build":
        store, workers, *paths = words; print("ready", flush=True)
        notes = build(settings(paths, shard_mb=0.5 if int(workers) > 1 else 32.), store, workers=int(workers))
        return dict(peak_mb=int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) / 1e3, counts=notes["counts"])
    _arrow(); import pyarrow.compute; before, start, cpu = rss(), time.perf_counter(), time.process_time()
    tiles = StoreTiles(words[0], split="all", max_bad=1); opened, cpu = time.perf_counter() - start, time.process_time() - cpu
    tiles.batch(range(256))
    return {"tiles": len(tiles), "CPU seconds to open": cpu, "seconds to open": opened, "seconds with a first batch of 256": time.perf_counter() - start, "megabytes above the import": rss() - before}

def memory(scratch):
    "Peak memory of a build from one scene, small and large, in blocks and in strips."
    out = {}
    for name, kw in dict(blocks={}, strips=dict(tiled=False, blockxsize=None, blockysize=None)).items():
        for side in (5_000, 20_000):
            path = scene(scratch / f"mem/{side}.tif", side, 3, **kw)
            out[f"{name}, {side} px: peak MB"] = fresh("build", scratch / "mem/store", 1, path)["peak_mb"]; shutil.rmtree(scratch / "mem")
        out[f"{name}: 20,000 px over 5,000 px"] = out[f"{name}, 20000 px: peak MB"] / out[f"{name}, 5000 px: peak MB"]
    return out

def flat(scratch):
    "CPU seconds for 1,000 tiles of a whole build, duplicates and splits included, from 1,000 to 100,000 tiles; one core."
    from di3cl.jobs import build
    import torch; torch.set_num_threads(1)
    paths = [scene(scratch / f"flat/{k:03}.tif", 4096, k) for k in range(98)]; out = dict(tiles=[], seconds_per_1000=[])
    build(settings(paths[:1]), scratch / "flat_store")                        # warm
    for n in (1, 3, 10, 30, 98):
        shutil.rmtree(scratch / "flat_store", ignore_errors=True); start = time.process_time()
        notes = build(settings(paths[:n]), scratch / "flat_store"); seconds = time.process_time() - start
        out["tiles"].append(notes["counts"]["kept"]); out["seconds_per_1000"].append(seconds / notes["counts"]["kept"] * 1000); print(out, flush=True)
    shutil.rmtree(scratch / "flat")
    return out | {"most over least": max(out["seconds_per_1000"]) / min(out["seconds_per_1000"]), "tiles filled": out["tiles"][-1]}

def opening(scratch):
    "A manifest of 460,532 rows: the filled store's, and as many rows again of shards that are elsewhere."
    import pyarrow as pa, pyarrow.parquet as pq
    store = scratch / "flat_store"; table = pq.read_table(store / "manifest.parquet"); n, k = 460_532, 0
    parts, rng = [table], np.random.default_rng(0)
    while sum(t.num_rows for t in parts) < n:
        k += 1; t = table.set_column(table.schema.get_field_index("shard"), "shard", pa.array([f"{s}-{k}" for s in table["shard"].to_pylist()]).dictionary_encode())
        t = t.set_column(t.schema.get_field_index("crc"), "crc", pa.array(rng.integers(2**32, size=len(t)), pa.uint32()))
        parts.append(t)
    big = pa.concat_tables(parts).slice(0, n).replace_schema_metadata(table.schema.metadata)
    (scratch / "big").mkdir(exist_ok=True); shutil.copy(store / "store.json", scratch / "big"); pq.write_table(big, scratch / "big/manifest.parquet", compression="zstd")
    if not (scratch / "big/shards").exists(): os.symlink(store / "shards", scratch / "big/shards")
    rows = [fresh("open", scratch / "big") for _ in range(5)]; shutil.rmtree(scratch / "big")
    return {k: median(r[k] for r in rows) for k in rows[0]} | {"of them filled": table.num_rows}

def contents(store):
    from di3cl.store import read_manifest
    return read_manifest(store)[0].to_pylist(), {p.name: p.read_bytes() for p in sorted((store / "shards").iterdir())}

def killed(scratch):
    "SIGKILL at 20 random moments of a build with two workers; then resumed."
    from di3cl.sar import SarError
    from di3cl.store import verify
    paths = [scene(scratch / f"kill/{k}.tif", 1024, k) for k in range(12)]; rng = np.random.default_rng(0)
    fresh("build", scratch / "kill/whole", 2, *paths)
    wanted, found = contents(scratch / "kill/whole"), []
    for k in range(20):
        store = scratch / f"kill/{k}"
        p = subprocess.Popen([sys.executable, __file__, "child", "build", str(store), "2", *map(str, paths)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})
        p.stdout.readline(); wanted_parts = rng.integers(len(wanted[1]) + 1)   # as many shards, and a moment more
        while p.poll() is None and len(list(store.glob("parts/*.parquet"))) < wanted_parts: time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1)); p.send_signal(signal.SIGKILL); p.wait()
        try: n, bad = verify(store)
        except SarError: n, bad = 0, []
        fresh("build", store, 2, *paths)
        found.append((n, len(bad), contents(store) == wanted)); print(found[-1], flush=True); shutil.rmtree(store)
    shutil.rmtree(scratch / "kill")
    return {"moments": 20, "tiles seen after the kill": [n for n, _, _ in found], "damaged tiles ever seen": sum(b for _, b, _ in found), "identical after resuming": sum(same for *_, same in found)}

def full(scratch):
    "A disk of 6 MB for a store of 25: told, still opens, and finished when there is room."
    from di3cl.jobs import build
    from di3cl.sar import SarError
    from di3cl.store import StoreTiles, verify
    paths = [scene(scratch / f"disk/{k}.tif", 1024, k) for k in range(12)]; small = scratch / "small"; small.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", small], check=True); s = settings(paths, shard_mb=0.5)
    try:
        try: build(s, small / "store"); told = ""
        except SarError as e: told = str(e)
        n, bad = verify(small / "store"); StoreTiles(small / "store").batch(range(8))
        subprocess.run(["mount", "-o", "remount,size=100m", small], check=True); build(s, small / "store"); build(s, scratch / "disk/whole")
        return {"told": told.replace(str(scratch), "..."), "tiles that open": n, "damaged": len(bad), "identical when finished": contents(small / "store") == contents(scratch / "disk/whole")}
    finally: subprocess.run(["umount", small]); shutil.rmtree(scratch / "disk"); small.rmdir()

def real(scratch):
    "One store of everything that is radar under ../shared/data, by real.toml, and a short run from it."
    from di3cl.jobs import build
    from di3cl.pretrain import pretrain
    from di3cl.run import read_metrics
    from di3cl.sarsense import save_pictures
    from di3cl.sources import read_settings
    from di3cl.store import read_manifest, verify
    for p in ("real", "real_run"): shutil.rmtree(scratch / p, ignore_errors=True)
    notes = build(read_settings(ROOT / "benchmarks/real.toml"), scratch / "real"); table = read_manifest(scratch / "real")[0]
    save_pictures(scratch / "real", scratch / "real_look")
    count = lambda c: {str(r["values"]): r["counts"] for r in table[c].value_counts().to_pylist()}
    pretrain(str(scratch / "real"), scratch / "real_run", "tiny", device="cpu", tile=96, view=64, pairs=64 * 30)
    loss = read_metrics(scratch / "real_run")["total"]
    return {"tiles": count("source"), "units of their sources": count("unit"), "splits": count("split"), "kept and rejected": notes["counts"], "scenes used": notes["scenes"],
            "scenes skipped": [re.sub(r"\S*/shared/data/", "", v) for v in notes["skipped"].values()], "damaged": len(verify(scratch / "real")[1]),
            "steps": len(loss), "loss, first five steps": float(np.mean(loss[:5])), "loss, last five steps": float(np.mean(loss[-5:]))}

PARTS = dict(cutting=cutting, reading=reading, loader=loader, memory=memory, flat=flat, opening=opening, killed=killed, full=full, real=real)

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("parts", nargs="*", help="all if left out"); args.add_argument("--scratch", type=Path, default=Path("/tmp/sarsense"))
    from di3cl.stopwatch import machine
    a = args.parse_args(); out = ROOT / "benchmarks/results/sarsense.json"
    for name in a.parts or PARTS:
        a.scratch.mkdir(parents=True, exist_ok=True)
        found = PARTS[name](a.scratch); print(name, found, flush=True)
        results = (json.loads(out.read_text()) if out.exists() else {}) | {name: found | {"machine": machine()}}
        out.write_text(json.dumps({k: results[k] for k in PARTS if k in results}, indent=1) + "\n")

if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]: print(json.dumps(child(*sys.argv[2:])))
    else: main()
