"""Bytes by name: what is verified, where it is looked for, and every way a download can fail."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tlhelpers import downloads

BODY = b"the right bytes " * 1000
NAME = "thing.bin"
WEIGHTS = "mobilenet_v2_1.00_224_no_top.h5"


class Server(ThreadingHTTPServer):
    """Serves each kind of good and bad answer under a path of its own, and counts requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.gets: list[str] = []
        self.archive = b""
        self.second_get = threading.Event()
        self.both_ready = threading.Event()
        self.over = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.gets.append(self.path)
        if len(self.server.gets) > 1:
            self.server.second_get.set()
        with contextlib.suppress(ConnectionError):  # the client hangs up, as it should
            getattr(self, self.path[1:])()

    def log_message(self, *args: object) -> None:
        pass

    def start(self, length: int | None) -> None:
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def good(self) -> None:
        self.start(len(BODY))
        self.wfile.write(BODY)

    def good_once_both_ask(self) -> None:
        self.server.both_ready.wait(60)
        self.server.second_get.wait(0.5)  # room for a second request, which must not come
        self.good()

    def truncated(self) -> None:
        self.start(len(BODY))
        self.wfile.write(BODY[:100])

    def wrong(self) -> None:
        self.start(len(BODY))
        self.wfile.write(BODY[::-1])

    def archive(self) -> None:
        self.start(len(self.server.archive))
        self.wfile.write(self.server.archive)

    def archive_truncated(self) -> None:
        self.start(len(self.server.archive))
        self.wfile.write(self.server.archive[:-100])

    def missing(self) -> None:
        self.send_error(404)

    def endless(self) -> None:
        self.start(None)
        for _ in range(1000):  # 16 MB: endless enough, and a client without a limit fails soon
            self.wfile.write(BODY)

    def stalled(self) -> None:
        self.start(len(BODY))
        self.wfile.write(BODY[:100])
        self.server.over.wait(20)

    def trickle(self) -> None:
        self.start(len(BODY))
        for byte in BODY[:400]:
            self.wfile.write(bytes([byte]))
            if self.server.over.wait(0.05):
                return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.over.set()
        server.both_ready.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TLHELPERS_DATA", raising=False)
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def check(path: Path) -> None:
    if path.read_bytes() != BODY:
        raise ValueError("expected the right bytes")


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., downloads.Resource]:
    def register(*urls: str, **more: object) -> downloads.Resource:
        resource = downloads.Resource(
            **{  # type: ignore[arg-type]
                "filename": NAME,
                "urls": urls,
                "check": check,
                "licence": "none",
                "source": "this test",
                "max_bytes": 3 * len(BODY),
                "content": "bytes",
                **more,
            }
        )
        monkeypatch.setitem(downloads.RESOURCES, resource.filename, resource)
        return resource

    return register


def left_behind(cache: Path) -> list[str]:
    """Name what a download left in the cache folder, locks apart."""
    return sorted(path.name for path in cache.glob("*") if path.name != "locks")


# -- from the official address -------------------------------------------------------------------


def test_a_download_is_verified_and_kept(server, register, cache):
    register(server.url("/good"))
    path = downloads.fetch(NAME)
    assert path == cache / NAME
    assert path.read_bytes() == BODY
    assert downloads.fetch(NAME) == path
    assert server.gets == ["/good"]
    assert left_behind(cache) == [NAME]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/truncated", "expected the whole file, got a part"),
        ("/wrong", r"wrong content: expected the right bytes \(got 16,000 bytes with sha256 [0-9a-f]{16}"),
        ("/missing", "expected HTTP 200, got 404"),
        ("/endless", "expected at most 48,000 bytes, got more"),
    ],
)
def test_a_bad_answer_is_one_clear_error(server, register, cache, path, message):
    register(server.url(path))
    with pytest.raises(downloads.DownloadError, match=message) as caught:
        downloads.fetch(NAME)
    assert server.url(path) in str(caught.value)
    assert "TLHELPERS_DATA" in str(caught.value)
    assert left_behind(cache) == []


def test_a_silent_server_is_given_up(server, register, cache, monkeypatch):
    monkeypatch.setattr(downloads, "STALL_S", 0.3)
    register(server.url("/stalled"))
    with pytest.raises(downloads.DownloadError, match=r"expected data within 0\.3 s, got none"):
        downloads.fetch(NAME)
    assert left_behind(cache) == []


def test_a_trickle_is_given_up_at_the_deadline(server, register, cache, monkeypatch):
    monkeypatch.setattr(downloads, "DEADLINE_S", 0.5)
    register(server.url("/trickle"))
    with pytest.raises(downloads.DownloadError, match=r"expected an end within 0\.5 s"):
        downloads.fetch(NAME)
    assert left_behind(cache) == []


def test_nobody_listening(register, cache):
    register("http://127.0.0.1:9/thing")
    with pytest.raises(downloads.DownloadError, match="expected an answer, got ConnectionError"):
        downloads.fetch(NAME)


def test_the_second_address_stands_in_for_the_first(server, register, cache):
    register(server.url("/missing"), server.url("/good"))
    assert downloads.fetch(NAME).read_bytes() == BODY
    assert server.gets == ["/missing", "/good"]


