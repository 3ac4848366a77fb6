"""What strangers get: links that lead somewhere, one place for addresses, a documentation that has everything."""

import json
import re
import runpy
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

import ssimgen
import test_docstrings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]


def test_the_readme_of_package_indexes_has_absolute_links_to_what_is_there() -> None:
    text = runpy.run_path(str(ROOT / "setup.py"))["long_description"]()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    assert all(link.startswith(("https://", "#")) for link in links)
    own = [link.removeprefix(URLS["Source"]) for link in links if link.startswith(URLS["Source"])]
    paths = [re.fullmatch(r"/(?:blob|raw)/main/([^#]+)(?:#.*)?", link) for link in own]
    assert all(path and (ROOT / path[1]).exists() for path in paths), own
    assert f"]({URLS['Source']}/raw/main/docs/demo.png)" in text


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_where_the_project_is_kept_is_said_in_one_place() -> None:
    found = subprocess.run(["git", "grep", "-lF", URLS["Source"]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["pyproject.toml"]


def test_the_version_is_that_of_the_installation() -> None:
    assert Version(ssimgen.__version__).public
    assert "__version__" not in (ROOT / "pyproject.toml").read_text()


def test_the_citation_is_complete() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
    assert all(reference["authors"] and reference["title"] for reference in citation["references"])


def test_workflows_run_targets_and_scripts_that_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert workflows
    for path in workflows:
        jobs = yaml.safe_load(path.read_text())["jobs"].values()
        runs = "\n".join(step["run"] for job in jobs for step in job["steps"] if "run" in step)
        assert set(re.findall(r"make (\w+)", runs)) <= targets
        assert all((ROOT / script).exists() for script in re.findall(r"python (\S+\.py)", runs))


def test_notebooks_are_kept_without_outputs() -> None:
    notebooks = sorted((DOCS / "notebooks").glob("*.ipynb"))
    assert len(notebooks) == 4
    for path in notebooks:
        cells = json.loads(path.read_text())["cells"]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), path.name


def test_every_page_is_in_the_navigation() -> None:
    index = (DOCS / "index.md").read_text()
    named = {line for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL) for line in block.split()}
    pages = {
        path.relative_to(DOCS).with_suffix("").as_posix() for path in [*DOCS.glob("*.md"), *DOCS.glob("*/*.ipynb")]
    }
    assert pages - {"index"} <= named


def test_the_reference_has_every_public_module() -> None:
    listed = re.findall(r"^   (ssimgen[\w.]*)$", (DOCS / "api.rst").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(test_docstrings.MODULES)
