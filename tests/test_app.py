"""The page's server: what it draws, what it refuses, and in which words. tests/browser tests it in a browser."""

import asyncio
import base64
import io
import json
import re
import threading
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from atelier.drawing.pipeline import Pipeline
from atelier.page import app, messages
from atelier.page.access import Access
from atelier.page.faults import PageError
from atelier.page.presets import Presets
from atelier.page.requests import MOST_CHARACTERS, draw_request, look_request, save_request
from atelier.page.turns import MAX_REQUESTS, MAX_REQUESTS_PER_VISITOR, BusyError, Turns
from atelier.world import parse, small_world
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient
from tiny_preset import filled_preset

REQUEST: dict[str, Any] = {"prompt": "a cat", "seed": 1, "guidance": 1.5, "temperature": 0.8, "n": 4, "preset": "tiny"}
CODES = [3] * 16
SCOPE: dict[str, Any] = {  # of a request to draw, as a server gives it to the application
    "type": "http",
    "method": "POST",
    "path": "/draw",
    "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    "query_string": b"",
}
BODY: dict[str, Any] = {"type": "http.request", "body": json.dumps(REQUEST).encode(), "more_body": False}


@pytest.fixture(scope="module")
def presets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Presets]:
    data = tmp_path_factory.mktemp("data")
    filled_preset(data / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATELIER_DATA", str(data))
        yield Presets("tiny")


def client(presets: Presets, access: Access | None = None, **more: Any) -> TestClient:
    return TestClient(app.build_app(presets, access), base_url="http://localhost", **more)


@pytest.fixture
def page(presets: Presets) -> TestClient:
    return client(presets)


def draw(page: TestClient, **changes: Any) -> list[dict[str, Any]]:
    """The lines of the answer."""
    answer = page.post("/draw", json=REQUEST | changes)
    return [json.loads(line) for line in answer.text.splitlines()]


def opened(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.partition("base64,")[2])))


# ---------------------------------------------------------------------------------------------- drawing


def test_a_drawing_arrives_row_by_row_and_is_the_pipelines(page: TestClient, presets: Presets) -> None:
    *unfinished, last = draw(page)
    assert [line["progress"] for line in unfinished] == [0.25, 0.5, 0.75]
    assert {opened(address).format for line in unfinished for address in line["pictures"]} == {"JPEG"}
    expected = presets.pipeline("tiny").draw("a cat", n=4, seed=1, guidance=1.5, temperature=0.8)
    assert last["codes"] == expected.codes.flatten(1).tolist()
    assert last["scores"] == [round(score, 2) for score in expected.scores or []]
    assert opened(last["pictures"][0]).tobytes() == expected.images[0].tobytes()
    assert last["settings"] == REQUEST


def test_what_is_left_out_has_its_default(page: TestClient) -> None:
    answer = page.post("/draw", json={"prompt": "a cat", "guidance": None, "seed": None})
    last = json.loads(answer.text.splitlines()[-1])
    assert len(last["pictures"]) == 9
    assert last["settings"].keys() == {"prompt", "preset", "n", "seed"}


def test_the_upper_rows_can_be_kept(page: TestClient) -> None:
    *_, first = draw(page, n=1)
    kept = first["codes"][0][:8]
    *_, completed = draw(page, seed=5, first_codes=kept)
    assert all(codes[:8] == kept for codes in completed["codes"])
    assert completed["settings"]["first_codes"] == kept
    *_, again = draw(page, **completed["settings"])
    assert again["codes"] == completed["codes"]


def test_two_settings_share_their_random_numbers(page: TestClient) -> None:
    (*_, one), (*_, other) = (draw(page, guidance=guidance, rank=False) for guidance in (1, 1.001))
    assert (one["scores"], other["scores"]) == (None, None)
    assert one["codes"] == other["codes"]


def test_the_attention_of_a_picture_to_each_word(page: TestClient) -> None:
    *_, drawn = draw(page, prompt="a red cat")
    found = page.post("/look", json={"prompt": "a red cat", "preset": "tiny", "codes": drawn["codes"][1]}).json()
    assert found["words"] == ["a", "red", "cat"]
    assert len(found["thousandths"]) == 16
    assert all(abs(sum(shares) - 1000) <= 2 for shares in found["thousandths"])


def test_a_saved_picture_has_the_settings_that_draw_it_again(page: TestClient) -> None:
    *_, drawn = draw(page, prompt="a red cat ä")
    one = {"settings": drawn["settings"], "pictures": [drawn["codes"][2]], "place": 3}
    answer = page.post("/save", json=one)
    assert "filename*=UTF-8''a-red-cat-%C3%A4-1-3.png" in answer.headers["content-disposition"]
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.size == (256, 256)
        assert json.loads(image.info["atelier"]) == drawn["settings"] | {"place": 3}
    grid = page.post("/save", json={"settings": drawn["settings"], "pictures": drawn["codes"]})
    with Image.open(io.BytesIO(grid.content)) as image:
        assert min(image.size) > 512
        assert json.loads(image.info["atelier"]) == drawn["settings"]


