"""Write the project's address, as settings.ini has it, wherever an older one stands.

    python tools/identity.py   # after a change of `user`, `repo` or `branch`

tools/export.py does it, too.
"""
import configparser
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACES = (
    "pyproject.toml", "CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md", "NOTICE",
    ".github/workflows/*.yml", "nbs/**/*.ipynb", "benchmarks/*.py", "tools/*.py",
)


def settings(root=ROOT):
    "Read settings.ini."
    ini = configparser.ConfigParser()
    ini.read(root / "settings.ini")
    return ini["DEFAULT"]


def patterns(address, new):
    "Return (pattern, replacement) for addresses of GitHub, of Colab and of the site."
    user, repo = map(re.escape, address)
    end = r"(?![\w-])"  # not the beginning of a longer name
    hub = r"(github\.com/|colab\.research\.google\.com/github/)"
    mine = f"{new['user']}/{new['repo']}"
    return [
        (rf"{hub}{user}/{repo}/blob/[\w.-]+/", rf"\g<1>{mine}/blob/{new['branch']}/"),
        (rf"{hub}{user}/{repo}{end}", rf"\g<1>{mine}"),
        (rf"{user}\.github\.io/{repo}{end}", f"{new['user']}.github.io/{new['repo']}"),
    ]


def apply(root=ROOT):
    "Rewrite; return the files that were changed."
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    forms = patterns(project["urls"]["Repository"].split("/")[-2:], settings(root))
    changed = []
    for path in (p for place in PLACES for p in sorted(root.glob(place))):
        text = new = path.read_text()
        for pattern, replacement in forms:
            new = re.sub(pattern, replacement, new)
        if new != text:
            path.write_text(new)
            changed.append(path)
    return changed


if __name__ == "__main__":
    for path in apply():
        print("wrote:", path.relative_to(ROOT))
