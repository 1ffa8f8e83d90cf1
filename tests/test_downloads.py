"""Bytes by official name: what is checked, where it is looked for, and every way a download can fail."""

import contextlib
import errno
import hashlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from tlhelpers import _formats, downloads
from tlhelpers.cache import content_key

BODY = b"the right bytes " * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()
NAME = "thing.bin"


# Pieces of a body, seconds after each, and whether the length is said before. "/wrong,good" gives one
# after the other.
ANSWERS: dict[str, tuple[list[bytes], float, bool]] = {
    "good": ([BODY], 0, True),
    "late": ([BODY[:100], BODY[100:]], 0.5, True),  # room for a second request, which must not come
    "truncated": ([BODY[:100]], 0, True),
    "truncated_in_silence": ([BODY[:100]], 0, False),
    "wrong": ([BODY[::-1]], 0, True),
    "endless": ([BODY] * 1000, 0, False),  # 16 MB: a client without a limit fails soon
    "stalled": ([BODY[:100], BODY[100:]], 20, True),
    "trickle": ([BODY[:1]] * 400, 0.05, True),
}


class Server(ThreadingHTTPServer):
    """Serves good and bad answers, and counts requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.gets: list[str] = []
        self.ranges: list[str | None] = []
        self.asked, self.over = threading.Event(), threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        kinds = self.path[1:].split(",")
        kind = kinds[min(len(self.server.gets), len(kinds) - 1)]
        self.server.gets.append(self.path)
        self.server.ranges.append(self.headers["Range"])
        self.server.asked.set()
        if kind in ("missing", "beyond"):
            self.send_error(404 if kind == "missing" else 416)
            return
        if kind in ("drops", "strays"):  # the line breaks off after 6,000 bytes; or something else follows
            start = int((self.headers["Range"] or "bytes=0-")[6:-1])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(BODY) - start))
            self.end_headers()
            self.wfile.write(BODY[start : start + 6000] if kind == "drops" else BODY[::-1][start:])
            return
        pieces, pause_s, length_is_said = ANSWERS[kind]
        self.send_response(200)
        if length_is_said:
            self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client hangs up, as it should
            for piece in pieces:
                self.wfile.write(piece)
                if self.server.over.wait(pause_s):
                    return

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "RETRIES", 0)
    monkeypatch.setattr(downloads, "PAUSE_S", 0)
    monkeypatch.setattr(downloads, "PIECE", 1000)
    return tmp_path / "cache"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("TLHELPERS_DATA", str(folder))
    return folder


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Register a file whose content is known; its reader leaves off a first line."""

    def body(path: Path) -> bytes:
        data = path.read_bytes()
        if not data:
            raise ValueError("expected bytes, got none")
        return data.removeprefix(b"another container\n")

    monkeypatch.setattr(_formats, "body", body, raising=False)

    def register(*urls: str, name: str = NAME, **more: object) -> None:
        known: dict[str, object] = {"reader": "body", "content": content_key(BODY), **more}
        known.setdefault("max_bytes", 3 * len(BODY))
        resource = downloads.Resource(name, urls, "none", "this test", **known)  # type: ignore[arg-type]
        monkeypatch.setitem(downloads.RESOURCES, name, resource)

    return register


@pytest.fixture
def other_process(server: Server) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Let another process fetch from a path of the server; come back as soon as it has asked."""
    running: list[subprocess.Popen[str]] = []

    def start(path: str) -> subprocess.Popen[str]:
        code = f"""
from tlhelpers import downloads
downloads.RESOURCES[{NAME!r}] = downloads.Resource(
    {NAME!r}, ({server.url(path)!r},), "", "", {2 * len(BODY)}, sha256={SHA256!r})
