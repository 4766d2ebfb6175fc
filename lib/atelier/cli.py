"""The command `atelier`. Modules that are slow to import are imported inside the commands that need them."""

from __future__ import annotations

import io
import json
import logging
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from atelier import __version__
from atelier.arguments import user_path
from atelier.errors import AtelierError, file_errors, missing_packages

if TYPE_CHECKING:
    from tqdm.auto import tqdm

    from atelier.drawing.drawing import Drawing
    from atelier.room.client import Membership


class AtelierGroup(TyperGroup):
    """The group of all commands."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command. Characters that the output's encoding does not have are replaced, such as “→” in cp1252."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        return super().main(*args, **options)


app = typer.Typer(cls=AtelierGroup, no_args_is_help=True)

STARTED = time.monotonic()  # before the slow imports, whose time counts for `train all --stop-after`
SPRITES = "sprites"
BLOCK = "BLOCK"  # the placeholder for the name of a block in the help


@contextmanager
def errors_as_messages() -> Generator[None]:
    """Print the message of an AtelierError and exit with code 1; other exceptions show their traceback."""
    try:
        with missing_packages():
            yield
    except AtelierError as fault:
        typer.echo(str(fault), err=True)
        raise typer.Exit(1) from fault


def show_progress(bar: tqdm, what: str, done: int, total: int) -> None:
    """Update a progress bar: its description, the steps done and their total number."""
    bar.set_description(what, refresh=False)
    bar.total, bar.n = total, done
    bar.refresh()


def print_version(wanted: bool) -> None:
    """Print the version and exit if `--version` is given."""
    if wanted:
        typer.echo(f"atelier {__version__}")
        raise typer.Exit


def log_to_terminal(verbosity: int) -> None:
    """Print the library's log: with -v what is loaded and which device is used, with -vv every file."""
    if verbosity:
        logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S")
        logging.getLogger("atelier").setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)


@app.callback()
def main(
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, help="Log what is loaded and on which device; -vv: every file."),
    ] = 0,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """DALL·E Mini from scratch: draw, train, measure."""
    log_to_terminal(verbose)


class TrainGroup(TyperGroup):
    """The commands `atelier train NAME`: `all`, `sprites`, and one command for the names of all blocks."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command for a name on the command line."""
        return super().get_command(ctx, cmd_name) or super().get_command(ctx, BLOCK)


train_app = typer.Typer(cls=TrainGroup, no_args_is_help=True)
app.add_typer(train_app, name="train")

TrainedPreset = Annotated[str, typer.Option("--preset", help="Name or folder of the preset with sizes and settings.")]
Minutes = Annotated[float | None, typer.Option(help="Total minutes of training, over all resumed sessions.")]
Steps = Annotated[
    int | None, typer.Option(help="Total steps. With --minutes, the run ends at the limit that is reached first.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")]
RunDir = Annotated[
    Path | None, typer.Option(parser=user_path, help="Folder of the run. Default: runs/NAME of the preset.")
]
StopAfter = Annotated[float | None, typer.Option(help="Minutes after which this session saves a checkpoint and ends.")]
DataFolder = Annotated[
    Path | None, typer.Option("--data", parser=user_path, help="A folder of pictures with a captions.csv.")
]
Seed = Annotated[int, typer.Option(help="Seed of the random numbers.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="BLOCK.SETTING=VALUE", help="Override a setting, such as bart.learning_rate=0.001."),
]
Track = Annotated[str, typer.Option(help="A tracker to log the metrics to: tensorboard, trackio, wandb, …")]
Precision = Annotated[str, typer.Option(help="bf16; no: float32; auto: bf16 if the device has bfloat16 instructions.")]


@train_app.callback()
def train() -> None:
    """Train one block or all blocks; the weights are written to RUN_DIR/preset/."""


@train_app.command(BLOCK)
def train_block(
    context: typer.Context,
    preset: TrainedPreset = "laptop",
    minutes: Minutes = None,
    steps: Steps = None,
    resume: Resume = False,
    run_dir: RunDir = None,
    stop_after: StopAfter = None,
    data: DataFolder = None,
    seed: Seed = 0,
    batch_size: Annotated[int | None, typer.Option(help="Pictures per batch. Default: the preset's value.")] = None,
    precision: Precision = "auto",
    set_: Set = None,
    track: Track = "",
    warm_start: Annotated[
        bool, typer.Option("--warm-start", help="Start from the preset's weights instead of random weights.")
    ] = False,
) -> None:
    """Train one block: tokenizer, classifier, judge, vqgan, bart or clip."""
    with errors_as_messages():
        from atelier.training.run import Request, process_state, run_folder, run_training, summary

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
            set=tuple(set_ or ()),
            track=track,
            warm_start=warm_start,
        )
        with file_errors(run_dir or Path("runs")):
            outcome = run_training(request)
        if process_state().is_main_process:
            typer.echo(summary(outcome, request, run_folder(request)))


