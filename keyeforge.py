"""The `keyeforge` command: it only joins the packages' own command groups."""


def main() -> None:
    """Runs the command line; each group's module is imported only when it is used."""
    import importlib

    import typer

    app = typer.Typer(help="Curate, factor, train and judge a video-language model.", no_args_is_help=True)
    groups = {"data": "data_engine.cli", "model": "model.cli", "train": "train.cli", "eval": "eval.cli"}
    for name, module in groups.items():
        try:
            app.add_typer(importlib.import_module(module).app, name=name)
        except ModuleNotFoundError:
            continue
    app()
