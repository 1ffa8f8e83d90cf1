"""Chapters' kernels are not on ports, which another process can take before the kernel has them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
CELL = "from ipykernel.connect import get_connection_info\nprint(get_connection_info())"


@pytest.mark.skipif(os.name != "posix", reason="Windows' kernels listen on ports only")
def test_kernels_listen_on_files_that_are_gone_afterwards(tmp_path: Path) -> None:
    book, temporary = tmp_path / "book", tmp_path / "t"
    for folder in (book, temporary):
        folder.mkdir()
    shutil.copy2(ROOT / "book" / "conftest.py", book)
    for name in ("a", "b"):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, book / f"{name}.ipynb")
    how = [sys.executable, "-m", "pytest", "--nbmake", "--overwrite", "-p", "no:cacheprovider", "book"]
    subprocess.run(how, cwd=tmp_path, env={**os.environ, "TMPDIR": str(temporary)}, check=True, timeout=300)
    for name in ("a", "b"):
        (cell,) = nbformat.read(book / f"{name}.ipynb", as_version=4).cells
        assert '"transport": "ipc"' in "".join(output.text for output in cell.outputs)
    assert not list(temporary.iterdir())