@train_app.command("all")
def train_all(
    preset: TrainedPreset = "laptop",
    minutes: Minutes = None,
    steps: Steps = None,
    resume: Resume = False,
    run_dir: RunDir = None,
    stop_after: StopAfter = None,
    data: DataFolder = None,
    seed: Seed = 0,
    precision: Precision = "auto",
    set_: Set = None,
    track: Track = "",
) -> None:
    """Train the blocks that a preset lacks, or all blocks again if it is complete.

    With --data, all blocks except the classifiers are trained on a folder of pictures.
    """
    with errors_as_messages():
        from atelier.training.everything import AllRequest, train_everything
        from atelier.training.run import process_state

        request = AllRequest(
            preset=preset,
            run_dir=run_dir,
            steps=steps,
            minutes=minutes,
            stop_after=stop_after,
            data=data,
            resume=resume,
            seed=seed,
            precision=precision,
            set=tuple(set_ or ()),
            track=track,
        )
        with file_errors(run_dir or Path("runs")):
            for line in train_everything(request, begun=STARTED):
                if process_state().is_main_process:
                    typer.echo(line)


@train_app.command("sprites")
def train_all_sprites(
    minutes: Minutes = None,
    steps: Steps = None,
    resume: Resume = False,
    run_dir: Annotated[Path, typer.Option(parser=user_path, help="Folder of the run.")] = Path("runs/sprites"),
    seed: Seed = 0,
    only: Annotated[str | None, typer.Option(help="Train only this model, and the models needed for it.")] = None,
    out: Annotated[
        Path | None, typer.Option(parser=user_path, help="Folder of the trained models. Default: RUN_DIR/models.")
    ] = None,
) -> None:
    """Train the small models of lessons 2a to 2e."""
    with errors_as_messages():
        from atelier.evaluation.sprites import record_measurements
        from atelier.training.sprites import SpriteRequest, train_sprites

        request = SpriteRequest(
            only=only, out=out, run_dir=run_dir, steps=steps, minutes=minutes, resume=resume, seed=seed
        )
        with file_errors(run_dir):
            for sentence in train_sprites(request, record_measurements):
                typer.echo(sentence)


PresetOption = Annotated[str | None, typer.Option(help="Name or folder of a preset. Default: the best available one.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the results as one JSON object.")]


class DrawCommand(TyperCommand):
    """The command `atelier draw`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; if a prompt begins with a dash, explain how to give it."""
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as fault:  # the class of usage errors depends on the version of typer
            options = words[: words.index("--")] if "--" in words else words
            if any(word.startswith("-") and " " in word.partition("=")[0] for word in options):
                raise typer.BadParameter(
                    "a prompt that begins with a dash goes after two dashes: atelier draw -- PROMPT", ctx
                ) from fault
            raise


def membership(address: str, code: str, name: str) -> Membership | None:
    """The place in the room of `draw --room`, or None without it."""
    if not address:
        if code:
            raise AtelierError("The code is that of a room; give the room's address, too: --room ADDRESS.")
        return None
    from atelier.room.client import Membership, room_place

    return Membership(room_place(address, code), name)


def show_in_room(member: Membership, drawing: Drawing) -> None:
    """Show a drawing's first picture in a room; if that fails, a sentence says so, as the drawing itself is saved."""
    try:
        member.join()
        member.send_picture(drawing.images[0], drawing.prompt)
        typer.echo(f"The picture is on the wall of the room at {member.place.url}.", err=True)
    except AtelierError as fault:
        typer.echo(str(fault), err=True)


