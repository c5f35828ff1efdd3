"""Are the outputs that are kept in the notebooks still what the code gives? Run every notebook and compare.

    python tools/fresh.py [--workers 2] [nbs/03_views.ipynb ...]     # exits 1 and names the cells when a notebook fails or has grown stale

Numbers may differ by a hundredth of themselves or 0.02, whichever is more: machines add floats in different orders. What differs from run to run for good reason is passed over: times and rates, memory, paths, dates, versions;
and a cell that begins with `#| varies` is run, but not compared. Figures are not compared: their numbers are.
"""
import argparse, os, re, sys, time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from export import ROOT, directives, notebooks

NUMBER = re.compile(r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
UNITS = r"(?:s|ms|us|µs|ns|min|minutes?|seconds?|h|hours?|kB|MB|GB|kiB|MiB|GiB|times|x)"
RATE = r"[^\W\d]*(?:\s+[^\W\d]+){0,2}(?:/s|\s+(?:per|a)\s+second)"
PASSING = re.compile(rf"/\S*tmp\S* | 0x[0-9a-f]+ | \b\d{{4}}-\d\d-\d\d\S* | \b\d+(?:\.\d+){{2,}}\S* | \b[0-9a-f]{{12,}}\b | [+-]?\d[\d.,]*\s*(?:{RATE}|{UNITS}\b)", re.X)
TOLERANCE = 0.01, 0.02      # of the number itself, and at least

def said(cell):
    "The text that a cell leaves: printed, and the value it ends with."
    parts = [o.get("text") or o.get("data", {}).get("text/markdown") or o.get("data", {}).get("text/plain") or "" for o in cell.get("outputs", []) if o.get("name") != "stderr" and "image/png" not in o.get("data", {}) and "application/vnd.jupyter.widget-view+json" not in o.get("data", {})]
    return "".join("".join(p) for p in parts)

def differs(kept, now):
    "The first thing in which two texts differ by more than the tolerance, in words; None when they agree."
    kept, now = (PASSING.sub("~", t) for t in (kept, now))
    words = [re.sub(r"[\s-]+", " ", NUMBER.sub("#", t)).strip() for t in (kept, now)]
    if words[0] != words[1]: return next((f"kept {a[:70]!r}, now {b[:70]!r}" for a, b in zip(*(t.splitlines() for t in (kept, now))) if NUMBER.sub("#", a) != NUMBER.sub("#", b)), "more or fewer lines")
    for a, b in zip(*(NUMBER.findall(t) for t in (kept, now))):
        x, y = (float(v.replace(",", "").rstrip(".")) for v in (a, b))
        if abs(x - y) > max(TOLERANCE[0] * abs(x), TOLERANCE[1]): return f"kept {a}, now {b}"

def check(path):
    "(name, seconds, complaints) of one notebook."
    nb, start = nbformat.read(path, as_version=4), time.time()
    kept = [said(c) if c.cell_type == "code" else "" for c in nb.cells]
    name = path.relative_to(ROOT / "nbs").as_posix()
    try: NotebookClient(nb, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    except CellExecutionError as error: return name, time.time() - start, [f"fails: {error}"]
    complaints = []
    for cell, before in zip(nb.cells, kept):
        if cell.cell_type != "code" or "varies" in directives(cell.source)[0]: continue
        if why := differs(before, said(cell)): complaints.append(f"cell {cell.id}: {why}")
    return name, time.time() - start, complaints

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("notebooks", nargs="*", type=lambda p: Path(p).resolve())
    args.add_argument("--workers", type=int, default=2)
    args = args.parse_args()
    os.environ.pop("MPLBACKEND", None)
    stale = 0
    with ProcessPoolExecutor(args.workers) as pool:
        for done in as_completed([pool.submit(check, p) for p in args.notebooks or notebooks()]):
            name, seconds, complaints = done.result()
            stale += bool(complaints)
            print(f"{'stale' if complaints else 'fresh':6} {name:32} {seconds:4.0f} s", *(f"       {c}" for c in complaints), sep="\n" if complaints else "", flush=True)
    if stale: sys.exit(f"{stale} notebooks: run `python tools/run.py` on each, look at what changed, and commit it.")

if __name__ == "__main__": main()
