"""Potentials by name: where their files come from, how they are verified, and what the commands say of them."""

import shutil
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from golf.cli.main import main
from golf.core.errors import UserError
from golf.potentials.catalog import CATALOG, card_of
from golf.potentials.load import load_potential
from golf.potentials.store import checked_files, fetch, folder_of, is_here


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GOLF_MODELS", str(tmp_path / "cache"))


@pytest.fixture
def server(reference_data):
    """The published repository, served from a folder; it writes down the paths that are asked for."""
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(reference_data))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        http.asked = asked
        yield http
        http.shutdown()


def test_downloads_come_from_a_server_once_and_load(server):
    card, url = CATALOG["golf-1k"], f"http://127.0.0.1:{server.server_port}"
    assert not is_here(card)
    folder = fetch(card, url)
    assert is_here(card) and sorted(path.name for path in folder.iterdir()) == ["NNP_checkpoint_actor", "config.json"]
    assert server.asked == ["/checkpoints/GOLF-1k/config.json", "/checkpoints/GOLF-1k/NNP_checkpoint_actor"]
    fetch(card, url)
    assert len(server.asked) == 2
    with load_potential("golf-1k", device="cpu", cores=1) as potential:
        assert potential.card.elements == tuple(potential.network.elements) == (1, 6, 7, 8, 9, 16, 17, 35)
        assert potential.level["method"] == "wb97x-d" and potential.domain is None


def test_a_file_of_another_digest_is_refused_wherever_it_comes_from(server, reference_data, tmp_path):
    """The published baseline in the place of GOLF-1k, which has the same shape and loads."""
    wrong = tmp_path / "wrong" / "checkpoints" / "GOLF-1k"
    shutil.copytree(reference_data / "checkpoints" / "baseline-NNP", wrong)
    card = CATALOG["golf-1k"]
    with pytest.raises(UserError, match=r"config\.json: its SHA-256 is 628fce\w+, not b24d4250\w+; .*checkout"):
        fetch(card, str(tmp_path / "wrong"))
    with pytest.raises(UserError, match="404"):
        fetch(card, f"http://127.0.0.1:{server.server_port}/nowhere")
    assert not is_here(card)
    fetch(card, str(reference_data))
    path = folder_of(card) / "NNP_checkpoint_actor"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"actor: its SHA-256 is .* run: golf models download golf-1k --force"):
        checked_files(card)
    with pytest.raises(UserError, match="give --force to replace it"):
        fetch(card, str(reference_data))
    fetch(card, str(reference_data), force=True)
    assert checked_files(card)["NNP_checkpoint_actor"].stat().st_size == 2510137


def test_without_a_network_one_line_says_what_to_copy_where(capsys, tmp_path):
    assert main(["models", "download", "golf-10k", "--from", "http://nowhere.invalid"]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "host not found" in printed
    assert "or, without a network, copy checkpoints/GOLF-10k/config.json and " in printed
    assert printed.endswith(f"to {tmp_path / 'cache' / 'golf-10k'}\n")


def test_a_wheel_of_another_version_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr("Auto3D/models/aimnet2_wb97m-d3_0.jpt", b"another network")
    with pytest.raises(UserError, match="it is a wheel of another version"):
        fetch(CATALOG["aimnet2"], str(tmp_path / "other.whl"))
    with pytest.raises(UserError, match="nothing.whl: neither a folder nor a wheel"):
        fetch(CATALOG["aimnet2"], str(tmp_path / "nothing.whl"))
    assert not is_here(CATALOG["aimnet2"])


def test_wrong_names_are_one_line_with_the_nearest(capsys):
    for name, message in {
        "golf10k": "potential 'golf10k': neither a file nor a known name; did you mean golf-10k",
        "MMFF": "did you mean mmff",
        "gfn2-xtb": "did you mean gfn2",
        "nonsense": "potential 'nonsense': neither a file nor a known name; `golf models` lists all names$",
        "": "potential '': neither a file nor a known name",
        "nowhere/model.pt": "nowhere/model.pt: no such file",
        "ase:EMT": "potential 'ase:EMT': not an import path",
        "ase:ase.calculators.emt.EMT:oops": "'oops' is not key=value",
        "ase:ase.calculators.nowhere.Nothing": "Nothing: ASE does not start",
        "ase:json.JSONDecoder": "ase:json.JSONDecoder: the calculator 'json.JSONDecoder' does not cover H",
    }.items():
        with pytest.raises(UserError, match=message):
            load_potential(name, cores=1)
    assert main(["models", "download", "golf-1k", "typo"]) == 2
    assert "potential 'typo'" in capsys.readouterr().err
    assert main(["models", "download", "gfn2"]) == 2
    assert "has no files to download; it can be used as it is" in capsys.readouterr().err
    with pytest.raises(UserError, match="cores 0: must be positive"):
        load_potential("mmff", cores=0)


def test_a_replacement_that_fails_keeps_the_files(reference_data, tmp_path):
    fetch(CATALOG["golf-1k"], str(reference_data))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no checkpoints/GOLF-1k/config.json"):
        fetch(CATALOG["golf-1k"], str(tmp_path / "empty"), force=True)
    assert is_here(CATALOG["golf-1k"]) and checked_files(CATALOG["golf-1k"])


def test_a_cache_that_cannot_be_made_is_named(tmp_path, monkeypatch, reference_data):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GOLF_MODELS", str(tmp_path / "file"))
    with pytest.raises(UserError, match="file/golf-1k: cannot be created .*; set GOLF_MODELS"):
        fetch(CATALOG["golf-1k"], str(reference_data))


def test_a_folder_is_not_called_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="a folder; give a model.pt written by golf"):
        load_potential(tmp_path, cores=1)


def test_the_list_has_a_row_for_each_and_says_what_is_here(capsys, reference_data):
    fetch(CATALOG["golf-1k"], str(reference_data))
    assert main(["models"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert CATALOG.keys() < rows.keys()
    assert rows["golf-1k"].split()[1:3] == ["yes", "0"] and rows["golf-10k"].split()[1:3] == ["no", "0"]
    assert rows["mmff"].split()[1:3] == ["yes", "any"]
    assert main(["models", "show", "golf-10k"]) == 0
    shown = capsys.readouterr().out
    assert card_of("golf-10k").files[1].sha256 in shown and "no warnings about molecules" in shown