def test_a_lone_surrogate_is_left_out_of_the_prompt(page: TestClient) -> None:
    body = json.dumps(REQUEST | {"prompt": "a \ud800cat"})
    answer = page.post("/draw", content=body, headers={"Content-Type": "application/json"})
    *_, last = map(json.loads, answer.text.splitlines())
    assert last["settings"]["prompt"] == "a cat"
    picture = {"settings": last["settings"] | {"prompt": "a \udfffcat"}, "pictures": last["codes"][:1]}
    saved = page.post("/save", content=json.dumps(picture), headers={"Content-Type": "application/json"})
    assert saved.status_code == 200


def test_a_bug_is_not_shown_as_an_error_of_the_visitor(presets: Presets, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(Pipeline, "stream", fail)
    with pytest.raises(ValueError, match="a bug"):
        draw(client(presets))


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prompt": " "}, "The prompt is empty"),
        ({"prompt": None}, "The prompt is empty"),
        ({"prompt": "a" * (MOST_CHARACTERS + 1)}, "501 characters"),
        ({"prompt": 7}, "The prompt is 7; give text"),
        ({"prompt": ["a cat"]}, "The prompt is a list"),
        ({"n": 5}, "n is 5; draw 1, 4 or 9 pictures"),
        ({"n": "9"}, "n is the text '9'"),
        ({"n": True}, "n is true"),
        ({"n": None}, "n is missing"),
        ({"n": 10**3000}, "n is 1000"),
        ({"seed": 1.5}, "The seed is 1.5; give a whole number from 0"),
        ({"seed": -1}, "The seed is -1"),
        ({"seed": False}, "The seed is false"),
        ({"seed": "1"}, "The seed is the text '1'"),
        ({"guidance": 11}, "guidance is 11; give a number from 0 to 10"),
        ({"guidance": True}, "guidance is true"),
        ({"guidance": {}}, "guidance is an object"),
        ({"temperature": "0.8"}, "temperature is the text"),
        ({"preset": "../tiny"}, "There is no preset '../tiny' here; choose one of tiny"),
        ({"preset": 3}, "There is no preset '3'"),
        ({"preset": ["tiny"]}, "There is no preset"),
        ({"rank": 1}, "rank is 1; give true or false"),
        ({"first_codes": [16]}, "at most 15 whole numbers from 0 to 15"),
        ({"first_codes": [0] * 16}, "at most 15 whole numbers"),
        ({"first_codes": "abc"}, "The codes do not fit"),
        ({"steps": 3}, "There is no setting 'steps'; there are prompt, preset"),
    ],
)
def test_invalid_requests_get_one_sentence(page: TestClient, changes: dict[str, Any], sentence: str) -> None:
    answer = page.post("/draw", json=REQUEST | changes)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(sentence) or sentence in answer.json()["error"]
    assert len(answer.json()["error"]) < 200


@pytest.mark.parametrize("body", ["", "x", "[" * 10_000, "NaN", '"a cat"', "[]", "7", "1" * 9000, '{"prompt": "\\ud8'])
@pytest.mark.parametrize("path", ["/draw", "/look", "/save"])
def test_bodies_that_are_no_request(page: TestClient, path: str, body: str) -> None:
    answer = page.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("The request is")


def test_whole_numbers_may_be_written_as_floats(presets: Presets) -> None:
    request = draw_request(REQUEST | {"n": 9.0, "seed": 7.0}, presets)
    assert (request.n, request.seed) == (9, 7)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CHECKS: dict[Callable[..., Any], dict[str, Any]] = {
    draw_request: REQUEST,
    look_request: {"prompt": "a cat", "preset": "tiny", "codes": CODES},
    save_request: {"settings": REQUEST, "pictures": [CODES], "place": 1},
}


def outcome(check: Callable[..., Any], request: Any, presets: Presets) -> str:
    """The request as JSON in UTF-8, or the sentence that refuses it."""
    try:
        return json.dumps(check(request, presets), default=vars, ensure_ascii=False).encode().decode()
    except PageError as fault:
        return str(fault)


@pytest.mark.parametrize("check", CHECKS)
@given(data=st.data(), value=JSON)
def test_any_value_is_accepted_or_refused_in_one_sentence(
    check: Callable[..., Any], presets: Presets, data: st.DataObject, value: Any
) -> None:
    sound = CHECKS[check]
    check(sound, presets)
    name = data.draw(st.sampled_from([*sound, "other"]))
    for request in (sound | {name: value}, value):
        assert 10 < len(outcome(check, request, presets)) < 20_000


