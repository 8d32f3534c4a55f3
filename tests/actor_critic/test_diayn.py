"""DIAYN's reward and discriminator against numbers worked out by hand, its skills, and that it takes plain environments."""

import math
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecNormalize

from sb3_entropic import DIAYN
from sb3_entropic.__main__ import main
from sb3_entropic.actor_critic.skills import SkillSpace, VecSkills, with_skills
from sb3_entropic.evaluation import Evaluator
from tests.same_bits import same_bits

N_FEATURES = 3
"""Of Pendulum's observations."""


def pendulum(max_episode_steps=10):
    return gym.make("Pendulum-v1", max_episode_steps=max_episode_steps)


def make(env=None, policy_kwargs=None, constructor=DIAYN, **changes):
    arguments = {"buffer_size": 500, "batch_size": 16, "learning_starts": 20, "device": "cpu", "seed": 0, "engine": "sb3"}
    arguments |= {"n_skills": 3} | changes
    if constructor is not DIAYN:
        arguments = {name: value for name, value in arguments.items() if name not in ("n_skills", "engine")}
    env = pendulum() if env is None else env
    return constructor("MlpPolicy", env, policy_kwargs={"net_arch": [16], **(policy_kwargs or {})}, **arguments)


def batch_of(model, size=32):
    np.random.seed(0)
    return model.replay_buffer.sample(size)


def target_of(model, batch):
    """The target, and what is logged of it."""
    th.manual_seed(0)
    noise = model.draw_noise(batch)
    with th.no_grad():
        return model.td_target(model.make_networks(), batch, noise)


def over(batch):
    """The same transitions as the last of their episodes: their target is the reward alone."""
    return batch._replace(dones=th.ones_like(batch.dones))


def skills_of(observations, n_skills=3):
    ends = np.asarray(observations)[..., -n_skills:]
    assert np.array_equal(ends.sum(axis=-1), np.ones(ends.shape[:-1]))
    assert set(np.unique(ends)) <= {0.0, 1.0}
    return ends.argmax(axis=-1)


def fix(discriminator, q):
    """Let a discriminator say the same of every state, for ever."""
    last = discriminator.logits_net[-1]
    with th.no_grad():
        last.weight.zero_()
        last.bias.copy_(th.tensor(q).log())
    discriminator.requires_grad_(False)


