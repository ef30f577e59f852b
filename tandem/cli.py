"""The command `tandem`: the online half always, the offline half when its extra is installed."""

import importlib.util
import sys

import typer

import service.cli
from models.errors import TandemError

TRAINING_COMMANDS = (
    *("train", "evaluate", "fit", "export", "strip", "quantise", "categorize", "report", "table", "compare"),
    *("demo-data", "index", "tokenizer"),
)
TRAINING_MISSING = "pip install 'tandem-recommender[train]'"


def build() -> typer.Typer:
    """The application with every command that can run here, and a hint in place of the others."""
    app = typer.Typer(help="Train and serve generative recommendation.", no_args_is_help=True, add_completion=False)
    service.cli.register(app)
    if importlib.util.find_spec("torch") is None:
        for name in TRAINING_COMMANDS:
            app.command(name, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(_missing)
    else:
        import training.cli
        import training.index_cli
        import training.tokenizer_cli

        training.cli.register(app)
        training.index_cli.register(app)
        training.tokenizer_cli.register(app)
    return app


def _missing() -> None:
    """Needs the training extra."""
    raise TandemError(f"this command needs the training extra, which is not installed: {TRAINING_MISSING}")


def main() -> None:
    """Run the command line; an expected error is one line and exit status 1."""
    try:
        build()()
    except TandemError as error:
        print(f"tandem: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
