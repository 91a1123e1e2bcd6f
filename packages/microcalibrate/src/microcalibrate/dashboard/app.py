"""What Streamlit runs, once for each view of the page."""

import sys

from microcalibrate.dashboard.shell import main

if __name__ == "__main__":
    main(sys.argv[1:])