print(downloads.fetch({NAME!r}))
"""
        running.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True))
        assert server.asked.wait(60)
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def left_behind(cache: Path) -> list[str]:
    """Name what a download left in the cache folder, locks apart."""
    return sorted(path.name for path in cache.glob("*") if path.name != "locks")


# -- from the official address -------------------------------------------------------------------


@pytest.mark.parametrize("name", [NAME, "a folder/thing.bin"])
def test_a_download_is_verified_and_kept(server, register, cache, name, capfd):
    register(server.url("/good"), name=name)
    path = downloads.fetch(name)
    assert path == cache / name
    assert path.read_bytes() == BODY
    assert downloads.fetch(name) == path
    assert server.gets == ["/good"]
    assert left_behind(path.parent) == [NAME]
    said = capfd.readouterr().err
    assert "thing.bin from 127.0.0.1" in said
    assert str(cache) not in said


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/truncated", "expected the file, got ChunkedEncodingError.*100 bytes read"),
        ("/truncated_in_silence", r"wrong content: expected content .* \(got 100 bytes"),
        ("/wrong", r"wrong content: .* \(got 16,000 bytes with sha256 [0-9a-f]{16}"),
        ("/missing", "expected the file, got HTTPError: 404"),
        ("/endless", "expected at most 48,000 bytes, got more"),
        ("/stalled", "expected the file, got ConnectionError.*timed out"),
        ("/trickle", r"expected an end within 0\.5 s, got none"),
        (None, "expected the file, got ConnectionError"),
    ],
)
def test_a_bad_answer_is_one_clear_error(server, register, cache, path, message, monkeypatch):
    monkeypatch.setattr(downloads, "STALL_S", 0.3)
    if path == "/trickle":
        monkeypatch.setattr(downloads, "DEADLINE_S", 0.5)
    url = server.url(path) if path else "http://127.0.0.1:9/nobody"
    register(url)
    with pytest.raises(downloads.DownloadError, match=rf"(?s){url}: {message}.*TLHELPERS_DATA"):
        downloads.fetch(NAME)
    assert left_behind(cache) == []
    assert server.gets == [path] * bool(path)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/drops", [None, "bytes=6000-", "bytes=12000-"]),
        ("/drops,good", [None, "bytes=6000-"]),  # a server that knows no ranges sends all of it
        ("/drops,missing,drops,drops", [None, *["bytes=6000-"] * 2, "bytes=12000-"]),
        ("/drops,beyond,good", [None, "bytes=6000-", None]),
        ("/drops,strays,good", [None, "bytes=6000-", None]),
        ("/wrong,good", [None, None]),
    ],
)
def test_what_a_line_left_out_is_asked_for_again(server, register, cache, monkeypatch, path, asked):
    monkeypatch.setattr(downloads, "RETRIES", 1)
    register(server.url(path))
    assert downloads.fetch(NAME).read_bytes() == BODY
    assert server.ranges == asked
    assert left_behind(cache) == [NAME]


@pytest.mark.parametrize("path", ["/truncated", "/drops,strays", "/drops,beyond", "/drops,wrong", "/wrong"])
def test_an_address_that_never_sends_the_rest_is_given_up(server, register, cache, monkeypatch, path):
    monkeypatch.setattr(downloads, "RETRIES", 2)
    register(server.url(path))
    with pytest.raises(downloads.DownloadError, match="can't be downloaded"):
        downloads.fetch(NAME)
    assert 3 <= len(server.gets) <= 6
    assert left_behind(cache) == []


def test_the_second_address_stands_in_for_the_first(server, register):
    register(server.url("/missing"), server.url("/good"))
    assert downloads.fetch(NAME).read_bytes() == BODY
    assert server.gets == ["/missing", "/good"]


def test_two_processes_make_one_download(server, register, cache, other_process):
    register(server.url("/good"))
    other = other_process("/late")
    assert downloads.fetch(NAME) == cache / NAME
    assert other.communicate(timeout=60)[0].strip() == str(cache / NAME)
    assert server.gets == ["/late"]


def test_after_a_killed_download_the_next_one_starts_anew(server, register, cache, other_process):
    other = other_process("/stalled,good")
    other.kill()
    other.wait()
    assert [name[:9] for name in left_behind(cache)] == [".partial-"]
    register(server.url("/stalled,good"))
    assert downloads.find(NAME) is None
    assert downloads.fetch(NAME).read_bytes() == BODY


# -- from the mirror folder and the cache --------------------------------------------------------


def test_the_mirror_comes_first_and_the_rest_is_looked_for_elsewhere(server, register, mirror, cache):
    register(server.url("/good"))
    assert downloads.find(NAME) is None
    assert downloads.fetch(NAME) == cache / NAME
    (mirror / NAME).write_bytes(BODY)
    assert downloads.fetch(NAME) == mirror / NAME
    assert server.gets == ["/good"]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
@pytest.mark.parametrize("name", [NAME, "mirror.toml"])
def test_what_lies_in_the_mirror_in_the_place_of_a_file_is_not_overlooked(register, mirror, make, name):
    register()
    (mirror / NAME).write_bytes(BODY)
    (mirror / name).unlink(missing_ok=True)
    make(mirror / name)
    with pytest.raises(downloads.DownloadError, match=rf"{name}: .*(Replace or remove|Correct it)"):
        downloads.fetch(NAME)


def test_a_file_longer_than_any_official_one_is_not_read(register, mirror):
    register(max_bytes=10)
    (mirror / NAME).write_bytes(BODY)
    with pytest.raises(downloads.DownloadError, match=r"expected at most 10 bytes, got 16,000"):
        downloads.fetch(NAME)


@pytest.mark.parametrize("path", ["/good", "/missing"])
def test_a_bad_file_in_the_cache_is_fetched_again_or_gone(server, register, cache, path):
    register(server.url(path))
    cache.mkdir()
    (cache / NAME).write_bytes(BODY[:500])
    failing = pytest.raises(downloads.DownloadError) if path == "/missing" else contextlib.nullcontext()
    with pytest.warns(UserWarning, match=r"thing\.bin is not used: wrong content"), failing:
        assert downloads.fetch(NAME).read_bytes() == BODY
    assert server.gets == [path]
    assert left_behind(cache) == ([NAME] if path == "/good" else [])


def test_a_file_is_read_once_and_again_when_it_changed(server, register, monkeypatch):
    register(server.url("/good"))
    path = downloads.fetch(NAME)
    assert downloads.find(NAME) is not None
    monkeypatch.setattr(_formats, "body", lambda path: pytest.fail("was read again"))
    assert downloads.find(NAME) is not None
    path.write_bytes(BODY[::-1])
    monkeypatch.setattr(_formats, "body", Path.read_bytes)
    with pytest.warns(UserWarning, match="not used"):
        assert downloads.find(NAME) is None


def test_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TLHELPERS_DATA", "")
    assert downloads.data_folder() is None
    for name in (str(tmp_path / "nowhere"), "~nobody-of-that-name/nowhere"):
        monkeypatch.setenv("TLHELPERS_DATA", name)
        with pytest.raises(downloads.DownloadError, match=r"expected a folder, got .*nowhere, which is none"):
            downloads.find("mnist.npz")


def test_from_https_nobody_is_led_to_http(server, register, monkeypatch):
    answer = SimpleNamespace(url="https://host/a", headers={"location": "http://host/a"})
    with pytest.raises(downloads.DownloadError, match="expected to stay with https, got sent on to http://"):
        downloads._stay_safe(answer)
    answer.headers["location"] = "https://other/a"
    downloads._stay_safe(answer)
    seen = []  # every answer is looked at
    monkeypatch.setattr(downloads, "_stay_safe", lambda answer, **_: seen.append(answer.url))
    register(server.url("/good"))
    downloads.fetch(NAME)
    assert seen == [server.url("/good")]


def test_certificates_that_are_not_there_are_one_error(register, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    register("https://127.0.0.1:9/good")
    with pytest.raises(downloads.DownloadError, match=r"(?s)can't be downloaded.*none\.pem"):
        downloads.fetch(NAME)


# -- a disk that refuses -------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.* is not used")
def test_a_link_to_nowhere_or_a_folder_in_the_place_of_the_cached_file(server, register, cache):
    register(server.url("/good"))
    cache.mkdir()
    (cache / NAME).symlink_to("nowhere")  # this is replaced
    assert downloads.fetch(NAME).read_bytes() == BODY
    (cache / NAME).unlink()
    (cache / NAME).mkdir()
    with pytest.raises(downloads.DownloadError, match=r"can't be kept: .*TLHELPERS_CACHE"):
        downloads.fetch(NAME)
    assert server.gets == ["/good"]


def test_a_full_disk_while_downloading(server, register, cache, monkeypatch):
    def write(self: object, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads._Bounded, "write", write)
    register(server.url("/good"))
    with pytest.raises(downloads.DownloadError, match=r"got a full disk.*TLHELPERS_CACHE"):
        downloads.fetch(NAME)
    assert left_behind(cache) == []


# -- what counts as the right file ---------------------------------------------------------------

OTHER, BOXED = b"reduced bytes", b"another container\n" + BODY


def listing(body: bytes, content: str = "reduced", name: str = NAME) -> str:
    digest = hashlib.sha256(body).hexdigest()
    return f'["{name}"]\nsha256 = "{digest}"\ncontent = "{content}"\nnote = "every tenth byte"\n'


ELSEWHERE = listing(OTHER, name="other.bin")


@pytest.mark.parametrize(
    ("known", "body", "listed", "words"),
    [
        ({"sha256": SHA256}, BODY, "", "the official file"),
        ({"md5": hashlib.md5(BODY).hexdigest()}, BODY, "", "the official file"),
        # An official digest comes first, whatever the mirror says.
        ({"sha256": SHA256}, BODY, listing(BODY), "the official file"),
        ({"sha256": SHA256}, OTHER, listing(OTHER), "not the official file: every tenth byte"),
        ({"content": None}, OTHER, listing(OTHER), "not the official file: every tenth byte"),
        ({}, BOXED, listing(BOXED, "same"), "not the official file: every tenth byte"),
        ({}, OTHER, listing(OTHER, "official"), "the official file, says the mirror: every tenth byte"),
        ({}, BODY, ELSEWHERE, "the official content; the official file's digest is unknown"),
        ({"sha256": "0" * 64}, BOXED, "", "same content as the official file in another container"),
        ({"content": None}, OTHER, "", str(OTHER)),
    ],
)
def test_a_file_that_is_taken(register, mirror, known, body, listed, words):
    register(**known)
    assert downloads.describe(NAME) == "thing.bin: not on this machine yet"
    (mirror / NAME).write_bytes(body)
    (mirror / "mirror.toml").write_text(listed)
    assert downloads.fetch(NAME) == mirror / NAME
    digest = hashlib.sha256(body).hexdigest()
    assert downloads.describe(NAME) == f"thing.bin: sha256 {digest[:8]}..., {words}"


@pytest.mark.parametrize(
    ("known", "body", "listed", "message"),
    [
        ({}, BODY, listing(OTHER), r"expected sha256 .* \(mirror\.toml\), got 9c0a77648e68be35\.\.\."),
        ({"sha256": "0" * 64}, BODY, listing(OTHER), r"\(mirror\.toml\)"),
        ({}, OTHER, listing(OTHER, "same"), r"expected content .*, got "),
        ({}, OTHER, "", "expected content .*, got .* with sha256"),
        ({"sha256": SHA256, "content": None}, OTHER, "", "expected the official file with digest 9c0a"),
        ({"content": None}, b"", "", r"expected bytes, got none \(got 0 bytes"),
    ],
)
def test_a_file_that_is_refused(server, register, mirror, known, body, listed, message):
    register(server.url("/good"), **known)
    (mirror / NAME).write_bytes(body)
    (mirror / "mirror.toml").write_text(listed)
    expected = rf"mirror.*thing\.bin: wrong content: .*{message}.*TLHELPERS_DATA"
    with pytest.raises(downloads.DownloadError, match=expected):
        downloads.fetch(NAME)
    assert server.gets == []
    assert (mirror / NAME).read_bytes() == body


@pytest.mark.parametrize("listed", ["[", f'["{NAME}"]\nsha256 = "0"\n', f'"{NAME}" = "0"\n'])
def test_a_mirror_that_describes_itself_badly(register, mirror, listed):
    register()
    (mirror / NAME).write_bytes(BODY)
    (mirror / "mirror.toml").write_text(listed)
    with pytest.raises(downloads.DownloadError, match=r"mirror\.toml: expected sha256, content and note"):
        downloads.fetch(NAME)


@pytest.mark.parametrize("broken", [b"<html>please log in</html>", b""])
@pytest.mark.parametrize("name", list(downloads.RESOURCES))
def test_a_log_in_page_passes_for_none_of_the_files(mirror, name, broken):
    (mirror / name).parent.mkdir(exist_ok=True)
    (mirror / name).write_bytes(broken)
    with pytest.raises(downloads.DownloadError, match=r"wrong content: .*got \d+ bytes with sha256"):
        downloads.fetch(name)


@pytest.mark.parametrize("resource", downloads.RESOURCES.values(), ids=lambda resource: resource.filename)
def test_every_resource_says_where_it_comes_from_and_how_it_is_read(resource):
    assert all(url.startswith("https://") for url in resource.urls)
    assert resource.max_bytes >= (resource.size or 0)
    assert resource.sha256 or resource.md5 or callable(getattr(_formats, resource.reader))
    for digest, length in ((resource.sha256, 64), (resource.content, 64), (resource.md5, 32)):
        assert digest is None or re.fullmatch(rf"[0-9a-f]{{{length}}}", digest)


@pytest.mark.parametrize("name", list(downloads.RESOURCES))
def test_the_real_files_with_and_without_a_word_of_their_mirror(full_data, name, mirror, monkeypatch):
    real = full_data / name
    if not real.is_file():
        pytest.skip("this file is not in TLHELPERS_DATA")
    monkeypatch.setenv("TLHELPERS_DATA", str(full_data))
    assert "official file" in downloads.describe(name)
    (mirror / name).parent.mkdir(exist_ok=True)
    (mirror / name).symlink_to(real)
    monkeypatch.setenv("TLHELPERS_DATA", str(mirror))
    if "reduced" in (full_data / "mirror.toml").read_text().partition(f'["{name}"]')[2].partition("[")[0]:
        with pytest.raises(downloads.DownloadError, match="wrong content: expected"):
            downloads.fetch(name)
    else:
        assert "official file" in downloads.describe(name)
