"""How long the first run takes, part by part, and what it finds.

    python benchmarks/first_run.py        # results/demo.json: 2 minutes, 2 quiet cores

It is `di3cl demo` in a process of its own, so that the time to import counts, too.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stopwatch import machine, write_json

RESULTS = Path(__file__).parent / "results"
# the file that each part leaves last
PARTS = dict(begin="config.json", train="weights.safetensors", probe="probe.json",
             draw="method.png")


def main():
    with tempfile.TemporaryDirectory() as folder:
        out, began = Path(folder) / "first", time.time()
        code = "from di3cl.cli import main; main()"
        command = [sys.executable, "-c", code, "demo", "--out", str(out)]
        subprocess.run(command, check=True)
        whole = time.time() - began
        ends = {part: (out / name).stat().st_mtime for part, name in PARTS.items()}
        config = json.loads((out / "config.json").read_text())["run"]["config"]
        results = json.loads((out / "probe.json").read_text())
    before = [began, *ends.values()]
    parts = {part: round(end - b, 1) for (part, end), b in zip(ends.items(), before)}
    record = dict(command="python benchmarks/first_run.py", machine=machine(),
                  minutes=round(whole / 60, 2), seconds=parts, results=results,
                  config=config)
    write_json(RESULTS / "demo.json", record)
    print(f"{whole / 60:.1f} minutes: {parts}")


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    main()
