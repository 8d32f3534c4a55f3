"""Feature extractors that show in which order the networks are evaluated."""

import torch as th
from stable_baselines3.common.torch_layers import FlattenExtractor


class BatchNormExtractor(FlattenExtractor):
    """Its running statistics depend on the order of the forward passes."""

    def __init__(self, observation_space):
        super().__init__(observation_space)
        self.norm = th.nn.BatchNorm1d(self.features_dim)

    def forward(self, observations):
        return self.norm(super().forward(observations))


class DropoutExtractor(FlattenExtractor):
    """Its masks come from the generator that the actions' noise comes from."""

    def __init__(self, observation_space):
        super().__init__(observation_space)
        self.dropout = th.nn.Dropout(0.2)

    def forward(self, observations):
        return self.dropout(super().forward(observations))
