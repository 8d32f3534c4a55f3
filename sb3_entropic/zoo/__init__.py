"""Hyperparameters in the format of rl-baselines3-zoo, the one place they are kept, and models made from them."""

from sb3_entropic.zoo.hyperparameters import (
    FAMILIES,
    ZOO_KEYS,
    constructor_arguments,
    digests_of_own,
    find_entry,
    from_python,
    how_found,
    load_hyperparameters,
)
from sb3_entropic.zoo.model import check_name, checked_value, make_model, parse_override
from sb3_entropic.zoo.wrappers import env_wrapper

__all__ = [
    "FAMILIES",
    "ZOO_KEYS",
    "check_name",
    "checked_value",
    "constructor_arguments",
    "digests_of_own",
    "env_wrapper",
    "find_entry",
    "from_python",
    "how_found",
    "load_hyperparameters",
    "make_model",
    "parse_override",
]
