"""The version, for what is below the front of the package too."""

__version__ = "0.1.0"
