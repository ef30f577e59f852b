"""The command `tandem tokenizer compare`."""

from pathlib import Path
from typing import Annotated

import typer

from training.cli import DataPath, JsonOption, ReadOption, _load, _write_json, console


def compare(
    data: DataPath,
    embedder: Annotated[str | None, typer.Option(help="minilm, tfidf, or the path of a model")] = None,
    codebooks: Annotated[int, typer.Option(min=1, help="levels of the tokenizer")] = 3,
    size: Annotated[int, typer.Option(min=2, help="codes of a level")] = 256,
    epochs: Annotated[int | None, typer.Option(min=1, help="of rqvae and fsq; default: preset small's")] = None,
    seed: Annotated[int, typer.Option(help="of everything random")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder for tokenizers.md, .json and .png")] = None,
    json_file: JsonOption = None,
    read: ReadOption = None,
) -> None:
    """Compare every tokenizer on a data set: collisions, use of the codes, what they lose. Takes minutes."""
    from dataclasses import replace

    from rich.progress import Progress

    from training.embeddings import default_embedder, embed
    from training.presets import SMALL
    from training.tokenizers.comparison import compare as run
    from training.tokenizers.comparison_page import draw, markdown, table
    from training.tokenizers.registry import TokenizerOptions

    dataset = _load(data, read)
    embedder = embedder or default_embedder()
    console.print(f"embedding {dataset.num_items} item texts with {embedder}")
    vectors = embed(dataset.items["text"].to_pylist(), embedder, seed=seed)
    autoencoder = replace(SMALL.autoencoder, epochs=epochs or SMALL.autoencoder.epochs)
    options = TokenizerOptions(codebooks, size, restarts=SMALL.restarts, autoencoder=autoencoder, seed=seed)
    with Progress(console=console) as progress:
        found = run(dataset.name, embedder, vectors, dataset.items["title"].to_pylist(), options, progress)
    console.print(table(found))
    _write_json(json_file, found.model_dump_json(indent=1))
    if out:
        _write_json(out / "tokenizers.json", found.model_dump_json(indent=1))
        (out / "tokenizers.md").write_text(markdown(found, "tokenizers.png"))
        draw(found, out / "tokenizers.png")
        console.print(f"wrote {out / 'tokenizers.md'}")


def register(app: typer.Typer) -> None:
    """Add the command to `app`, under `tokenizer`."""
    tokenizer = typer.Typer(help="Compare what can make semantic ids.", no_args_is_help=True)
    tokenizer.callback()(lambda: None)  # with one command only, typer would drop its name
    tokenizer.command()(compare)
    app.add_typer(tokenizer, name="tokenizer")