@app.command(cls=DrawCommand)
def draw(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    n: Annotated[int, typer.Option(help="Number of pictures.", min=1, max=100)] = 9,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same pictures.")] = None,
    place: Annotated[
        int | None, typer.Option(help="Draw only one picture of a seed: its place, as printed.", min=1)
    ] = None,
    out: Annotated[Path, typer.Option(parser=user_path, help="File for the grid of pictures.")] = Path("drawing.png"),
    preset: PresetOption = None,
    guidance: Annotated[float | None, typer.Option(help="Scale of classifier-free guidance; 1: no guidance.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Randomness of the sampled codes; 0: always the most likely code.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Sample only from the k most likely codes.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Sample only from the most likely codes with this total probability.")
    ] = None,
    rank: Annotated[bool, typer.Option(help="Sort the pictures by CLIP's score, best first.")] = True,
    ranker: Annotated[str | None, typer.Option(help="A published CLIP to rank with, such as ViT-B-32/openai.")] = None,
    json_: JsonOption = False,
    room: Annotated[
        str,
        typer.Option(
            envvar="ATELIER_ROOM",
            metavar="ADDRESS",
            help="Show the best picture in a room, such as 192.168.1.5:7870/CODE.",
        ),
    ] = "",
    code: Annotated[str, typer.Option(help="The code of the room, if ADDRESS does not end in it.")] = "",
    name: Annotated[str, typer.Option(help="A name to be shown in the room, if it shows names.")] = "",
) -> None:
    """Draw pictures of a prompt, print their scores, and save them as a grid."""
    with errors_as_messages():
        from tqdm.auto import tqdm

        from atelier.decoding import SamplingOptions
        from atelier.drawing.drawing import picture_path
        from atelier.drawing.pipeline import Pipeline

        out = picture_path(out)  # raises an error for a wrong file ending before anything is drawn
        member = membership(room, code, name)
        pipeline = Pipeline.from_pretrained(preset, ranker=ranker)
        given = {"guidance": guidance, "temperature": temperature, "top_k": top_k, "top_p": top_p}
        options = cast(SamplingOptions, {name: value for name, value in given.items() if value is not None})
        with tqdm(total=100, unit="%", bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed}", desc="drawing") as bar:
            for drawing in pipeline.stream(prompt, n, seed, rank, place=place, **options):
                bar.update(round(100 * drawing.progress) - bar.n)
        for remark in drawing.remarks:
            typer.echo(remark, err=True)
        if rank and drawing.scores is None:
            typer.echo(f"The pictures are not ranked: the preset {pipeline.name} has no CLIP.", err=True)
        file = drawing.save(out)
        if member is not None:
            show_in_room(member, drawing)
        if json_:
            drawn = {"file": str(file), **drawing.record(), "scores": drawing.scores, "remarks": drawing.remarks}
            typer.echo(json.dumps(drawn))
            return
        if drawing.scores is not None:
            typer.echo("scores  " + "  ".join(f"{score:.2f}" for score in drawing.scores))
            typer.echo("places  " + "  ".join(f"{place:5}" for place in drawing.places))
        typer.echo(f"{file}  ({len(drawing.pictures)} pictures, preset {pipeline.name}, seed {drawing.seed})")