def test_two_processes_make_one_download(server, register, cache):
    script = f"""
import sys
from pathlib import Path
import filelock, pooch, requests, tqdm  # so that both ask at the same moment
from tlhelpers import downloads
downloads.RESOURCES[{NAME!r}] = downloads.Resource(
    {NAME!r}, ({server.url("/good_once_both_ask")!r},), Path.read_bytes, "", "", {2 * len(BODY)}, "")
print("ready", flush=True)
print(downloads.fetch({NAME!r}))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        server.both_ready.set()
        paths = [process.communicate(timeout=60)[0].strip() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert paths == [str(cache / NAME)] * 2
    assert (cache / NAME).read_bytes() == BODY
    assert server.gets == ["/good_once_both_ask"]


# -- from the mirror folder and the cache --------------------------------------------------------


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("TLHELPERS_DATA", str(folder))
    return folder


def test_the_mirror_comes_first(server, register, mirror):
    register(server.url("/good"))
    (mirror / NAME).write_bytes(BODY)
    assert downloads.fetch(NAME) == downloads.find(NAME) == mirror / NAME
    assert server.gets == []


def test_a_file_missing_from_the_mirror_is_looked_for_elsewhere(server, register, mirror, cache):
    register(server.url("/good"))
    assert downloads.find(NAME) is None
    assert downloads.fetch(NAME) == cache / NAME


def test_a_bad_file_in_the_mirror_is_an_error_that_names_it(server, register, mirror):
    register(server.url("/good"))
    (mirror / NAME).write_bytes(b"other")
    with pytest.raises(downloads.DownloadError, match=r"mirror.*thing\.bin: wrong content.*TLHELPERS_DATA"):
        downloads.fetch(NAME)
    assert server.gets == []
    assert (mirror / NAME).read_bytes() == b"other"


def test_a_bad_file_in_the_cache_is_fetched_again(server, register, cache):
    register(server.url("/good"))
    cache.mkdir()
    (cache / NAME).write_bytes(BODY[:500])
    with pytest.warns(UserWarning, match=r"thing\.bin is not used: wrong content"):
        assert downloads.fetch(NAME).read_bytes() == BODY
    assert server.gets == ["/good"]


def test_a_bad_file_in_the_cache_is_gone_even_if_the_address_fails(server, register, cache):
    register(server.url("/missing"))
    cache.mkdir()
    (cache / NAME).write_bytes(BODY[:500])
    with pytest.warns(UserWarning, match="not used"), pytest.raises(downloads.DownloadError):
        downloads.fetch(NAME)
    assert left_behind(cache) == []


def test_a_file_that_changed_since_is_verified_again(server, register, cache):
    register(server.url("/good"))
    path = downloads.fetch(NAME)
    assert downloads.find(NAME) == path
    path.write_bytes(b"spoiled")
    with pytest.warns(UserWarning, match="not used"):
        assert downloads.find(NAME) is None


def test_what_is_half_written_is_never_found(register, cache):
    register()
    (cache / ".partial-1").mkdir(parents=True)
    (cache / ".partial-1" / NAME).write_bytes(BODY)
    assert downloads.find(NAME) is None


def test_data_folder_that_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("TLHELPERS_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(downloads.DownloadError, match=r"expected a folder, got nothing there at .*nowhere"):
        downloads.find("mnist.npz")


def test_no_data_folder(monkeypatch):
    monkeypatch.setenv("TLHELPERS_DATA", "")
    assert downloads.data_folder() is None


def test_an_unknown_name_gets_a_hint():
    with pytest.raises(LookupError, match=r"unknown file 'mnist': .*did you mean 'mnist\.npz'\?"):
        downloads.fetch("mnist")


# -- a disk that refuses -------------------------------------------------------------------------


def test_an_unwritable_cache_folder(server, register, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "file" / "cache"))
    register(server.url("/good"))
    with pytest.raises(downloads.DownloadError, match=r"expected a folder to write to.*TLHELPERS_CACHE"):
        downloads.fetch(NAME)
    assert server.gets == []


def test_a_folder_in_the_place_of_the_cached_file(server, register, cache):
    register(server.url("/good"))
    (cache / NAME).mkdir(parents=True)
    with (
        pytest.warns(UserWarning, match="not used"),
        pytest.raises(downloads.DownloadError, match=r"can't be kept: .*TLHELPERS_CACHE"),
    ):
        downloads.fetch(NAME)
    assert server.gets == []


def test_a_full_disk_while_downloading(server, register, cache, monkeypatch):
    def write(self: object, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads._BoundedFile, "write", write)
    register(server.url("/good"))
    with pytest.raises(downloads.DownloadError, match=r"got a full disk.*TLHELPERS_CACHE"):
        downloads.fetch(NAME)
    assert left_behind(cache) == []


# -- what counts as the right content ------------------------------------------------------------


def fake_mnist(path: Path, **changes: object) -> Path:
    arrays = {
        "x_train": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        "y_train": np.array([1, 2], np.uint8),
        "x_test": np.arange(12, dtype=np.uint8).reshape(1, 3, 4),
        "y_test": np.array([3], np.uint8),
    } | changes
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expect a tiny MNIST, its idx files written down byte by byte."""
    idx = {
        "x_train": b"\0\0\x08\x03" + b"\0\0\0\x02\0\0\0\x03\0\0\0\x04" + bytes(range(24)),
        "y_train": b"\0\0\x08\x01" + b"\0\0\0\x02" + b"\x01\x02",
        "x_test": b"\0\0\x08\x03" + b"\0\0\0\x01\0\0\0\x03\0\0\0\x04" + bytes(range(12)),
        "y_test": b"\0\0\x08\x01" + b"\0\0\0\x01" + b"\x03",
    }
    digests = {name: hashlib.md5(data).hexdigest() for name, data in idx.items()}
    monkeypatch.setattr(downloads, "_MNIST_MD5", digests)


