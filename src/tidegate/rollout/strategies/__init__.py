"""Which field of which object is the weight, for each type of rollout."""
