"""The command line: `speechrows build | generate | validate | stats | show | publish | …`.

Exit codes: 0 done, 1 the data falls short (the table says where) or the machine does (no room, a
worker that died), 2 the call was wrong.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from speechrows.errors import ShortfallError
from speechrows.errors import SpeechRowsError
from speechrows.errors import UsageError
from speechrows.flags import add_flags
from speechrows.rows.ledger import MAX_SKIPPED

if TYPE_CHECKING:
    from speechrows.builds.run import BuildJob

BUILDERS = ("deepdialogue_ttt", "multidialog_ttt", "instructs2s_ttt", "dailytalk_usdm", "omni_tasks")
EXPORTS = ("usdm",)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it advises to install torch: no need
    try:
        options = _parse(arguments)
        return options.run(options)
    except SpeechRowsError as error:
        print(f"speechrows: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:  # whoever reads what is printed has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="speechrows", description="Speech corpora in, training rows out.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # The builder's own fields become flags, so it is looked up before the rest is parsed.
    builder = arguments[1] if len(arguments) > 1 and arguments[0] == "build" else None
    if builder is not None and builder.startswith("-") and builder not in ("-h", "--help"):
        raise UsageError(f"speechrows build: found {builder} first, expected BUILDER CONFIG, then flags")
    about = "More flags are a builder's own: see `speechrows build BUILDER --help`."
    _add_build(commands.add_parser("build", help="make a corpus' rows", epilog=about), builder)
    _add_readers(commands)
    _add_preview(commands)
    from speechrows.generate.commands import add_generate

    add_generate(commands)
    export = commands.add_parser("export", help="write a built folder in another tool's format")
    export.add_argument("format", choices=EXPORTS)
    export.add_argument("folder", metavar="FOLDER|org/name")
    export.add_argument("--out", type=Path, required=True, metavar="DIR")
    export.set_defaults(run=_export)
    _add_hub(commands)
    infos = commands.add_parser("infos", help="write dataset_infos.json: features, licence, citation")
    infos.add_argument("--out", type=Path, default=Path("dataset_infos.json"))
    infos.set_defaults(run=_infos)
    return parser.parse_args(arguments)


def _add_readers(commands: Any) -> None:
    """The commands that read a built folder."""
    for name, run, text in (
        ("validate", _validate, "check every promise, row by row"),
        ("stats", _stats, "hours, turns, tokens, what each stage holds"),
        ("show", _show, "print a row with its label mask"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("folder", metavar="FOLDER|org/name")
        command.set_defaults(run=run)
        if name == "show":
            command.add_argument("row_id", nargs="?", metavar="ROW_ID", help="default: the first row")
        else:
            command.add_argument("--json", action="store_true", help="print JSON")
        if name == "stats":
            command.add_argument(
                "--context", type=int, metavar="N", help="plan epochs of N tokens: their fill"
            )
            command.add_argument("--mode", choices=("lanes", "pack"), default="lanes", help="of --context")
        if name == "validate":
            command.add_argument(
                "--allow",
                action="append",
                default=[],
                choices=("silence", "clipping"),
                help="tell, but do not fail",
            )


def _add_hub(commands: Any) -> None:
    """The commands that bring a built folder to the Hub."""
    publish = commands.add_parser("publish", help="make a Hub dataset of a built folder")
    publish.add_argument("folder", type=Path, metavar="FOLDER")
    publish.add_argument("repository", metavar="org/name")
    publish.add_argument("--private", action="store_true", help="where it is made: for its owners alone")
    publish.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    publish.add_argument("--revision", metavar="BRANCH", help="default: main; made where there is none")
    publish.add_argument("--dry-run", action="store_true", help="list what would be sent and deleted")
    publish.set_defaults(run=_publish)
    viewer = commands.add_parser("check-viewer", help="see that the Hub's viewer can show it")
    viewer.add_argument("folder", metavar="FOLDER|org/name")
    viewer.set_defaults(run=_check_viewer)


def _add_preview(commands: Any) -> None:
    preview = commands.add_parser("preview", help="listen to rows, and look at them, in a browser")
    preview.add_argument("folder", metavar="FOLDER|org/name")
    preview.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860 on")
    preview.add_argument("--no-open", action="store_true", help="print the address, open no browser")
    preview.set_defaults(run=_preview)


def _add_build(command: argparse.ArgumentParser, builder: str | None) -> None:
    command.set_defaults(run=_build)
    command.add_argument("builder", metavar="BUILDER", help=f"{', '.join(BUILDERS)}, or a .py file")
    command.add_argument("config", metavar="CONFIG")
    command.add_argument("--data-dir", metavar="DIR|hf://…", help="the corpus; default: its Hub repository")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command.add_argument("--num-proc", type=int, default=1, metavar="N")
    command.add_argument(
        "--max-skipped", type=float, default=MAX_SKIPPED, metavar="F", help="share of faulty items"
    )
    command.add_argument("--overwrite", action="store_true", help="replace the task's rows in DIR")
    if builder is None or builder.startswith("-"):
        return
    add_flags(command, _flags(builder))


def _flags(builder: str) -> list[Any]:
    from speechrows.builder.builder import load_builder
    from speechrows.builder.config import flags_of

    config_class = load_builder(builder).BUILDER_CONFIG_CLASS
    return [field for field in fields(config_class) if field.name in flags_of(config_class)]


def _build(options: argparse.Namespace) -> int:
    from speechrows.builder.builder import load_builder
    from speechrows.folder.layout import CARD

    builder = load_builder(options.builder)
    configs = [config.name for config in builder.BUILDER_CONFIGS]
    if options.config not in configs:
        raise UsageError(
            f"{options.builder} has no config {options.config!r}; expected one of {', '.join(configs)}"
        )
    if options.num_proc < 1 or not 0 <= options.max_skipped <= 1:
        raise UsageError("expected --num-proc of at least 1 and --max-skipped from 0 to 1")
    if options.data_dir and options.out.resolve().is_relative_to(Path(options.data_dir).resolve()):
        raise UsageError(f"{options.out}: lies in the corpus; give a folder beside it")
    chosen = {field.name: getattr(options, field.name) for field in _flags(options.builder)}
    try:
        made = builder(config_name=options.config, data_dir=options.data_dir, **chosen)
    except OSError as error:  # datasets makes its cache's folder there
        raise UsageError(
            f"the cache can not be written ({error}); set HF_DATASETS_CACHE or HF_HOME"
        ) from error
    if made.config.tokenizer is None:
        print("tokenizer: byte-level, made here (one token a byte). For a model, give its --tokenizer")
    config = options.config
    _build_each(made.jobs(), options, options.data_dir or made.config.source or "the Hub")
    if f"config_name: {config}\n" not in (options.out / CARD).read_text("utf-8"):
        config = builder.tasks(config)[0].name
        why = "one task alone has rows" if builder.UNIONS else "every conversation is longer than its limit"
        print(f"{options.config} is {'not listed' if builder.UNIONS else 'empty'}: {why}")
    print(f'open it with: load_dataset("{options.out}", "{config}")')
    return 0


def _build_each(jobs: "Sequence[BuildJob]", options: argparse.Namespace, source: str) -> None:
    """Build each of a config's tasks; where one falls short, the others are built all the same."""
    from speechrows.builds.run import build

    short: list[ShortfallError] = []
    for job in jobs:
        print(f"{source}: {job.found}")
        try:
            summary = build(
                job,
                options.out,
                num_proc=options.num_proc,
                max_skipped=options.max_skipped,
                overwrite=options.overwrite,
            )
        except ShortfallError as error:
            short.append(error)
            continue
        print(f"{options.out}: {job.builder}, {job.task.name} rows\n{summary.describe()}")
    if short:
        raise ShortfallError("\n".join(map(str, short)))


