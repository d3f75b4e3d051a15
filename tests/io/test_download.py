"""Downloads against a real HTTP server in this process: cut off, resumed, verified, refused."""

import errno
import hashlib
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import ase.db
import pytest
import yaml

from golf.core.errors import UserError
from golf.core.locks import LockedFile
from golf.io import download as downloads
from golf.io.download import download
from golf.study.config import validated
from support import REPOSITORY

CONTENT = os.urandom(3 << 20) + b"the end"
SUMS = {name: hashlib.new(name, CONTENT).hexdigest() for name in ("sha256", "md5")}


class Handler(BaseHTTPRequestHandler):
    """Serves `server.content`, with ranges unless told otherwise; cuts connections as often as told."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.requests.append({name: self.headers.get(name) for name in ("Range", "If-Range")})
        if self.path in server.statuses:
            self.send_error(server.statuses.pop(self.path) if server.once else server.statuses[self.path])
            return
        etag, start = f'"{hashlib.md5(server.content).hexdigest()}"', 0
        if self.headers.get("Range") and server.ranges and self.headers.get("If-Range") in (None, etag):
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        rest = server.content[start:]
        if server.cuts:
            self.wfile.write(rest[: server.cuts.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self.wfile.write(rest)

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A client that hangs up early is no news."""


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as here:
        here.content, here.cuts, here.requests, here.statuses = CONTENT, [], [], {}
        here.ranges, here.once = True, False
        here.url = f"http://127.0.0.1:{here.server_port}/data.bin"
        thread = threading.Thread(target=here.serve_forever, args=(0.05,))
        thread.start()
        yield here
        here.shutdown()
        thread.join()


def fetch(server, path, **checksums):
    download(server.url, path, checksums, pause=0.01)


def test_a_file_comes_whole_and_verified(server, tmp_path):
    fetch(server, tmp_path / "new" / "data.bin", **SUMS)
    assert (tmp_path / "new" / "data.bin").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["data.bin"]


def test_a_cut_connection_is_resumed_where_it_ended(server, tmp_path):
    server.cuts = [1_000_000, 0, 500_000]
    fetch(server, tmp_path / "data.bin", **SUMS)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    starts = [int((request["Range"] or "bytes=0-")[6:-1]) for request in server.requests]
    assert starts == [0, 1_000_000, 1_000_000, 1_500_000]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "RETRIES", 1)
    server.cuts = [1_000_000, 0, 0]
    with pytest.raises(
        UserError, match=r"cut after 1000000 of .* bytes; check the network .*1000000 bytes so far are kept"
    ):
        fetch(server, tmp_path / "data.bin", **SUMS)
    assert not (tmp_path / "data.bin").exists()
    server.requests.clear()
    fetch(server, tmp_path / "data.bin", **SUMS)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT and server.requests[0]["Range"] == "bytes=1000000-"


def test_a_whole_part_is_not_fetched_again(server, tmp_path):
    (tmp_path / ".data.bin.part").write_bytes(CONTENT)
    fetch(server, tmp_path / "data.bin", **SUMS)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT and len(server.requests) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_another_file_at_the_url_is_fetched_from_its_beginning(server, tmp_path, monkeypatch, ranges):
    """The server says so by the validator, or knows no ranges at all."""
    monkeypatch.setattr(downloads, "RETRIES", 0)
    server.cuts = [1_000_000, 0]
    with pytest.raises(UserError):
        fetch(server, tmp_path / "data.bin")
    server.content, server.ranges = CONTENT[::-1], ranges
    fetch(server, tmp_path / "data.bin", sha256=hashlib.sha256(CONTENT[::-1]).hexdigest())
    assert (tmp_path / "data.bin").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("name", ["sha256", "md5"])
def test_a_wrong_checksum_removes_the_file_and_says_so(server, tmp_path, name):
    wrong = "0" * len(SUMS[name])
    with pytest.raises(UserError, match=rf"{name} is {SUMS[name]}, not {wrong}; .* was removed"):
        fetch(server, tmp_path / "data.bin", **{name: wrong})
    assert not list(tmp_path.iterdir())


def test_the_etag_of_an_upload_in_parts(server, tmp_path):
    """Computed as Amazon S3 documents it, from parts cut by hand."""
    server.content = CONTENT * 4
    parts = [server.content[:8388608], server.content[8388608:]]
    etag = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest() + "-2"
    fetch(server, tmp_path / "data.bin", etag=etag)
    with pytest.raises(UserError, match=f"etag is {etag}, not"):
        fetch(server, tmp_path / "other.bin", etag=etag.replace("-2", "-3"))


def test_without_a_checksum_the_one_to_pin_is_said(server, tmp_path, caplog):
    fetch(server, tmp_path / "data.bin")
    assert f"to pin this file, add sha256: {SUMS['sha256']}" in caplog.text


def test_statuses_of_the_server(server, tmp_path, monkeypatch):
    server.statuses = {"/data.bin": 404}
    with pytest.raises(UserError, match=r"the server answers 404 Not Found; correct the address"):
        fetch(server, tmp_path / "data.bin")
    server.statuses, server.once = {"/data.bin": 503}, True
    fetch(server, tmp_path / "data.bin", **SUMS)
    assert (tmp_path / "data.bin").exists()


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "RETRIES", 1)
    with pytest.raises(UserError, match=r"host not found .*check the network"):
        download("http://no-such-host.invalid/data.bin", tmp_path / "data.bin", {}, pause=0.01)
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/data.bin"
        with pytest.raises(UserError, match=r"Connection refused; check the network") as caught:
            download(url, tmp_path / "data.bin", {}, pause=0.01)
    assert "\n" not in str(caught.value) and not (tmp_path / "data.bin").exists()


