"""The command `atelier`. Whatever takes long to import is imported by the command that needs it."""

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


PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
BEGUN = time.monotonic()  # the minutes of a piece of `train all` count from here, before anything large is imported
BLOCK = "BLOCK"  # how the help names the command of all blocks


@contextmanager
def sentences() -> Generator[None]:
    """An error that is meant for the user ends in its sentence and exit code 1; all others show their traceback."""
    try:
        yield
    except AtelierError as fault:
        typer.echo(str(fault), err=True)
        raise typer.Exit(1) from fault


@app.callback()
def main() -> None:
    """DALL·E Mini from scratch: draw, train, measure."""


class TrainGroup(TyperGroup):
    """`atelier train NAME`: a command of its own for `all` and `sprites`, and one for all blocks, which knows them."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command for a name on the command line."""
        return super().get_command(ctx, cmd_name) or super().get_command(ctx, BLOCK)


trainings = typer.Typer(cls=TrainGroup, no_args_is_help=True)
app.add_typer(trainings, name="train")

TrainedPreset = Annotated[str, typer.Option("--preset", help="A preset's name or folder: sizes and settings.")]
Minutes = Annotated[float | None, typer.Option(help="Training time in all, over all resumed runs.")]
Steps = Annotated[int | None, typer.Option(help="Steps in all. With --minutes, whichever ends first.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")]
RunDir = Annotated[Path | None, typer.Option(help="Where the run is kept. Default: runs/NAME of the preset.")]
StopAfter = Annotated[float | None, typer.Option(help="Minutes until a checkpoint and the end of this session.")]
Seed = Annotated[int, typer.Option(help="Another seed, another training.")]
Precision = Annotated[str, typer.Option(help="auto, bf16 or no.")]


@trainings.callback()
def train() -> None:
    """Train a block, or everything that a preset lacks; the weights go to RUN_DIR/preset/."""


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
    batch_size: Annotated[int | None, typer.Option(help="Pictures in a batch, instead of the preset's.")] = None,
    precision: Precision = "auto",
) -> None:
    """Train one block: tokenizer, classifier, judge, vqgan, bart or clip."""
    with sentences():
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
    """Train everything that a preset lacks, one block after the other."""
    with sentences():
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
            for line in train_everything(request, begun=BEGUN):
                if PartialState().is_main_process:
                    typer.echo(line)


@trainings.command("sprites")
def train_all_sprites(
    minutes: Minutes = None,
    steps: Steps = None,
    resume: Resume = False,
    run_dir: Annotated[Path, typer.Option(help="Where the run is kept.")] = Path("runs/sprites"),
    seed: Seed = 0,
    only: Annotated[str | None, typer.Option(help="One of the models, and what it needs.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the models go. Default: RUN_DIR/models.")] = None,
) -> None:
    """Train the small models of part 2."""
    with sentences():
        from atelier.evaluation.sprites import record_measurements
        from atelier.training.sprites import SpriteRequest, train_sprites

        request = SpriteRequest(
            only=only, out=out, run_dir=run_dir, steps=steps, minutes=minutes, resume=resume, seed=seed
        )
        with file_errors(run_dir):
            for sentence in train_sprites(request, record_measurements):
                typer.echo(sentence)


PresetOption = Annotated[str | None, typer.Option(help="A preset's name or folder; by default the best one there is.")]


