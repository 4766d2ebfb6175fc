"""The command `atelier`. Modules that take long to import are imported by the commands that need them."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from atelier.errors import AtelierError, file_errors

app = typer.Typer(help="DALL·E Mini from scratch: draw, train, measure.", no_args_is_help=True)

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
STARTED = time.monotonic()  # the session of `train all` starts here, before the large imports
BLOCK = "BLOCK"  # stands for the name of a block in the help


@contextmanager
def errors_as_messages() -> Generator[None]:
    """Print the message of an AtelierError and exit with code 1; other exceptions show their traceback."""
    try:
        yield
    except AtelierError as fault:
        typer.echo(str(fault), err=True)
        raise typer.Exit(1) from fault


@app.callback()
def main() -> None:
    """DALL·E Mini from scratch: draw, train, measure."""


class TrainGroup(TyperGroup):
    """The commands `atelier train NAME`: `all`, `sprites`, and one command for every other name, which is a block's."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Find the command for a name on the command line."""
        return super().get_command(ctx, cmd_name) or super().get_command(ctx, BLOCK)


trainings = typer.Typer(cls=TrainGroup, no_args_is_help=True)
app.add_typer(trainings, name="train")

TrainedPreset = Annotated[str, typer.Option("--preset", help="A preset's name or folder: sizes and settings.")]
Minutes = Annotated[float | None, typer.Option(help="Total training time, over all resumed sessions.")]
Steps = Annotated[
    int | None, typer.Option(help="Total steps. With --minutes, training ends at the limit that is reached first.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")]
RunDir = Annotated[Path | None, typer.Option(help="Folder of the run. Default: runs/NAME of the preset.")]
StopAfter = Annotated[float | None, typer.Option(help="Minutes after which this session saves a checkpoint and ends.")]
Seed = Annotated[int, typer.Option(help="Seed of the random numbers.")]
Precision = Annotated[str, typer.Option(help="auto, bf16 or no.")]


@trainings.callback()
def train() -> None:
    """Train one block, or all blocks that a preset lacks; the weights are written to RUN_DIR/preset/."""


@trainings.command(BLOCK)
def train_block(
    context: typer.Context,
    preset: TrainedPreset = "laptop",
    minutes: Minutes = None,
    steps: Steps = None,
    resume: Resume = False,
    run_dir: RunDir = None,
    stop_after: StopAfter = None,
    data: Annotated[Path | None, typer.Option(help="A folder of pictures with a captions.csv.")] = None,
    seed: Seed = 0,
    batch_size: Annotated[int | None, typer.Option(help="Pictures in a batch. Default: the preset's.")] = None,
    precision: Precision = "auto",
) -> None:
    """Train one block: tokenizer, classifier, judge, vqgan, bart or clip."""
    with errors_as_messages():
        from accelerate import PartialState

        from atelier.training.run import Request, run_folder, run_training, summary

        request = Request(
            block=context.info_name or BLOCK,
            preset=preset,
            run_dir=run_dir,
            steps=steps,
            minutes=minutes,
            stop_after=stop_after,
            resume=resume,
            data=data,
            seed=seed,
            batch_size=batch_size,
            precision=precision,
        )
        with file_errors(run_dir or Path("runs")):
            outcome = run_training(request)
        if PartialState().is_main_process:
            typer.echo(summary(outcome, request, run_folder(request)))


@trainings.command("all")
def train_all(
    preset: TrainedPreset = "laptop",
    minutes: Minutes = None,
    steps: Steps = None,
    resume: Resume = False,
    run_dir: RunDir = None,
    stop_after: StopAfter = None,
    seed: Seed = 0,
    precision: Precision = "auto",
) -> None:
    """Train all blocks that a preset lacks, one after the other."""
    with errors_as_messages():
        from accelerate import PartialState

        from atelier.training.everything import AllRequest, train_everything

        request = AllRequest(
            preset=preset,
            run_dir=run_dir,
            steps=steps,
            minutes=minutes,
            stop_after=stop_after,
            resume=resume,
            seed=seed,
            precision=precision,
        )
        with file_errors(run_dir or Path("runs")):
            for line in train_everything(request, begun=STARTED):
                if PartialState().is_main_process:
                    typer.echo(line)