@pytest.mark.usefixtures("small_mnist")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_mnist_is_told_by_its_content_in_any_container(tmp_path, save):
    with np.load(fake_mnist(tmp_path / "a.npz")) as arrays:
        save(tmp_path / "b.npz", **dict(arrays))
    downloads._check_mnist(tmp_path / "b.npz")


@pytest.mark.usefixtures("small_mnist")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": np.array([4], np.uint8)}, "expected y_test with idx md5"),
        ({"y_test": np.array([3], np.int64)}, "expected y_test to be uint8, got int64"),
        ({"x_test": np.arange(12, dtype=np.uint8).reshape(1, 4, 3)}, "expected x_test with idx md5"),
        ({"x_train": None}, "expected the arrays .*x_train"),
    ],
)
def test_mnist_with_other_content(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        downloads._check_mnist(fake_mnist(tmp_path / "a.npz", **changes))


def test_mnist_in_the_mirror_that_is_no_archive(mirror):
    (mirror / "mnist.npz").write_bytes(b"<html>please log in</html>")
    with pytest.raises(downloads.DownloadError, match="wrong content: File is not a zip file"):
        downloads.fetch("mnist.npz")


def fake_weights(
    path: Path, change: Callable[[list[tuple[str, np.ndarray]]], None] = lambda tensors: None
) -> Path:
    """Write zeros in the old Keras layout: groups of layers, names in attributes."""
    kinds = ["kernel:0", "gamma:0", "beta:0", "moving_mean:0", "moving_variance:0"]
    shapes = downloads._mobilenet_v2_shapes()
    tensors = [(f"l{i}/{kinds[i % 5]}", np.zeros(shape, np.float32)) for i, shape in enumerate(shapes)]
    change(tensors)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.split("/")[0].encode() for name, _ in tensors]
        for name, tensor in tensors:
            group = file.create_group(name.split("/")[0])
            group.attrs["weight_names"] = [name.encode()]
            # Every value of a tensor is the same here, so HDF5 need not store any.
            group.create_dataset(name, shape=tensor.shape, dtype=tensor.dtype, fillvalue=tensor.flat[0])
    return path


def test_weights_of_the_right_structure_pass(tmp_path):
    downloads._check_mobilenet_v2(fake_weights(tmp_path / "w.h5"))


def spoil(tensors: list[tuple[str, np.ndarray]]) -> None:
    tensors[7][1][...] = np.nan


def shorten(tensors: list[tuple[str, np.ndarray]]) -> None:
    del tensors[7]


def turn(tensors: list[tuple[str, np.ndarray]]) -> None:
    tensors[0] = (tensors[0][0], np.zeros((3, 3, 32, 3), np.float32))


def swap(tensors: list[tuple[str, np.ndarray]]) -> None:
    name, tensor = tensors[-5]
    tensors[-5] = (name, tensor.transpose(0, 1, 3, 2))


def halve(tensors: list[tuple[str, np.ndarray]]) -> None:
    tensors[0] = (tensors[0][0], tensors[0][1].astype(np.float16))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil, "expected finite weights, got NaN or infinity in l7"),
        (shorten, "expected 52 each"),
        (turn, r"expected the first kernel to be \(3, 3, 3, 32\), got \(3, 3, 32, 3\)"),
        (swap, "expected the tensor shapes of MobileNetV2"),
        (halve, "to be float32, got float16"),
    ],
)
def test_weights_of_another_structure(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        downloads._check_mobilenet_v2(fake_weights(tmp_path / "w.h5", change))


def test_weights_that_are_no_weights(mirror):
    (mirror / WEIGHTS).write_bytes(BODY)
    with pytest.raises(downloads.DownloadError, match="wrong content"):
        downloads.fetch(WEIGHTS)


# -- flower photos -------------------------------------------------------------------------------

TGZ, ZIP = "flower_photos.tgz", "flowers_ccby_160px_1000.zip"
HEADER = ["file", "author", "url", "licence", "source_git_blob", "change"]


def jpeg(
    size: tuple[int, int] = (160, 160), *, mode: str = "RGB", shade: int = 0, kind: str = "JPEG"
) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, shade).save(file, kind)
    return file.getvalue()


def git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob " + str(len(data)).encode() + b"\0" + data).hexdigest()


ORIGINALS = {
    "daisy/a.jpg": jpeg((240, 180), shade=10),
    "daisy/b.jpg": jpeg((180, 320), shade=100),
    "tulips/a.jpg": jpeg((200, 200), shade=200),
}


def test_git_hashes_like_that():
    # What `printf hello | git hash-object --stdin` answers.
    assert git_blob(b"hello") == "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"


@pytest.fixture
def three_flowers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Expect three photos in the place of the thousand."""
    rows = [
        dict(zip(HEADER, [file, "Zoë", "https://z.example", "CC BY 2.0", git_blob(data), "cut"], strict=True))
        for file, data in ORIGINALS.items()
    ]
    monkeypatch.setattr(downloads, "flower_rows", lambda: tuple(rows))
    return rows


def tgz(members: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for info in more:
            archive.addfile(info)
        for name, data in {"flower_photos/LICENSE.txt": b"by", **members}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


GOOD = {f"flower_photos/{file}": data for file, data in ORIGINALS.items()}


@pytest.fixture
def served(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Serve an archive in the place of the official one."""

    def served(archive: bytes, path: str = "/archive") -> None:
        server.archive = archive
        resource = dataclasses.replace(downloads.RESOURCES[TGZ], urls=(server.url(path),))
        monkeypatch.setitem(downloads.RESOURCES, TGZ, resource)

    return served


