"""Runs of commands as processes of their own, with their whole state in a folder.

A run goes on when the program that submitted it ends, and any program that opens the workspace
finds it again, with its progress.
"""

from microcalibrate.jobs.dataset import Dataset
from microcalibrate.jobs.facts import RunState
from microcalibrate.jobs.run import Run
from microcalibrate.jobs.uploads import UPLOAD_LIMIT
from microcalibrate.jobs.workspace import Workspace

__all__ = ["UPLOAD_LIMIT", "Dataset", "Run", "RunState", "Workspace"]
