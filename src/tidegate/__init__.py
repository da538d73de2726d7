"""Tidegate: an inference gateway with rollouts built in."""
