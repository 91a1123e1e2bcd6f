"""Figures of results, for notebook, report and page alike."""
