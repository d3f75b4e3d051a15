"""The commands `golf models` and `golf models download`."""

from __future__ import annotations

import argparse
import sys

from golf.core.errors import UserError


def add_models(commands: argparse._SubParsersAction) -> None:
    """Add the command `golf models` with its subcommand `download`."""
    models = commands.add_parser(
        "models",
        help="list the potentials by name, and download them",
        description="List the potentials that `golf relax -m NAME` and other commands take. Downloaded files are kept "
        "in the folder GOLF_MODELS, or else in the user's cache folder.",
    )
    models.set_defaults(command=_list, name=None)
    actions = models.add_subparsers(metavar="ACTION")
    show = actions.add_parser("show", help="all that is known of one potential")
    show.add_argument("name", metavar="NAME")
    show.set_defaults(command=_show)
    download = actions.add_parser(
        "download",
        help="download potentials",
        description="Download the files of potentials, verified by SHA-256. An interrupted download is resumed when "
        "the same command is run again.",
    )
    download.add_argument("names", nargs="+", metavar="NAME", help="names of potentials, or all")
    download.add_argument(
        "--from",
        dest="source",
        metavar="PLACE",
        help="take the files from here: a checkout of the published repository, a wheel, or an address of a mirror",
    )
    download.add_argument("-f", "--force", action="store_true", help="replace files that are there")
    download.set_defaults(command=_download, resumes=True)


def _list(options: argparse.Namespace) -> int:
    from golf.core.level import described
    from golf.potentials.catalog import ASE, CATALOG
    from golf.potentials.store import cache, is_here

    rows = [("name", "here", "charge", "elements", "level of theory", "MB", "licence")]
    for card in CATALOG.values():
        size = f"{card.size / 1e6:.1f}" if card.size else ""
        rows.append(
            (
                card.name,
                "yes" if is_here(card) else "no",
                "any" if card.takes_charge else "0",
                card.words(),
                described(card.level),
                size,
                card.licence,
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"{ASE}package.module.Class[:key=value,...]  any ASE calculator")
    print(f"\nDownloaded files: {cache()}. More: golf models show NAME; golf models download NAME")
    return 0


def _show(options: argparse.Namespace) -> int:
    from golf.core.level import described
    from golf.potentials.catalog import card_of
    from golf.potentials.store import folder_of, is_here

    card = card_of(options.name)
    lines = {
        "name": card.name,
        "what": card.title,
        "level of theory": described(card.level),
        "elements": card.words(),
        "charged molecules": "yes" if card.takes_charge else "no",
        "training domain": card.domain_note,
        "licence": card.licence,
        "source": card.source,
        "package": card.package,
        "folder": str(folder_of(card)) if card.files else "",
        "on this machine": "yes" if is_here(card) else "no",
    }
    for name, value in lines.items():
        if value:
            print(f"{name + ':':<19}{value}")
    for file in card.files:
        print(f"{'file:':<19}{file.name}, {file.size} bytes, sha256 {file.sha256}")
    return 0


def _download(options: argparse.Namespace) -> int:
    from golf.potentials.catalog import CATALOG, card_of
    from golf.potentials.store import fetch

    if options.names == ["all"]:  # with --from: all that are published there
        cards = [card for card in CATALOG.values() if card.files and (card.origin or not options.source)]
    else:
        cards = [card_of(name) for name in options.names]  # all names are checked before the first download
    for card in cards:
        try:
            folder = fetch(card, options.source, force=options.force)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise UserError(f"potential {card.name}: {where}{(error.strerror or str(error)).lower()}") from None
        print(f"golf: {card.name} is in {folder}", file=sys.stderr)
    return 0
