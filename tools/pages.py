"""From notebooks to pages: nbdev's processors for what a reader sees of a cell.

Nothing is run, and the library is not imported, when the site is made: a page is what
its notebook holds. The processors work in the order in which pyproject.toml names them.
"""

import ast
import base64
import configparser
import io
import re
import tokenize
from functools import cache
from html import escape
from os.path import relpath
from pathlib import Path

from fastcore.nbio import mk_cell, read_nb
from nbdev.config import get_config, nbpath2html
from nbdev.process import Processor
from nbdev.showdoc import showdoc_nm
from PIL import Image

OURS = (
    "default_exp", "export", "exporti", "exports", "test", "testsetup", "varies",
    "solution",
)
COLAB = "https://colab.research.google.com/github"
ORIGIN = """\
::: origin
[Open in Colab]({colab}/{where}) · [Source](https://github.com/{where}) · \
to install: `%pip install git+{git_url}`
:::"""


@cache
def top():
    "Return the folder of pyproject.toml."
    return Path(get_config().config_path).resolve()


def directives(cell):  # a cell that nbdev has read
    "Return what the `#|` lines of a cell say: {'test': 'name', ...}."
    return dict(getattr(cell, "directives_", None) or {})


def markdown(text):
    return mk_cell(text, "markdown")


class as_written(Processor):
    "Give code its lines back as they stand in the file, without those that are ours."

    def begin(self):
        # nbdev takes each `#|` line apart by itself, and so breaks those of an option
        # that goes on over several lines, as a figure's text for the blind does
        file = {c.id: c.source for c in read_nb(self.nb.path_).cells}
        ours = re.compile(rf"#\|\s*({'|'.join(OURS)})\b|%matplotlib")
        for cell in self.nb.cells:
            if cell.cell_type == "code" and cell.id in file:
                lines = file[cell.id].splitlines(True)
                cell.source = "".join(line for line in lines if not ours.match(line))
        kept = [c for c in self.nb.cells if not useless(c)]
        self.nb.cells = kept


def useless(cell):
    "Tell whether a cell says nothing to a reader."
    return cell.cell_type == "code" and (
        "default_exp" in directives(cell) or not cell.source.strip())


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
    "Fold a supporting cell under a line that says what it is."
    if name := label(cell):
        options = f'#| code-fold: true\n#| code-summary: "{name}"\n'
        bare = re.sub(r"^#\| code-(fold|summary):.*\n", "", cell.source, flags=re.M)
        cell.source = options + bare


class lift(Processor):
    "Make text of what a cell printed as Markdown: its headings reach the contents."

    def begin(self):
        cells = []
        for cell in self.nb.cells:
            cells.append(cell)
            outputs = cell.get("outputs") or []
            told = [o for o in outputs if "text/markdown" in o.get("data", {})]
            if told:
                cell.outputs = [o for o in outputs if o not in told]
            for o in told:
                text = markdown("".join(o["data"]["text/markdown"]))
                text.directives_ = directives(cell)      # part of a solution, perhaps
                cells.append(text)
        self.nb.cells = cells


class solutions(Processor):
    "Fold the cells marked `#| solution` into the solution that stands before them."

    def begin(self):
        cells, inside = [], False
        for cell in [*self.nb.cells, None]:
            marked = cell is not None and "solution" in directives(cell)
            if inside and not marked:
                cells.append(markdown("</details>"))
            if marked and not inside:
                before = cells[-1].source.rstrip() if cells else ""
                if before.endswith("</details>"):
                    cells[-1].source = before.removesuffix("</details>")
                else:
                    cells.append(markdown("<details><summary>Solution</summary>"))
            inside = marked
            cells.append(cell)
        self.nb.cells = cells[:-1]


def comments(source):
    "Return {line: (what its comment says, whether it says nothing else)}."
    found = {}
    for t in tokenize.generate_tokens(io.StringIO(source).readline):
        if t.type == tokenize.COMMENT:
            alone = not t.line[:t.start[1]].strip()
            found[t.start[0]] = t.string.lstrip("# "), alone
    return found


