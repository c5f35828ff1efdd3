"""From notebooks to pages: what a reader sees of a cell, and the checks that keep every page whole."""

import ast, configparser, re
from pathlib import Path

from fastcore.nbio import mk_cell
from nbdev.config import get_config
from nbdev.process import Processor
from nbdev.processors import add_links, exec_show_docs

def directives(cell):        # a cell that nbdev has read
    "What the `#|` lines of a code cell say, as nbdev found them: {'test': 'name', ...}."
    return dict(getattr(cell, "directives_", None) or {}) if cell.cell_type == "code" else {}

class run_docs(exec_show_docs):
    "Fills in the tables of parameters from the module itself, and runs nothing else."
    def begin(self):
        super().begin()
        for cell in self.nb.cells:
            if name := directives(cell).get("default_exp"): self.k.run_cell(f"from di3cl.{name} import *")

    def __call__(self, cell):
        if cell.cell_type != "code" or "\nshow_doc(" not in f"\n{cell.source}": return
        super().__call__(cell)
        add_links(cell)

def label(cell):             # a cell that nbdev has read
    "The line under which a cell is folded away; None for one that stays open."
    d = directives(cell)
    if "test" in d: return "Test: " + d["test"].replace("_", " ")
    if "testsetup" in d: return "What the tests share"
    tree = cell.parsed_() if cell.cell_type == "code" else None                  # None, too, for what is no Python: magics
    if tree and all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree): return "Imports"

def fold(cell):              # a cell that nbdev has read; changed in place
    "Folds a supporting cell, and drops the lines that only nbdev reads."
    if "default_exp" in directives(cell): del cell["source"]; return
    if cell.cell_type != "code" or "show_doc(" in cell.source: return
    ours = tuple(f"#| {name}" for name in ("export", "exports", "test", "testsetup", "varies"))
    code = "".join(line for line in cell.source.splitlines(True) if not line.startswith(ours))
    name = label(cell)
    cell.source = f'#| code-fold: true\n#| code-summary: "{name}"\n{code}' if name else code

SKIP = re.compile(r"(```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$|\[[^\]]*\]\([^)]*\))", re.DOTALL)   # code, mathematics, links
NUMBER = re.compile(r"(?<=\()\d[\da-z][a-z]?(?=[,;:) ])|(?<=[Cc]hapter )\d[\da-z][a-z]?\b|(?<=[Cc]hapters )\d[\da-z][a-z]?\b")

class chapters(Processor):
    "Makes links of chapter numbers, (07) or chapter 07, and of names such as `05_contours`."
    def begin(self):
        nbs = Path(get_config().nbs_path).resolve()
        up = "../" * (len(Path(self.nb.path_).resolve().relative_to(nbs).parts) - 1)
        self.pages = {p.stem.split("_")[0]: up + p.name for p in nbs.glob("[0-9]*_*.ipynb")}

    def cell(self, cell):
        if cell.cell_type != "markdown": return
        parts = SKIP.split(cell.source)
        parts[::2] = [NUMBER.sub(lambda m: f"[{m[0]}]({self.pages[m[0]]})" if m[0] in self.pages else m[0], s) for s in parts[::2]]
        parts[1::2] = [self.named(s) for s in parts[1::2]]
        cell.source = "".join(parts)

    def named(self, text):
        page = self.pages.get(text.strip("`").split("_")[0])
        return f"[{text}]({page})" if page and text.strip("`") == Path(page).stem else text

class origin(Processor):
    "Above a page with code, where to run it and where it comes from, after `settings.ini`."
    def begin(self):
        top = Path(get_config().config_path).resolve()
        path = Path(self.nb.path_).resolve().relative_to(top)
        if not path.stem[0].isdigit() and path.parent.name != "tutorials" or any("colab.research" in c.source for c in self.nb.cells if c.cell_type == "markdown" and c.source): return
        ini = configparser.ConfigParser(); ini.read(top / "settings.ini"); s = ini["DEFAULT"]
        where = f"{s['user']}/{s['repo']}/blob/{s['branch']}/{path.as_posix()}"
        text = (f"[Open in Colab](https://colab.research.google.com/github/{where}) (where it is not installed yet: `%pip install git+{s['git_url']}` in a first cell) · "
                f"[Source](https://github.com/{where})")
        self.nb.cells.insert(2, mk_cell(text, "markdown"))
