"""What can be run here: `nox --list`. Continuous integration calls these sessions and no others."""

from pathlib import Path
from shutil import rmtree

import nox

nox.needs_version = ">=2024.3.2"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "lint", "types", "docs"]

PYTHONS = ["3.11", "3.12", "3.13"]
PACKAGES = ["l0", "microcalibrate"]
L0 = ("-e", "packages/l0[all]")
MICROCALIBRATE = ("-e", "packages/microcalibrate[all]")
BOTH = ("-e", "packages/l0", *MICROCALIBRATE)
TEST_TOOLS = (
    *("pytest", "pytest-cov", "hypothesis", "jsonschema", "onnxruntime"),
    *("pandas", "pg8000", "polars", "scipy"),
)


def install(session: nox.Session, *what: str) -> None:
    """Install the versions of constraints.txt, in one call so that pip sees them together."""
    session.install("-c", "constraints.txt", *what)


@nox.session
def demo(session: nox.Session) -> None:
    """Calibrate the embedded survey, and write a report to look at."""
    install(session, *BOTH)
    session.run("microcalibrate", "demo", *session.posargs)


@nox.session(python=PYTHONS)
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def tests(session: nox.Session, package: str) -> None:
    """Tests of one package and the examples in its docstrings, with only what it needs."""
    install(session, *(L0 if package == "l0" else BOTH), *TEST_TOOLS)
    places = (f"tests/{package}", f"packages/{package}/src")
    session.run("pytest", "--doctest-modules", *places, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Rules, layout, and the layers that imports may not cross."""
    install(session, "ruff", "import-linter")
    session.install("--no-deps", *BOTH)  # their imports are read, not run
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-logo", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types of both packages."""
    stubs = ("pandas-stubs", "scipy-stubs", "types-psutil", "types-tqdm")
    install(session, "mypy", *stubs, *L0, *MICROCALIBRATE)
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build/html, and run every example there and in READMEs."""
    tools = ("sphinx", "myst-nb", "furo", "sphinx-copybutton", "ipykernel", "taxcalc")
    install(session, *tools, *L0, *MICROCALIBRATE, *TEST_TOOLS)
    session.run("pytest", "--doctest-modules", "tests/docs", "docs/_ext")
    session.run("sphinx-build", "-W", "--keep-going", "-E", "docs", "docs/_build/html")


@nox.session
def peers(session: nox.Session) -> None:
    """Compare with other software; what is not installed is skipped, with the reason."""
    install(session, *BOTH, *TEST_TOOLS)
    session.run("pytest", "tests/peers", *session.posargs)


@nox.session
def taxcalc(session: nox.Session) -> None:
    """A tax-benefit model as plain functions of tables: Tax-Calculator, run live."""
    install(session, *BOTH, *TEST_TOOLS, "taxcalc")
    session.run("pytest", "tests/taxcalc", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Journeys through the page in a real browser; skipped where there is no Chromium."""
    install(session, *BOTH, *TEST_TOOLS, "selenium")
    session.run("pytest", "tests/browser", *session.posargs)


@nox.session
def screenshots(session: nox.Session) -> None:
    """Take the pictures of the page's tour anew; needs Chromium, and takes a few minutes."""
    install(session, *BOTH, "selenium")
    workspace = session.create_tmp()
    session.run("python", "docs/screenshots.py", workspace, *session.posargs)


@nox.session
def sdv(session: nox.Session) -> None:
    """The adapter for sdv, apart from all others: its licence and its pandas are its own."""
    extras = "packages/microcalibrate[all,sdv]"
    session.install("torch==2.13.0", "-e", "packages/l0", "-e", extras, "pytest", "hypothesis")
    session.run("pytest", "tests/microcalibrate/regularise/test_sdv_tvae.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run benchmark scripts: nox -s bench -- benchmarks/NAME.py [options]."""
    if not session.posargs:
        session.error("name a script: nox -s bench -- benchmarks/NAME.py [options]")
    install(session, *BOTH)
    session.run("python", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build wheels and source archives into dist/, check them, and import what was built."""
    install(session, "build", "twine", "hatchling")
    archives = []
    for package in PACKAGES:
        out = Path("dist", package)
        rmtree(out, ignore_errors=True)
        source = f"packages/{package}"
        session.run("python", "-m", "build", "--no-isolation", "--outdir", f"{out}", source)
        archives += sorted(map(str, out.iterdir()))
    session.run("twine", "check", "--strict", *archives)

    # The wheels that were just built, each made from its source archive, and not the folders.
    session.install("-c", "constraints.txt", *(path for path in archives if path.endswith(".whl")))
    with session.chdir(session.create_tmp()):
        session.run("python", "-c", "import l0; print(l0.__version__, l0.HardConcrete(3))")
        session.run("microcalibrate", "--help")
