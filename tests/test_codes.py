"""Codes computed once: what a store holds, what it depends on, and what an interruption leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from atelier.blocks.vqgan import VQGAN
from atelier.training import codes
from atelier.training.codes import CodeStore, StoredCodes, StoreKey, complete_store, encode_pictures
from atelier.training.data import FolderSource, PaintedSource, reworded, save_captioned
from atelier.training.recipe import TrainingError
from atelier.world import caption, is_held_out, parse, small_world
from tiny_preset import tiny_preset

WORLD = small_world()
KEY = StoreKey(vqgan="a", source="painted", pictures=40, captions=3)


@pytest.fixture
def vqgan(tmp_path) -> VQGAN:
    torch.manual_seed(0)
    made = VQGAN(tiny_preset(tmp_path / "tiny").vqgan).eval()
    torch.nn.init.normal_(made.quantize.embedding.weight)
    return made


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(codes, "PART_SIZE", 16)


def painted(seed: int = 0) -> PaintedSource:
    return PaintedSource(WORLD, 16, seed, torch.device("cpu"))


def completed(folder: Path, vqgan: VQGAN, key: StoreKey = KEY, seed: int = 0) -> CodeStore:
    store = CodeStore(folder, key)
    assert complete_store(store, vqgan, painted(seed), Accelerator(cpu=True), show_progress=False)
    return store


def test_a_store_holds_the_codes_of_the_pictures_and_several_captions_for_each(tmp_path, vqgan):
    store = completed(tmp_path / "codes", vqgan)
    found, captions = store.read()
    assert found.shape == (40, 16)
    assert found.dtype == torch.uint16
    for part, size in enumerate((16, 16, 8)):
        pictures, texts = painted().portion(part * 16, size, 3)
        assert torch.equal(found[part * 16 : part * 16 + size].long(), encode_pictures(vqgan, pictures))
        assert captions[part * 16 : part * 16 + size] == texts
    assert all(len(texts) == 3 for texts in captions)
    assert any(len(set(texts)) > 1 for texts in captions), "all wordings of each scene are equal"
    assert sum(file.stat().st_size for file in store.folder.glob("part-*")) < 40 * (16 * 2 + 3 * 80) + 3 * 300


def test_the_wordings_of_a_scene_describe_the_same_scene():
    scenes = WORLD.sample(200, seed=1)
    for scene in scenes:
        for number in range(1, 4):
            other = parse(caption(reworded(scene, number)))
            assert other.subject in (scene.subject, None)
            assert other.setting in (scene.setting, None)


def test_no_held_out_combination_gets_into_a_store():
    assert not any(is_held_out(scene) for first in range(0, 2000, 500) for scene in WORLD.sample(500, seed=first))
    _, captions = painted().portion(0, 200, 2)
    assert not any(is_held_out(parse(text)) for texts in captions for text in texts if "nothing at all" not in text)


def test_a_store_of_another_vqgan_or_other_pictures_is_started_again(tmp_path, vqgan):
    store = completed(tmp_path / "codes", vqgan)
    assert CodeStore(store.folder, KEY).missing == []
    for changed in (
        replace(KEY, vqgan="b"),
        replace(KEY, source="others"),
        replace(KEY, pictures=41),
        replace(KEY, captions=2),
    ):
        other = CodeStore(store.folder, changed)
        assert other.missing == list(range(changed.parts))
        with pytest.raises(TrainingError, match="lacks 3 of its 3 parts"):
            other.read()
    again = completed(tmp_path / "codes", vqgan, replace(KEY, source="others"), seed=5)
    assert not torch.equal(again.read()[0].long(), encode_pictures(vqgan, painted().portion(0, 40, 1)[0]))


def test_stopping_leaves_whole_parts_and_the_next_session_continues(tmp_path, vqgan, monkeypatch):
    answers = iter([False, False, True])
    store = CodeStore(tmp_path / "codes", KEY)
    accelerator = Accelerator(cpu=True)
    assert not complete_store(store, vqgan, painted(), accelerator, lambda: next(answers), show_progress=False)
    assert store.missing == [2]
    written = []
    monkeypatch.setattr(CodeStore, "write", lambda *arguments, keep=CodeStore.write: written.append(keep(*arguments)))
    assert complete_store(store, vqgan, painted(), accelerator, show_progress=False)
    assert len(written) == 1
    whole = completed(tmp_path / "whole", vqgan)
    assert torch.equal(store.read()[0].long(), whole.read()[0].long())


def test_a_killed_store_is_not_complete_and_is_finished_with_the_same_codes(tmp_path, vqgan):
    folder = tmp_path / "killed"
    torch.save(vqgan.state_dict(), tmp_path / "vqgan.pt")
    script = f"""
