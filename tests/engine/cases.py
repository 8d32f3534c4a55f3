"""Every algorithm that the fast engine runs, small, and what compares two of them."""

import functools

import torch as th
from stable_baselines3.common import policies
from stable_baselines3.common.env_util import make_vec_env

import sb3_entropic
from sb3_entropic import Engine

FAST = Engine("fast", compile=False)
DISCRETE = {
    "SoftDQN": {},
    "MDQN": {"exploration": "boltzmann", "temperature": lambda progress: 0.03 + 0.1 * progress},
    "CVIDQN": {"double_q": True},
    "ALDQN": {"policy_kwargs": {"net_arch": [8], "dueling": True}},
    "DPP": {"temperature": 0.1, "munchausen_clip": None},
    "MoDQN": {},
    "MQRDQN": {"policy_kwargs": {"net_arch": [8], "n_quantiles": 5}},
    "MIQN": {"policy_kwargs": {"net_arch": [8], "n_quantiles": 5}, "n_samples": 4, "n_target_samples": 3},
    "VFE": {"entropy_in_target": True, "epistemic_weight": 0.1, "policy_kwargs": {"net_arch": [8], "n_members": 3}},
    "DiscreteSAC": {"munchausen_alpha": 0.5, "entropy_penalty": 0.5},
}
CONTINUOUS = {
    "MSAC": {"entropy_bound": th.tanh, "munchausen_density": "pretanh"},
    "MDAC": {"ent_coef": lambda progress: 0.1 + 0.2 * progress, "munchausen_bound": "tanh(x/10)"},
    "MTQC": {
        **{"target_entropy": lambda progress: -1 - progress, "munchausen_shift": True},
        **{"policy_kwargs": {"net_arch": [8], "n_quantiles": 5}},
    },
    "SoftQ": {"n_value_samples": 4, "n_particles": 6, "proposal": "sampler"},
    "DIAYN": {"n_skills": 3, "environment_reward_weight": 0.1},
}
CASES = {**DISCRETE, **CONTINUOUS}
STARTS = 40


def make(name, seed=0, engine=FAST, n_envs=1, **arguments):
    """A small model that takes a gradient step for every environment step after ``STARTS``."""
    common = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 400, "batch_size": 16, "learning_starts": STARTS}
    if name in CONTINUOUS:
        env = "Pendulum-v1"
    else:
        env = "CartPole-v1"
        common |= {"train_freq": 1, "gradient_steps": 1}
    if name in DISCRETE and name != "DiscreteSAC":
        common |= {"target_update_interval": 7, "learning_rate": lambda progress: 1e-3 * progress}
    arguments = {**common, **CASES[name], **arguments}
    arguments.setdefault("device", "cpu")
    env = make_vec_env(env, n_envs, seed=seed) if n_envs > 1 else env
    return getattr(sb3_entropic, name)("MlpPolicy", env, seed=seed, engine=engine, **arguments)


def in_double_precision(monkeypatch):
    """Let SB3 pass observations to networks in 64 bits, where it would round them to 32."""
    original = policies.preprocess_obs

    @functools.wraps(original)
    def preprocess(*args, **kwargs):
        return original(*args, **kwargs).double()

    monkeypatch.setattr(policies, "preprocess_obs", preprocess)

    def convert(model):
        model.policy.double()
        if getattr(model, "log_ent_coef", None) is not None:
            model.log_ent_coef.data = model.log_ent_coef.data.double()
        return model

    return convert


def difference(ours, theirs):
    """The largest difference of two models' parameters, the temperature's included."""
    pairs = [*zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True)]
    if getattr(ours, "log_ent_coef", None) is not None:
        pairs.append((ours.log_ent_coef, theirs.log_ent_coef))
    return max((a - b).abs().max().item() for a, b in pairs)
