"""What chapters run under: kernels that listen on files.

A port that is free when it is picked can be taken before its kernel has it.
"""

import os
import tempfile
from functools import wraps
from itertools import count
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager
from nbclient.client import NotebookClient


def pytest_configure(config: pytest.Config) -> None:
    """Have this run's kernels listen in a folder, removed afterwards."""
    if os.name != "posix":
        return  # Windows' kernels listen on ports only
    folder = tempfile.TemporaryDirectory(prefix="kernels-")
    config.add_cleanup(folder.cleanup)
    number = count()
    plain = NotebookClient.create_kernel_manager

    @wraps(plain)
    def on_files(client: NotebookClient) -> KernelManager:
        manager = plain(client)
        manager.transport = "ipc"
        manager.ip = str(Path(folder.name, str(next(number))))
        return manager

    NotebookClient.create_kernel_manager = on_files

    def undo() -> None:
        NotebookClient.create_kernel_manager = plain

    config.add_cleanup(undo)
