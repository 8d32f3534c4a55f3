"""The benchmark harness: seed grids, leaderboards and speed measurements of sb3_entropic beside its SB3 parents."""
