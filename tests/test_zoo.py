"""The hyperparameter files are readable, current and safe."""

import re
from copy import deepcopy
from importlib.resources import files
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.atari_wrappers import ClipRewardEnv, MaxAndSkipEnv
from stable_baselines3.common.buffers import NStepReplayBuffer, RolloutBuffer
from stable_baselines3.common.envs import BitFlippingEnv, FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from sb3_entropic import MDQN, MSAC, train_seeds
from sb3_entropic.catalog import ALGORITHMS, find_algorithm
from sb3_entropic.envs import MinAtarCNN
from sb3_entropic.errors import HyperparameterError, UserError
from sb3_entropic.evaluation import Evaluator
from sb3_entropic.zoo import (
    FAMILIES,
    constructor_arguments,
    digests_of_own,
    env_wrapper,
    find_entry,
    how_found,
    load_hyperparameters,
    make_model,
    parse_override,
)
from sb3_entropic.zoo.wrappers import WholeGames

FILES = sorted(path.name.removesuffix(".yml") for path in (files("sb3_entropic.zoo") / "hyperparams").iterdir())
ENTRIES = [
    (name, env)
    for name in FILES
    for env in yaml.safe_load((files("sb3_entropic.zoo") / "hyperparams" / f"{name}.yml").read_text())
    if env not in FAMILIES
]


def test_every_file_is_an_algorithms():
    assert set(FILES) == set(ALGORITHMS)


@pytest.mark.parametrize(("name", "env"), ENTRIES)
def test_every_entry_suits_its_algorithm_and_an_environment_that_exists(name, env):
    assert env in gym.registry
    hyperparameters = load_hyperparameters(ALGORITHMS[name], env)
    assert hyperparameters["n_timesteps"] >= 20_000
    assert constructor_arguments(ALGORITHMS[name], hyperparameters).keys() <= hyperparameters.keys()


def test_ours_start_from_the_parents_entry():
    assert load_hyperparameters(ALGORITHMS["msac"], "Pendulum-v1")["learning_rate"] == 1e-3


def test_no_entry_means_sb3s_defaults():
    assert load_hyperparameters(ALGORITHMS["msac"], "Reacher-v4") == {}


def test_with_its_parents_losses_an_algorithm_has_its_parents_entry():
    msac, env = ALGORITHMS["msac"], "MountainCarContinuous-v0"
    assert load_hyperparameters(msac, env, {"munchausen_alpha": 0.5})["ent_coef"] == 0.2
    assert load_hyperparameters(msac, env, {"munchausen_alpha": 0}) == load_hyperparameters(ALGORITHMS["sac"], env)
    softdqn, lunar = ALGORITHMS["softdqn"], "LunarLander-v3"
    assert load_hyperparameters(softdqn, lunar, softdqn.off) == load_hyperparameters(ALGORITHMS["dqn"], lunar)
    # An algorithm that is never its parent keeps its own.
    assert load_hyperparameters(ALGORITHMS["vfe"], "CartPole-v1", {})["temperature"] == 1.0


def test_the_module_that_registers_an_environment_is_no_part_of_its_entrys_name():
    entry = load_hyperparameters(ALGORITHMS["softq"], "sb3_entropic.envs:MultiGoal-v0")
    assert entry == load_hyperparameters(ALGORITHMS["softq"], "MultiGoal-v0") != {}


def test_what_is_said_to_be_found_on_an_environment_has_an_entry_for_it():
    found = yaml.safe_load((files("sb3_entropic.zoo") / "searched.yml").read_text())
    for name, environments in found.items():
        own = yaml.safe_load((files("sb3_entropic.zoo") / "hyperparams" / f"{name}.yml").read_text())
        assert own.keys() >= environments.keys()
    assert how_found("softq", "sb3_entropic.envs:MultiGoal-v0") == found["softq"]["MultiGoal-v0"]
    assert how_found("softq", "Hopper-v4") == how_found("sac", "Pendulum-v1") == ""


