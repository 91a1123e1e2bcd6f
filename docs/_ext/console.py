"""`%%console` runs the commands of a cell, and fails if one of them does.

IPython's own `%%bash` hands on output in pieces of a hundred characters, which end up as lines.
"""

import subprocess
from typing import Any


def console(_line: str, commands: str) -> None:
    """Print what the commands print; raise, with that, if one fails."""
    done = subprocess.run(
        ["bash", "-euc", commands], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stdout)
    print(done.stdout)


def load_ipython_extension(shell: Any) -> None:
    """Called by `%load_ext console`."""
    shell.register_magic_function(console, "cell")
