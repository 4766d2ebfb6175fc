"""JupyterLab for the course: it opens the start page, lists what a learner opens, and asks no question about news.

`make lab` starts it with this file. overrides.json beside it holds the settings of the browser's side.
"""

from pathlib import Path

HERE = Path(__file__).parent
c = get_config()  # noqa: F821  # ty: ignore[unresolved-reference]  (Jupyter defines it)
c.ServerApp.root_dir = str(HERE.parents[1])
c.LabApp.default_url = "/lab/tree/README.md"
c.LabApp.app_settings_dir = str(HERE)
c.ContentsManager.hide_globs = ["source", "__pycache__", "*.pyc"]
