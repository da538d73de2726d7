"""Profiles by configuration; for now the built-in one."""

from tidegate.picker.filters.healthy import HealthyFilter
from tidegate.picker.pickers.max_score import MaxScorePicker
from tidegate.picker.profile import Profile, Weighted
from tidegate.picker.scorers.load import LeastLoadScorer


def default_profile() -> Profile:
    """Return the profile of a pool that configures none: the least loaded healthy endpoint."""
    return Profile(
        filters=(HealthyFilter(),),
        scorers=(Weighted("least-load-scorer", LeastLoadScorer()),),
        picker=MaxScorePicker(),
    )
