"""Are the outputs kept in the notebooks still what the code gives? Run and compare.

    python tools/fresh.py [--workers 2] [nbs/course/04_views.ipynb ...]

It exits with 1, and names the cells, when a notebook fails or has grown stale.

Numbers may differ by a hundredth of themselves or 0.02, whichever is more: machines
add floats in different orders. What differs from run to run for good reason is passed
over: times and rates, memory, paths, dates, versions; and a cell that begins with
`#| varies` is run, but not compared. Figures are not compared: their numbers are.
"""
import argparse
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
from export import ROOT, directives, notebooks
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NUMBER = re.compile(r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
UNITS = r"(?:s|ms|us|µs|ns|min|minutes?|seconds?|h|hours?|kB|MB|GB|kiB|MiB|GiB|times|x)"
RATE = r"[^\W\d]*(?:\s+[^\W\d]+){0,2}(?:/s|\s+(?:per|a)\s+second)"
PASSING = re.compile(rf"""
    /\S*tmp\S*                      # a path
    | 0x[0-9a-f]+                   # an address
    | \b\d{{4}}-\d\d-\d\d\S*        # a date
    | \b\d+(?:\.\d+){{2,}}\S*       # a version
    | \b[0-9a-f]{{12,}}\b           # a hash
    | [+-]?\d[\d.,]*\s*(?:{RATE}|{UNITS}\b)""", re.X)
RELATIVE, ABSOLUTE = 0.01, 0.02     # tolerances
UNCOMPARED = "image/png", "application/vnd.jupyter.widget-view+json"


def text_of(cell):
    "Return the text that a cell leaves: printed, and the value it ends with."
    parts = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if output.get("name") == "stderr" or any(kind in data for kind in UNCOMPARED):
            continue
        value = data.get("text/markdown") or data.get("text/plain") or ""
        parts.append("".join(output.get("text") or value))
    return "".join(parts)


def words(text):
    "Return a text without its numbers and its white space."
    return re.sub(r"[\s-]+", " ", NUMBER.sub("#", text)).strip()


def number(text):
    return float(text.replace(",", "").rstrip("."))


def differs(kept, now):
    "Say in what two texts first differ by more than the tolerance; None: they agree."
    kept, now = PASSING.sub("~", kept), PASSING.sub("~", now)
    if words(kept) != words(now):
        for a, b in zip(kept.splitlines(), now.splitlines()):
            if NUMBER.sub("#", a) != NUMBER.sub("#", b):
                return f"kept {a[:70]!r}, now {b[:70]!r}"
        return "more or fewer lines"
    for a, b in zip(NUMBER.findall(kept), NUMBER.findall(now)):
        x, y = number(a), number(b)
        if abs(x - y) > max(RELATIVE * abs(x), ABSOLUTE):
            return f"kept {a}, now {b}"


def check(path):
    "Run one notebook; return its name, the seconds, and what is wrong."
    nb = nbformat.read(path, as_version=4)
    code = [c for c in nb.cells if c.cell_type == "code"]
    kept = [text_of(c) for c in code]
    name, start = path.relative_to(ROOT / "nbs").as_posix(), time.time()
    place = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(nb, timeout=900, kernel_name="python3", resources=place)
    try:
        client.execute()
    except CellExecutionError as error:
        return name, time.time() - start, [f"fails: {error}"]
    wrong = []
    for cell, before in zip(code, kept):
        why = differs(before, text_of(cell))
        if why and "varies" not in directives(cell.source)[0]:
            wrong.append(f"cell {cell.id}: {why}")
    return name, time.time() - start, wrong


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=lambda p: Path(p).resolve())
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    os.environ.pop("MPLBACKEND", None)
    stale = 0
    with ProcessPoolExecutor(args.workers) as pool:
        jobs = [pool.submit(check, path) for path in args.notebooks or notebooks()]
        for job in as_completed(jobs):
            name, seconds, wrong = job.result()
            stale += bool(wrong)
            print(f"{'stale' if wrong else 'fresh'} {name:32} {seconds:4.0f} s")
            print("".join(f"       {why}\n" for why in wrong), end="", flush=True)
    if stale:
        sys.exit(f"{stale} notebooks: run `python tools/run.py` on each, "
                 "look at what changed, and commit it.")


if __name__ == "__main__":
    main()
