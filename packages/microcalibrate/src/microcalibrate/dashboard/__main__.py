"""Streamlit's own command line, which here asks no other machine for anything."""

from __future__ import annotations


def stay_on_this_machine() -> None:
    """Keep Streamlit from asking a web service for this machine's address.

    It does so to compare it with the origin of a foreign request, and waits for the answer. Such a
    request is refused all the same.
    """
    from streamlit import net_util

    net_util.get_external_ip = net_util.get_internal_ip


def main() -> None:
    """Run Streamlit."""
    stay_on_this_machine()
    from streamlit.web.cli import main as streamlit

    streamlit()


if __name__ == "__main__":
    main()