@pytest.mark.usefixtures("three_flowers")
def test_flowers_out_of_the_official_archive(served, cache, capfd):
    served(tgz({"flower_photos/daisy/unlicensed.jpg": b"not taken", **GOOD}))
    path = downloads.fetch(TGZ)
    assert path == cache / TGZ
    assert dict(downloads.flower_photos(path)) == dict(enumerate(ORIGINALS.values()))
    assert left_behind(cache) == [TGZ]  # packed, and nothing beside it
    host = "127.0.0.1"
    assert f"flower_photos.tgz: about 229 MB will be downloaded from {host}" in capfd.readouterr().err


def test_a_short_download_is_not_announced(server, register, capfd):
    register(server.url("/good"))
    downloads.fetch(NAME)
    assert "will be downloaded" not in capfd.readouterr().err


def linked(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
    return info


def heavy(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = 500_000_000
    return info


def damaged(archive: bytes) -> bytes:
    middle = len(archive) // 2
    return archive[:middle] + bytes([archive[middle] ^ 0xFF]) + archive[middle + 1 :]


def without(file: str) -> dict[str, bytes]:
    return {name: data for name, data in GOOD.items() if not name.endswith(file)}


@pytest.mark.usefixtures("three_flowers")
@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (tgz(without("daisy/b.jpg")), "expected 3 photos, got 2; one that is missing is .*daisy/b"),
        (
            tgz(GOOD | {"flower_photos/daisy/b.jpg": ORIGINALS["daisy/a.jpg"]}),
            f"daisy/b.jpg with git blob hash {git_blob(ORIGINALS['daisy/b.jpg'])}, got ",
        ),
        (tgz(without("tulips/a.jpg"), linked("flower_photos/tulips/a.jpg")), "got 2; .*tulips/a"),
        (
            tgz(without("tulips/a.jpg") | {"../flower_photos/tulips/a.jpg": ORIGINALS["tulips/a.jpg"]}),
            "got 2; .*tulips/a",
        ),
        (tgz({}, heavy("flower_photos/film.avi")), "expected about 230 MB of photos, got over 400 MB"),
        (tgz(GOOD)[:-400], "wrong content"),
        (damaged(tgz(GOOD)), "wrong content"),
        (b"<html>please log in</html>", "expected a gzip or zip archive, got neither"),
        (b"", "expected a gzip or zip archive, got neither"),
    ],
    ids=["missing", "hash", "link", "hostile", "bomb", "cut", "damaged", "page", "empty"],
)
def test_an_official_archive_that_is_none(served, cache, archive, message):
    served(archive)
    with pytest.raises(downloads.DownloadError, match=message):
        downloads.fetch(TGZ)
    assert left_behind(cache) == []


@pytest.mark.usefixtures("three_flowers")
def test_an_archive_cut_on_its_way(served, cache):
    served(tgz(GOOD), "/archive_truncated")
    with pytest.raises(downloads.DownloadError, match="expected the whole file, got a part"):
        downloads.fetch(TGZ)
    assert left_behind(cache) == []


@pytest.mark.usefixtures("three_flowers")
def test_hostile_names_write_nothing(served, cache, tmp_path):
    served(
        tgz({"../outside.jpg": b"1", f"{tmp_path}/outside.jpg": b"2", "flower_photos/../../x": b"3", **GOOD})
    )
    assert len(list(downloads.flower_photos(downloads.fetch(TGZ)))) == 3
    written = {path.name for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "locks"}
    assert written == {TGZ}


def cropped(rows: list[dict[str, str]], changes: dict[str, bytes | None] | None = None) -> bytes:
    """Pack the small archive; ``changes`` replace its members or, where None, leave them out."""
    table = io.StringIO()
    writer = csv.DictWriter(table, HEADER, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    members = {row["file"]: jpeg(shade=i) for i, row in enumerate(rows)}
    members |= {"ATTRIBUTION.csv": table.getvalue().encode(), **(changes or {})}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            if data is not None:
                archive.writestr(name, data)
    return file.getvalue()


def test_flowers_out_of_the_small_archive(server, three_flowers, mirror):
    (mirror / ZIP).write_bytes(cropped(three_flowers))
    path = downloads.fetch(TGZ)
    assert path == mirror / ZIP
    assert dict(downloads.flower_photos(path)) == {i: jpeg(shade=i) for i in range(3)}
    assert downloads.describe(TGZ).startswith(f"{ZIP}: sha256 ")
    assert "the official file" not in downloads.describe(TGZ).replace("as the official file", "")


def test_the_official_archive_goes_before_the_small_one(three_flowers, mirror):
    (mirror / ZIP).write_bytes(cropped(three_flowers))
    (mirror / TGZ).write_bytes(tgz(GOOD))
    assert downloads.find(TGZ) == mirror / TGZ


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"daisy/b.jpg": None}, "expected 3 photos and ATTRIBUTION.csv, got an archive without daisy/b.jpg"),
        ({"ATTRIBUTION.csv": None}, "got an archive without ATTRIBUTION.csv"),
        ({"../x.jpg": b"1"}, r"got an archive with \.\./x\.jpg"),
        (
            {"ATTRIBUTION.csv": b"file,author\ndaisy/a.jpg,me\n"},
            "expected the ATTRIBUTION.csv of this package",
        ),
        (
            {"daisy/b.jpg": jpeg((160, 120))},
            "expected daisy/b.jpg to be RGB of 160 by 160.*RGB of 160 by 120",
        ),
        ({"daisy/b.jpg": jpeg(mode="L")}, "expected daisy/b.jpg to be RGB .* got L of 160 by 160"),
        ({"daisy/b.jpg": jpeg(kind="PNG")}, "cannot identify image"),
        ({"daisy/b.jpg": b"\0" * 41_000_000}, "expected about 9 MB of photos, got 41,0"),
    ],
)
def test_a_small_archive_that_is_none(three_flowers, mirror, changes, message):
    (mirror / ZIP).write_bytes(cropped(three_flowers, changes))
    with pytest.raises(downloads.DownloadError, match=rf"{ZIP}: wrong content: .*{message}"):
        downloads.fetch(TGZ)


