"""Errors of the library in the words of the command line."""

from dataclasses import dataclass

import pytest

from ssimgen.commands.wording import in_options, of_options, option_names


@dataclass
class Network:
    """Options within options."""

    kind: str = "mlp"
    root: bool = False
    size: int = 3


NAMES = list(option_names({"weight_decay": float, "size": int, "tau": float, "latent": int, "network": Network}))


def test_names_of_records_in_records_are_dotted() -> None:
    assert NAMES == ["weight_decay", "size", "tau", "latent", "network.kind", "network.root", "network.size"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("weight_decay must not be negative", "--weight-decay must not be negative"),
        ("tau must be positive, got -1", "--tau must be positive, got -1"),
        ("latent and tau must be positive", "--latent and --tau must be positive"),
        ("latent must be at least 1 and tau at least 0", "--latent must be at least 1 and --tau at least 0"),
        ("kind must be one of 'mlp', 'conv'", "--network.kind must be one of 'mlp', 'conv'"),
        ("a map needs it: set kind='conv'", "a map needs it: set --network.kind conv"),
        ("it has no root: set root=False, or tau=0.1", "it has no root: set --network.no-root, or --tau 0.1"),
        ("it has a root: root=True", "it has a root: --network.root"),
        ("6 are more than 5: set tau to as many", "6 are more than 5: set --tau to as many"),
        ("model.network: size must be positive", "--network.size must be positive"),
        ("model.network: size and kind must be, got size=3", "--network.size and --network.kind must be, got size=3"),
        ("x was trained with config.tau = 0.1", "x was trained with --tau = 0.1"),
        ("x was trained with config.network.kind = 'mlp'", "x was trained with --network.kind = 'mlp'"),
    ],
)
def test_names_become_options(message: str, expected: str) -> None:
    assert in_options(message, NAMES) == expected


@pytest.mark.parametrize(
    "message",
    [
        "size must be positive",  # two are called so
        "other_name must be positive",
        "runs/weight_decay holds no run",
        "weight_decay/a.png is damaged",
        "weight_decay.npz is damaged",
        "no such data: 'weight_decay' is no path",
        "unknown option weihgt_decay: did you mean 'weight_decay'?",
        "the latent codes must be finite",
        "--weight-decay must be positive",
        "run/config.tau is damaged",
        "config.tau of run does not say where its images came from",
        "it does not fit: pass tau=Window.gaussian(8) or smaller",
        "options.toml: option tau must be a number, got 'a'",
    ],
)
def test_other_words_stay(message: str) -> None:
    assert in_options(message, NAMES) == message


def test_errors_stay_what_they_are() -> None:
    class OwnError(ValueError):
        """Of another type."""

    with pytest.raises(OwnError, match=r"^--tau must be positive$"), of_options(NAMES):
        raise OwnError("tau must be positive")
    with pytest.raises(OSError, match="tau must be positive"), of_options(NAMES):
        raise OSError("tau must be positive")
