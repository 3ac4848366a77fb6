"""The commands of `ssimgen`, one file a command: options, work, and what is shown of it."""

from ssimgen._extras import extra

with extra("train", "the command ssimgen"):
    import rich as _rich  # noqa: F401
    import tyro as _tyro  # noqa: F401
