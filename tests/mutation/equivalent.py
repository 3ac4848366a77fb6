"""Mutants that no test can tell from the program, with the reason: by module and line of source, `old -> new`."""

EQUIVALENT: dict[tuple[str, str], dict[str, str]] = {
    ("engine/masked", "several = (weights > 0) & (rest > _ONE_PIXEL)"): {
        "weights > 0 -> weights >= 0": "where the weight is 0, beta is 1 and the weight stays 0",
    },
    ("engine/fused/pairs", "_CHUNK_PIXELS = 2**15  # fewer are not worth waking a thread for"): {
        "2 ** 15 -> 2 * 15": "how work is cut changes no number, only its time",
    },
    (
        "engine/fused/volumes",
        "parts = -(-2 * torch.get_num_threads() // volumes) if torch.get_num_threads() > 1 else 1",
    ): {
        "1 -> 0": "how work is cut changes no number; no parts are made one in the line after next",
    },
    (
        "engine/fused/all_pairs",
        "self.columns = _even_part(self.across, max(1, min(_COLUMNS, _MULTIPLICATIONS // self.window.size)))",
    ): {
        "max -> min": "the widths of tiles change the time, and rounding errors in their order alone",
    },
    (
        "engine/fused/filters",
        "first = self.builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))",
    ): {
        "32 -> 33": "a place may be a number of any width",
    },
    (
        "engine/fused/filters",
        "return self._shuffle(vector, vector, [min(i + lanes, self.lanes - 1) for i in range(self.lanes)])",
    ): {
        "1 -> 0": "only lanes that do not count change",
    },
    ("engine/fused/volume_kernels", "GENERAL, KNOWN = known is None, known or (0, 0, 0, 0, 0, 0)"): {
        "0 -> 1": "who has no known geometry takes that of the call",
    },
    (
        "engine/fused/all_pairs_kernels",
        "complete = min(block + ROWS, down - ROWS) * STRIDE if block + ROWS < down else ready",
    ): {
        "min(block + ROWS, down - ROWS) * STRIDE -> min(block + ROWS, down - ROWS) / STRIDE": (
            "rows are closed later, by the last block at the latest, and the strip holds them all"
        ),
    },
}
