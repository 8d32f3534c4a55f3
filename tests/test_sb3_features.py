"""What an SB3 user relies on, on every algorithm of ours, with its entropic term on."""

import inspect
from copy import deepcopy
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv, FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecNormalize

from sb3_entropic.catalog import ALGORITHMS

OURS = [algorithm for algorithm in ALGORITHMS.values() if algorithm.parent]
every_algorithm = pytest.mark.parametrize("algorithm", OURS, ids=lambda a: a.name)
of_the_parents_network = pytest.mark.parametrize(
    "algorithm",
    [a for a in OURS if a.name not in ("modqn", "miqn", "discretesac", "softq", "diayn", "vfe", "maxentppo")],
    ids=lambda a: a.name,
)
of_another_network = pytest.mark.parametrize(
    "algorithm", [a for a in OURS if a.name in ("modqn", "miqn", "diayn", "vfe", "maxentppo")], ids=lambda a: a.name
)
of_one_kind_of_actions = pytest.mark.parametrize("algorithm", [a for a in OURS if a.parent != "ppo"], ids=lambda a: a.name)
# These take vectors, DIAYN as they are.
of_any_observations = pytest.mark.parametrize(
    "algorithm", [a for a in OURS if a.name not in ("diayn", "vfe")], ids=lambda a: a.name
)

GAP_INCREASING = ("softdqn", "mdqn", "cvidqn", "aldqn", "dpp", "mqrdqn", "miqn")


def continuous(algorithm):
    return spaces.Box in algorithm.actions


def on_policy(algorithm):
    return algorithm.parent == "ppo"


def env_id(algorithm):
    return "Pendulum-v1" if continuous(algorithm) else "CartPole-v1"


def small(algorithm, policy_kwargs=None, **arguments):
    """Constructor arguments for a network and a buffer that cost nothing."""
    few = {"n_quantiles": 5} if algorithm.parent in ("qrdqn", "tqc") else {}
    sizes = {"n_samples": 4, "n_target_samples": 3} if algorithm.name == "miqn" else {}
    common = {"buffer_size": 300, "batch_size": 16, "learning_starts": 20, "device": "cpu"}
    if on_policy(algorithm):
        common = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "device": "cpu"}
    return {**common, **sizes, "policy_kwargs": {"net_arch": [16], **few, **(policy_kwargs or {})}, **arguments}


def build(algorithm, policy="MlpPolicy", env=None, **arguments):
    return algorithm.constructor(policy, env_id(algorithm) if env is None else env, **small(algorithm, **arguments))


def parent_of(algorithm):
    """The parent, under its own name as its parent: it needs the same sizes."""
    return replace(ALGORITHMS[algorithm.parent], parent=algorithm.parent)


def learns(model, steps=60):
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    model.learn(steps)
    assert any(not th.equal(value, before[key]) for key, value in model.policy.state_dict().items())
    assert all(th.isfinite(value).all() for value in model.policy.state_dict().values())
    return model


