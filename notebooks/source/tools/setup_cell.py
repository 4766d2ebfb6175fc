# On Colab, Kaggle or a rented server this fetches the course and installs what is missing. Elsewhere it does nothing.
# COURSE can stay empty, or name your own fork, "owner/name", or an archive that you have uploaded, "course.zip".
import importlib.util
import os
import runpy
import shutil
import subprocess
from pathlib import Path

COURSE = ""  # @param {type:"string"}
REPOSITORY = ""
FOLDER, NEW, TOOL = Path("atelier"), Path("atelier.new"), "notebooks/source/tools/colab.py"
NO_COURSE = "The address of the course is not in this notebook: write your own fork or an archive into COURSE above."


class SetupError(Exception):
    def _render_traceback_(self) -> list[str]:  # IPython shows this instead of the traceback
        return [str(self)]


def fetch(course: str) -> None:
    """Clone or unpack the course into NEW, and rename it to FOLDER when it is complete."""
    if not course:
        raise SetupError(NO_COURSE)
    print(f"Fetching the course, {course} …", flush=True)
    shutil.rmtree(NEW, ignore_errors=True)
    try:
        if course.endswith((".zip", ".tar.gz")):
            Path(course).stat()  # raises FileNotFoundError
            shutil.unpack_archive(course, NEW)
        else:
            git = ["git", "clone", "--quiet", "--depth=1", f"https://github.com/{course}", str(NEW)]
            silent = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
            subprocess.run(git, env=silent, check=True, stderr=subprocess.PIPE, text=True)
        next(NEW.rglob(TOOL)).parents[3].rename(FOLDER)
    except StopIteration:
        raise SetupError(f"{course} is not the course: it has no file {TOOL}.") from None
    except subprocess.CalledProcessError as fault:
        hint = "Check the address and the network (on Kaggle: Settings, Internet)."
        raise SetupError(f"git cannot fetch {course}: {fault.stderr.strip()}\n{hint}") from fault
    except FileNotFoundError as fault:
        raise SetupError(f"{fault.filename} is missing here: install or upload it, or change COURSE.") from fault
    except Exception as fault:  # such as a damaged archive or a full disk
        raise SetupError(f"{course} cannot be fetched: {fault}") from fault


found = importlib.util.find_spec("atelier")  # a folder of this name without code has no origin
if found is None or found.origin is None or FOLDER.resolve() in Path(found.origin).parents:
    if around := [folder for folder in Path.cwd().parents if (folder / "lib" / "atelier").is_dir()]:
        hint = f'pip install --editable "{around[0]}[lessons,published]"'
        raise SetupError(f"The course is here, but this kernel cannot import it. Type in a terminal: {hint}")
    if not (FOLDER / TOOL).is_file():
        fetch(COURSE or REPOSITORY)
    runpy.run_path(str(FOLDER / TOOL))["set_up"]()