def comment(node, found):
    "Return the comment behind a node, with those below it that stand alone."
    said, line = found.get(node.end_lineno, ("", False))[0], node.end_lineno + 1
    while said and line in found and found[line][1]:
        said, line = f"{said} {found[line][0]}", line + 1
    return said


def told_by_annotation(node):
    "Return the text that `Annotated[...]` carries for a command's help, or nothing."
    words = (n for n in ast.walk(node) if isinstance(n, ast.keyword)) if node else ()
    for n in words:
        if n.arg == "help" and isinstance(n.value, ast.Constant):
            return n.value.value


def parameters(function, found):
    "List (name, default, meaning) of what a function takes and returns."
    a = function.args
    spare = [None] * (len(a.posonlyargs + a.args) - len(a.defaults))
    pairs = [*zip(a.posonlyargs + a.args, spare + a.defaults)]
    pairs += [(a.vararg, None)] if a.vararg else []
    pairs += [*zip(a.kwonlyargs, a.kw_defaults)]
    pairs += [(a.kwarg, None)] if a.kwarg else []
    rows = []
    for arg, default in pairs:
        if arg.arg in ("self", "cls"):
            continue
        stars = "*" * (arg is a.vararg) or "**" * (arg is a.kwarg)
        said = told_by_annotation(arg.annotation) or comment(default or arg, found)
        rows.append((stars + arg.arg, default and ast.unparse(default), said))
    end = function.returns
    if end and end.end_lineno > function.lineno and (said := comment(end, found)):
        rows.append(("returns", None, said))
    return rows


def fields(node, found):
    "List (name, default, meaning) of a class: its fields, or what making one takes."
    rows = []
    for part in node.body:
        if isinstance(part, ast.AnnAssign):
            value = part.value and ast.unparse(part.value)
            rows.append((part.target.id, value, comment(part, found)))
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            rows += parameters(part, found)
    return rows


def exported(cell):
    "List (qualified name, node) of the public functions and classes of a cell."
    if not {"export", "exports"} & set(directives(cell)):
        return []
    kinds = ast.FunctionDef, ast.ClassDef
    nodes = [n for n in ast.parse(cell.source).body if isinstance(n, kinds)]
    return [(showdoc_nm(n), n) for n in nodes if n.name[0] != "_"]


def headings(cells):
    "Return the headings of a page in small letters: pandoc makes them anchors."
    text = "\n".join(c.source for c in cells if c.cell_type == "markdown" and c.source)
    return {line.lower() for line in re.findall(r"^##+ +(.*?) *$", text, re.M)}


def anchors(named, taken):
    "Return an empty element with the id of each name that is not a heading's."
    found = []
    for name, node in named:
        found.append(name)
        if isinstance(node, ast.ClassDef):
            parts = (n for n in node.body if isinstance(n, ast.FunctionDef))
            found += [f"{name}.{n.name}" for n in parts if n.name[0] != "_"]
    free = (name for name in found if name not in taken)   # ids tell A from a
    return "\n".join(f'<div id="{name}"></div>' for name in free)


def as_html(text):
    "Return a comment as HTML, with its back-quoted words as code."
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def table(name, verb, rows):
    "Return a folded table of parameters or fields, as HTML that is left alone."
    summary = f"<summary>What <code>{name}</code> {verb}</summary>"
    lines = [f'<details class="takes">{summary}']
    lines += ["<table><tbody>"]
    for parameter, default, said in rows:
        equals = "" if default is None else f" = {escape(default)}"
        lines.append(f"<tr><td><code>{parameter}{equals}</code></td>"
                     f"<td>{as_html(said)}</td></tr>")
    lines += ["</tbody></table>", "</details>"]
    return "\n".join(["```{=html}", *lines, "```"])


