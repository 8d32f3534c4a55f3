"""PPO's policies with a second critic, of the entropy to come."""

from __future__ import annotations

import torch as th
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn


class EntropyCritic:
    """One more linear layer on the critic's last; to be placed before SB3's policy in the bases."""

    def _build(self, lr_schedule: Schedule) -> None:
        # The networks and the random numbers after them are those of PPO.
        super()._build(lr_schedule)
        with th.random.fork_rng(devices=[]):
            self.entropy_net = nn.Linear(self.mlp_extractor.latent_dim_vf, 1)
            if self.ortho_init:
                self.init_weights(self.entropy_net, gain=1)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def predict_entropy_values(self, obs: PyTorchObs) -> th.Tensor:
        """The discounted entropy to come, from the next action on, nats, ``(batch, 1)``."""
        features = BasePolicy.extract_features(self, obs, self.vf_features_extractor)
        return self.entropy_net(self.mlp_extractor.forward_critic(features))

    def evaluate_all(self, obs: PyTorchObs, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor | None, th.Tensor]:
        """SB3's ``evaluate_actions``, and of the same forward pass the entropy to come, ``(batch, 1)``."""
        features = self.extract_features(obs)
        pi_features, vf_features = (features, features) if self.share_features_extractor else features
        distribution = self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(pi_features))
        latent = self.mlp_extractor.forward_critic(vf_features)
        return self.value_net(latent), distribution.log_prob(actions), distribution.entropy(), self.entropy_net(latent)


class MlpPolicy(EntropyCritic, ActorCriticPolicy):
    """For vectors."""


class CnnPolicy(EntropyCritic, ActorCriticCnnPolicy):
    """For images."""


class MultiInputPolicy(EntropyCritic, MultiInputActorCriticPolicy):
    """For dictionaries."""
