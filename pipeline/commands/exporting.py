"""Export: a finished classifier as one file for use elsewhere, with a model card."""

from pathlib import Path

import click

from pipeline.commands.options import Choice, Command, HomePath, output_options
from pipeline.commands.output import show

KINDS = ("onnx", "safetensors", "torch-export")
"""As `pipeline.export.WRITERS`, which imports torch."""


@click.command(cls=Command)
@click.option("--run", "folder", required=True, type=HomePath(), help="A run folder of retrain.")
@click.option("--to", "kind", required=True, type=Choice(KINDS), help="The file's format.")
@click.option("-o", "--output", type=HomePath(), help="The file to write; by default model.* in the run folder.")
@click.option("--head-only", is_flag=True, help="Features in, not images: where features came from elsewhere.")
@click.option("--only-seed", type=int, help="The classifier of one seed; by default the mean of all probabilities.")
@click.option("--backbone", type=HomePath(), help="The stage-1 run folder; by default the cache's own.")
@click.option("--cache", "reference", help="The cache, where it is not in stores/ under its key.")
@output_options
def export(
    folder: Path,
    kind: str,
    output: Path | None,
    head_only: bool,
    only_seed: int | None,
    backbone: Path | None,
    reference: str | None,
    as_json: bool,
) -> None:
    """Normalisation, backbone and classifier as one file with its class names, and a model card beside it.

    coattail export --run runs/own/crt+stg-0123456789ab --to onnx
    """
    if head_only and backbone is not None:
        raise click.UsageError("--backbone is for images: --head-only takes features")
    import json

    from pipeline.artefacts.folders import read_result, runs_folder
    from pipeline.artefacts.outputs import output_path
    from pipeline.commands.run_cache import cache_of
    from pipeline.export import WRITERS, save_card, write_model
    from pipeline.exporting.check import check_features, check_images, sampled_test_images
    from pipeline.exporting.deployable import deployable, one_seed
    from pipeline.exporting.exported import read_exported, read_torch_export
    from pipeline.predict import predictor_of
    from pipeline.predicting.encoder import encoder_of
    from pipeline.report.model_card import card_document, card_text
    from pipeline.stage3_record import RetrainResult

    cache = cache_of(folder, reference)
    predictor, result = predictor_of(folder, cache), read_result(folder, RetrainResult)
    seeds = result.seeds
    if only_seed is not None:
        predictor, seeds = one_seed(predictor, seeds, only_seed), [only_seed]
    encoder = None if head_only else encoder_of(cache.manifest, runs_folder(), backbone)
    path = output or folder / f"model{WRITERS[kind][0]}"
    path = output_path("-o", path)
    if path.suffix != WRITERS[kind][0]:
        raise click.UsageError(f"-o {path}: wanted a file that ends with {WRITERS[kind][0]} for --to {kind}")
    about, model = deployable(predictor, encoder, cache.manifest.identity, result.method, tuple(seeds))
    write_model(model, about, kind, path)
    written = read_torch_export(path) if kind == "torch-export" else read_exported(path)
    if encoder is None:
        nearness = check_features(written, predictor, cache)
    else:
        images = sampled_test_images(cache.manifest)
        nearness = check_images(written, predictor, encoder, images, "images of the test split")
    card = card_document(about, result, cache.manifest, nearness, path)
    cards = [path.with_suffix(".card.json"), path.with_suffix(".card.md")]
    save_card(cards[0], json.dumps(card, indent=1) + "\n")
    save_card(cards[1], card_text(card))
    which = f"the mean over seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
    lines = [
        f"{path}: {about.takes} in, probabilities of {len(about.classes)} classes out, {which}",
        nearness.line(),
        f"model card: {cards[1]}",
    ]
    document = {"file": str(path), "cards": [str(card_path) for card_path in cards], "parity": nearness.document()}
    show(document | {"model": about.model_dump(mode="json")}, as_json, lines)
