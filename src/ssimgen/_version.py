"""The version: that of the distribution which is installed, which has it from its tag."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ssimgen")
except PackageNotFoundError:  # imported from a folder of sources that nobody has installed
    __version__ = "0+unknown"
