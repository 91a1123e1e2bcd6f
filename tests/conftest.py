"""Settings that all tests share."""

from hypothesis import settings

# The same examples in every run, so that a failure can be seen again; no time limit for one, since
# the first call of a compiled kernel takes a second.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