@app.command()
def evaluate(
    preset: PresetOption = None,
    prompts: Annotated[
        int, typer.Option(help="Number of captions of each kind; nine pictures are drawn for each.", min=2)
    ] = 500,
    pictures: Annotated[
        int | None, typer.Option(help="Number of painted pictures to reconstruct. Default: 1000.", min=1)
    ] = None,
    json_: JsonOption = False,
    card: Annotated[bool, typer.Option("--card", help="Write the measurements into the preset's model card.")] = False,
) -> None:
    """Measure with a classifier how well a preset's pictures show what their prompts say."""
    with errors_as_messages():
        from tqdm.auto import tqdm

        from atelier.drawing.pipeline import Pipeline
        from atelier.evaluation.card import table, write_card
        from atelier.evaluation.evaluate import evaluate as measure
        from atelier.evaluation.sprite_drawings import draws_sprites, evaluate_sprites, sprite_table
        from atelier.weights.preset import load_preset

        chosen = load_preset(preset)
        if draws_sprites(chosen):
            if card or pictures is not None:
                raise AtelierError(
                    f"The preset {chosen.name} draws sprites, and for sprites there is no --card and no --pictures; "
                    "leave them out."
                )
            found = evaluate_sprites(chosen, prompts)
            text = {name: asdict(estimate) for name, estimate in found.items()}
            typer.echo(json.dumps(text) if json_ else sprite_table(found))
            return
        with tqdm(total=0, bar_format="{desc} {n_fmt}/{total_fmt} {elapsed}") as bar:
            pipeline = Pipeline.from_pretrained(chosen)
            pictures = 1000 if pictures is None else pictures
            evaluation = measure(chosen, pipeline, prompts, pictures, partial(show_progress, bar))
        typer.echo(json.dumps(evaluation.as_dict()) if json_ else table(evaluation))
        if card:
            with file_errors(chosen.folder):
                write_card(chosen, evaluation, prompts, pictures)


@app.command()
def words(preset: PresetOption = None) -> None:
    """List the words of the captions that a preset was trained on."""
    with errors_as_messages():
        from atelier.weights.preset import load_preset
        from atelier.world import named_world, vocabulary

        chosen = load_preset(preset)
        if chosen.world:
            for kind, phrases in vocabulary(named_world(chosen.world)).items():
                if phrases:
                    typer.echo(f"{kind:10} {', '.join(phrases)}")
        elif chosen.words:
            typer.echo(", ".join(chosen.words))
        else:
            typer.echo(f"The {chosen.name} preset was not trained on a closed list of words.")


@app.command()
def paint(
    folder: Annotated[Path, typer.Argument(parser=user_path, help="Folder for the pictures and captions.csv.")],
    n: Annotated[int, typer.Option(help="Number of pictures.", min=1)] = 256,
    size: Annotated[int, typer.Option(help="Pixels on a side.", min=8, max=1024)] = 128,
    world: Annotated[str, typer.Option(help="full_world, studio_world, small_world or sprites.")] = "full_world",
    seed: Annotated[int, typer.Option(help="Seed of the random scenes.")] = 0,
) -> None:
    """Paint captioned pictures into a folder, for example to train on with --data."""
    with errors_as_messages():
        from atelier.training.data import save_captioned
        from atelier.world import caption, named_world, paint, paint_sprites, sprite_caption, varied_sprites

        with file_errors(folder):
            if world == SPRITES:
                save_captioned(varied_sprites(n, seed), folder, size, paint_sprites, sprite_caption)
            else:
                save_captioned(named_world(world).sample(n, seed), folder, size, paint, caption)
        typer.echo(f"{n} pictures and their captions are in {folder}.")


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port to listen at.", min=1, max=65535)] = 7860,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 allows other machines.")] = "127.0.0.1",
    preset: Annotated[str | None, typer.Option(help="Name or folder of the preset that is selected first.")] = None,
    browse: Annotated[bool, typer.Option("--browse", help="Open the page in a browser.")] = False,
    password: Annotated[
        str, typer.Option(envvar="ATELIER_PASSWORD", help="A password that visitors must give, with any user name.")
    ] = "",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A host name that requests may use, besides addresses and this machine's own names."),
    ] = None,
) -> None:
    """Serve the page with the DRAW button until Ctrl-C."""
    with errors_as_messages():
        from atelier.page.access import Access
        from atelier.page.server import serve as serve_page

        for sentence in serve_page(host, port, preset, browse, Access(tuple(allow_host or ()), password)):
            typer.echo(sentence)