@trainings.command("sprites")
def train_all_sprites(
    minutes: Minutes = None,
    steps: Steps = None,
    resume: Resume = False,
    run_dir: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/sprites"),
    seed: Seed = 0,
    only: Annotated[str | None, typer.Option(help="Train only this model and the models that it needs.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the trained models. Default: RUN_DIR/models.")] = None,
) -> None:
    """Train the small models of part 2."""
    with errors_as_messages():
        from atelier.evaluation.sprites import record_measurements
        from atelier.training.sprites import SpriteRequest, train_sprites

        request = SpriteRequest(
            only=only, out=out, run_dir=run_dir, steps=steps, minutes=minutes, resume=resume, seed=seed
        )
        with file_errors(run_dir):
            for sentence in train_sprites(request, record_measurements):
                typer.echo(sentence)


PresetOption = Annotated[str | None, typer.Option(help="A preset's name or folder. Default: the best preset present.")]


@app.command()
def draw(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    n: Annotated[int, typer.Option(help="Number of pictures.", min=1, max=100)] = 9,
    seed: Annotated[int | None, typer.Option(help="With the same seed the same pictures are drawn.")] = None,
    out: Annotated[Path, typer.Option(help="File of the grid of pictures.")] = Path("drawing.png"),
    preset: PresetOption = None,
    guidance: Annotated[
        float | None, typer.Option(help="Strength of the prompt's influence; 1 switches guidance off.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Randomness of the sampled codes; 0 takes the most likely code.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Sample from this many of the most likely codes.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Sample from the most likely codes with this total probability.")
    ] = None,
    rank: Annotated[bool, typer.Option(help="Sort the pictures by CLIP's score, best first.")] = True,
    ranker: Annotated[str | None, typer.Option(help="A published CLIP to rank with, such as ViT-B-32/openai.")] = None,
) -> None:
    """Draw pictures of a prompt, print their scores, and save them as a grid."""
    with errors_as_messages():
        from tqdm.auto import tqdm

        from atelier.decoding import SamplingOptions
        from atelier.drawing.pipeline import Pipeline

        if out.suffix.lower() not in PICTURE_SUFFIXES:
            raise AtelierError(
                f"{out} does not have the ending of a picture file; use one of {', '.join(PICTURE_SUFFIXES)}."
            )
        pipeline = Pipeline.from_pretrained(preset, ranker=ranker)
        options: SamplingOptions = {}
        if guidance is not None:
            options["guidance"] = guidance
        if temperature is not None:
            options["temperature"] = temperature
        if top_k is not None:
            options["top_k"] = top_k
        if top_p is not None:
            options["top_p"] = top_p
        with tqdm(total=100, unit="%", bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed}", desc="drawing") as bar:
            for drawing in pipeline.stream(prompt, n, seed, rank, **options):
                bar.update(round(100 * drawing.progress) - bar.n)
        for remark in drawing.remarks:
            typer.echo(remark, err=True)
        if drawing.scores is not None:
            typer.echo("scores  " + "  ".join(f"{score:.2f}" for score in drawing.scores))
        typer.echo(
            f"{drawing.save(out)}  ({len(drawing.pictures)} pictures, preset {pipeline.name}, seed {drawing.seed})"
        )


@app.command()
def evaluate(
    preset: PresetOption = None,
    prompts: Annotated[
        int, typer.Option(help="Number of captions of each kind; nine pictures are drawn for each.", min=1)
    ] = 500,
    pictures: Annotated[int, typer.Option(help="Number of painted pictures to reconstruct.", min=1)] = 1000,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    card: Annotated[bool, typer.Option("--card", help="Write the measurements into the preset's model card.")] = False,
) -> None:
    """Measure with a classifier how well a preset's pictures show what their prompts say."""
    with errors_as_messages():
        from tqdm.auto import tqdm

        from atelier.drawing.pipeline import Pipeline, best_preset
        from atelier.evaluation.card import table, write_card
        from atelier.evaluation.evaluate import evaluate as measure
        from atelier.weights.preset import load_preset

        measured = best_preset() if preset is None else load_preset(preset)
        with tqdm(total=0, bar_format="{desc} {n_fmt}/{total_fmt} {elapsed}") as bar:

            def report(what: str, done: int, total: int) -> None:
                bar.set_description(what, refresh=False)
                bar.total, bar.n = total, done
                bar.refresh()

            evaluation = measure(measured, Pipeline.from_pretrained(measured.folder), prompts, pictures, report)
        typer.echo(json.dumps(evaluation.as_dict()) if json_ else table(evaluation))
        if card:
            with file_errors(measured.folder):
                write_card(measured, evaluation, prompts, pictures)


