"""Mutants that no test can tell from the program, with the reason: by module and line of source, `old -> new`."""

EQUIVALENT: dict[tuple[str, str], dict[str, str]] = {
    ("engine/masked", "several = (weights > 0) & (rest > _ONE_PIXEL)"): {
        "weights > 0 -> weights >= 0": "where the weight is 0, beta is 1 and the weight stays 0",
    },
}