@app.command()
def draw(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    n: Annotated[int, typer.Option(help="How many pictures.", min=1, max=100)] = 9,
    seed: Annotated[int | None, typer.Option(help="The same seed draws the same pictures.")] = None,
    out: Annotated[Path, typer.Option(help="Where the grid of pictures is saved.")] = Path("drawing.png"),
    preset: PresetOption = None,
    guidance: Annotated[float | None, typer.Option(help="Push towards the prompt; 1 is none.")] = None,
    temperature: Annotated[float | None, typer.Option(help="How daring the choice of codes is.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Choose among so many codes.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Choose among codes that together are so probable.")] = None,
    rank: Annotated[bool, typer.Option(help="Put the best picture first, by CLIP.")] = True,
    ranker: Annotated[str | None, typer.Option(help="A published CLIP to rank with: ViT-B-32/openai.")] = None,
) -> None:
    """Draw a prompt: pictures, their scores, and a grid of them as a file."""
    with sentences():
        from tqdm.auto import tqdm

        from atelier.decoding import SamplingOptions
        from atelier.drawing.pipeline import Pipeline

        if out.suffix.lower() not in PICTURE_ENDINGS:
            raise AtelierError(f"{out} does not end like a picture; use one of {', '.join(PICTURE_ENDINGS)}.")
        pipeline = Pipeline.from_pretrained(preset, ranker=ranker)
        how: SamplingOptions = {}
        if guidance is not None:
            how["guidance"] = guidance
        if temperature is not None:
            how["temperature"] = temperature
        if top_k is not None:
            how["top_k"] = top_k
        if top_p is not None:
            how["top_p"] = top_p
        with tqdm(total=100, unit="%", bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed}", desc="drawing") as bar:
            for drawing in pipeline.stream(prompt, n, seed, rank, **how):
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
    prompts: Annotated[int, typer.Option(help="Captions of each kind, nine pictures each.", min=1)] = 500,
    pictures: Annotated[int, typer.Option(help="Painted pictures to reconstruct.", min=1)] = 1000,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    card: Annotated[bool, typer.Option("--card", help="Write the preset's model card from what was measured.")] = False,
) -> None:
    """Measure a preset with a judge: does the picture show what the prompt says?"""
    with sentences():
        import json

        from tqdm.auto import tqdm

        from atelier.drawing.pipeline import Pipeline, best_preset
        from atelier.evaluation.card import table, write_card
        from atelier.evaluation.evaluate import evaluate as measure
        from atelier.weights.preset import load_preset

        measured = best_preset() if preset is None else load_preset(preset)
        with tqdm(total=0, bar_format="{desc} {n_fmt}/{total_fmt} {elapsed}") as bar:

            def report(what: str, done: int, of: int) -> None:
                bar.set_description(what, refresh=False)
                bar.total, bar.n = of, done
                bar.refresh()

            evaluation = measure(measured, Pipeline.from_pretrained(measured.folder), prompts, pictures, report)
        typer.echo(json.dumps(evaluation.as_dict()) if json_ else table(evaluation))
        if card:
            with file_errors(measured.folder):
                write_card(measured, evaluation, prompts, pictures)


@app.command()
def words(preset: PresetOption = None) -> None:
    """List the words that a preset knows."""
    with sentences():
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
    folder: Annotated[Path, typer.Argument(help="Where pictures and captions.csv go.")],
    n: Annotated[int, typer.Option(help="How many pictures.", min=1)] = 256,
    size: Annotated[int, typer.Option(help="Pixels on a side.", min=8, max=1024)] = 128,
    world: Annotated[str, typer.Option(help="full_world or small_world.")] = "full_world",
    seed: Annotated[int, typer.Option(help="Another seed, other pictures.")] = 0,
) -> None:
    """Paint captioned pictures into a folder, to look at or to train on with --data."""
    with sentences():
        from atelier.training.data import save_captioned
        from atelier.world import named_world

        with file_errors(folder):
            save_captioned(named_world(world).sample(n, seed), folder, size)
        typer.echo(f"{n} pictures and their captions are in {folder}.")


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Where to listen.", min=1, max=65535)] = 7860,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in.")] = "127.0.0.1",
    preset: Annotated[str | None, typer.Option(help="Which preset the page begins with.")] = None,
    browse: Annotated[bool, typer.Option("--browse", help="Open the page in a browser.")] = False,
) -> None:
    """Serve the page with the DRAW button, until Ctrl-C."""
    with sentences():
        try:
            from atelier.page.app import serve as serve_page
        except ModuleNotFoundError as fault:
            raise AtelierError(f"The page needs the package {fault.name}; install it: pip install gradio.") from fault

        serve_page(host, port, preset, browse)


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="dalle-mini or dalle-mega.")],
    source: Annotated[str, typer.Option(help="Whose publication: flax, the original, or min-dalle.")] = "flax",
    dtype: Annotated[str, typer.Option(help="Of the stored numbers: float16, bfloat16 or float32.")] = "float16",
) -> None:
    """Fetch a published model, check it and make it a preset: then `draw --preset NAME` draws with it."""
    with sentences():
        from tqdm.auto import tqdm

        from atelier.weights.published.download import download as fetch

        with tqdm(total=0, unit="B", unit_scale=True, desc=name) as bar:

            def report(what: str, done: int, of: int) -> None:
                bar.set_description(what, refresh=False)
                bar.total, bar.n = of, done
                bar.refresh()

            preset, remarks = fetch(name, source, dtype, report)
        for remark in remarks:
            typer.echo(remark, err=True)
        typer.echo(f'{preset.folder}  (atelier draw --preset {name} "…")')


@app.command()
def export_clip(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    preset: PresetOption = None,
) -> None:
    """Write a preset's CLIP in open_clip's form."""
    with sentences():
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
    """Check this machine: Python, packages, GPU, memory, weights, Jupyter, speed. Made to be pasted."""
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