def _validate(options: argparse.Namespace) -> int:
    from speechrows.validation.validate import validate

    report = validate(options.folder, allow=options.allow)
    print(json.dumps(report.to_json(), indent=1) if options.json else report)
    return 0 if report.ok else 1


def _stats(options: argparse.Namespace) -> int:
    from speechrows.folder import stats
    from speechrows.loader import fill

    if options.context is not None:
        fills = fill.fills(options.folder, context=options.context, mode=options.mode)
        lines = json.dumps([asdict(one) for one in fills], indent=1)
        print(lines if options.json else fill.to_text(fills, options.context, options.mode))
        return 0
    found = stats.stats(options.folder)
    print(
        json.dumps(stats.to_json(found), indent=1) if options.json else stats.to_text(options.folder, found)
    )
    return 0


def _show(options: argparse.Namespace) -> int:
    from speechrows.folder.show import show

    print(show(options.folder, options.row_id, colour=sys.stdout.isatty()))
    return 0


def _export(options: argparse.Namespace) -> int:
    from speechrows.interop.usdm import export_usdm

    for name, lines in export_usdm(options.folder, options.out).items():
        print(f"{options.out / name}: {lines:,} lines")
    return 0


def _publish(options: argparse.Namespace) -> int:
    from speechrows.hub.publish.publisher import Publisher
    from speechrows.hub.publish.publisher import Target

    target = Target(
        repo_id=options.repository,
        private=options.private,
        create_pr=options.create_pr,
        revision=options.revision,
    )
    publisher = Publisher(options.folder, target)
    print(publisher.plan())
    if not options.dry_run:
        print(publisher.publish())
    return 0


def _check_viewer(options: argparse.Namespace) -> int:
    from speechrows.hub.viewer.check import check_viewer

    report = check_viewer(options.folder)
    print(report)
    return 0 if report.ok else 1


def _preview(options: argparse.Namespace) -> int:
    from speechrows.preview.app import launch

    page = launch(
        options.folder, port=options.port, only_here=True, open_browser=not options.no_open, wait=False
    )
    print(f"{options.folder}: {page.local_url} (Ctrl-C ends it)", flush=True)
    page.block_thread()
    return 0


def _infos(options: argparse.Namespace) -> int:
    from speechrows.builder.infos import write_infos

    print(f"{options.out}: {write_infos(BUILDERS, options.out)} configs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
