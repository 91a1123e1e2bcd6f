"""What a README shows runs as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READMES = ["README.md", "packages/l0/README.md", "packages/microcalibrate/README.md"]


@pytest.mark.parametrize("readme", READMES)
def test_examples_of_a_readme_run_one_after_the_other(readme, tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text("utf-8"), re.DOTALL)
    assert blocks

    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)


@pytest.mark.parametrize("page", [*READMES, "CONTRIBUTING.md"])
def test_links_within_the_repository_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text("utf-8"))

    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
