"""Pages about results, each one file that asks no network for anything."""
