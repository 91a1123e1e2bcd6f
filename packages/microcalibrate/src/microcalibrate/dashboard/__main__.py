"""Streamlit's own command line, which here asks no other machine for anything."""

from __future__ import annotations

import gc
import threading


def stay_on_this_machine() -> None:
    """Keep Streamlit from asking a web service for this machine's address.

    It does so to compare it with the origin of a foreign request, and waits for the answer. Such a
    request is refused all the same.
    """
    from streamlit import net_util

    net_util.get_external_ip = net_util.get_internal_ip


def prepare() -> None:
    """Import what the first view of the page would have to wait for, and keep it for good."""
    from microcalibrate.dashboard import shell
    from microcalibrate.figures.plotting import blank_figure

    # Plotly reads its templates with the first figure.
    blank_figure(shell.START, "", height=100).to_json()
    # Streamlit collects garbage after each run of the page, before the last of it is sent. What was
    # imported is no garbage, and looking through it would take most of a search's time.
    gc.freeze()


def main() -> None:
    """Run Streamlit."""
    stay_on_this_machine()
    threading.Thread(target=prepare, daemon=True).start()
    from streamlit.web.cli import main as streamlit

    streamlit()


if __name__ == "__main__":
    main()