@app.command()
def words(preset: PresetOption = None) -> None:
    """List the words of the captions that a preset was trained on."""
    with errors_as_messages():
        from atelier.drawing.pipeline import best_preset
        from atelier.weights.preset import load_preset
        from atelier.world import named_world, vocabulary

        known = best_preset() if preset is None else load_preset(preset)
        if known.world:
            for kind, phrases in vocabulary(named_world(known.world)).items():
                typer.echo(f"{kind:10} {', '.join(phrases)}")
        elif known.words:
            typer.echo(", ".join(known.words))
        else:
            typer.echo(f"The {known.name} preset was not trained on a closed list of words.")


@app.command()
def paint(
    folder: Annotated[Path, typer.Argument(help="Folder for the pictures and captions.csv.")],
    n: Annotated[int, typer.Option(help="Number of pictures.", min=1)] = 256,
    size: Annotated[int, typer.Option(help="Pixels on a side.", min=8, max=1024)] = 128,
    world: Annotated[str, typer.Option(help="full_world or small_world.")] = "full_world",
    seed: Annotated[int, typer.Option(help="Seed of the random scenes.")] = 0,
) -> None:
    """Paint captioned pictures into a folder, for example to train on with --data."""
    with errors_as_messages():
        from atelier.training.data import save_captioned
        from atelier.world import named_world

        with file_errors(folder):
            save_captioned(named_world(world).sample(n, seed), folder, size)
        typer.echo(f"{n} pictures and their captions are in {folder}.")


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port to listen at.", min=1, max=65535)] = 7860,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 allows other machines.")] = "127.0.0.1",
    preset: Annotated[str | None, typer.Option(help="Preset that is selected first.")] = None,
    browse: Annotated[bool, typer.Option("--browse", help="Open the page in a browser.")] = False,
) -> None:
    """Serve the page with the DRAW button until Ctrl-C."""
    with errors_as_messages():
        try:
            from atelier.page.app import serve as serve_page
        except ModuleNotFoundError as fault:
            raise AtelierError(f"The page needs the package {fault.name}; install it: pip install gradio.") from fault

        serve_page(host, port, preset, browse)


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="dalle-mini or dalle-mega.")],
    source: Annotated[str, typer.Option(help="Publication: flax, the original, or min-dalle.")] = "flax",
    dtype: Annotated[str, typer.Option(help="Type of the stored weights: float16, bfloat16 or float32.")] = "float16",
) -> None:
    """Download a published model and convert it to a preset; `draw --preset NAME` draws with it."""
    with errors_as_messages():
        from tqdm.auto import tqdm

        from atelier.weights.published.download import download as fetch

        with tqdm(total=0, unit="B", unit_scale=True, desc=name) as bar:

            def report(what: str, done: int, total: int) -> None:
                bar.set_description(what, refresh=False)
                bar.total, bar.n = total, done
                bar.refresh()

            preset, remarks = fetch(name, source, dtype, report)
        for remark in remarks:
            typer.echo(remark, err=True)
        typer.echo(f'{preset.folder}  (atelier draw --preset {name} "…")')


@app.command()
def export_clip(
    folder: Annotated[Path, typer.Argument(help="Folder for the files.")],
    preset: PresetOption = None,
) -> None:
    """Write a preset's CLIP in open_clip's format."""
    with errors_as_messages():
        from atelier.drawing.pipeline import best_preset
        from atelier.weights.preset import load_preset
        from atelier.weights.published.openclip import export_clip as export

        exported = best_preset() if preset is None else load_preset(preset)
        with file_errors(folder):
            export(exported.load_clip(), exported.load_clip_tokenizer(), folder)
        typer.echo(f'{folder}  (open_clip.create_model_and_transforms("local-dir:{folder}"))')


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check this machine: Python, packages, GPU, memory, weights, Jupyter, speed. Paste the output into bug reports."""
    from atelier.doctor import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            typer.echo(finding)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False))
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)