def test_a_small_archive_with_a_flipped_byte(three_flowers, mirror):
    archive = bytearray(cropped(three_flowers))
    archive[archive.index(b"daisy/b.jpg") + 40] ^= 0xFF
    (mirror / ZIP).write_bytes(archive)
    with pytest.raises(downloads.DownloadError, match="wrong content"):
        downloads.fetch(TGZ)


def test_the_table_of_flowers_names_an_author_and_a_place_for_each_photo():
    rows = downloads.flower_rows()
    assert list(rows[0]) == HEADER
    assert len({row["file"] for row in rows}) == len(rows) == 1000
    for row in rows:
        assert row["author"].strip()
        assert re.fullmatch(r"[a-z]+/\w+\.jpg", row["file"])
        assert re.fullmatch(r"https://www\.flickr\.com/photos/[\w@-]+/\d+/", row["url"])
        assert row["url"].split("/")[-2] == row["file"].split("/")[1].split("_")[0]
        assert re.fullmatch("[0-9a-f]{40}", row["source_git_blob"])
        assert row["licence"] == "CC BY 2.0"


# -- chest X-rays --------------------------------------------------------------------------------

XRAYS = "pneumoniamnist.npz"


def xrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 6), ("val", 4), ("test", 5)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, 28, 28), np.uint8)
        arrays[f"{part}_labels"] = (np.arange(n, dtype=np.uint8) % 2)[:, None]
    return arrays


@pytest.fixture
def few_xrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expect the fifteen images of xrays(), the digests written down step by step."""
    arrays = xrays()
    known = {}
    for part in ("train", "val", "test"):
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        keys = [
            hashlib.sha256(images[i].tobytes() + bytes([labels[i, 0]])).hexdigest()
            for i in range(len(images))
        ]
        known[part] = (len(keys), hashlib.sha256("".join(sorted(keys)).encode()).hexdigest())
    monkeypatch.setattr(downloads, "_PNEUMONIA", known)


def npz(**changes: np.ndarray | None) -> bytes:
    file = io.BytesIO()
    arrays = {**xrays(), **changes}
    np.savez_compressed(file, **{name: array for name, array in arrays.items() if array is not None})
    return file.getvalue()


@pytest.mark.usefixtures("few_xrays")
def test_xrays_come_in_one_order_whatever_theirs_was(mirror):
    (mirror / XRAYS).write_bytes(npz())
    first = downloads.pneumonia_parts(downloads.fetch(XRAYS))
    (mirror / XRAYS).unlink()
    arrays = xrays()
    turned = {name: array[::-1] for name, array in arrays.items()}
    other = mirror / "pneumoniamnist_rebuilt.npz"
    other.write_bytes(npz(**turned))
    assert downloads.fetch(XRAYS) == other
    second = downloads.pneumonia_parts(other)
    for part in ("train", "val", "test"):
        for one, two in zip(first[part], second[part], strict=True):
            assert np.array_equal(one, two)
        pairs = {(image.tobytes(), int(label)) for image, label in zip(*first[part], strict=True)}
        theirs = zip(arrays[f"{part}_images"], arrays[f"{part}_labels"][:, 0], strict=True)
        assert pairs == {(image.tobytes(), int(label)) for image, label in theirs}


@pytest.mark.usefixtures("few_xrays")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_images": None}, "expected the arrays .* got none named .*val_images"),
        (
            {"val_labels": xrays()["val_labels"][:, 0]},
            r"expected val_labels to be uint8 \(4, 1\), got uint8 \(4,\)",
        ),
        (
            {"val_images": xrays()["val_images"] / 255},
            r"expected val_images to be uint8 \(4, 28, 28\), got float64",
        ),
        ({"test_images": xrays()["test_images"][:4]}, r"expected test_images to be uint8 \(5, 28, 28\)"),
        ({"val_labels": xrays()["val_labels"] * 2}, "expected val_labels of 0 and 1, got 2"),
        ({"val_labels": 1 - xrays()["val_labels"]}, "expected the images and labels of val with digest"),
        ({"val_images": xrays()["val_images"][::-1]}, "expected the images and labels of val with digest"),
        ({"more": np.zeros(7_000_000, np.uint8)}, "expected about 4.6 MB of arrays, got 7,"),
    ],
)
def test_xrays_with_other_content(mirror, changes, message):
    (mirror / XRAYS).write_bytes(npz(**changes))
    with pytest.raises(downloads.DownloadError, match=f"wrong content: {message}"):
        downloads.fetch(XRAYS)


@pytest.mark.usefixtures("few_xrays")
def test_xrays_from_the_official_address(server, cache, monkeypatch):
    resource = dataclasses.replace(downloads.RESOURCES[XRAYS], urls=(server.url("/archive"),))
    monkeypatch.setitem(downloads.RESOURCES, XRAYS, resource)
    server.archive = npz()[:-50]
    with pytest.raises(downloads.DownloadError, match="wrong content: File is not a zip file"):
        downloads.fetch(XRAYS)
    server.archive = npz()
    assert downloads.fetch(XRAYS) == cache / XRAYS
    assert "same content as the official file in another container" in downloads.describe(XRAYS)


@pytest.mark.usefixtures("few_xrays")
def test_official_xrays_that_are_not_those_known_are_taken_with_a_warning(mirror, monkeypatch):
    (mirror / XRAYS).write_bytes(npz(val_labels=1 - xrays()["val_labels"]))
    md5 = hashlib.md5((mirror / XRAYS).read_bytes()).hexdigest()
    monkeypatch.setattr(downloads, "_PNEUMONIA_MD5", md5)
    resource = dataclasses.replace(downloads.RESOURCES[XRAYS], md5=md5)
    monkeypatch.setitem(downloads.RESOURCES, XRAYS, resource)
    with pytest.warns(UserWarning, match="is the official file, yet expected .* val with digest"):
        assert downloads.fetch(XRAYS) == mirror / XRAYS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert downloads.describe(XRAYS).endswith("..., the official file")


# -- sentences, word vectors, a sentence encoder --------------------------------------------------

RT, UCI, GLOVE = "rt-polaritydata.tar.gz", "sentiment_labelled_sentences.zip", "glove.6B.zip"
RT_FILES = {"rt-polarity.neg": b"dull\nbad caf\xe9 \n", "rt-polarity.pos": b"fine \x85 really\n\ngood\n"}
UCI_FILES = {
    f"{name}_labelled.txt": f"{name} is good\t1\nbad {name}\t0\n".encode()
    for name in ("amazon_cells", "imdb", "yelp")
}


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def few_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lines in each file, and their digests."""
    for name, files in ((RT, RT_FILES), (UCI, UCI_FILES)):
        names, _, encoding, _ = downloads._REVIEWS[name]
        lines = [
            line.strip()
            for file in names
            for line in files[file].decode(encoding).split("\n")
            if line.strip()
        ]
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        monkeypatch.setitem(downloads._REVIEWS, name, (names, 2, encoding, digest))


