"""Run notebooks from top to bottom and keep their outputs, figures stored small.

    python tools/run.py                    # every notebook
    python tools/run.py nbs/03_views.ipynb
"""
import base64, io, os, sys, time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

from export import notebooks


def shrink(png):
    "The same picture in 128 colours, rare ones kept: radar images are noise, and noise does not compress."
    small = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def tidy(outputs):
    "Drop progress bars and widget states, which teach nothing once they are over; keep figures and text."
    kept = []
    for o in outputs:
        if o.output_type == "stream" and o.name == "stderr": continue
        if o.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None) and "image/png" not in o.data: continue   # an explorer leaves its picture
        if "image/png" in o.get("data", {}): o.data["image/png"] = shrink(o.data["image/png"])
        o.pop("execution_count", None) if o.output_type != "execute_result" else o.update(execution_count=None)
        kept.append(o)
    return kept


def run(path):
    nb = nbformat.read(path, as_version=4)
    start = time.time()
    NotebookClient(nb, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    for c in nb.cells:
        if c.cell_type == "code": c.execution_count, c.outputs = None, tidy(c.outputs)
        c.metadata.pop("execution", None)
    for k in ("language_info", "widgets"): nb.metadata.pop(k, None)   # what a kernel and its progress bars leave behind
    nbformat.write(nb, path)
    print(f"{path}: {time.time() - start:.0f} s, {path.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    os.environ.pop("MPLBACKEND", None)   # a test runner's "agg" would leave every notebook without its figures
    for p in map(Path, sys.argv[1:] or notebooks()): run(p)
