from __future__ import annotations

from hypothesis import settings

# A deadline per example would fail on a busy machine, not on a slow parser; pytest's own timeout bounds the whole.
settings.register_profile("wirespan", deadline=None)
settings.load_profile("wirespan")