@pytest.fixture
def offer(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Serve bytes in the place of a resource's official address."""

    def offer(name: str, archive: bytes, path: str = "/archive") -> None:
        server.archive = archive
        resource = dataclasses.replace(downloads.RESOURCES[name], urls=(server.url(path),))
        monkeypatch.setitem(downloads.RESOURCES, name, resource)

    return offer


def official(name: str, **changes: bytes | None) -> bytes:
    """The archive as its makers pack it: in a folder, with other files."""
    files = {**(RT_FILES if name == RT else UCI_FILES), **changes}
    kept = {f"a folder/{file}": data for file, data in files.items() if data is not None}
    if name == RT:
        return tgz({"rt-polaritydata.README.1.0.txt": b"read me", **kept})
    return zipped({"__MACOSX/a folder/imdb_labelled.txt": b"junk", "a folder/readme.txt": b"read me", **kept})


@pytest.mark.usefixtures("few_sentences")
@pytest.mark.parametrize("name", [RT, UCI])
def test_sentences_from_the_official_archive_and_from_loose_files(offer, cache, mirror, name):
    offer(name, official(name))
    path = downloads.fetch(name)
    assert path == cache / name
    lines = downloads.review_lines(name, path)
    if name == RT:
        assert lines == {
            "rt-polarity.neg": ("dull", "bad café"),
            "rt-polarity.pos": ("fine \x85 really", "good"),
        }
    also = mirror / downloads.RESOURCES[name].also[0]
    also.parent.mkdir(exist_ok=True)
    for file, data in (RT_FILES if name == RT else UCI_FILES).items():
        (also.parent / file).write_bytes(data)
    assert downloads.fetch(name) == also
    assert downloads.review_lines(name, also) == lines


@pytest.mark.usefixtures("few_sentences")
@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (RT, {"rt-polarity.neg": None}, "expected rt-polarity.neg, rt-polarity.pos, got no rt-polarity.neg"),
        (RT, {"rt-polarity.neg": b"dull\n"}, "expected 2 lines in rt-polarity.neg, got 1"),
        (RT, {"rt-polarity.neg": b"dull\nworse\n"}, "expected the sentences with digest"),
        (RT, {"rt-polarity.neg": bytes(3_000_000)}, "expected at most 2,000,000 bytes in rt-polarity.neg"),
        (UCI, {"imdb_labelled.txt": None}, "got no imdb_labelled.txt"),
        (UCI, {"imdb_labelled.txt": b"\xff\n"}, "can't decode byte 0xff"),
        (UCI, {"imdb_labelled.txt": b"good\t0\nbad\t0\n"}, "expected the sentences with digest"),
        (
            UCI,
            {"imdb_labelled.txt": bytes(3_000_000)},
            "expected at most 2,000,000 bytes in imdb_labelled.txt",
        ),
    ],
)
def test_an_archive_of_other_sentences(offer, cache, name, changes, message):
    offer(name, official(name, **changes))
    with pytest.raises(downloads.DownloadError, match=message):
        downloads.fetch(name)
    assert left_behind(cache) == []


@pytest.mark.parametrize("name", [RT, UCI, GLOVE])
def test_sentences_and_vectors_cut_on_their_way(offer, cache, name):
    offer(name, official(name) if name != GLOVE else zipped({"glove.6B.50d.txt": b"x"}), "/archive_truncated")
    with pytest.raises(downloads.DownloadError, match="can't be downloaded"):
        downloads.fetch(name)
    assert left_behind(cache) == []


