"""The table of potentials by name.

Elements of the published GOLF networks are those whose embeddings changed between the baseline and the networks that
were trained further: the others have the random vectors that they began with. Their training molecules were not
published with them, so that there is no domain to warn by.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.core.level import NABLADFT_LEVEL, NO_BASIS, SPICE_LEVEL, LevelOfTheory
from golf.potentials.card import Card, File

ASE = "ase:"
"""Prefix of the name of any ASE calculator: ase:package.module.Class, with keywords after a colon."""


def _numbers(symbols: str) -> tuple[int, ...]:
    return tuple(sorted(SYMBOLS.index(symbol) for symbol in symbols.split()))


_GOLF = "https://raw.githubusercontent.com/AIRI-Institute/GOLF"
_PUBLISHED: Mapping[str, tuple[str, str, str, str]] = {
    # name: folder, title, SHA-256 of the configuration and of the weights
    "baseline-nnp": (
        "baseline-NNP",
        "the GOLF paper's baseline, 10,000 conformations of nablaDFT",
        "628fce16adf6f9893e63195d21f52a8c5927c7670ae8a8bca345af1218a09840",
        "28bad5779cdadeac7b14bf7c93621ef689bac30ecb3777da23577193b9fd27d8",
    ),
    "golf-1k": (
        "GOLF-1k",
        "GOLF with 1,000 further labels",
        "b24d42504774a17dd20218a0d7237a5ef9eec427554748df99af44ede057f35c",
        "bd9f95e2e45c59e97c8c4fb4dd857126d1042148eb7ce907b7cf94dd7672ba29",
    ),
    "golf-10k": (
        "GOLF-10k",
        "GOLF with 10,000 further labels",
        "b41ee9ec313f4647928e495afa35901afac89aff32efa61e2d7550dd773ef176",
        "030115ca7eed0b7da7bf8e6d5ead42b96366de9a8ac99cec9ad30bae1e56133f",
    ),
    "traj-10k": (
        "traj-10k",
        "trained further on 10,000 frames of DFT optimizations",
        "6528e9f29ffc882290c937c938d2cbc9376127847e46f914fa697815ce76ee8e",
        "189fe431bc3b05d01a1d51c721afe7428e595c582d34166ddcd0106872c2372a",
    ),
    "traj-100k": (
        "traj-100k",
        "trained further on 100,000 frames of DFT optimizations",
        "9e936b829010ab8c815821aacc0c2105e28acc737920611db7315a135cc2111e",
        "222f1daaa0c55605d065160d3e5dae514d31ff27964426cdfcd9ab02c7888ac6",
    ),
    "traj-500k": (
        "traj-500k",
        "trained further on 500,000 frames of DFT optimizations",
        "9bf96a8363851c89c556d6b3b71da546f47a6e9da5a79de33d5c8433d4cc305e",
        "3a269e3089cdf71b8fd44fe994ff2c0681ee03666feee46130a9b99b49d756ac",
    ),
    "baseline-nnp-spice": (
        "baseline-NNP-SPICE",
        "the baseline on SPICE",
        "0dcfd6ff1d2c814449cc33b6bacb35162aebe640297cf806fd34009a23ddb2f6",
        "101f25fcfe038df3ae019ee81ec3d1cea7f2750c03cc82060986ed6f8b1a7463",
    ),
    "golf-10k-spice": (
        "GOLF-10k-SPICE",
        "GOLF with 10,000 further labels, on SPICE",
        "b3512858d451327ba12c82d7bc536e10ab5eaae9005be5bf4e4cbaa99440c491",
        "61ae4aa07ef9e9d15c6cd7100bb72c5b89ff231b92b276fce75047e4c4604163",
    ),
    "traj-10k-spice": (
        "traj-10k-SPICE",
        "trained further on 10,000 frames of DFT optimizations, on SPICE",
        "386be50ae513cfe76e46a9dfd9d830c7bd54fcf38b7b22ef3178e5c0f0a7597f",
        "c0f4ce59a7faaa37462366073e3c36eaca800603c96921e3b9e214ba0d238d60",
    ),
    "traj-100k-spice": (
        "traj-100k-SPICE",
        "trained further on 100,000 frames of DFT optimizations, on SPICE",
        "c126925897677eff691528a99530cc86c325dec91e675371e270e6834d2dda61",
        "b513a3722de85321023136bad6f87aea084a9799336d5d7210ff8ac6a4b2fce3",
    ),
    "traj-220k-spice": (
        "traj-220k-SPICE",
        "trained further on 220,000 frames of DFT optimizations, on SPICE",
        "28d08485cef33014ddda3733b34f3fb371438d2aa04e101dffeddd1042c4cceb",
        "f394c2cbd35d3344807c6f2f709a3b5d6ba68c1ca0865b931fa2026213b3767f",
    ),
}
_COMMITS = {False: "deaaab858b9034b9d7a8359d9cdc61618f484334", True: "d572b459c04a77e39bf449628a5969698998101f"}
"""Of the branches main and GOLF-SPICE."""

_CONFIG_SIZES = {
    "baseline-nnp": 1648, "golf-1k": 1703, "golf-10k": 1708, "traj-10k": 1683, "traj-100k": 1681, "traj-500k": 1686,
    "baseline-nnp-spice": 1473, "golf-10k-spice": 1559, "traj-10k-spice": 1554, "traj-100k-spice": 1557,
    "traj-220k-spice": 1582,
}  # fmt: skip
_WEIGHTS_SIZE = 2510137


def _published(name: str) -> Card:
    folder, title, config, weights = _PUBLISHED[name]
    on_spice = name.endswith("-spice")
    place = f"checkpoints/{folder}"
    return Card(
        name,
        "network",
        _numbers("H C N O F S Cl Br"),
        (SPICE_LEVEL if on_spice else NABLADFT_LEVEL).attrs(),
        takes_charge=False,
        title=title,
        licence="MIT",
        source="github.com/AIRI-Institute/GOLF, arXiv 2311.06295",
        files=(
            File("config.json", config, _CONFIG_SIZES[name], f"{place}/config.json"),
            File("NNP_checkpoint_actor", weights, _WEIGHTS_SIZE, f"{place}/NNP_checkpoint_actor"),
        ),
        origin=f"{_GOLF}/{_COMMITS[on_spice]}",
        domain_note="its training molecules were not published with it: no warnings about molecules that are unlike "
        "them",
    )


AIMNET2 = Card(
    "aimnet2",
    "aimnet2",
    _numbers("B C F N O S P Cl Br I H Si As Se"),
    LevelOfTheory("orca", "wb97m-d3", "def2-tzvpp").attrs(),
    takes_charge=True,
    title="AIMNet2, a message-passing network with charges, 20 million DFT calculations",
    licence="MIT",
    source="doi 10.1039/D4SC08572H; TorchScript of auto3d 2.3.1",
    files=(
        File(
            "aimnet2_wb97m-d3_0.jpt",
            "a6d366b05c5997668f24a834584b4033d0cab67d13d2f8caf143b965018d3735",
            11587050,
            "Auto3D/models/aimnet2_wb97m-d3_0.jpt",
        ),
    ),
    package="auto3d==2.3.1",
    domain_note="its training molecules are not part of the file: no warnings about molecules that are unlike them",
)

_XTB_SOURCE = "doi 10.1021/acs.jctc.8b01176, tblite"


def _xtb(name: str, method: str, source: str) -> Card:
    return Card(
        name,
        "program",
        tuple(range(1, 87)),
        LevelOfTheory("ase", f"tblite:{method}", NO_BASIS).attrs(),
        takes_charge=True,
        title=f"{method}, semi-empirical",
        licence="LGPL-3.0 (tblite)",
        source=source,
        package="tblite",
        method=f"tblite:{method}",
    )


CATALOG: Mapping[str, Card] = {
    card.name: card
    for card in (
        *map(_published, _PUBLISHED),
        AIMNET2,
        Card(
            "so3lr",
            "program",
            _numbers("H C N O F P S Cl"),
            LevelOfTheory("fhi-aims", "pbe0+mbd", "tight").attrs(),
            takes_charge=True,
            title="SO3LR, an equivariant network with long-range terms, 4 million molecules",
            licence="MIT",
            source="doi 10.1021/jacs.5c09558, so3krates-torch",
            package="so3krates-torch==0.2.1",
            method="so3lr",
        ),
        _xtb("gfn2", "GFN2-xTB", _XTB_SOURCE),
        _xtb("gfn1", "GFN1-xTB", "doi 10.1021/acs.jctc.7b00118, tblite"),
        Card(
            "mmff",
            "mmff",
            _numbers("H C N O F Si P S Cl Br I"),
            LevelOfTheory("rdkit", "mmff94", NO_BASIS).attrs(),
            takes_charge=True,
            title="MMFF94, a force field",
            licence="BSD-3-Clause (RDKit)",
            source="doi 10.1186/s13321-014-0037-3",
        ),
    )
}
"""Potentials by name."""


def is_name(text: str) -> bool:
    """Tell whether a text names a potential, and not a file."""
    return text in CATALOG or text.startswith(ASE)


def nearest(name: str) -> list[str]:
    """Return the names of potentials that a misspelt one may mean, in any case; empty if there are none."""
    lower = name.lower()
    methods = {card.method.rpartition(":")[2].lower(): known for known, card in CATALOG.items() if card.method}
    if lower in CATALOG or lower in methods:
        return [methods.get(lower, lower)]
    return difflib.get_close_matches(lower, CATALOG, n=3, cutoff=0.5)


def card_of(name: str) -> Card:
    """Return the card of a name.

    Raises:
        UserError: the name is unknown; the message has the nearest ones.
    """
    if name.startswith(ASE):
        return _calculator(name)
    if name not in CATALOG:
        near = nearest(name)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UserError(f"potential {name!r}: neither a file nor a known name; {hint}`golf models` lists all names")
    return CATALOG[name]


def _calculator(name: str) -> Card:
    """Return the card of an ASE calculator; its elements have yet to be asked for."""
    path, _, text = name.removeprefix(ASE).partition(":")
    if not path.rpartition(".")[0]:
        raise UserError(f"potential {name!r}: not an import path; give ase:package.module.Class[:key=value,...]")
    keywords: dict[str, object] = {}
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"potential {name!r}: {pair!r} is not key=value; write keywords like :method=GFN2-xTB")
        keywords[key] = _value(value)
    level = LevelOfTheory("ase", path, NO_BASIS, keywords).attrs()
    return Card(
        name, "program", (), level, takes_charge=True, title="an ASE calculator", method=path, keywords=keywords
    )


def _value(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)