@app.command()
def room(
    port: Annotated[int, typer.Option(help="Port to listen at.", min=1, max=65535)] = 7870,
    host: Annotated[
        str, typer.Option(help="Address to listen at. Default: all IPv4 addresses of this machine.")
    ] = "0.0.0.0",
    code: Annotated[str, typer.Option(help="The code to join with. Default: four random characters.")] = "",
    names: Annotated[
        bool, typer.Option("--names", help="Let participants give names, which are shown; else they are numbers.")
    ] = False,
    keep: Annotated[
        Path | None,
        typer.Option(
            parser=user_path,
            metavar="FOLDER",
            help="Keep pictures, results and votes in a folder; else nothing is kept.",
        ),
    ] = None,
    any_network: Annotated[
        bool, typer.Option("--any-network", help="Answer machines with public addresses, too.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A host name that requests may use, besides addresses and this machine's own names."),
    ] = None,
    browse: Annotated[bool, typer.Option("--browse", help="Open the shared screen in a browser.")] = False,
) -> None:
    """Show the pictures, exercise results and votes of a workshop's laptops on one screen.

    A shell joins with: atelier draw "…" --room ADDRESS/CODE

    A lesson joins with: join_room("ADDRESS/CODE")

    Phones join in a browser. Only the local network is answered, and nothing is kept.
    """
    with errors_as_messages():
        from atelier.room.server import hold_room

        hosts = tuple(allow_host or ())
        for sentence in hold_room(host, port, code, names, keep, any_network, hosts, browse):
            typer.echo(sentence)


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="dalle-mini or dalle-mega.")],
    source: Annotated[
        str, typer.Option(help="The published files to convert: flax (the original project's) or min-dalle.")
    ] = "flax",
    dtype: Annotated[str, typer.Option(help="Type of the stored weights: float16, bfloat16 or float32.")] = "float16",
) -> None:
    """Download a published model and convert it to a preset; `draw --preset NAME` draws with it."""
    with errors_as_messages():
        from tqdm.auto import tqdm

        from atelier.weights.published.download import download as fetch

        with tqdm(total=0, unit="B", unit_scale=True, desc=name) as bar:
            preset, remarks = fetch(name, source, dtype, partial(show_progress, bar))
        for remark in remarks:
            typer.echo(remark, err=True)
        typer.echo(f'{preset.folder}  (atelier draw --preset {name} "…")')


@app.command()
def push(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository on the hub.")],
    preset: PresetOption = None,
    private: Annotated[
        bool, typer.Option("--private", help="Create a repository that only its owner can see.")
    ] = False,
) -> None:
    """Upload a preset with its model card to the Hugging Face hub."""
    with errors_as_messages():
        from atelier.weights.preset import load_preset
        from atelier.weights.published.push import push as upload

        chosen = load_preset(preset)
        with file_errors(chosen.folder):
            typer.echo(upload(chosen, repository, private))


@app.command()
def export_clip(
    folder: Annotated[Path, typer.Argument(parser=user_path, help="Folder for the files.")],
    preset: PresetOption = None,
) -> None:
    """Write a preset's CLIP in open_clip's format."""
    with errors_as_messages():
        from atelier.weights.preset import load_preset
        from atelier.weights.published.openclip import export_clip as export

        chosen = load_preset(preset)
        with file_errors(folder):
            export(chosen.load_clip(), chosen.load_clip_tokenizer(), folder)
        typer.echo(f'{folder}  (open_clip.create_model_and_transforms("local-dir:{folder}"))')


@app.command()
def export_onnx(
    out: Annotated[Path, typer.Option(parser=user_path, help="Folder for the files.")],
    preset: PresetOption = None,
    dtype: Annotated[str, typer.Option(help="Type of the stored weights: float32, float16 or int8.")] = "float16",
) -> None:
    """Write a preset's networks as ONNX files, to draw in other programs, such as a browser."""
    with errors_as_messages():
        from atelier.export.preset import export_onnx as export
        from atelier.weights.preset import load_preset

        chosen = load_preset(preset)
        with file_errors(out):
            sizes = export(chosen, out, dtype, partial(typer.echo, err=True))
        for name, size in sizes.items():
            typer.echo(f"{size:>11,}  {name}")
        typer.echo(f"{sum(sizes.values()):>11,}  bytes in {out}  (preset {chosen.name}, weights in {dtype})")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check this machine: Python, packages, GPU, memory, weights, Jupyter and speed. Add the output to bug reports."""
    from atelier.doctor import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            typer.echo(finding)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)
