"""A page as HTML without Quarto: by nbdev's processors, then by pandoc."""

import base64
import hashlib
import re
import subprocess
import tempfile
from functools import cache
from html import escape
from pathlib import Path

import pypandoc
from fastcore.nbio import read_nb
from nbdev.processors import FilterDefaults

NBS = Path(__file__).resolve().parent.parent / "nbs"
FOLDER = tempfile.TemporaryDirectory(prefix="di3cl_site_")   # gone when Python ends
PANDOC = (pypandoc.get_pandoc_path(), "-f", "markdown", "-t", "html5", "--mathml",
          "--syntax-highlighting=none")


@cache
def processed(page):
    "Return the cells of a page as nbdev's processors leave them for Quarto."
    nb = read_nb(NBS / page)
    FilterDefaults()(nb)
    return nb.cells


def option(source, name):
    "Read one of Quarto's options at the head of a cell, in one line or in several."
    head = re.match(r"(#\|.*\n?)*", source)[0]
    found = re.search(rf"^#\| {name}: ?(.*)\n((?:#\|  .*\n?)*)", head + "\n", re.M)
    if not found:
        return ""
    text = " ".join(line.removeprefix("#|").strip() for line in found[2].splitlines())
    return text or found[1].strip('"')


def fenced(text, kind=""):
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks} {kind}\n{text.rstrip()}\n{ticks}"


def image(png, alt):
    "Write a figure into the folder, and return what shows it."
    data = base64.b64decode(png)
    path = Path(FOLDER.name) / f"{hashlib.sha1(data).hexdigest()[:16]}.png"
    path.write_bytes(data)
    return f'<img src="{path.name}" alt="{escape(alt)}">\n'


def output(o, source):
    "Return one output of a cell as Markdown."
    data = o.get("data", {})
    if "image/png" in data:
        return image(data["image/png"], option(source, "fig-alt"))
    text = "".join(o.get("text") or data.get("text/plain", ""))
    return fenced(text) if o.get("name") != "stderr" else ""


def code(cell):
    "Return a code cell as Quarto writes it for pandoc."
    source = cell.source
    body = fenced(re.sub(r"\A(#\|.*\n?)+", "", source), "python")
    if option(source, "code-fold") == "true":
        summary = option(source, "code-summary") or "Code"
        body = f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"
    outputs = [output(o, source) for o in cell.get("outputs", [])]
    shown = [f"::: cell-output\n{text}\n:::" for text in outputs if text]
    classes = f"cell {option(source, 'classes')}".split()
    head = "::: {" + " ".join(f".{c}" for c in classes) + "}"
    return "\n\n".join([head, body, *shown, ":::"])


def as_markdown(page):
    "Return a page as the one document that Quarto makes of its cells."
    parts = []
    for cell in processed(page):
        if cell.cell_type == "code":
            parts.append(code(cell))
        elif cell.cell_type == "raw":
            title = re.search(r"^title: (.*)$", cell.source, re.M)
            parts += [f"<h1>{title[1]}</h1>"] if title else []
        else:
            parts.append(cell.source)
    return "\n\n".join(parts)


@cache
def rendered(page):
    "Make (HTML, warnings) of a page, by nbdev and pandoc as the site's are."
    run = subprocess.run(PANDOC, input=as_markdown(page), capture_output=True,
                         text=True, cwd=(NBS / page).parent)
    assert run.returncode == 0, f"{page}: {run.stderr}"
    return run.stdout, run.stderr
