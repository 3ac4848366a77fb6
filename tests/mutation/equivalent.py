"""Mutants that no test can tell from the program, with the reason: by file and line of source, `old -> new`."""

EQUIVALENT: dict[tuple[str, str], dict[str, str]] = {}
