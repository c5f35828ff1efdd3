"""Run notebooks from top to bottom and keep their outputs, figures stored small.

    python tools/run.py                           # every notebook
    python tools/run.py nbs/course/04_views.ipynb
"""
import base64
import io
import os
import sys
import time
from pathlib import Path

import nbformat
from export import notebooks
from nbclient import NotebookClient
from PIL import Image

WIDGET = "application/vnd.jupyter.widget-view+json"


def shrink(png):
    "Store a picture in 128 colours, rare ones kept: noise does not compress."
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    small = io.BytesIO()
    image.quantize(128, Image.Quantize.MAXCOVERAGE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def tidy(outputs):
    "Drop progress bars, widget states and skipped tests; keep figures and text."
    kept = []
    for output in outputs:
        data = output.get("data", {})
        if output.output_type == "stream" and output.name == "stderr":
            continue
        if output.output_type == "error":
            continue                      # of a skipped test: no other comes here
        if data.pop(WIDGET, None) and "image/png" not in data:
            continue                      # an explorer leaves its picture
        if "progress" in data.get("text/html", "")[:200]:
            continue                      # fastai's bar, or its style
        if "image/png" in data:
            data["image/png"] = shrink(data["image/png"])
        if "execution_count" in output:
            output.execution_count = None
        kept.append(output)
    return kept


def run(path):
    "Run one notebook in its folder, and write it back."
    nb = nbformat.read(path, as_version=4)
    start = time.time()
    place = {"metadata": {"path": str(path.parent)}}
    NotebookClient(nb, timeout=600, kernel_name="python3", resources=place,
                   allow_error_names=["Skipped"]).execute()
    for cell in nb.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = None, tidy(cell.outputs)
    for key in ("language_info", "widgets"):  # left by a kernel and its progress bars
        nb.metadata.pop(key, None)
    nbformat.write(nb, path)
    size = path.stat().st_size / 1e3
    print(f"{path}: {time.time() - start:.0f} s, {size:.0f} kB", flush=True)


if __name__ == "__main__":
    os.environ.pop("MPLBACKEND", None)  # a test runner's "agg" would draw no figure
    for path in map(Path, sys.argv[1:] or notebooks()):
        run(path)