def test_one_of_two_loose_files_is_not_enough(mirror):
    (mirror / "rt-polarity.pos").write_bytes(b"good\n" * 5331)
    with pytest.raises(downloads.DownloadError, match=r"rt-polarity.pos: .* got no rt-polarity.neg"):
        downloads.fetch(RT)


def glove(
    rows: int = 6, numbers: int = 50, words: tuple[str, ...] = ("the", ",", ".", "caf\u00e9", "of", "to")
) -> str:
    return "".join(f"{word} {' '.join(['0.5'] * numbers)}\n" for word in words[:rows])


@pytest.fixture
def four_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "WORD_VECTORS", 4)


@pytest.mark.usefixtures("four_words")
def test_word_vectors_of_either_file_are_the_first(offer, mirror, capfd):
    offer(GLOVE, zipped({"glove.6B.50d.txt": glove().encode(), "glove.6B.300d.txt": b"not read"}))
    words, vectors = downloads.word_vectors(downloads.fetch(GLOVE))
    assert "glove.6B.zip: about 862 MB will be downloaded from" in capfd.readouterr().err
    assert words == ("the", ",", ".", "caf\u00e9")
    assert (vectors.dtype, vectors.shape) == (np.float32, (4, 50))
    small = {line.split()[0]: [float(x) for x in line.split()[1:]] for line in glove().splitlines()}
    (mirror / "glove-50d-5k.json").write_text(json.dumps(small))
    again, same = downloads.word_vectors(downloads.fetch(GLOVE))
    assert again == words
    np.testing.assert_array_equal(same, vectors)


@pytest.mark.usefixtures("four_words")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (glove(rows=3), "expected 4 words, got 3"),
        (glove(numbers=49), "expected 50 finite numbers for each word, got others for 'the'"),
        (glove().replace("0.5", "nan"), "expected 50 finite numbers"),
        (glove().replace("the", "eht"), "expected words by frequency"),
        (glove(words=("the", ",", ".", "the")), "expected words by frequency"),
    ],
)
def test_word_vectors_that_are_none(offer, cache, text, message):
    offer(GLOVE, zipped({"glove.6B.50d.txt": text.encode()}))
    with pytest.raises(downloads.DownloadError, match=message):
        downloads.fetch(GLOVE)
    assert left_behind(cache) == []


MINILM = "all-MiniLM-L6-v2"


def test_a_name_with_a_folder_is_kept_in_that_folder(offer, cache):
    config = json.dumps({**downloads._MINILM_CONFIG, "more": 1}).encode()
    offer(f"{MINILM}/config.json", config)
    path = downloads.fetch(f"{MINILM}/config.json")
    assert path == cache / MINILM / "config.json"
    assert path.read_bytes() == config
    assert downloads.find(f"{MINILM}/config.json") == path
    assert [each.name for each in (cache / MINILM).iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("file", "body", "message"),
    [
        ("config.json", b'{"model_type": "gpt2"}', "expected model_type to be 'bert', got 'gpt2'"),
        ("config.json", b"<html>", "wrong content"),
        ("vocab.txt", b"[PAD]\n[UNK]\n", "expected 30,522 tokens with digest .* got 2"),
        ("model.safetensors", bytes(100), "expected sha256 53aa51172d142c89"),
    ],
)
def test_an_encoder_of_other_content(offer, cache, file, body, message, capfd):
    offer(f"{MINILM}/{file}", body)
    with pytest.raises(downloads.DownloadError, match=message):
        downloads.fetch(f"{MINILM}/{file}")
    assert not list(cache.rglob(file))
    announced = "model.safetensors: about 91 MB will be downloaded" in capfd.readouterr().err
    assert announced == (file == "model.safetensors")


@pytest.mark.parametrize("name", list(downloads.RESOURCES))
def test_the_real_files(full_data, name):
    resource = downloads.RESOURCES[name]
    here = [full_data / each for each in (name, *resource.also) if (full_data / each).is_file()]
    if not here:
        pytest.skip(f"needs {' or '.join((name, *resource.also))} in TLHELPERS_DATA")
    assert downloads.fetch(name) == here[0]
    assert re.search(r"official|rebuilt|verified", downloads.describe(name))


# -- which variant -------------------------------------------------------------------------------


def test_describe_tells_the_variants_apart(register, mirror):
    register()
    assert downloads.describe(NAME) == "thing.bin: not on this machine yet"
    (mirror / NAME).write_bytes(BODY)
    digest = downloads._digest(mirror / NAME)
    assert (
        downloads.describe(NAME)
        == f"thing.bin: sha256 {digest[:8]}..., bytes verified; official digest unknown"
    )
    register(variants={digest: "rebuilt"})
    assert downloads.describe(NAME).endswith("..., rebuilt; official digest unknown")
    register(sha256=digest)
    assert downloads.describe(NAME).endswith("..., the official file")
    register(sha256="0" * 64)
    assert "same content as the official file in another container" in downloads.describe(NAME)


def test_the_rebuilt_weights_do_not_pass_for_the_official_ones():
    resource = downloads.RESOURCES[WEIGHTS]
    assert resource.sha256 is None
    assert any("rebuilt from the TFLite release" in words for words in resource.variants.values())


@pytest.mark.parametrize("resource", downloads.RESOURCES.values(), ids=lambda resource: resource.filename)
def test_every_resource_says_where_it_comes_from(resource):
    assert resource.licence
    assert resource.source
    assert all(url.startswith("https://") for url in resource.urls)
    assert resource.max_bytes >= (resource.size or 0)