def test_text_becomes_schedules_tuples_and_activations():
    arguments = constructor_arguments(
        ALGORITHMS["msac"],
        {
            "learning_rate": "lin_1e-3",
            "train_freq": [2, "episode"],
            "policy_kwargs": {
                "activation_fn": "nn.Tanh",
                "features_extractor_class": "sb3_entropic.envs.MinAtarCNN",
                "net_arch": [8],
            },
            "n_envs": 4,
            "env_wrapper": "gymnasium.wrappers.FlattenObservation",
        },
    )
    assert arguments["learning_rate"](1.0) == 1e-3
    assert arguments["learning_rate"](0.25) == pytest.approx(2.5e-4)
    assert arguments["train_freq"] == (2, "episode")
    assert arguments["policy_kwargs"] == {
        "activation_fn": th.nn.Tanh,
        "features_extractor_class": MinAtarCNN,
        "net_arch": [8],
    }
    assert arguments.keys() == {"learning_rate", "train_freq", "policy_kwargs"}


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("ppo", {"ent_coef": "auto"}, "ent_coef='auto' is not a number"),
        ("ppo", {"ent_coef": "lin_0.01"}, "ent_coef='lin_0.01' is not a number"),
        ("entropyppo", {"target_kl": "x"}, "target_kl='x' is not a number"),
        ("ppo", {"vf_coef": "x"}, "vf_coef='x' is not a number"),
        ("ppo", {"use_sde": "maybe"}, "use_sde='maybe' is neither True nor False"),
        ("ppo", {"sde_sample_freq": 2.5}, "sde_sample_freq=2.5 is not a whole number"),
        ("msac", {"action_noise": 0.1}, "action_noise=0.1 is no noise: write noise_type=normal"),
    ],
)
def test_what_sb3_would_find_after_a_rollout_is_found_before_it(name, setting, message):
    with pytest.raises(HyperparameterError, match=message):
        make_model(ALGORITHMS[name], "Pendulum-v1", setting, device="cpu")


def test_a_scheduled_coefficient_is_for_our_ppo():
    assert callable(make_model(ALGORITHMS["entropyppo"], "Pendulum-v1", {"ent_coef": "lin_0.01"}, device="cpu").ent_coef)


class Threefold(gym.ActionWrapper):
    """Pushes left, not at all or right."""

    def __init__(self, env):
        super().__init__(env)
        self.action_space = gym.spaces.Discrete(3)

    def action(self, action):
        return np.array([action - 1.0], dtype=np.float32)


def test_an_algorithm_suits_the_actions_that_wrappers_leave():
    wrapped = {"env_wrapper": "tests.test_zoo.Threefold"}
    assert make_model(ALGORITHMS["mdqn"], "Pendulum-v1", wrapped, device="cpu").action_space.n == 3
    with pytest.raises(UserError, match=r"msac needs Box actions and Pendulum-v1 has Discrete\(3\)"):
        make_model(ALGORITHMS["msac"], "Pendulum-v1", wrapped, device="cpu")


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("th.optim.SGD", th.optim.SGD),
        ("optim.AdamW", th.optim.AdamW),
        ("Adam", th.optim.Adam),
        ("RMSpropTFLike", RMSpropTFLike),
        ("stable_baselines3.common.sb2_compat.rmsprop_tf_like.RMSpropTFLike", RMSpropTFLike),
    ],
)
def test_an_optimiser_may_be_named(written, found):
    arguments = constructor_arguments(ALGORITHMS["msac"], {"policy_kwargs": f"dict(optimizer_class={written})"})
    assert arguments["policy_kwargs"] == {"optimizer_class": found}


@pytest.mark.parametrize("option", ["activation_fn", "optimizer_class"])
def test_a_class_of_the_users_may_be_named_and_is_told_from_another_by_its_file(option):
    name, found = {"activation_fn": ("Swish", Swish), "optimizer_class": ("Slow", Slow)}[option]
    written = {"policy_kwargs": {option: f"tests.test_zoo.{name}"}}
    assert constructor_arguments(ALGORITHMS["msac"], written)["policy_kwargs"] == {option: found}
    assert re.fullmatch(rf"tests\.test_zoo\.{name} [0-9a-f]{{10}}", digests_of_own(written))
    assert digests_of_own({"policy_kwargs": {option: {"activation_fn": "nn.SiLU", "optimizer_class": "Adam"}[option]}}) == ""


class Swish(th.nn.SiLU):
    """An activation of the user's."""


class Slow(th.optim.SGD):
    """An optimiser of the user's."""


