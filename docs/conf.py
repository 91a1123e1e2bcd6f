"""Sphinx settings. Every example is run while the pages are built, and nothing is fetched."""

import os
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject

project = "l0 and microcalibrate"
copyright = "2026, the l0 and microcalibrate developers"

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
extensions = [
    "markdown_docstrings",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

# Pages are notebooks in Markdown: an example that fails, or is slow, fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_in_temp = True
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

# What runs in the pages: `%load_ext console` is found, figures carry their script with them, and
# the help of a command has no colours.
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE / "_ext"), str(HERE / "examples")])
os.environ["PLOTLY_RENDERER"] = "notebook"
os.environ["TERM"] = "dumb"
os.environ["COLUMNS"] = "88"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}
add_module_names = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "l0 · microcalibrate"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
copybutton_exclude = ".linenos, .gp, .go"


def _inline_math(writer: Any, node: nodes.math) -> None:
    writer.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def _block_math(writer: Any, node: nodes.math_block) -> None:
    tex = node.astext()
    # Several lines, or columns, are one aligned formula.
    if "\\\\" in tex and "\\begin" not in tex:
        tex = f"\\begin{{aligned}}{tex}\\end{{aligned}}"
    mathml = tex2mathml(tex, as_block=True).replace("<mtable", '<mtable displaystyle="true"')
    writer.body.append(f'<div class="formula">{mathml}</div>\n')
    raise nodes.SkipNode


def _tidy_cells(_app: Sphinx, doctree: nodes.document) -> None:
    """Show shell commands as a reader types them, and figures without a network."""
    for block in list(doctree.findall(nodes.literal_block)):
        first, _, rest = block.astext().partition("\n")
        if first == "%%console":
            block.replace_self(nodes.literal_block(rest, rest, language="bash"))
    # Plotly asks a server for a script that draws formulas; the figures have none.
    for html in list(doctree.findall(nodes.raw)):
        local = re.sub(r'<script src="https:[^>]*></script>', "", html.astext())
        html.replace_self(nodes.raw("", local, format=html["format"]))


def setup(app: Sphinx) -> None:
    """Formulas become MathML, which browsers draw without a script."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
    app.connect("doctree-read", _tidy_cells)