def test_a_full_disk_keeps_what_is_there(server, tmp_path):
    """`ulimit -f` stands for a disk that fills up meanwhile."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "from golf.core.job import job; from golf.io.download import download\n"
        "with job(sys.argv[1]): download(sys.argv[2], sys.argv[3], {})"
    )
    arguments = [str(tmp_path / "log"), server.url, str(tmp_path / "data.bin")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "free space" in done.stderr, done.stderr
    assert os.strerror(errno.EFBIG) in done.stderr
    fetch(server, tmp_path / "data.bin", **SUMS)
    assert server.requests[-1]["Range"] == f"bytes={1 << 20}-" and (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_disk_that_is_too_small_is_said_before(server, tmp_path, monkeypatch):
    usage = os.statvfs(tmp_path)
    monkeypatch.setattr(Handler, "send_header", huge(Handler.send_header, usage.f_bavail * usage.f_frsize + 10**9))
    with pytest.raises(UserError, match=r"GB are needed, .* GB are free; free some space"):
        fetch(server, tmp_path / "data.bin")


def test_a_file_that_changed_while_the_disk_was_full_is_not_mixed_with_the_old_one(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "RETRIES", 0)
    server.cuts = [1_000_000, 0]
    with pytest.raises(UserError, match="1000000 bytes so far are kept"):
        fetch(server, tmp_path / "data.bin")
    server.content = CONTENT[::-1]
    with monkeypatch.context() as full:
        usage = os.statvfs(tmp_path)
        full.setattr(Handler, "send_header", huge(Handler.send_header, usage.f_bavail * usage.f_frsize + 10**9))
        with pytest.raises(UserError, match="free some space"):
            fetch(server, tmp_path / "data.bin")
    assert (tmp_path / ".data.bin.part").stat().st_size == 0  # the old bytes are of no use and make room
    fetch(server, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(("sums", "content", "n_requests"), [({}, b"x", 0), (SUMS, CONTENT, 0), (SUMS, b"x", 1)])
def test_what_another_process_has_fetched_meanwhile_is_taken(server, tmp_path, caplog, sums, content, n_requests):
    """Unless its checksum is another one: then it came with another configuration."""
    part = tmp_path / ".data.bin.part"
    waiting = threading.Thread(target=fetch, args=(server, tmp_path / "data.bin"), kwargs=sums)
    with LockedFile(part):
        waiting.start()
        while "in use by" not in caplog.text:
            assert waiting.is_alive()
        (tmp_path / "data.bin").write_bytes(content)
        part.unlink()
    waiting.join()
    assert len(server.requests) == n_requests
    assert (tmp_path / "data.bin").read_bytes() == (CONTENT if n_requests else content)
    assert [path.name for path in tmp_path.iterdir()] == ["data.bin"]


def huge(send_header, size):
    def changed(self, name, value):
        send_header(self, name, str(size) if name == "Content-Length" else value)

    return changed


@pytest.mark.parametrize(
    ("one", "message"),
    [
        ({"url": "ftp://x/y", "to": "y"}, r"key dataset\.download\.0\.url: 'ftp://x/y' does not match"),
        ({"url": "http://x/y", "to": "y", "md5": "abc"}, r"key dataset\.download\.0\.md5: 'abc' does not match"),
        ({"url": "http://x/y"}, r"key dataset\.download\.0\.to is missing"),
        ({"url": "http://x/y", "to": "y", "sha1": "0"}, r"unknown key dataset\.download\.0\.sha1"),
    ],
)
def test_mistakes_in_the_configuration(one, message):
    with pytest.raises(UserError, match=message):
        validated({"dataset": {"train": "y", "download": [one]}}, "config.yaml")
    same = [{"url": "http://x/y", "to": path} for path in ("a/y", "a/./y")]
    with pytest.raises(UserError, match=r"key dataset\.download: 2 files go to a/y"):
        validated({"dataset": {"train": "y", "download": same}}, "config.yaml")


@pytest.mark.slow
def test_a_study_downloads_its_data_and_then_plans_itself(server, reference_data, tmp_path):
    """Plan, refuse other targets, download through Snakemake, plan again: nothing else is typed."""
    server.content = (reference_data / "data/nabladft_sample.db").read_bytes()
    md5 = hashlib.md5(server.content).hexdigest()
    config = {
        "results_dir": "results",
        "dataset": {
            "train": "data/sample.db",
            "test_molecules": ["79947"],
            "download": [{"url": server.url, "to": "data/sample.db", "md5": md5}],
        },
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))

    def snakemake(*options):
        files = ["--snakefile", REPOSITORY / "Snakefile", "--directory", tmp_path]
        command = [Path(sys.executable).with_name("snakemake"), *files, "--cores", "1", *options]
        command += ["--configfile", tmp_path / "study.yaml"]
        return subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, check=False)

    planned = snakemake("-n")
    assert planned.returncode == 0 and "download_data        1" in planned.stdout and "prepare" not in planned.stdout
    early = snakemake("-n", "results/labels/initial.h5")
    assert (
        early.returncode != 0 and "data/sample.db is not there yet; first run snakemake" in early.stdout + early.stderr
    )
    server.cuts = [100_000]
    done = snakemake()
    assert done.returncode == 0 and "Type the same again for the study." in done.stdout + done.stderr, done.stderr
    with ase.db.connect(tmp_path / "data/sample.db") as database:
        assert database.count() == 60
    planned = snakemake("-n")
    assert planned.returncode == 0 and "prepare_dataset" in planned.stdout and "download_data" not in planned.stdout
