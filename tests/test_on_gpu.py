"""The plan for a machine with a GPU: what it contains, and what becomes of steps that fail, hang or lack a package."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch
from gpu import mega, on_gpu
from gpu.on_gpu import Step, plan, run_plan
from PIL import Image

FACTS = {"gpu": "a GPU"}


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def steps_of(*steps: Step, folder: Path, seconds: float = 60, again: bool = False, facts=FACTS) -> tuple[dict, list]:
    lines: list[str] = []
    return run_plan(list(steps), folder, seconds, facts, again, lines.append)["steps"], lines


def test_the_rehearsal_has_the_steps_of_the_plan(tmp_path: Path) -> None:
    real, rehearsed = plan(tmp_path, False), plan(tmp_path, True)
    assert [step.name for step in real] == [step.name for step in rehearsed]
    assert [step.name for step in real] == ["tests", "smoke", "mega", "lesson", "benches"]
    assert [step.needs for step in real] == [step.needs for step in rehearsed]
    assert all(step.seconds < 600 for step in real)
    words = [word for step in (*real, *rehearsed) for command in step.commands for word in command]
    files = [word for word in words if word.startswith("tests/") or Path(word).parent == Path(on_gpu.__file__).parent]
    assert len(files) > 6
    assert all((on_gpu.ROOT / file).exists() for file in files)


def test_a_step_that_fails_or_hangs_does_not_stop_the_others(tmp_path: Path) -> None:
    began = time.monotonic()
    found, lines = steps_of(
        Step("fails", 30, (python("print('reason'); raise SystemExit(3)"), python("print('never')"))),
        Step("hangs", 1, (python("import time; print('begun', flush=True); time.sleep(60)"),)),
        Step("lacks", 30, (python(""),), ("a_module_that_does_not_exist",)),
        Step("passes", 30, (python("print('text'); print('{\"seconds\": 2.5}')"),)),
        folder=tmp_path,
    )
    assert time.monotonic() - began < 30
    assert [each["status"] for each in found.values()] == ["failed", "timed out", "not run", "passed"]
    assert "reason" in found["fails"]["output"]
    assert "never\n" not in found["fails"]["output"]
    assert "begun" in found["hangs"]["output"]
    assert found["lacks"]["why"] == "a_module_that_does_not_exist cannot be imported"
    assert found["passes"]["found"] == [{"seconds": 2.5}]
    assert lines[-1] == "passes: passed, 0 s, [{'seconds': 2.5}]"
    assert json.loads((tmp_path / "results.json").read_text())["steps"] == found


def test_what_has_passed_on_this_machine_is_not_run_again(tmp_path: Path) -> None:
    step = Step("once", 30, (python(f"open({str(tmp_path / 'runs')!r}, 'a').write('x')"),))
    for facts, again, runs in ((FACTS, False, 1), (FACTS, False, 1), (FACTS, True, 2), ({"gpu": "another"}, False, 3)):
        found, _ = steps_of(step, folder=tmp_path, facts=facts, again=again)
        assert found["once"]["status"] == "passed"
        assert len((tmp_path / "runs").read_text()) == runs


def test_a_step_is_not_started_without_time(tmp_path: Path) -> None:
    found, _ = steps_of(Step("late", 30, (python(""),)), folder=tmp_path, seconds=1)
    assert found["late"]["why"] == "no time was left"


@pytest.mark.parametrize(
    ("words", "sentence"), [(["--only", "mge"], "there is no step mge; there are tests, smoke"), ([], "no GPU here")]
)
def test_bad_input_is_refused(words: list[str], sentence: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["on_gpu.py", *words])
    with pytest.raises(SystemExit):
        on_gpu.main()
    assert sentence in capsys.readouterr().err


def test_mega_is_measured_with_tiny_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mega.importlib.util, "find_spec", lambda name: None)  # min-dalle has no tiny VQ-GAN
    found = mega.measure(tmp_path, tiny=True)
    assert found["ours"]["pictures"] == 2
    assert 0 < found["ours"]["share_of_bandwidth_limit"] < 1
    assert found["min-dalle"] == "is not installed"
    assert Image.open(tmp_path / "mega_random.png").width > 60


def test_the_bytes_that_decoding_reads_are_counted() -> None:
    size = mega.TINY_BART
    bart = mega.filled(lambda: mega.Bart(size), torch.device("cpu"), torch.float16)
    layer = 6 * size.width**2 + 3 * size.width * size.inner_width  # attention without the text's keys and values, GLU
    cache = size.decoder_layers * 2 * 2 * size.target_length * size.width
    least = size.target_length * 2 * (size.decoder_layers * layer + size.target_vocabulary * size.width + cache // 2)
    assert least < mega.bytes_per_drawing(bart, pictures=1) < 1.1 * least