class Counting(gym.Env):
    """Episodes of ``length`` steps whose observations are the number of the episode and of the step; rewards are 7."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, length=3, terminates=True):
        self.length, self.terminates, self.episode = length, terminates, -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + 1, 0
        return self._observe(), {}

    def step(self, action):
        self.steps += 1
        over = self.steps == self.length
        return self._observe(), 7.0, over and self.terminates, over and not self.terminates, {}

    def _observe(self):
        return np.array([self.episode, self.steps], dtype=np.float32)


class TestReward:
    def test_it_is_the_log_ratio_of_two_probabilities(self):
        model = make().learn(60)
        q = [0.7, 0.2, 0.1]
        fix(model.discriminator, q)
        batch = batch_of(model)
        by_hand = [math.log(q[skill] / (1 / 3)) for skill in skills_of(batch.observations)]
        target, metrics = target_of(model, over(batch))
        assert target.flatten().tolist() == pytest.approx(by_hand, abs=1e-6)
        assert metrics["intrinsic_reward"].item() == pytest.approx(np.mean(by_hand), abs=1e-6)
        assert len(set(by_hand)) == 3

    def test_it_is_that_of_the_state_the_action_has_led_to(self):
        model = make(policy_kwargs={"discriminator_arch": []}).learn(60)
        (layer,) = model.discriminator.logits_net
        batch = batch_of(model)
        by_hand = []
        for observation, skill in zip(
            batch.next_observations[:, :N_FEATURES].tolist(), skills_of(batch.observations), strict=True
        ):
            logits = [
                bias + sum(w * x for w, x in zip(weights, observation, strict=True))
                for weights, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
            ]
            by_hand.append(logits[skill] - math.log(sum(map(math.exp, logits))) + math.log(3))
        assert target_of(model, over(batch))[0].flatten().tolist() == pytest.approx(by_hand, abs=1e-5)

    @pytest.mark.parametrize("weight", [0.0, 0.25])
    def test_the_environments_reward_enters_by_its_weight(self, weight):
        model = make(Counting(), environment_reward_weight=weight).learn(60)
        fix(model.discriminator, [1 / 3] * 3)
        assert th.allclose(target_of(model, over(batch_of(model)))[0], th.tensor(7 * weight), atol=1e-6)

    def test_it_is_that_of_the_discriminator_as_it_is_now(self):
        model = make().learn(60)
        stored, batch = model.replay_buffer.rewards.copy(), batch_of(model)
        before, _ = target_of(model, batch)
        fix(model.discriminator, [0.7, 0.2, 0.1])
        after, _ = target_of(model, batch)
        assert (before - after).abs().min() > 1e-3
        np.testing.assert_array_equal(model.replay_buffer.rewards, stored)
        assert stored[:60].max() < 0, "Pendulum's own"

    @pytest.mark.parametrize("n_skills", [2, 3, 6, 50])
    def test_it_is_exactly_0_where_nothing_can_be_told(self, n_skills):
        model = make(n_skills=n_skills).learn(60)
        fix(model.discriminator, [1.0] * n_skills)
        assert th.equal(target_of(model, over(batch_of(model)))[0], th.zeros(32, 1))

    @pytest.mark.parametrize("ent_coef", ["auto", 0.1])
    def test_where_nothing_can_be_told_it_is_sac_without_rewards(self, ent_coef):
        class Unrewarded(gym.RewardWrapper):
            def reward(self, reward):
                return 0.0

        ours = make(ent_coef=ent_coef)
        theirs = make(with_skills(Unrewarded(pendulum()), 3), constructor=SAC, ent_coef=ent_coef)
        fix(ours.discriminator, [1.0] * 3)
        for model in (ours, theirs):
            np.random.seed(1)
            th.manual_seed(1)
            model.learn(120)
        for name in ("actor", "critic", "critic_target"):
            same_bits(getattr(ours, name).state_dict(), getattr(theirs, name).state_dict())
        same_bits(ours.actor.optimizer.state_dict(), theirs.actor.optimizer.state_dict())
        np.testing.assert_array_equal(ours.replay_buffer.observations, theirs.replay_buffer.observations)


class TestDiscriminator:
    @staticmethod
    def losses(model):
        """Every update's loss, its forward passes shared as in training."""
        batch = batch_of(model)
        noise, networks = model.draw_noise(batch), model.make_networks()
        model.before_updates(networks, batch, noise)
        return {update.name: update.loss(networks, batch, noise)[0] for update in model.updates()}

    def test_gradients_stay_apart(self):
        model = make().learn(60)
        networks = {"actor": model.actor, "critic": model.critic, "discriminator": model.discriminator}
        losses = self.losses(model)
        assert list(losses) == ["ent_coef", "critic", "actor", "discriminator"]
        for name, loss in losses.items():
            for owner, network in networks.items():
                found = (
                    th.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
                    if loss.requires_grad
                    else []
                )
                reached = any(gradient is not None and gradient.abs().max() > 0 for gradient in found)
                # The actor's loss passes through the critics, whose update does not follow it.
                assert reached == (name == owner or (name, owner) == ("actor", "critic")), (name, owner)

    def test_its_loss_is_the_cross_entropy(self):
        model = make().learn(60)
        batch = batch_of(model)
        logits = model.discriminator.logits_net(batch.next_observations[:, :N_FEATURES])
        expected = th.nn.functional.cross_entropy(logits, th.as_tensor(skills_of(batch.observations)))
        assert self.losses(model)["discriminator"].item() == pytest.approx(expected.item(), abs=1e-6)

    def test_it_never_sees_the_skill(self):
        model = make().learn(60)
        batch = batch_of(model)
        other = batch.next_observations.clone()
        other[:, N_FEATURES:] = other[:, N_FEATURES:].roll(1, dims=1)
        networks = model.make_networks()
        assert th.equal(networks.log_skills(other), networks.log_skills(batch.next_observations))
        other[:, :N_FEATURES] += 1
        assert not th.allclose(networks.log_skills(other.clone()), networks.log_skills(batch.next_observations))

    @pytest.mark.parametrize(("features", "seen"), [([1], {1}), (slice(0, 2), {0, 1}), ([-1, 0], {0, 2}), (None, {0, 1, 2})])
    def test_it_sees_the_features_it_is_given(self, features, seen):
        model = make(policy_kwargs={"discriminator_features": features})
        observations = th.zeros(1, N_FEATURES)
        changed = {
            i
            for i in range(N_FEATURES)
            if not th.equal(*map(model.discriminator, (observations, observations + th.eye(3)[i])))
        }
        assert changed == seen

    def test_its_network_can_be_chosen(self):
        assert make().discriminator.logits_net[0].out_features == 16
        assert make(policy_kwargs={"net_arch": {"pi": [5], "qf": [6]}}).discriminator.logits_net[0].out_features == 5
        assert make(policy_kwargs={"discriminator_arch": [7, 8]}).discriminator.logits_net[2].out_features == 8

    def test_it_learns_what_can_be_told(self):
        """The last feature gives the skill away."""
        model = make(learning_rate=1e-2).learn(60)
        buffer = model.replay_buffer
        buffer.next_observations[:60, 0, 2] = skills_of(buffer.observations[:60, 0])
        model.train(300, batch_size=32)
        logged = model.logger.name_to_value
        assert logged["train/discriminator_accuracy"] > 0.8
        assert logged["train/intrinsic_reward"] == pytest.approx(math.log(3) - logged["train/discriminator_loss"], abs=1e-5)
        assert 0.4 < logged["train/intrinsic_reward"] < math.log(3)


