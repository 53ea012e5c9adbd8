"""Forked processes: OpenMP's threads do not survive a fork, and torch would wait for them for ever."""

from __future__ import annotations

import os
from functools import cache

import torch


@cache
def survive_fork() -> None:
    """From now on, a process that is forked from this one computes with one thread.

    multiprocessing forks on Linux up to Python 3.13, and so do gunicorn and PyTorch's DataLoader.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
        os.register_at_fork(after_in_child=_use_one_thread)


def _use_one_thread() -> None:
    torch.set_num_threads(1)