import torch
from accelerate import Accelerator
from pathlib import Path
from atelier.blocks.vqgan import VQGAN
from atelier.training import codes
from test_codes import KEY, painted
from tiny_preset import tiny_preset
torch.set_num_threads(1)
codes.PART_SIZE = 16
vqgan = VQGAN(tiny_preset(Path({str(tmp_path / "again")!r})).vqgan).eval()
vqgan.load_state_dict(torch.load({str(tmp_path / "vqgan.pt")!r}, weights_only=True))
write = codes.replace_file
def slow(path, content):
    write(path, content)
    print(path.name, flush=True)
    import time; time.sleep(0.3)
codes.replace_file = slow
codes.complete_store(codes.CodeStore(Path({str(folder)!r}), KEY), vqgan, painted(), Accelerator(cpu=True))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    victim = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert victim.stdout is not None
    while "part-00000" not in (line := victim.stdout.readline()):
        assert line or victim.poll() is None, "the process ended before it wrote a part"
    time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    store = CodeStore(folder, KEY)
    assert 0 not in store.missing
    assert store.missing
    with pytest.raises(TrainingError, match="lacks"):
        StoredCodes(store, 4, seed=0)
    finished = completed(folder, vqgan)
    assert torch.equal(finished.read()[0].long(), completed(tmp_path / "whole", vqgan).read()[0].long())


def test_a_damaged_part_is_named(tmp_path, vqgan):
    store = completed(tmp_path / "codes", vqgan)
    part = store.folder / "part-00001.safetensors"
    part.write_bytes(part.read_bytes()[:-5])
    with pytest.raises(TrainingError, match=r"part-00001\.safetensors is damaged.*remove it"):
        store.read()
    part.unlink()
    assert store.missing == [1]
    completed(store.folder, vqgan)
    store.read()


def test_an_epoch_has_each_picture_once_with_one_of_its_captions(tmp_path, vqgan):
    store = completed(tmp_path / "codes", vqgan)
    codes_of, captions = store.read()
    known = {(*row, text) for row, texts in zip(codes_of.tolist(), captions, strict=True) for text in texts}
    data = StoredCodes(store, batch_size=8, seed=3)
    epoch = [data[number] for number in range(5)]
    rows = [tuple(row) for batch in epoch for row in batch.codes.tolist()]
    assert sorted(rows) == sorted(map(tuple, codes_of.tolist()))
    assert all(
        (*row, text) in known
        for batch in epoch
        for row, text in zip(map(tuple, batch.codes.tolist()), batch.captions, strict=True)
    )
    assert epoch[0].codes.dtype == torch.int64
    again = StoredCodes(store, batch_size=8, seed=3)[2]
    assert torch.equal(again.codes, epoch[2].codes)
    assert again.captions == epoch[2].captions
    assert not torch.equal(StoredCodes(store, batch_size=8, seed=4)[2].codes, epoch[2].codes)
    second = [text for number in range(5, 10) for text in data[number].captions]
    assert sorted(second) != sorted(text for batch in epoch for text in batch.captions), "no caption changed"
    with pytest.raises(IndexError, match="number -1"):
        data[-1]


def test_a_folder_of_pictures_goes_through_the_same_store(tmp_path, vqgan):
    save_captioned(WORLD.sample(20, seed=0), tmp_path / "pictures", 16)
    source = FolderSource(tmp_path / "pictures", 16, 0, torch.device("cpu"))
    key = StoreKey("a", source.identity, source.count(65536), 4)
    assert key.pictures == 20
    store = CodeStore(tmp_path / "codes", key)
    assert complete_store(store, vqgan, source, Accelerator(cpu=True), show_progress=False)
    found, captions = store.read()
    assert torch.equal(found.long(), encode_pictures(vqgan, source.portion(0, 20, 1)[0]))
    assert captions == [[caption(scene)] for scene in WORLD.sample(20, seed=0)]
    table = tmp_path / "pictures" / "captions.csv"
    table.write_text(table.read_text().replace("moon", "Moon").replace("beach", "shore"))
    assert FolderSource(tmp_path / "pictures", 16, 0, torch.device("cpu")).identity != source.identity


def test_more_codes_than_16_bits_can_number_are_refused(tmp_path, vqgan):
    vqgan.config = replace(vqgan.config, codes=2**16 + 1)
    with pytest.raises(TrainingError, match="65537 codes; a store of codes holds at most 65536"):
        complete_store(CodeStore(tmp_path / "codes", KEY), vqgan, painted(), Accelerator(cpu=True))
