from __future__ import annotations

from hypothesis import settings

# A deadline per example would fail on a busy machine, not on a slow parser; pytest's own timeout bounds the
# whole.
settings.register_profile("wirespan", deadline=None, max_examples=200)
# For a search that takes minutes: pytest tests/property --hypothesis-profile=soak --timeout=0
settings.register_profile("soak", deadline=None, max_examples=6000)
settings.load_profile("wirespan")