def test_policy_arguments_may_be_written_as_the_zoo_writes_them():
    written = "dict(net_arch=dict(pi=[8], qf=[16]), activation_fn=nn.Tanh, log_std_init=-3, n_critics=2)"
    arguments = constructor_arguments(ALGORITHMS["msac"], {"policy_kwargs": written})["policy_kwargs"]
    assert arguments == {
        "net_arch": {"pi": [8], "qf": [16]},
        "activation_fn": th.nn.Tanh,
        "log_std_init": -3,
        "n_critics": 2,
    }


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        ({"munchausen_alfa": 0.5}, "no hyperparameter 'munchausen_alfa': did you mean 'munchausen_alpha'"),
        ({"learning_rate": "lin_fast"}, "'lin_fast' is not a schedule"),
        ({"policy_kwargs": {"activation_fn": "nn.Relu"}}, "did you mean 'ReLU'"),
        ({"policy_kwargs": {"activation_fn": None}}, "activation_fn=None is not a class"),
        ({"policy_kwargs": {"optimizer_class": "th.optim.Adm"}}, "not one of torch.optim: did you mean 'Adam'"),
        (
            {"policy_kwargs": {"features_extractor_class": "sb3_entropic.envs.MinatarCNN"}},
            "'sb3_entropic.envs.MinatarCNN' is not a BaseFeaturesExtractor: did you mean 'MinAtarCNN'",
        ),
        (
            {"policy_kwargs": {"features_extractor_class": "sb3_entropic.envs.MinAtarImages"}},
            "'sb3_entropic.envs.MinAtarImages' is not a BaseFeaturesExtractor",
        ),
        ({"env_wrapper": "gymnasium.wrapers.TimeLimit"}, "cannot be imported: No module named 'gymnasium.wrapers'"),
        ({"env_wrapper": "gymnasium.wrappers.TimeLimits"}, "is not a Wrapper: did you mean 'TimeLimit'"),
        ({"env_wrapper": "gymnasium.wrappers.Box"}, "'gymnasium.wrappers.Box' is not a Wrapper"),
        ({"env_wrapper": "TimeLimit"}, "env_wrapper='TimeLimit' is not a class: write module.Class"),
        ({"env_wrapper": ".envs.TimeLimit"}, "env_wrapper='.envs.TimeLimit' cannot be imported"),
        ({"env_wrapper": [3]}, "env_wrapper=3 is not a class"),
        ({"env_wrapper": [["gymnasium.wrappers.TimeLimit"]]}, "is not a class"),
        ({"env_wrapper": {"gymnasium.wrappers.TimeLimit": {"steps": 3}}}, "unexpected keyword argument 'steps'"),
        ({"env_wrapper": {"gymnasium.wrappers.TimeLimit": 3}}, "msac on Pendulum-v1"),
        ({"munchausen_alpha": 2}, r"msac on Pendulum-v1: munchausen_alpha=2 is outside \[0, 1\]"),
        ({"munchausen_bound": [1, -1]}, "low > high"),
        ({"engine": "sb33"}, "msac on Pendulum-v1: engine='sb33'"),
        ({"policy_kwargs": 5}, "policy_kwargs=5 is not a mapping"),
        ({"policy_kwargs": "dict(8)"}, r"policy_kwargs='dict\(8\)' is not a mapping"),
        ({"policy_kwargs": "dict(activation_fn=nn.Relu)"}, "did you mean 'ReLU'"),
        ({"n_envs": 0}, "n_envs=0 is not a whole number above 0"),
        ({"normalize": {"a": 1}}, "unexpected keyword argument 'a'"),
        ({"env": 3}, "no hyperparameter 'env'"),
        ({"frame_stack": 0}, "frame_stack=0 is not a whole number above 0"),
        ({"noise_type": "norml", "noise_std": 0.1}, "noise_type='norml' is not a kind of noise: did you mean 'normal'"),
        ({"noise_type": "normal"}, "noise_std=None is not a standard deviation"),
        ({"noise_std": 0.1}, "noise_type=None is not a kind of noise"),
        ({"replay_buffer_class": "HerReplayBufer"}, "is not a ReplayBuffer of SB3's: did you mean 'HerReplayBuffer'"),
        ({"replay_buffer_class": "RolloutBuffer"}, "'RolloutBuffer' is not a ReplayBuffer of SB3's"),
        ({"replay_buffer_class": "no.Such"}, "replay_buffer_class='no.Such' cannot be imported"),
        ({"replay_buffer_class": 3}, "replay_buffer_class=3 is not a class"),
        ({"replay_buffer_kwargs": "dict(4)"}, r"replay_buffer_kwargs='dict\(4\)' is not a mapping: write {n_sampled_goal: 4}"),
        ({"munchausen_alpha": "abc"}, "munchausen_alpha='abc' is not a number"),
        ({"policy": "MlpPolicie"}, "msac on Pendulum-v1: Policy MlpPolicie unknown"),
    ],
)
def test_a_wrong_hyperparameter_is_named(hyperparameters, message):
    with pytest.raises(HyperparameterError, match=message):
        make_model(ALGORITHMS["msac"], "Pendulum-v1", hyperparameters, buffer_size=10)