COMMON = {
    "n-step": {"n_steps": 3},
    "memory optimisation": {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    "episodic updates": {"train_freq": (1, "episode"), "gradient_steps": 3, "learning_starts": 0},
    "schedule": {"learning_rate": lambda progress: 1e-3 * progress},
    "AdamW": {"policy_kwargs": {"optimizer_class": th.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1}}},
}
FIXED_TEMPERATURE = {"fixed temperature": {"ent_coef": 0.1}}
CONTINUOUS = {
    "learned temperature": {"ent_coef": "auto_0.5", "target_entropy": -0.5},
    "schedules": {"ent_coef": lambda progress: 0.1 + progress, "target_entropy": lambda progress: -1 - progress},
    "gSDE": {"use_sde": True},
}
BEFORE_THE_SQUASH = {"before the squash": {"munchausen_density": "pretanh", "munchausen_bound": "tanh(x/10)"}}
VALUE_BASED = {
    "Boltzmann exploration": {"exploration": "boltzmann"},
    "dueling": {"policy_kwargs": {"dueling": True}},
    "temperature schedule": {"temperature": lambda progress: 0.01 + progress / 10},
}
DOUBLE_Q = {"double Q": {"double_q": True}, "mellowmax": {"soft_value": "mellowmax"}}
SOFT_Q = {
    "temperature schedule": {"ent_coef": lambda progress: 0.1 + progress},
    "a proposal of the sampler's": {"proposal": "sampler", "squash_correction": False},
    "shared features, three critics": {"policy_kwargs": {"share_features_extractor": True, "n_critics": 3}},
}
DISCRETE_SAC = {
    "learned temperature": {"ent_coef": "auto_0.5", "target_entropy": 0.5},
    "every option": {
        **{"critic_reduction": "mean", "entropy_in_target": False, "entropy_penalty": 0.5},
        **{"munchausen_alpha": 0.9, "munchausen_clip": None},
    },
    "shared features, three critics": {"policy_kwargs": {"share_features_extractor": True, "n_critics": 3}},
}
DIAYN = {
    "the environment's reward": {"environment_reward_weight": 0.1},
    "a discriminator of its own": {"policy_kwargs": {"discriminator_arch": [4], "discriminator_features": slice(0, 2)}},
}
ON_POLICY = {
    **{name: COMMON[name] for name in ("schedule", "AdamW")},
    "learned coefficients": {
        **{"ent_coef": "auto_0.05", "target_entropy": lambda progress: progress, "ent_coef_bounds": (0.01, 0.1)},
        **{"kl_coef": "auto", "target_kl": 0.01},
    },
    "schedules": {"ent_coef": "lin_0.01", "kl_coef": lambda progress: 0.1 + progress, "clip_range_vf": 0.2},
    "gSDE": {"use_sde": True, "ent_coef": 0.01},
    "a squashed policy": {"use_sde": True, "policy_kwargs": {"squash_output": True}, "ent_coef": "auto"},
    "SB3's estimator": {
        **{"use_sde": True, "policy_kwargs": {"squash_output": True}, "ent_coef": "auto"},
        **{"entropy_estimator": "sb3"},
    },
    "features of their own": {"policy_kwargs": {"share_features_extractor": False}},
}
MAXENT = {
    "one critic": {"entropy_critic": False, "entropy_baseline": 0.5},
    "an entropy of its own": {"entropy_gamma": 0.5, "entropy_gae_lambda": 1.0, "entropy_baseline": "mean"},
}
VFE = {
    "every option": {"entropy_in_target": True, "epistemic_weight": 0.1, "exploration": "epsilon"},
    "an ensemble of its own": {"policy_kwargs": {"n_members": 2, "transition_arch": [4], "dueling": True}},
    "temperature schedule": VALUE_BASED["temperature schedule"],
}
KEEPS_STATES = {name: changes for name, changes in COMMON.items() if name not in ("n-step", "memory optimisation")}


def variants(algorithm):
    if algorithm.name == "diayn":
        return {**KEEPS_STATES, **FIXED_TEMPERATURE, **CONTINUOUS, **DIAYN}
    if algorithm.name == "vfe":
        return {**KEEPS_STATES, **VFE}
    if on_policy(algorithm):
        return {**ON_POLICY, **(MAXENT if algorithm.name == "maxentppo" else {})}
    if algorithm.name == "softq":
        return {**COMMON, **FIXED_TEMPERATURE, **SOFT_Q}
    if continuous(algorithm):
        return {**COMMON, **FIXED_TEMPERATURE, **CONTINUOUS, **BEFORE_THE_SQUASH}
    if algorithm.name == "discretesac":
        return {**COMMON, **FIXED_TEMPERATURE, **DISCRETE_SAC}
    if algorithm.name == "modqn":
        return {**COMMON, **VALUE_BASED}
    # The named members are one class: one of them stands for the common settings.
    return {**VALUE_BASED, **DOUBLE_Q, **(COMMON if algorithm.name in ("mdqn", "mqrdqn", "miqn") else {})}


@pytest.mark.parametrize(
    ("algorithm", "arguments"),
    [pytest.param(a, changes, id=f"{a.name}-{name}") for a in OURS for name, changes in variants(a).items()],
)
def test_learns_with(algorithm, arguments):
    learns(build(algorithm, seed=0, **arguments), steps=250)


@of_any_observations
def test_images(algorithm):
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=not continuous(algorithm))
    learns(build(algorithm, "CnnPolicy", env, policy_kwargs={"features_extractor_kwargs": {"features_dim": 16}}), steps=40)


@of_any_observations
def test_dict_observations(algorithm):
    learns(build(algorithm, "MultiInputPolicy", SimpleMultiObsEnv(discrete_actions=not continuous(algorithm))), steps=60)


