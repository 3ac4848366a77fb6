"""Option records from mappings: every key and type checked, and named when wrong."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from ssimgen._options import draft, from_mapping, merged
from ssimgen.models import MODELS, GMMNConfig, VAEConfig
from ssimgen.models.networks import Network
from ssimgen.objectives.structure import Structure


@dataclass(frozen=True)
class Inner:
    """A nested record."""

    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Outer:
    """A record with every type that options have."""

    rate: float
    flag: bool = False
    limit: int | None = None
    span: tuple[float, float] = (0.0, 1.0)
    inner: Inner = field(default_factory=Inner)


def test_values_of_every_type() -> None:
    values = {"rate": 1, "flag": True, "limit": 3, "span": [0, 0.5], "inner": {"kind": "b", "sizes": [4]}}
    made = from_mapping(Outer, values)
    assert made == Outer(1.0, True, 3, (0.0, 0.5), Inner("b", (4,)))
    assert type(made.rate) is float
    assert from_mapping(Outer, {"rate": 0.5, "limit": None}) == Outer(0.5)


def test_nested_records_keep_what_the_default_of_their_field_has() -> None:
    """Not what the nested record itself has by default, as `--network.width 8` on the command line does not either."""

    @dataclass(frozen=True)
    class Outermost:
        outer: Outer = field(default_factory=lambda: Outer(2.0, limit=5, inner=Inner("b", (7,))))

    made = from_mapping(Outermost, {"outer": {"flag": True, "inner": {"sizes": [8]}}})
    assert made.outer == Outer(2.0, True, 5, inner=Inner("b", (8,)))
    assert from_mapping(GMMNConfig, {"network": {"width": 8}}).network == Network(width=8, norm="batch")


def test_a_draft_is_checked_by_type_alone() -> None:
    @dataclass(frozen=True)
    class Strict:
        low: int
        high: int
        inner: Inner = field(default_factory=Inner)

        def __post_init__(self) -> None:
            assert self.low < self.high

    made = draft(Strict, {"low": 5, "inner": {"sizes": [3]}}, missing=None)
    assert (type(made), made.low, made.high, made.inner) == (Strict, 5, None, Inner(sizes=(3,)))
    assert draft(Strict, {}, default=Strict(1, 2, Inner("b")), missing=None) == Strict(1, 2, Inner("b"))
    with pytest.raises(ValueError, match=r"option inner\.sizes must be a list of whole numbers, got \['x'\]"):
        draft(Strict, {"inner": {"sizes": ["x"]}}, missing=None)


def test_tables_are_laid_over_each_other() -> None:
    under, over = {"a": 1, "b": {"c": 2, "d": {"e": 3}}}, {"b": {"d": {"f": 4}, "g": 5}, "h": {}}
    assert merged(under, over) == {"a": 1, "b": {"c": 2, "d": {"e": 3, "f": 4}, "g": 5}, "h": {}}
    assert merged({"a": {"b": 1}}, {"a": 2}) == {"a": 2}
    assert under == {"a": 1, "b": {"c": 2, "d": {"e": 3}}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "option rate is missing and has no default"),
        ({"rate": 1, "flga": True}, "unknown option flga: did you mean 'flag'"),
        ({"rate": 1, "inner": {"kinds": "a"}}, r"unknown option inner\.kinds: did you mean 'kind'"),
        ({"rate": "1"}, "option rate must be a number, got '1'"),
        ({"rate": True}, "option rate must be a number, got True"),
        ({"rate": 1, "limit": 1.5}, r"option limit must be a whole number or None, got 1.5"),
        ({"rate": 1, "span": [1]}, r"option span must be a list of 2 numbers, got \[1\]"),
        ({"rate": 1, "inner": {"kind": "c"}}, r"option inner\.kind must be one of 'a', 'b', got 'c'"),
        ({"rate": 1, "inner": {"sizes": ["x"]}}, r"option inner\.sizes must be a list of whole numbers, got \['x'\]"),
        ({"rate": 1, "inner": 3}, r"option inner must be Inner, got 3"),
    ],
)
def test_bad_values_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_mapping(Outer, values)


def test_tables_and_numbers_beyond_floats() -> None:
    @dataclass(frozen=True)
    class Table:
        counts: dict[str, int]
        rate: float = 1.0

    assert from_mapping(Table, {"counts": {"a": 1}}).counts == {"a": 1}
    for values, message in (
        ({"counts": {"a": 1.5}}, r"option counts\.a must be a whole number, got 1.5"),
        ({"counts": [1]}, r"option counts must be a table, got \[1\]"),
        ({"counts": {}, "rate": 10**400}, "option rate must be a number, got 1000"),
    ):
        with pytest.raises(ValueError, match=message):
            from_mapping(Table, values)


def test_configurations_survive_json() -> None:
    config = VAEConfig(0.1, 3, "mix", Structure(k2=0.3, stride=2), 0.5, Network("mlp", hidden=(7,)))
    assert from_mapping(VAEConfig, json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_every_model_has_a_record_of_options() -> None:
    for _, config in MODELS.values():
        assert dataclasses.is_dataclass(config)
        assert config.__dataclass_params__.frozen  # type: ignore[attr-defined]