def test_the_engine_can_be_chosen():
    model = make_model(ALGORITHMS["msac"], "Pendulum-v1", {"engine": "sb3"}, buffer_size=10)
    assert (model.engine.kind, model.engine_used) == ("sb3", "")
    assert model.learn(1).engine_used == "sb3"


def test_the_policy_suits_the_observations():
    gym.register("Dict-v0", entry_point=lambda **_: SimpleMultiObsEnv(discrete_actions=False))
    assert isinstance(make_model(ALGORITHMS["msac"], "Dict-v0", {}, buffer_size=10).observation_space, gym.spaces.Dict)


def test_environments_have_no_picture_to_keep():
    # LunarLander would keep every spark until it is rendered, and a step would soon take ten times as long.
    model = make_model(ALGORITHMS["mdqn"], "CartPole-v1", {"buffer_size": 100}, seed=0)
    trained = train_seeds(MDQN, "MlpPolicy", "CartPole-v1", seeds=[0], total_timesteps=8, buffer_size=100)
    assert model.get_env().get_attr("render_mode") == trained[0].get_env().get_attr("render_mode") == [None]


def test_environments_are_counted_and_normalised():
    model = make_model(ALGORITHMS["ppo"], "Pendulum-v1", {"n_envs": 3, "normalize": True, "gamma": 0.9}, seed=0)
    assert model.n_envs == 3
    assert model.get_vec_normalize_env().gamma == 0.9