class TestSkills:
    def test_a_skill_lasts_an_episode_and_the_next_is_drawn_anew(self):
        env = with_skills(Counting(), 4)
        env.seed(0)
        observation, drawn = env.reset(), {}
        for _ in range(300):
            drawn.setdefault(observation[0, 0], set()).add(skills_of(observation, 4)[0])
            observation, _, dones, infos = env.step(np.zeros((1, 1)))
            if dones[0]:
                assert skills_of(infos[0]["terminal_observation"], 4) in drawn[infos[0]["terminal_observation"][0]]
        assert all(len(skills) == 1 for skills in drawn.values())
        assert set.union(*drawn.values()) == {0, 1, 2, 3}

    def test_skills_are_uniform_and_independent_of_the_last(self):
        env = with_skills(Counting(length=1), 4)
        env.seed(0)
        env.reset()
        skills = [skills_of(env.step(np.zeros((1, 1)))[0], 4)[0] for _ in range(8000)]
        pairs = np.zeros((4, 4))
        np.add.at(pairs, (skills[:-1], skills[1:]), 1)
        expected = pairs.sum() / pairs.size
        # 15 degrees of freedom: above 37.7 once in a thousand seeds.
        assert ((pairs - expected) ** 2 / expected).sum() < 37.7

    def test_the_buffer_keeps_the_skill_of_an_episodes_last_state(self):
        model = make(DummyVecEnv([lambda: Counting(), lambda: Counting(length=4)]), gradient_steps=0).learn(120)
        buffer = model.replay_buffer
        before, after = (skills_of(each[:60]) for each in (buffer.observations, buffer.next_observations))
        np.testing.assert_array_equal(before, after)
        ends = np.flatnonzero(buffer.dones[:59, 0])
        assert (before[ends, 0] != before[ends + 1, 0]).any()
        np.testing.assert_array_equal(buffer.next_observations[ends, 0, 1], 3)

    def test_every_environment_has_its_own(self):
        env = with_skills(make_vec_env(Counting, n_envs=8), 4)
        env.seed(0)
        assert len(set(skills_of(env.reset(), 4))) > 1

    def test_the_seed_decides_the_skills(self):
        def skills(seed):
            model = make(Counting(), seed=seed, n_skills=6, gradient_steps=0).learn(90)
            return skills_of(model.replay_buffer.observations[:90, 0], 6).tolist()

        assert skills(1) == skills(1) != skills(2)

    def test_a_skill_cannot_be_read_off_the_first_state(self):
        """Environments are seeded by the model's seed, too."""

        class Placed(Counting):
            def reset(self, *, seed=None, options=None):
                super().reset(seed=seed)
                return np.full(2, self.np_random.integers(4), np.float32), {}

        equal = []
        for seed in range(200):
            env = with_skills(Placed(), 4)
            env.seed(seed)
            (observation,) = env.reset()
            equal.append(observation[0] == skills_of(observation, 4))
        assert 0.15 < np.mean(equal) < 0.35

    def test_processes_of_their_own(self):
        model = make(SubprocVecEnv([Counting, Counting], start_method="fork"), gradient_steps=1).learn(60)
        assert (
            skills_of(model.replay_buffer.observations[:30]) == skills_of(model.replay_buffer.next_observations[:30])
        ).all()
        model.get_env().close()


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def observations():
    return np.random.default_rng(0).normal(size=(5, N_FEATURES)).astype(np.float32)