# -- credit tables -------------------------------------------------------------------------------

CREDIT, GERMAN = "default_of_credit_card_clients.csv", "german_credit.csv"
CLIENTS = np.arange(75).reshape(3, 25) % 7
CLIENTS[:, 0], CLIENTS[:, -1] = [2, 1, 3], [0, 1, 1]
LOANS = ["A11 6 A34 A43 1169 " + "A1 " * 15 + "1", "A12 48 A32 A43 5951 " + "A2 " * 15 + "2"]


def clients(names: str = "uci", rows: np.ndarray = CLIENTS) -> bytes:
    """A CSV file under UCI's column names or the makers'."""
    header = ["ID", *(f"X{i}" for i in range(1, 24)), "Y"] if names == "uci" else downloads._CREDIT_COLUMNS
    lines = [",".join(header), *(",".join(map(str, row)) for row in rows)]
    return "\n".join(lines).encode() + b"\n"


def loans(rows: list[str] = LOANS) -> bytes:
    """A CSV file as UCI serves it."""
    header = ",".join([*(f"Attribute{i}" for i in range(1, 21)), "class"])
    return "\r\n".join([header, *(row.replace(" ", ",") for row in rows)]).encode()


@pytest.fixture
def small_tables(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], None]:
    """Expect three clients and two loans, and serve what stands for either file."""
    in_order = CLIENTS[np.argsort(CLIENTS[:, 0])].astype("<i8")
    monkeypatch.setattr(downloads, "_CREDIT", (3, 2, hashlib.sha256(in_order.tobytes()).hexdigest()))
    monkeypatch.setattr(downloads, "_GERMAN", hashlib.sha256("\n".join(sorted(LOANS)).encode()).hexdigest())

    def serve(name: str, data: bytes, path: str = "/archive") -> None:
        server.archive = data
        resource = dataclasses.replace(downloads.RESOURCES[name], urls=(server.url(path),))
        monkeypatch.setitem(downloads.RESOURCES, name, resource)

    return serve


@pytest.mark.parametrize("rows", [CLIENTS, CLIENTS[::-1]])
def test_clients_from_the_official_address_and_from_a_copy_are_the_same(small_tables, mirror, rows):
    small_tables(CREDIT, clients())
    official = downloads.credit_table(downloads.fetch(CREDIT))
    assert official.index.tolist() == [1, 2, 3]
    assert official["default"].tolist() == [1, 0, 1]
    (mirror / "credit_default_taiwan.csv").write_bytes(clients("makers", rows))
    copy = downloads.credit_table(downloads.find(CREDIT))
    assert copy.equals(official)


@pytest.mark.parametrize("rows", [LOANS, LOANS[::-1]])
def test_loans_from_the_official_address_and_from_the_original_file_are_the_same(small_tables, mirror, rows):
    small_tables(GERMAN, loans())
    official = downloads.german_table(downloads.fetch(GERMAN))
    assert official["amount"].tolist() == [1169, 5951]
    assert official["default"].tolist() == [0, 1]
    (mirror / "german.data").write_text("\n".join(rows) + "\n")
    assert downloads.german_table(downloads.find(GERMAN)).equals(official)


def changed(row: int, column: int, value: int) -> np.ndarray:
    rows = CLIENTS.copy()
    rows[row, column] = value
    return rows


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (CREDIT, clients(rows=changed(0, 5, 99)), r"expected rows with digest [0-9a-f]{16}\.\.\., got "),
        (CREDIT, clients(rows=CLIENTS[:2]), "expected 3 clients and 2 defaults, got 2 and 1"),
        (CREDIT, clients(rows=changed(0, 24, 1)), "expected 3 clients and 2 defaults, got 3 and 3"),
        (CREDIT, clients().replace(b"X5", b"Z5"), r"expected the columns ID, .* \(25 columns\)"),
        (CREDIT, clients().replace(b"\n2,", b"\ntwo,"), "expected whole numbers, got .* in column ID"),
        (CREDIT, b"<html>please log in</html>", r"expected the columns ID, .* \(1 columns\)"),
        (CREDIT, b"", "No columns to parse"),
        (GERMAN, loans(LOANS[:1]), "expected 1,000 rows with digest .* got 1 with"),
        (GERMAN, loans([LOANS[0].replace("1169", "1170"), LOANS[1]]), "digest .* got 2 with"),
        (GERMAN, loans([LOANS[0] + " 3", LOANS[1]]), r"expected rows of 21 values, got \[21, 22\]"),
        (GERMAN, b"<html>please log in</html>", r"expected rows of 21 values, got \[3\]"),
        (GERMAN, b"", "expected rows of 21 values, got no row"),
    ],
)
def test_a_credit_table_that_is_none(small_tables, cache, name, data, message):
    small_tables(name, data)
    with pytest.raises(downloads.DownloadError, match=message):
        downloads.fetch(name)
    assert left_behind(cache) == []


@pytest.mark.parametrize(("name", "data"), [(CREDIT, clients()), (GERMAN, loans())])
def test_a_credit_table_cut_on_its_way(small_tables, cache, name, data):
    small_tables(name, data, "/archive_truncated")
    with pytest.raises(downloads.DownloadError, match="expected the whole file, got a part"):
        downloads.fetch(name)
    assert left_behind(cache) == []


def test_the_copies_used_here_are_not_called_official(full_data):
    for name in (CREDIT, GERMAN):
        assert downloads.find(name) is not None
        assert downloads.RESOURCES[name].sha256 is None
        assert "not UCI's" in downloads.describe(name)
