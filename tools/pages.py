"""From notebooks to pages: nbdev's processors for what a reader sees of a cell."""

import ast
import configparser
from pathlib import Path

from fastcore.nbio import mk_cell
from nbdev.config import get_config
from nbdev.process import Processor
from nbdev.processors import add_links, exec_show_docs

OURS = "export", "exports", "exporti", "test", "testsetup", "varies"
COLAB = "https://colab.research.google.com/github"
ORIGIN = """\
[Open in Colab]({colab}/{where}) (where it is not installed yet: \
`%pip install git+{git_url}` in a first cell) · [Source](https://github.com/{where})"""


def directives(cell):  # a cell that nbdev has read
    "Return what the `#|` lines of a code cell say: {'test': 'name', ...}."
    if cell.cell_type != "code":
        return {}
    return dict(getattr(cell, "directives_", None) or {})


class run_docs(exec_show_docs):
    "Fill in tables of parameters from the module itself, and run nothing else."

    def begin(self):
        super().begin()
        for cell in self.nb.cells:
            if name := directives(cell).get("default_exp"):
                self.k.run_cell(f"from di3cl.{name} import *")

    def __call__(self, cell):
        if cell.cell_type == "code" and "\nshow_doc(" in f"\n{cell.source}":
            super().__call__(cell)
            add_links(cell)


def label(cell):  # a cell that nbdev has read
    "Return the line under which a cell is folded; None for one that stays open."
    found = directives(cell)
    if "test" in found:
        return "Test: " + found["test"].replace("_", " ")
    if "testsetup" in found:
        return "What the tests share"
    tree = cell.parsed_() if cell.cell_type == "code" else None  # None for magics, too
    if tree and all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in tree):
        return "Imports"


def fold(cell):  # a cell that nbdev has read; changed in place
    "Fold a supporting cell, and drop the lines that only nbdev reads."
    if "default_exp" in directives(cell):
        del cell["source"]
        return
    if cell.cell_type != "code" or "show_doc(" in cell.source:
        return
    marks = tuple(f"#| {name}" for name in OURS)
    lines = cell.source.splitlines(True)
    cell.source = "".join(line for line in lines if not line.startswith(marks))
    if name := label(cell):
        cell.source = (
            f'#| code-fold: true\n#| code-summary: "{name}"\n{cell.source}')


class origin(Processor):
    "Say above a page with code where to run it and where it comes from."

    def begin(self):
        top = Path(get_config().config_path).resolve()
        path = Path(self.nb.path_).resolve().relative_to(top)
        with_code = path.parts[1] in ("course", "guides", "library")
        if not with_code or self.has_badge():
            return
        ini = configparser.ConfigParser()
        ini.read(top / "settings.ini")
        s = ini["DEFAULT"]
        where = f"{s['user']}/{s['repo']}/blob/{s['branch']}/{path.as_posix()}"
        text = ORIGIN.format(colab=COLAB, where=where, git_url=s["git_url"])
        self.nb.cells.insert(2, mk_cell(text, "markdown"))

    def has_badge(self):
        prose = (c for c in self.nb.cells if c.cell_type == "markdown" and c.source)
        return any("colab.research" in c.source for c in prose)