class TestPredict:
    def test_it_acts_by_the_skill_that_is_set(self, model, observations):
        actions = []
        for skill in range(3):
            model.set_skill(skill)
            actions.append(model.predict(observations, deterministic=True)[0])
            joined = np.concatenate([observations, np.tile(np.eye(3, dtype=np.float32)[skill], (5, 1))], axis=1)
            np.testing.assert_array_equal(model.policy.predict(joined, deterministic=True)[0], actions[-1])
            one, _ = model.predict(observations[0], deterministic=True)
            assert one == pytest.approx(actions[-1][0], abs=1e-6)
        assert not np.array_equal(actions[0], actions[1])
        model.set_skill(0)

    def test_a_list_is_an_observation_too(self, model, observations):
        of_array, of_list = (
            model.predict(each, deterministic=True)[0] for each in (observations[0], observations[0].tolist())
        )
        assert of_list == pytest.approx(of_array)

    def test_observations_with_a_skill_are_taken_as_they_are(self, model, observations):
        joined = model.observation_space.join(observations, np.array([2, 1, 0, 1, 2]))
        action, _ = model.predict(joined, deterministic=True)
        for skill, row in zip([2, 1, 0, 1, 2], range(5), strict=True):
            model.set_skill(skill)
            assert model.predict(observations[row], deterministic=True)[0] == pytest.approx(action[row], abs=1e-6)
        model.set_skill(0)

    def test_a_skill_for_every_episode(self, observations):
        model, joined = make(), []
        predict = model.policy.predict
        model.policy.predict = lambda given, *rest: joined.append(given) or predict(given, *rest)
        model.set_skill(None)
        state = None
        for step in range(40):
            starts = np.array([step % 4 == 0, step == 0, step % 2 == 0, True, False])
            _, state = model.predict(observations, state, starts)
        seen = np.array([skills_of(each) for each in joined])
        assert (seen.reshape(10, 4, 5)[:, :, 0].std(axis=1) == 0).all()
        assert len(set(seen[:, 0])) == 3
        assert len(set(seen[:, 1])) == len(set(seen[:, 4])) == 1
        assert len(set(seen[:, 3])) == 3
        with pytest.raises(ValueError, match="pass predict state and episode_start"):
            model.predict(observations)
        single, _ = model.predict(observations[0], None, np.ones(1, dtype=bool))
        assert single.shape == (1,)

    def test_the_seed_decides_what_is_drawn(self, observations):
        def drawn(seed):
            model = make(seed=seed)
            model.set_skill(None)
            return model.predict(np.repeat(observations, 8, axis=0), None, np.ones(40, dtype=bool))[1][0].tolist()

        assert drawn(1) == drawn(1) != drawn(2)

    def test_evaluation_is_on_the_plain_environment(self, model):
        env = gym.make("Pendulum-v1")
        returns = {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Evaluation environment is not wrapped")
            for skill in (0, 1, None):
                model.set_skill(skill)
                env.reset(seed=3)
                returns[skill], _ = evaluate_policy(model, env, n_eval_episodes=2)
        model.set_skill(0)
        assert returns[0] != returns[1]
        episodes = Evaluator("Pendulum-v1", episodes=2).evaluate(model)
        assert [episode.length for episode in episodes] == [200, 200]

    @pytest.mark.parametrize("skill", [3, -1, 1.5, "first"])
    def test_a_skill_that_is_none_is_refused(self, model, skill):
        with pytest.raises(ValueError, match="is not one of 0 to 2, nor None"):
            model.set_skill(skill)


class TestSaving:
    def test_a_model_is_saved_with_its_discriminator(self, tmp_path):
        model = make().learn(80)
        model.set_skill(2)
        model.save(tmp_path / "model")
        loaded = DIAYN.load(tmp_path / "model", env=gym.make("Pendulum-v1"), device="cpu")
        assert loaded.skill == 2
        same_bits(loaded.get_parameters(), model.get_parameters())
        states = [each.discriminator.optimizer.state_dict()["state"] for each in (loaded, model)]
        assert states[0] and states[0].keys() == states[1].keys()
        before = [p.clone() for p in loaded.discriminator.parameters()]
        loaded.learn(60)
        assert not any(th.equal(p, q) for p, q in zip(loaded.discriminator.parameters(), before, strict=True))
        assert loaded.policy.discriminator is loaded.discriminator

    def test_another_number_of_environments_after_loading(self, tmp_path):
        make().save(tmp_path / "model")
        loaded = DIAYN.load(tmp_path / "model", env=make_vec_env("Pendulum-v1", n_envs=2)).learn(60)
        assert loaded.replay_buffer.observations.shape[1:] == (2, N_FEATURES + 3)

    def test_a_plain_environment_can_be_set(self):
        model = make().learn(40)
        with pytest.raises(ValueError, match="Observation spaces do not match"):
            model.set_env(Counting())
        env = gym.make("Pendulum-v1")
        model.set_env(env)
        model.learn(20, reset_num_timesteps=False)
        assert model.num_timesteps == 60
        assert model.get_env().venv.envs[0].unwrapped is env.unwrapped

    def test_its_own_environment_is_taken_as_it_is(self):
        model = make()
        env = model.get_env()
        assert make(env).get_env() is env
        model.set_env(env)
        assert model.get_env() is env

    def test_an_episode_that_goes_on_keeps_its_skill(self, tmp_path):
        model = make(TimeLimit(Counting(length=1000), 70), seed=1).learn(50)
        plain = model.get_env().venv
        skill = skills_of(model._last_obs)[0]
        assert skill != 0
        model.save(tmp_path / "model")
        model.set_env(plain, force_reset=False)
        model.learn(15, reset_num_timesteps=False)
        assert set(skills_of(model.replay_buffer.next_observations[:65, 0])) == {skill}
        assert DIAYN.load(tmp_path / "model", env=plain, force_reset=False).get_env().skills.tolist() == [skill]
        assert DIAYN.load(tmp_path / "model", env=plain).get_env().skills.tolist() == [0]

    def test_learning_goes_on_in_the_episode_it_stopped_in(self):
        model = make(TimeLimit(Counting(length=1000), 70)).learn(50)
        model.learn(30, reset_num_timesteps=False)
        skills = skills_of(model.replay_buffer.observations[:80, 0])
        assert len(set(skills[:70])) == 1
        np.testing.assert_array_equal(model.replay_buffer.observations[60:75, 0, 1], [*range(60, 70), *range(5)])


WRONG = {
    "n_skills=1 leaves nothing to tell apart": {"n_skills": 1},
    "n_skills=2.5 is not a whole number": {"n_skills": 2.5},
    "environment_reward_weight=-1 is below 0": {"environment_reward_weight": -1},
    "some of which n_steps drops": {"n_steps": 3},
    "n_steps drops": {"replay_buffer_class": NStepReplayBuffer},
    "some of which optimize_memory_usage drops": {
        **{"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    },
    r"discriminator_features=\[3\] are not positions in an observation of 3 numbers: give some of 0 to 2": {
        "policy_kwargs": {"discriminator_features": [3]}
    },
    r"discriminator_features=\[\] are not positions": {"policy_kwargs": {"discriminator_features": []}},
    r"discriminator_features='x' are not positions": {"policy_kwargs": {"discriminator_features": "x"}},
    "put gymnasium.wrappers.FlattenObservation": {"env": lambda: SimpleMultiObsEnv(discrete_actions=False)},
    "takes vectors of observations and this environment has Box": {"env": lambda: FakeImageEnv(discrete=False)},
    "takes no VecNormalize": {"env": lambda: VecNormalize(make_vec_env("Pendulum-v1"))},
    "takes no VecNormalize, which would have": {
        "env": lambda: VecNormalize(with_skills(make_vec_env("Pendulum-v1"), 3)),
    },
    "hide the skill they end with: put VecFrameStack around the plain environments": {
        "env": lambda: VecFrameStack(with_skills(make_vec_env("Pendulum-v1"), 3), 2)
    },
    "n_skills=3 is not the 4 of the saved networks": {"env": lambda: with_skills(Counting(), 4)},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_argument_is_named(message):
    arguments = dict(WRONG[message])
    env = arguments.pop("env", pendulum)()
    with pytest.raises(ValueError, match=message):
        make(env, **arguments)


def test_the_number_of_skills_cannot_be_changed_on_loading(tmp_path):
    make().save(tmp_path / "model")
    with pytest.raises(ValueError, match="n_skills=5 is not the 3 of the saved networks"):
        DIAYN.load(tmp_path / "model", n_skills=5)


def test_a_model_of_sac_is_refused_with_an_environment_too(tmp_path):
    make(constructor=SAC).save(tmp_path / "sac")
    with pytest.raises(ValueError, match="DIAYN needs a policy with a discriminator"):
        DIAYN.load(tmp_path / "sac", env=gym.make("Pendulum-v1"))


def test_bounds_and_dtype_are_the_environments():
    space = SkillSpace(spaces.Box(np.array([-1, -np.inf]), np.array([2, 5.0]), dtype=np.float64), 2)
    assert space == spaces.Box(np.array([-1, -np.inf, 0, 0]), np.array([2, 5.0, 1, 1]), dtype=np.float64)
    assert space.join(np.zeros((3, 2)), np.array([1, 0, 1])).tolist() == [[0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert isinstance(with_skills(Counting(), 2), VecSkills)


def test_the_train_command_scores_the_environments_return(tmp_path, capsys):
    arguments = ["-p", "policy_kwargs={net_arch: [8]}", "-p", "buffer_size=500", "-p", "n_skills=3", "--steps", "150"]
    path = str(tmp_path / "model.zip")
    assert main(["train", "--algo", "diayn", "--env", "Pendulum-v1", "--save", path, *arguments]) == 0
    assert "over 10 episodes" in capsys.readouterr().out
    assert DIAYN.load(path).ent_coef == 0.1
