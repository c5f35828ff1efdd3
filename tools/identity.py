"""Write the project's address, as settings.ini has it, wherever an older one still stands: pyproject.toml, notebooks, CITATION.cff, ...

    python tools/identity.py     # after a change of `user`, `repo` or `branch` in settings.ini; tools/export.py does it, too
"""
import configparser, re, tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("pyproject.toml", "CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md", "NOTICE", ".github/workflows/*.yml", "nbs/**/*.ipynb", "benchmarks/*.py")


def settings(root=ROOT):
    ini = configparser.ConfigParser()
    ini.read(root / "settings.ini")
    return ini["DEFAULT"]


def patterns(address, new):
    "(pattern, replacement) for each form in which an address of GitHub, of Colab and of the site is written."
    user, repo = map(re.escape, address)
    end = r"(?![\w-])"                                    # not the beginning of a longer name
    return [(rf"(github\.com/|colab\.research\.google\.com/github/){user}/{repo}/blob/[\w.-]+/", rf"\g<1>{new['user']}/{new['repo']}/blob/{new['branch']}/"),
            (rf"(github\.com/){user}/{repo}{end}", rf"\g<1>{new['user']}/{new['repo']}"),
            (rf"{user}\.github\.io/{repo}{end}", f"{new['user']}.github.io/{new['repo']}")]


def apply(root=ROOT):
    "Rewrite; returns the files that were changed."
    old = tomllib.loads((root / "pyproject.toml").read_text())["project"]["urls"]["Repository"].split("/")[-2:]
    changed, forms = [], patterns(old, settings(root))
    for path in (p for place in PLACES for p in sorted(root.glob(place))):
        text = new = path.read_text()
        for pattern, replacement in forms: new = re.sub(pattern, replacement, new)
        if new != text: path.write_text(new); changed.append(path)
    return changed


if __name__ == "__main__":
    for path in apply(): print("wrote:", path.relative_to(ROOT))