class definitions(Processor):
    "Put an anchor above exported code, and below it what its functions take, folded."

    def begin(self):
        cells, taken = [], headings(self.nb.cells)
        for cell in self.nb.cells:
            named = exported(cell)
            if named:
                cells.append(markdown(anchors(named, taken)))
            cells.append(cell)
            found = comments(cell.source) if named else {}
            for name, node in named:
                is_class = isinstance(node, ast.ClassDef)
                rows = (fields if is_class else parameters)(node, found)
                held = any(isinstance(n, ast.AnnAssign) for n in node.body)
                verb = "holds" if is_class and held else "takes"
                if any(said for _, _, said in rows):
                    cells.append(markdown(table(name, verb, rows)))
        self.nb.cells = cells


def is_drawing(png):  # as a notebook keeps it, in base64
    "Tell curves and bars, few colours on white, from pictures of ground."
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    n = image.width * image.height
    found = sorted(image.getcolors(n), reverse=True)     # [(pixels, colour), ...]
    white = sum(k for k, colour in found if min(colour) > 250)
    return white > 0.55 * n and sum(k for k, _ in found[:8]) > 0.93 * n


def shade(cell):  # a cell that nbdev has read; changed in place
    "Mark drawings on white, which the dark page shows light on dark."
    pictures = [o["data"]["image/png"] for o in cell.get("outputs") or []
                if "image/png" in o.get("data", {})]
    if pictures and all(map(is_drawing, pictures)):
        cell.source = f"#| classes: drawing\n{cell.source}"


@cache
def places():
    "Return {name, bare or with its module: {(page, anchor), ...}} of the library."
    files = [p.relative_to(top() / "nbs") for p in (top() / "nbs").rglob("*.ipynb")]
    pages = {nbpath2html(p).as_posix(): p.as_posix() for p in files}
    index = (top() / "di3cl/_modidx.py").read_text().partition("d = ")[2]
    found = {}
    for module, names in ast.literal_eval(index)["syms"].items():
        for name, (address, _) in names.items():
            page, bare = address.partition("#")[0], name.removeprefix(f"{module}.")
            if page in pages and "_" not in {part[:1] for part in bare.split(".")}:
                short = name.removeprefix("di3cl.")
                for key in {bare, short, name}:
                    found.setdefault(key, set()).add((pages[page], bare))
    return found


def distinctive(name, called):
    "Tell the name of a function from a word or a setting that is spelled like it."
    return bool(called or "_" in name or "." in name or name != name.lower())


class links(Processor):
    "Link the first mention of a function to the page that it is written on."

    QUOTED = re.compile(     # a link as it is, a name, other code
        r"\[[^\]]*\]\([^)]*\)|`([A-Za-z][\w.]*)(\(\))?`|`[^`\n]*`")

    def begin(self):
        self.page = Path(self.nb.path_).resolve().relative_to(top() / "nbs").as_posix()
        self.seen = set()

    def cell(self, cell):
        if cell.cell_type != "markdown":
            return
        parts = re.split(r"(^```.*?^```|^#.*?$)", cell.source, flags=re.M | re.S)
        parts[::2] = [self.QUOTED.sub(self.link, part) for part in parts[::2]]
        cell.source = "".join(parts)

    def link(self, match):
        name, called = match[1], match[2]
        there = places().get(name, ()) if name else ()
        if len(there) != 1 or name in self.seen or not distinctive(name, called):
            return match[0]
        page, anchor = next(iter(there))
        if page == self.page:
            return match[0]
        self.seen.add(name)
        return f"[{match[0]}]({relpath(page, Path(self.page).parent)}#{anchor})"


class origin(Processor):
    "Say above a page with code where to run it and where it comes from."

    def begin(self):
        path = Path(self.nb.path_).resolve().relative_to(top())
        with_code = path.parts[1] in ("course", "guides", "library")
        if not with_code or self.has_badge():
            return
        ini = configparser.ConfigParser()
        ini.read(top() / "settings.ini")
        s = ini["DEFAULT"]
        where = f"{s['user']}/{s['repo']}/blob/{s['branch']}/{path.as_posix()}"
        text = ORIGIN.format(colab=COLAB, where=where, git_url=s["git_url"])
        self.nb.cells.insert(2, markdown(text))

    def has_badge(self):
        prose = (c for c in self.nb.cells if c.cell_type == "markdown" and c.source)
        return any("colab.research" in c.source for c in prose)