@pytest.mark.parametrize("algorithm", [a for a in OURS if a.name in ("mdqn", "modqn", "mqrdqn", "miqn")], ids=lambda a: a.name)
def test_boltzmann_exploration_of_dictionaries(algorithm):
    env = SimpleMultiObsEnv(discrete_actions=True)
    model = learns(build(algorithm, "MultiInputPolicy", env, exploration="boltzmann", temperature=1.0), steps=60)
    observation = model.env.observation_space.sample()
    assert {int(model.predict(observation, deterministic=False)[0]) for _ in range(50)} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "algorithm", [a for a in OURS if a.name not in ("diayn", "vfe") and not on_policy(a)], ids=lambda a: a.name
)
def test_hindsight_experience_replay(algorithm):
    env = BitFlippingEnv(n_bits=3, continuous=continuous(algorithm), max_steps=6)
    learns(build(algorithm, "MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer))


@pytest.mark.parametrize("algorithm", [a for a in OURS if a.name != "diayn"], ids=lambda a: a.name)
def test_normalised_vectorised_environments(algorithm):
    env = VecNormalize(make_vec_env(env_id(algorithm), n_envs=2, seed=0))
    learns(build(algorithm, env=env, **({} if on_policy(algorithm) else {"gradient_steps": -1})), steps=200)


class Endless(gym.Wrapper):
    """The algorithm's environment without terminations."""

    def __init__(self, algorithm):
        super().__init__(gym.make(env_id(algorithm)).unwrapped)

    def step(self, action):
        observation, reward, _, truncated, info = super().step(action)
        return np.clip(observation, -5, 5), reward, False, truncated, info


@every_algorithm
def test_callbacks_and_tensorboard(algorithm, tmp_path):
    callbacks = [
        EvalCallback(Monitor(gym.make(env_id(algorithm))), eval_freq=100, n_eval_episodes=1, log_path=tmp_path, verbose=0),
        CheckpointCallback(100, tmp_path, save_replay_buffer=True),
        StopTrainingOnMaxEpisodes(1),
    ]
    from_the_start = {} if on_policy(algorithm) else {"learning_starts": 0}
    env = TimeLimit(Endless(algorithm), 200)
    model = build(algorithm, tensorboard_log=str(tmp_path / "tb"), env=env, **from_the_start)
    model.learn(1000, callback=callbacks)
    assert model.num_timesteps == 200
    assert (tmp_path / "evaluations.npz").is_file()
    assert (tmp_path / "rl_model_100_steps.zip").is_file()
    name = algorithm.constructor.__name__
    assert list((tmp_path / "tb" / f"{name}_1").glob("events*")), "runs are logged under the algorithm's own name"


@every_algorithm
def test_predictions_of_one_observation_and_of_many(algorithm):
    model = build(algorithm, seed=0)
    env = gym.make(env_id(algorithm))
    observation, _ = env.reset(seed=0)
    for deterministic in (True, False):
        single, _ = model.predict(observation, deterministic=deterministic)
        several, _ = model.predict(np.stack([observation] * 3), deterministic=deterministic)
        assert single.shape == env.action_space.shape
        assert several.shape == (3, *env.action_space.shape)
        assert env.action_space.contains(single.item() if single.shape == () else single)
    first, again = (model.predict(observation, deterministic=True)[0] for _ in range(2))
    assert np.array_equal(first, again)


@every_algorithm
def test_a_model_may_be_copied(algorithm):
    model = build(algorithm)
    copied = deepcopy(model)
    observation = model.get_env().reset()
    np.testing.assert_array_equal(
        copied.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )
    assert hasattr(model.get_parameters()["policy"], "_metadata"), "as torch has it"


@every_algorithm
def test_a_saved_policy_can_be_loaded_alone(algorithm, tmp_path):
    shared = {"share_features_extractor": True}
    arguments = {"use_sde": True} if on_policy(algorithm) else {}
    unusual = {
        **{name: {"n_critics": 3} for name in ("msac", "mdac", "mtqc")},
        **{name: shared for name in ("discretesac", "softq")},
        **{name: {"squash_output": True} for name in ("entropyppo", "maxentppo")},
        "diayn": {"discriminator_arch": [4], "discriminator_features": [0, -1]},
        "vfe": {"n_members": 2, "transition_arch": [4], "dueling": True},
    }
    model = build(algorithm, seed=0, policy_kwargs=unusual.get(algorithm.name, {"dueling": True}), **arguments)
    model.policy.save(tmp_path / "policy")
    loaded = type(model.policy).load(tmp_path / "policy", device="cpu")
    observations = np.random.default_rng(0).normal(size=(8, *model.observation_space.shape)).astype(np.float32)
    expected, _ = model.policy.predict(observations, deterministic=True)
    assert np.array_equal(loaded.predict(observations, deterministic=True)[0], expected)


@every_algorithm
def test_a_saved_model_goes_on_as_if_it_had_never_stopped(algorithm, tmp_path):
    model = build(algorithm, seed=0).learn(150)
    model.save(tmp_path / "model")
    loaded = algorithm.constructor.load(tmp_path / "model", env=gym.make(env_id(algorithm)), device="cpu")
    loaded.set_logger(model.logger)
    buffer = "rollout_buffer" if on_policy(algorithm) else "replay_buffer"
    setattr(loaded, buffer, getattr(model, buffer))
    for each in (model, loaded):
        np.random.seed(0)
        th.manual_seed(0)
        each.train(**({} if on_policy(algorithm) else {"gradient_steps": 20, "batch_size": 16}))
    for key, value in model.policy.state_dict().items():
        assert th.equal(value, loaded.policy.state_dict()[key]), key


@every_algorithm
def test_a_loaded_model_takes_another_engine(algorithm, tmp_path):
    build(algorithm, seed=0).save(tmp_path / "model")
    env = gym.make(env_id(algorithm))
    loaded = algorithm.constructor.load(tmp_path / "model", env=env, device="cpu", engine="sb3")
    assert loaded.engine.kind == "sb3"
    assert loaded.learn(20).engine_used == "sb3"
    with pytest.raises(ValueError, match="did you mean 'fast'"):
        algorithm.constructor.load(tmp_path / "model", env=env, device="cpu", engine="fats")


MUNCHAUSEN = {
    **{"munchausen_alpha": 0.25, "munchausen_bound": (-0.5, 0.25), "entropy_bound": th.tanh},
    **{"munchausen_shift": False, "munchausen_density": "pretanh"},
}
ENTROPY_PPO = {
    **{"entropy_estimator": "sb3", "target_entropy": 0.5, "ent_coef_bounds": (0.001, 0.1), "ent_coef_rate": 0.25},
    **{"kl_coef": 0.25},
}
OWN = {
    "msac": MUNCHAUSEN,
    "mdac": {**MUNCHAUSEN, "munchausen_shift": True},
    "mtqc": MUNCHAUSEN,
    "softq": {"n_particles": 6, "n_value_samples": 10, "proposal": "sampler", "squash_correction": False},
    "diayn": {"environment_reward_weight": 0.25, "n_skills": 4},
    "vfe": {"epistemic_weight": 0.25, "entropy_in_target": True, "temperature": 0.5, "exploration": "epsilon"},
    "entropyppo": {"kl_coef": 0.25, **ENTROPY_PPO},
    "maxentppo": {
        **{"entropy_gamma": 0.25, "entropy_gae_lambda": 0.5, "entropy_baseline": 0.5, "entropy_vf_coef": 1.0},
        **{"entropy_critic": False, **ENTROPY_PPO},
    },
    "modqn": {"momentum": 0.25, "temperature": 0.5, "exploration": "boltzmann"},
    "discretesac": {
        **{"munchausen_alpha": 0.25, "munchausen_clip": -30.0, "critic_reduction": "mean"},
        **{"entropy_in_target": False, "entropy_penalty": 0.5},
    },
    **{
        name: {
            **{"munchausen_alpha": 0.25, "munchausen_clip": -3.0, "temperature": 0.5, "exploration": "boltzmann"},
            **{"soft_value": "mellowmax", "double_q": True},
        }
        for name in GAP_INCREASING
    },
}


@every_algorithm
def test_its_own_arguments_are_saved_and_can_be_changed_on_loading(algorithm, tmp_path):
    own = OWN[algorithm.name]
    build(algorithm, **own).save(tmp_path / "model")
    loaded = algorithm.constructor.load(tmp_path / "model")
    for name, value in own.items():
        assert getattr(loaded, name) == value or tuple(getattr(loaded, name)) == value, name
    first, allowed = next(iter(own)), 8 if algorithm.name == "softq" else 0.75
    assert getattr(algorithm.constructor.load(tmp_path / "model", **{first: allowed}), first) == allowed
    with pytest.raises(ValueError, match=f"{first}=-7"):
        algorithm.constructor.load(tmp_path / "model", **{first: -7})


@of_the_parents_network
def test_opens_a_model_of_its_parent_and_trains_it_on(algorithm, tmp_path):
    parent = build(parent_of(algorithm), seed=0).learn(60)
    parent.save(tmp_path / "parent")
    ours = algorithm.constructor.load(tmp_path / "parent", env=gym.make(env_id(algorithm)))
    observation = np.full((1, *parent.observation_space.shape), 0.1, dtype=np.float32)
    assert np.array_equal(ours.predict(observation, deterministic=True)[0], parent.predict(observation, deterministic=True)[0])
    fresh = build(algorithm)
    assert all(getattr(ours, name) == getattr(fresh, name) for name in OWN[algorithm.name])
    learns(ours)


@of_another_network
def test_a_model_of_its_parent_has_not_the_network_it_needs(algorithm, tmp_path):
    build(parent_of(algorithm)).save(tmp_path / "parent")
    with pytest.raises(ValueError, match=f"{algorithm.constructor.__name__} needs a policy with .*: take one of 'MlpPolicy'"):
        algorithm.constructor.load(tmp_path / "parent")


@of_the_parents_network
def test_its_parent_opens_its_model(algorithm, tmp_path):
    build(algorithm, seed=0).learn(60).save(tmp_path / "ours")
    constructor = ALGORITHMS[algorithm.parent].constructor
    parent = constructor.load(tmp_path / "ours", env=gym.make(env_id(algorithm)))
    assert type(parent) is constructor
    learns(parent)


@every_algorithm
def test_the_same_seed_gives_the_same_model(algorithm):
    first, second = (build(algorithm, seed=7).learn(150) for _ in range(2))
    assert all(th.equal(value, second.policy.state_dict()[key]) for key, value in first.policy.state_dict().items())


@of_one_kind_of_actions
def test_unsuitable_actions_are_refused(algorithm):
    with pytest.raises(AssertionError, match="action spaces"):
        algorithm.constructor("MlpPolicy", "CartPole-v1" if continuous(algorithm) else "Pendulum-v1")


WRONG = {
    "gamma": (2.0, r"gamma=2.0 is outside \[0, 1\]: the nearest choice is 1"),
    "batch_size": (0, "batch_size=0 is not a whole number above 0"),
    "buffer_size": (0, "buffer_size=0 is not a whole number above 0"),
    "tau": (5.0, r"tau=5.0 is outside \[0, 1\]"),
    "gae_lambda": (-1.0, r"gae_lambda=-1.0 is outside \[0, 1\]: the nearest choice is 0"),
    "n_steps": (0, "n_steps=0 is not a whole number above 0"),
    "n_epochs": (0, "n_epochs=0 is not a whole number above 0"),
    "learning_starts": (-5, "learning_starts=-5 is below 0: the nearest choice is 0"),
    "target_update_interval": (0, "target_update_interval=0 is not a finite number above 0"),
    "exploration_final_eps": (3.0, r"exploration_final_eps=3.0 is outside \[0, 1\]"),
}


@every_algorithm
def test_what_the_parent_would_train_with_without_a_word_is_refused(algorithm):
    constructor = algorithm.constructor
    taken = WRONG.keys() & inspect.signature(constructor).parameters.keys()
    assert len(taken) >= 4
    for name in taken:
        value, message = WRONG[name]
        with pytest.raises(ValueError, match=message):
            constructor("MlpPolicy", env_id(algorithm), **{**small(algorithm), name: value})
    with pytest.raises(ValueError, match=r"Policy MlpPolcy unknown: .* did you mean 'MlpPolicy'\?"):
        constructor("MlpPolcy", env_id(algorithm), **small(algorithm))


@every_algorithm
def test_a_model_of_another_family_is_refused_and_so_is_a_misspelt_argument(algorithm, tmp_path):
    other = ALGORITHMS[next(name for name in ("tqc", "dqn", "ppo", "qrdqn") if name not in (algorithm.parent, algorithm.name))]
    build(other).save(tmp_path / "other")
    constructor = algorithm.constructor
    with pytest.raises(
        ValueError, match=rf"holds a model whose policy is a \w+, and {constructor.__name__} has an? \w+: load"
    ):
        constructor.load(tmp_path / "other", device="cpu")
    with pytest.raises(TypeError, match=f"{constructor.__name__} has no argument 'engin': did you mean 'engine'"):
        constructor.load(tmp_path / "other", device="cpu", engin="sb3")


@every_algorithm
def test_loading_takes_sb3s_arguments_in_their_order(algorithm):
    ours, theirs = (inspect.signature(cls.load).parameters for cls in (algorithm.constructor, BaseAlgorithm))
    assert [(name, p.default) for name, p in ours.items()] == [(name, p.default) for name, p in theirs.items()]
