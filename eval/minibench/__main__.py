"""`python -m eval.minibench --out DIR`: the same as `keyeforge eval minibench`."""

import typer

from eval.cli import minibench

typer.run(minibench)
