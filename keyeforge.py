"""The `keyeforge` command: it only joins the packages' own command groups."""

import importlib
import sys

import typer

GROUPS = {
    "demo": "eval.demo",
    "data": "data_engine.cli",
    "cot": "cot_factory.cli",
    "model": "model.cli",
    "train": "train.cli",
    "eval": "eval.cli",
}


def main() -> None:
    """Runs the command line. Only the group that was asked for is imported, so that help comes at once."""
    asked = next((argument for argument in sys.argv[1:] if argument in GROUPS), None)
    app = typer.Typer(help="Curate, train and judge a video-language model.", no_args_is_help=True)
    for name, module in GROUPS.items() if asked is None else [(asked, GROUPS[asked])]:
        app.add_typer(importlib.import_module(module).app, name=name)
    app(prog_name="keyeforge")


if __name__ == "__main__":
    main()