@pytest.mark.parametrize(
    "entry",
    [
        [{"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 3}}, "gymnasium.wrappers.FlattenObservation"],
        {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 3}, "gymnasium.wrappers.FlattenObservation": None},
    ],
)
def test_wrappers_are_put_on_in_their_order(entry):
    env = env_wrapper({"env_wrapper": entry})(gym.make("Pendulum-v1"))
    assert isinstance(env, gym.wrappers.FlattenObservation)
    assert isinstance(env.env, gym.wrappers.TimeLimit)
    assert env.env._max_episode_steps == 3


def test_without_wrappers_an_environment_stays_as_it_is():
    env = gym.make("Pendulum-v1")
    assert env_wrapper({})(env) is env


class FromOne(gym.Env):
    """Counts actions from 1."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, space=None):
        self.action_space = space or gym.spaces.Discrete(2, start=1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return self.observation_space.sample(), 0.0, True, False, {}


class FromZero(gym.ActionWrapper):
    """Counts them from 0."""

    def __init__(self, env):
        super().__init__(env)
        self.action_space = gym.spaces.Discrete(2)

    def action(self, action):
        return np.int64(action + 1)


@pytest.fixture
def counts_from_one():
    gym.register("FromOne-v0", FromOne)
    gym.register("SeveralFromOne-v0", lambda: FromOne(gym.spaces.MultiDiscrete([2, 2], start=[0, 1])))
    yield
    for name in ("FromOne-v0", "SeveralFromOne-v0"):
        gym.registry.pop(name)


@pytest.mark.parametrize(
    ("name", "env"),
    [("ppo", "FromOne-v0"), ("dqn", "FromOne-v0"), ("mdqn", "FromOne-v0"), ("entropyppo", "SeveralFromOne-v0")],
)
def test_actions_that_are_not_counted_from_0_are_refused(counts_from_one, name, env):
    with pytest.raises(UserError, match="do not start at 0, as SB3 takes them to"):
        make_model(ALGORITHMS[name], env, {}, device="cpu")


@pytest.mark.parametrize("name", ["ppo", "mdqn"])
def test_a_wrapper_may_count_them_anew(counts_from_one, name):
    hyperparameters = {"env_wrapper": "tests.test_zoo.FromZero"}
    model = make_model(ALGORITHMS[name], "FromOne-v0", hyperparameters, device="cpu")
    assert model.learn(20).num_timesteps >= 20


def test_a_model_trains_in_wrapped_environments():
    hyperparameters = {"env_wrapper": {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 3}}, "n_envs": 2}
    model = make_model(ALGORITHMS["ppo"], "Pendulum-v1", hyperparameters)
    model.env.reset()
    dones = [model.env.step([model.action_space.sample()] * 2)[2].tolist() for _ in range(3)]
    assert dones == [[False, False], [False, False], [True, True]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("munchausen_alpha=0.9", ("munchausen_alpha", 0.9)),
        ("learning_rate=3e-4", ("learning_rate", 3e-4)),
        ("learning_rate=lin_3e-4", ("learning_rate", "lin_3e-4")),
        ("munchausen_bound=[-1, 1]", ("munchausen_bound", [-1, 1])),
        ("use_sde=true", ("use_sde", True)),
        ("munchausen_clip=None", ("munchausen_clip", None)),
        ("buffer_size=1e4", ("buffer_size", 10_000)),
    ],
)
def test_overrides(text, expected):
    assert parse_override(text) == expected


NO_OVERRIDES = [
    *("munchausen_alpha", "=1", "x=", "x=[1", "seed=1", "msac.n_timesteps=5", "gamma=2001-01-01", "gamma=2020-13-45"),
    *("gamma=!!int abc", "x=&a [*a]", f"x={'[' * 3000}{']' * 3000}"),
]


@pytest.mark.parametrize("text", NO_OVERRIDES, ids=range(len(NO_OVERRIDES)))
def test_what_is_no_override(text):
    with pytest.raises(UserError):
        parse_override(text)


@pytest.mark.parametrize(
    ("value", "normalised"),
    [
        (True, (True, True)),
        ("{'norm_obs': True, 'norm_reward': False}", (True, False)),
        ("dict(norm_obs=False, norm_reward=True)", (False, True)),
        ("False", None),
        (None, None),
    ],
)
def test_normalisation_may_be_written_as_the_zoo_writes_it(value, normalised):
    normalize = make_model(ALGORITHMS["ppo"], "Pendulum-v1", {"normalize": value}).get_vec_normalize_env()
    assert (normalize and (normalize.norm_obs, normalize.norm_reward)) == normalised
    with pytest.raises(UserError, match="neither true nor false, nor arguments of VecNormalize"):
        make_model(ALGORITHMS["ppo"], "Pendulum-v1", {"normalize": "obs"})


def test_noise_on_actions_may_be_written_as_the_zoo_writes_it():
    entry = {"noise_type": "normal", "noise_std": 0.3}
    noise = make_model(ALGORITHMS["msac"], "BipedalWalker-v3", entry, buffer_size=10).action_noise
    assert isinstance(noise, NormalActionNoise)
    assert (noise._mu.tolist(), noise._sigma.tolist()) == ([0.0] * 4, [0.3] * 4)
    entry["noise_type"] = "ornstein-uhlenbeck"
    model = make_model(ALGORITHMS["msac"], "Pendulum-v1", entry, buffer_size=10)
    assert isinstance(model.action_noise, OrnsteinUhlenbeckActionNoise)


@pytest.mark.parametrize(("name", "env"), [("mdqn", "CartPole-v1"), ("ppo", "Pendulum-v1")])
def test_noise_is_for_continuous_actions_and_replay(name, env):
    with pytest.raises(HyperparameterError, match="noise_type='normal' is for continuous actions"):
        make_model(ALGORITHMS[name], env, {"noise_type": "normal", "noise_std": 0.3})


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("HerReplayBuffer", HerReplayBuffer),
        ("NStepReplayBuffer", NStepReplayBuffer),
        ("stable_baselines3.her.HerReplayBuffer", HerReplayBuffer),
        (HerReplayBuffer, HerReplayBuffer),
    ],
)
def test_a_replay_buffer_may_be_named(name, found):
    assert constructor_arguments(ALGORITHMS["msac"], {"replay_buffer_class": name}) == {"replay_buffer_class": found}


def test_a_rollout_buffer_may_be_named():
    written = {"rollout_buffer_class": "RolloutBuffer", "rollout_buffer_kwargs": "dict()"}
    arguments = constructor_arguments(ALGORITHMS["ppo"], written)
    assert arguments == {"rollout_buffer_class": RolloutBuffer, "rollout_buffer_kwargs": {}}


@pytest.fixture
def goals():
    gym.register("Goals-v0", lambda **_: BitFlippingEnv(n_bits=4, continuous=True), max_episode_steps=4)
    yield "Goals-v0"
    gym.registry.pop("Goals-v0")


def test_goals_are_relabelled_as_the_zoo_writes_it(goals):
    entry = {
        "replay_buffer_class": "HerReplayBuffer",
        "replay_buffer_kwargs": "dict(goal_selection_strategy='future', n_sampled_goal=3)",
        "learning_starts": 20,
        "buffer_size": 100,
        "batch_size": 8,
    }
    model = make_model(ALGORITHMS["msac"], goals, entry, seed=0, device="cpu").learn(40)
    assert isinstance(model.replay_buffer, HerReplayBuffer)
    assert model.replay_buffer.her_ratio == 0.75
    assert model._n_updates > 0


def dictionary():
    np.random.seed(0)
    return SimpleMultiObsEnv(random_start=False)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gym.make("Pendulum-v1", max_episode_steps=5),
        lambda: FakeImageEnv(20, 20, 3),
        lambda: FakeImageEnv(20, 20, 3, channel_first=True),
        dictionary,
    ],
    ids=["vectors", "images", "channels first", "dictionary"],
)
def test_frames_are_stacked_as_sb3_stacks_them(make):
    ours, theirs = env_wrapper({"frame_stack": 3})(make()), VecFrameStack(DummyVecEnv([make]), 3)
    assert ours.observation_space == theirs.observation_space
    for env in (ours.unwrapped, theirs.venv.envs[0].unwrapped):
        env.observation_space.seed(0)
    theirs.seed(0)
    expected, observation = theirs.reset(), ours.reset(seed=0)[0]
    ours.action_space.seed(0)
    episodes = 0
    while episodes < 2:
        np.testing.assert_equal(observation, only(expected))
        kept, copy = observation, deepcopy(observation)
        action = ours.action_space.sample()
        expected, _, (done,), (info,) = theirs.step([action])
        observation, _, terminated, truncated, _ = ours.step(action)
        # A replay memory or a user may keep what it was shown.
        np.testing.assert_equal(kept, copy)
        assert done == (terminated or truncated)
        if done:
            np.testing.assert_equal(observation, info["terminal_observation"])
            observation = ours.reset()[0]
            episodes += 1


def only(batch):
    return {name: value[0] for name, value in batch.items()} if isinstance(batch, dict) else batch[0]


@pytest.mark.parametrize(
    ("env", "family", "skips"),
    [("BreakoutNoFrameskip-v4", "atari", 4), ("ALE/Breakout-v5", "ALE", 1), ("Breakout-v4", "ALE", 1)],
)
@pytest.mark.parametrize("name", ["mdqn", "mqrdqn", "miqn", "discretesac", "entropyppo"])
def test_atari_games_share_an_entry_that_skips_frames_once(name, env, family, skips):
    pytest.importorskip("ale_py", reason="ale_py is not installed")
    hyperparameters = load_hyperparameters(ALGORITHMS[name], f"ale_py:{env}")
    source = name if name == "discretesac" else ALGORITHMS[name].parent
    entry = yaml.safe_load((files("sb3_entropic.zoo") / "hyperparams" / f"{source}.yml").read_text())[family]
    assert all(hyperparameters[key] == entry[key] for key in ("n_timesteps", "env_wrapper", "frame_stack"))
    wrapped = env_wrapper(hyperparameters)(gym.make(f"ale_py:{env}"))
    assert wrapped.observation_space == gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    layers = [wrapped]
    while hasattr(layers[-1], "env"):
        layers.append(layers[-1].env)
    assert [layer._skip for layer in layers if isinstance(layer, MaxAndSkipEnv)] == [4] * (skips == 4)
    names = {type(layer).__name__ for layer in layers}
    assert {"EpisodicLifeEnv", "ClipRewardEnv"} <= names
    whole = env_wrapper(hyperparameters, evaluates=True)(gym.make(f"ale_py:{env}"))
    assert whole.observation_space == wrapped.observation_space
    assert isinstance(whole, WholeGames)
    while hasattr(whole, "env"):
        assert not isinstance(whole, ClipRewardEnv)
        whole = whole.env


@pytest.mark.parametrize("env", ["BreakoutNoFrameskip-v4", "ALE/Breakout-v5"])
def test_a_game_that_waits_for_fire_is_played_to_its_end(env):
    pytest.importorskip("ale_py", reason="ale_py is not installed")
    env_id = f"ale_py:{env}"
    wrapped = env_wrapper(load_hyperparameters(ALGORITHMS["dqn"], env_id), evaluates=True)(gym.make(env_id))
    wrapped.reset(seed=0)
    assert wrapped.unwrapped.ale.lives() == 5
    # Nothing is done, and so nothing is fired.
    over = (any(wrapped.step(0)[2:4]) for _ in range(2000))
    assert any(over)
    assert wrapped.unwrapped.ale.lives() == 0


def test_a_game_lasts_for_as_many_frames_as_its_own_limit():
    pytest.importorskip("ale_py", reason="ale_py is not installed")
    assert Evaluator("ale_py:BreakoutNoFrameskip-v4", 1).max_episode_steps == 27_000


def test_an_entry_is_found_by_id_then_by_family():
    pytest.importorskip("ale_py", reason="ale_py is not installed")
    entries = {"ALE/Pong-v5": {"gamma": 1}, "ALE": {"gamma": 2}, "atari": {"gamma": 3}, "default": {"gamma": 4}}
    games = ("ale_py:ALE/Pong-v5", "ale_py:ALE/Breakout-v5", "ale_py:PongNoFrameskip-v4", "CartPole-v1")
    assert [find_entry(entries, env)["gamma"] for env in games] == [1, 2, 3, 4]
    assert find_entry({}, "CartPole-v1") == {}


class Broken(MSAC):
    """Has a bug."""

    def _setup_model(self):
        super()._setup_model()
        self.no_such_thing()


class BrokenWithin(MSAC):
    """Has one that numpy finds."""

    def _setup_model(self):
        super()._setup_model()
        np.stack([])


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [("Broken", AttributeError, "no_such_thing"), ("BrokenWithin", ValueError, "need at least one")],
)
def test_a_bug_of_the_users_is_no_wrong_hyperparameter(name, error, message):
    with pytest.raises(error, match=message) as raised:
        make_model(find_algorithm(f"tests.test_zoo:{name}"), "Pendulum-v1", {}, buffer_size=10)
    assert not isinstance(raised.value, UserError)


@pytest.mark.parametrize("name", ["replay_buffer_class", "replay_buffer_kwargs", "policy_kwargs"])
def test_what_is_nothing_by_default_may_be_said_to_be(name):
    assert constructor_arguments(ALGORITHMS["msac"], {name: None}) == {name: None}
    assert digests_of_own({name: None}) == ""
    with pytest.raises(HyperparameterError, match="is not a"):
        constructor_arguments(ALGORITHMS["msac"], {name: "{[1]: 2}"})


@pytest.mark.parametrize("algorithm", ["dqn", "mdqn"])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train_freq", 0, "train_freq=0 is not a whole number above 0"),
        ("train_freq", '(1, "episode")', "is neither a whole number above 0 nor a pair, in YAML"),
        ("train_freq", [0, "episode"], "train_freq=0 is not a whole number above 0"),
        ("gradient_steps", 1.5, "gradient_steps=1.5 is not a whole number"),
        ("max_grad_norm", "x", "max_grad_norm='x' is not a number"),
        ("gamma", "x", "gamma='x' is not a number"),
        ("optimize_memory_usage", "maybe", "optimize_memory_usage='maybe' is neither True nor False"),
    ],
)
def test_a_value_with_which_nothing_would_ever_be_learned_is_refused_before_any_work(algorithm, name, value, message):
    with pytest.raises(HyperparameterError, match=message):
        make_model(find_algorithm(algorithm), "CartPole-v1", {name: value}, device="cpu")
    make_model(find_algorithm(algorithm), "CartPole-v1", {"train_freq": [1, "episode"], "max_grad_norm": float("inf")})