def test_a_large_body_is_refused_before_it_has_arrived(page: TestClient) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(200):
            sent += 10**6
            yield b" " * 10**6

    answer = page.post("/draw", content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["error"] == "The request is too large; send at most 200,000 bytes."


def test_only_json_is_accepted_which_other_sites_cannot_send(page: TestClient) -> None:
    answer = page.post("/draw", content=json.dumps(REQUEST), headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json()["error"]


def test_no_file_outside_of_the_page_can_be_read(page: TestClient) -> None:
    assert page.get("/static/main.js").status_code == 200
    for path in (
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/etc/passwd",
        "/static/..%2fapp.py",
    ):
        assert page.get(path).status_code == 404


# ---------------------------------------------------------------------------------------------- access


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("localhost:7860", True),
        ("LOCALHOST.:7860", True),
        ("127.0.0.1:7860", True),
        ("[::1]:7860", True),
        ("[::1]", True),
        ("192.168.0.7:7860", True),
        ("atelier.example", True),
        ("evil.example", False),
        ("evil.example:7860", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("[", False),
    ],
)
def test_only_known_hosts_are_answered(presets: Presets, host: str, allowed: bool) -> None:
    visitor = client(presets, Access(hosts=("Atelier.example",)))
    answer = visitor.get("/presets", headers={"Host": host})
    assert answer.status_code == (200 if allowed else 421)
    if not allowed:
        assert "--allow-host" in answer.json()["error"]


def test_a_password_is_asked_for(presets: Presets) -> None:
    visitor = client(presets, Access(password="geheim ü"))
    answer = visitor.get("/")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic")
    assert visitor.get("/", auth=("anybody", "geheim")).status_code == 401
    assert visitor.get("/", headers={"Authorization": "Basic ???"}).status_code == 401
    right = base64.b64encode("anybody:geheim ü".encode()).decode()
    assert visitor.get("/", headers={"Authorization": f"Basic {right}"}).status_code == 200


def test_browsers_are_told_to_load_nothing_from_elsewhere(presets: Presets) -> None:
    for path in ("/", "/static/main.js", "/presets", "/none"):
        headers = client(presets).get(path).headers
        assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
    framed = client(presets, Access(framed_by=("https://huggingface.co",))).get("/").headers
    assert "frame-ancestors https://huggingface.co" in framed["content-security-policy"]
    assert "x-frame-options" not in framed


# ---------------------------------------------------------------------------------------------- turns


def test_visitors_work_in_the_order_of_their_coming() -> None:
    async def visit() -> list[str]:
        turns, worked = Turns(), []

        async def work(name: str) -> None:
            ticket = turns.join(name)
            try:
                async for ahead in turns.wait(ticket):
                    worked.append(f"{name} waits for {ahead}")
                worked.append(f"{name} works")
                await asyncio.sleep(0)
            finally:
                turns.leave(ticket)

        await asyncio.gather(*map(work, "abc"))
        return worked

    assert asyncio.run(visit()) == ["a works", "b waits for 1", "c waits for 2", "b works", "c works"]


def test_who_leaves_while_waiting_keeps_nobody_waiting() -> None:
    turns = Turns()
    first, second, third = (turns.join(name) for name in "abc")
    turns.leave(second)
    turns.leave(first)
    turns.leave(first)
    assert third.turn.is_set()


def test_one_visitor_cannot_fill_the_queue() -> None:
    turns = Turns()
    for _ in range(MAX_REQUESTS_PER_VISITOR):
        turns.join("one")
    with pytest.raises(
        BusyError, match="You already have 16 requests in the queue; wait until one is finished"
    ) as busy:
        turns.join("one")
    assert busy.value.status == 429
    turns.join("other")
    for number in range(MAX_REQUESTS - MAX_REQUESTS_PER_VISITOR - 1):
        turns.join(f"visitor {number}")
    with pytest.raises(BusyError, match="The queue already has 64 requests; try again in a minute") as full:
        turns.join("last")
    assert full.value.status == 503


def test_a_visitor_who_leaves_ends_the_drawing(presets: Presets, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection ends after the first row: no other row is drawn, and the next visitor's turn comes."""
    rows = []
    stream = Pipeline.stream

    def counted(*arguments: Any, **options: Any) -> Iterator[Any]:
        for step in stream(*arguments, **options):
            rows.append(step.progress)
            yield step

    monkeypatch.setattr(Pipeline, "stream", counted)
    application = app.build_app(presets)
    sent = asyncio.run(leave_after_the_first_row(application))
    assert sent == 1
    assert len(rows) <= 2
    assert draw(TestClient(application, base_url="http://localhost"))[-1]["progress"] == 1


async def leave_after_the_first_row(application: Any) -> int:
    """Send a request to an ASGI application and disconnect when the first line arrives; returns the lines received."""
    lines, gone = [], asyncio.Event()
    body = [BODY]

    async def receive() -> dict[str, Any]:
        if body:
            return body.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message.get("body"):
            lines.append(message)
            gone.set()
            await asyncio.sleep(0.01)

    await application(dict(SCOPE), receive, send)
    return len(lines)


def test_a_visitor_who_does_not_read_is_given_up(presets: Presets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "PATIENCE", 0.2)
    application = app.build_app(presets)
    body = [BODY]

    async def receive() -> dict[str, Any]:
        if body:
            return body.pop()
        await asyncio.Event().wait()
        return {}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message.get("body"):
            await asyncio.Event().wait()

    async def visit() -> None:
        async with asyncio.timeout(30):
            await application(dict(SCOPE), receive, send)

    asyncio.run(visit())
    assert draw(TestClient(application, base_url="http://localhost"))[-1]["progress"] == 1


def test_somebody_looks_inside_while_others_draw(presets: Presets) -> None:
    with client(presets) as page:  # one event loop for all requests
        assert faults_of_eight_visitors(page) == []


def faults_of_eight_visitors(page: TestClient) -> list[str]:
    """What goes wrong while four visitors draw and four look inside."""
    faults: list[str] = []
    *_, drawn = draw(page)

    def visit(number: int) -> None:
        for _ in range(4):
            if number % 2:
                answer = page.post("/look", json={"prompt": "a cat", "preset": "tiny", "codes": drawn["codes"][0]})
                faults.extend([] if answer.status_code == 200 else [answer.text])
            else:
                *_, last = draw(page)
                faults.extend([] if last.get("codes") == drawn["codes"] else [str(last)[:80]])

    threads = [threading.Thread(target=visit, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return faults + ["a visitor waits for ever" for thread in threads if thread.is_alive()]


# ---------------------------------------------------------------------------------------------- presets


def test_a_folder_is_served_although_a_preset_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_DATA", str(tmp_path / "data"))
    filled_preset(tmp_path / "data" / "tiny")
    given = filled_preset(tmp_path / "elsewhere" / "tiny")
    presets = Presets(str(given.folder))
    assert presets.first == "tiny (the folder given)"
    assert presets.pipeline(presets.first) is not presets.pipeline("tiny")
    assert presets.preset(presets.first).folder == given.folder
    assert Presets(str(tmp_path / "data" / "tiny")).first == "tiny"
    assert Presets("tiny").first == "tiny"


def test_the_attention_is_that_of_the_pictures_own_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_DATA", str(tmp_path))
    filled_preset(tmp_path / "tiny")
    filled_preset(tmp_path / "other")
    page = client(Presets("other"))
    asked = {"prompt": "a cat", "codes": CODES}
    loaded: list[str] = []
    monkeypatch.setattr(Presets, "pipeline", lambda self, name: loaded.append(name) or Pipeline.from_pretrained(name))
    for preset in ("tiny", "other"):
        assert page.post("/look", json=asked | {"preset": preset}).status_code == 200
    assert loaded == ["tiny", "other"]


def test_only_some_pipelines_stay_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_DATA", str(tmp_path))
    for name in "abc":
        filled_preset(tmp_path / name)
    presets = Presets("a")
    first = presets.pipeline("a")
    assert presets.pipeline("b") is not first
    assert presets.pipeline("a") is first
    presets.pipeline("c")
    assert presets.pipeline("a") is first
    assert list(presets._loaded) == ["c", "a"]


def test_the_chips_make_captions_of_the_world(presets: Presets) -> None:
    described = presets.described()
    preset = next(preset for preset in described["presets"] if preset["name"] == "tiny")
    words, world = preset["vocabulary"], small_world()
    assert [subject["name"] for subject in words["subjects"]] == list(world.subjects)
    for subject in words["subjects"]:
        for style in words["styles"]:
            for setting in words["settings"]:
                scene = parse(style["around"].format(f"{subject['coloured']['blue']} {setting['after']}"))
                assert (scene.subject, scene.colour) == (subject["name"], "blue")
                assert (scene.setting, scene.style) == (setting["name"], style["name"])
    assert parse(words["styles"][0]["around"].format(words["settings"][0]["alone"])).subject is None
    assert ["strawberry", "colour", "blue"] in words["held_out"]
    assert all(re.fullmatch("#[0-9a-f]{6}", colour["shade"]) for colour in words["colours"])
    assert preset["limits"].count(".") == 2
