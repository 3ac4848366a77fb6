"""What pyproject.toml cannot say: the README of package indexes, whose links lead to where the project is kept."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def long_description() -> str:
    """README.md with absolute links."""
    source = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Source"]
    relative = r"(!?)(\[[^\]]*\])\((?!\w+:|#)([^)\s]+)\)"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(relative, lambda m: f"{m[1]}{m[2]}({source}/{'raw' if m[1] else 'blob'}/main/{m[3]})", text)


if __name__ == "__main__":
    setup(long_description=long_description(), long_description_content_type="text/markdown")
