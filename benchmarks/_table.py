"""Run commands one after the other, keep their JSON, and write tables into README.md between
markers."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DEFAULT_PEERS = HERE / ".venv-incumbents" / "bin" / "python"


def run(python: Path | str, script: str, *arguments: object) -> None:
    """Run a script of this folder; its own JSON says what came of it."""
    command = [str(python), str(HERE / script), *map(str, arguments)]
    print(f"{time.strftime('%H:%M:%S')}  {' '.join(command[1:])}", flush=True)
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":")[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def read(folder: Path, name: str) -> dict:
    """The JSON that a run left behind."""
    return json.loads((folder / f"{name}.json").read_text())


def save(name: str, content: dict) -> None:
    """Write a result file, with the machine and the date."""
    RESULTS.mkdir(exist_ok=True)
    content = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), **content}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def update_readme(name: str, lines: list[str]) -> None:
    """Replace the part of README.md between the markers of `name`."""
    readme = HERE / "README.md"
    text = readme.read_text()
    begin, end = f"<!-- {name} begins -->", f"<!-- {name} ends -->"
    if begin not in text:
        sys.exit(f"{readme} has no marker {begin}")
    head, _, rest = text.partition(begin)
    tail = rest.partition(end)[2]
    readme.write_text("\n".join([head + begin, "", *lines, "", end]) + tail)


def row(*cells: object) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def header(*cells: str) -> list[str]:
    """Head of a Markdown table, the first column to the left."""
    return [row(*cells), row("---", *["---:"] * (len(cells) - 1))]
