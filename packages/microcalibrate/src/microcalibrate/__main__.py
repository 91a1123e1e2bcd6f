"""`python -m microcalibrate`: the command line, for the interpreter that has the package."""

from microcalibrate.cli import main

if __name__ == "__main__":
    main()
