"""What Streamlit runs, once for each view of the page."""

import sys

from microcalibrate.dashboard.shell import main

main(sys.argv[1:])
