"""A person looks at their data: a real browser, clicking through the preview.

REWRITE_SCREENSHOTS=1 writes the pictures of docs/ anew.
"""

import io
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import soundfile

if "PYTEST_XDIST_WORKER" in os.environ:
    pytest.skip("a browser wants the machine to itself: make test-compat", allow_module_level=True)
pytest.importorskip("gradio", reason="preview needs gradio: pip install 'speechrows[preview]'")
pytest.importorskip("playwright", reason="the browser is driven by playwright: pip install playwright")

from PIL import Image
from playwright.sync_api import Page
from playwright.sync_api import expect
from playwright.sync_api import sync_playwright
from toys.building import build_rows
from toys.building import read_rows
from toys.preview_corpus import ATTACK
from toys.preview_corpus import hostile_corpus
from toys.samples import SAMPLE_OF
from toys.samples import SAMPLES
from toys.samples import XTTS

from speechrows.builder.builder import load_builder
from speechrows.errors import UsageError
from speechrows.flags import BUILDERS
from speechrows.folder.scores import describe
from speechrows.hub.publish.publisher import Publisher
from speechrows.hub.publish.publisher import Target
from speechrows.preview import find as searching
from speechrows.preview.app import launch
from speechrows.screening.screen import screen
from speechrows.types import IGNORE_INDEX

CHROMIUM = shutil.which("chromium")
DOCS = SAMPLES.parent / "docs"
REWRITES = os.environ.get("REWRITE_SCREENSHOTS") == "1"
# A container has no user namespaces for the sandbox, and no sound card to play to or to record from.
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
FLAGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@contextmanager
def opened(browser, rows: Path | str, scheme: str = "light", **more: Any) -> Iterator[Page]:
    """The page of a folder, or of `org/name`. No console error, no request off loopback, until the end."""
    served = launch(str(rows), only_here=True, wait=False, **more)
    context = browser.new_context(
        viewport={"width": 1440, "height": 960},
        color_scheme=scheme,
        permissions=["microphone"] if more else [],
    )
    context.set_default_timeout(20_000)
    page, errors, asked = context.new_page(), [], []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(served.local_url)
        expect(page.locator(".turn.is-open").first).to_be_visible(timeout=60_000)
        yield page
        assert errors == []
        web = [urlsplit(url) for url in asked if not url.startswith(("data:", "blob:"))]
        assert {url.hostname for url in web} == {"127.0.0.1"}
    finally:
        context.close()
        served.close()


def pick(page: Page, what: str, choice: str) -> None:
    page.locator(f"#sr-{what} input").click()
    page.get_by_role("option", name=choice, exact=True).click()


def find(page: Page, text: str) -> None:
    page.keyboard.press("/")  # takes the cursor to the field
    expect(page.locator("#sr-find input")).to_be_focused()
    page.locator("#sr-find input").fill(text)
    page.keyboard.press("Enter")


def plays(page: Page, player: str) -> None:
    """Start a player with a click of the mouse, where the browser draws its button; it must go on."""
    audio = page.locator(player).first
    height = audio.bounding_box()["height"]
    audio.click(position={"x": 25, "y": height / 2})  # once it stands still: pages scroll smoothly
    page.wait_for_function("a => document.querySelector(a).currentTime > 0.2", arg=player)


def shoot(page: Page, name: str, selector: str | None = None) -> None:
    if REWRITES:
        page.wait_for_timeout(600)  # until the players know their lengths
        what = page.locator(selector) if selector else page
        taken = Image.open(io.BytesIO(what.screenshot())).convert("RGB")
        taken.quantize(256, dither=Image.Dither.NONE).save(DOCS / name, optimize=True)
        assert (DOCS / name).stat().st_size < 150_000


@pytest.fixture(scope="module")
def talks(browser, tmp_path_factory):
    """The page of conversations, with their rows."""
    rows_folder = tmp_path_factory.mktemp("talks") / "deepdialogue_ttt"
    build_rows(XTTS, rows_folder)
    build_rows(XTTS, rows_folder, "response")
    with opened(browser, rows_folder) as page:
        yield page, read_rows(rows_folder)


def test_a_person_sees_whether_their_conversations_are_right(talks):
    page, rows = talks
    expect(page.locator("h1")).to_have_text("deepdialogue_ttt")
    expect(page.locator(".fact.good")).to_contain_text("none is lost")

    pick(page, "config", "response")
    expect(page.locator(".turn.answer").first).to_contain_text("That sounds exhausting.")
    pick(page, "config", "ttt")
    expect(page.locator(".turn.answer")).to_have_count(0)

    find(page, rows[5]["row_id"])
    expect(page.locator("#sr-row-id")).to_have_text(rows[5]["row_id"])
    expect(page.locator(".chat-head")).to_contain_text("2 of 4")

    plays(page, ".open-row audio")
    expect(page.locator(".playhead")).to_have_class(re.compile("is-on"))
    shoot(page, "preview-conversation.png")

    token = page.locator(".tok.supervised").first
    loss, masked = (
        page.locator(f".tok.{kind}").first.evaluate("e => getComputedStyle(e).backgroundColor")
        for kind in ("supervised", "masked")
    )
    assert loss != masked
    assert re.fullmatch(r"id \d+ · \S+ · takes loss", token.get_attribute("title"))
    token.hover()
    expect(page.locator(".readout")).to_have_text(token.get_attribute("title"))
    page.locator(".tokens").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    second = page.locator(".tok").nth(1)
    expect(page.locator(".readout")).to_have_text(second.get_attribute("title"))
    expect(page.locator(".tok.padding")).to_contain_text("pad × ")

    # A clip on the frames opens its turn, which is then in sight there.
    page.locator(".lane.assistant .clip").nth(1).click()
    expect(page.locator("#sr-row-id")).to_have_text(rows[7]["row_id"])
    expect(page.locator(".lane .clip.is-open")).to_be_in_viewport()
    expect(page.locator(".lane .frame.bos")).to_have_count(6)

    # The third turn is opened by playing it, and is followed in its pictures while it plays.
    plays(page, ".turn:nth-of-type(3) audio")
    expect(page.locator("#sr-row-id")).to_have_text(rows[6]["row_id"])
    page.wait_for_function("() => document.querySelector('.turn.is-open audio').currentTime > 0.5")
    page.keyboard.press("j")
    expect(page.locator("#sr-row-id")).to_have_text(rows[7]["row_id"])
    page.keyboard.press("n")
    expect(page.locator(".chat-head")).to_contain_text("3 of 4")

    find(page, "SLEPT")
    expect(page.locator(".hits mark")).to_have_text("slept")
    expect(page.locator(".hits")).to_contain_text("looked at 17 of 17 rows")
    expect(page.locator("#sr-row-id")).to_have_text(rows[0]["row_id"])

    page.get_by_role("tab", name="Distributions").click()
    page.get_by_role("button", name=re.compile(r"^happy")).click()
    expect(page.get_by_role("tab", name="Listen")).to_have_attribute("aria-selected", "true")
    expect(page.locator(".turn.is-open .chip")).to_have_text("happy")


def test_a_search_goes_to_its_results_and_brings_nobody_back_who_leaves_them(talks, monkeypatch):
    gate, by_words = threading.Event(), searching.by_words

    def slow(*args, **options):
        gate.wait(20)
        return by_words(*args, **options)

    page, _ = talks
    listen, ledger = (page.get_by_role("tab", name=name) for name in ("Listen", "Ledger"))
    ledger.click()
    expect(page.locator(".ledger")).to_be_visible()
    find(page, "zebra")
    expect(page.locator(".hits")).to_contain_text("Nothing has this")
    expect(listen).to_have_attribute("aria-selected", "true")

    monkeypatch.setattr(searching, "by_words", slow)
    ledger.click()
    find(page, "SLEPT")
    expect(listen).to_have_attribute("aria-selected", "true")
    ledger.click()
    expect(page.locator(".ledger")).to_be_visible()
    gate.set()
    expect(page.locator(".hits mark")).to_have_text("slept")
    expect(ledger).to_have_attribute("aria-selected", "true")
    expect(page.locator(".ledger")).to_be_visible()
    listen.click()
    expect(page.locator(".hits mark")).to_be_visible()


def test_a_search_of_what_was_chosen_before_is_dropped(talks, monkeypatch):
    gate, begun, by_words = threading.Event(), threading.Event(), searching.by_words

    def slow(*args, **options):
        begun.set()
        gate.wait(20)
        return by_words(*args, **options)

    monkeypatch.setattr(searching, "by_words", slow)
    page, _ = talks
    find(page, "SLEPT")
    assert begun.wait(20)
    pick(page, "config", "response")
    expect(page.locator(".badge")).to_have_text("response")
    gate.set()
    page.wait_for_timeout(1500)
    expect(page.locator(".badge")).to_have_text("response")
    expect(page.locator(".hits")).to_have_count(0)
    pick(page, "config", "ttt")
    expect(page.locator(".badge")).to_have_text("ttt")


PHONE = {"viewport": {"width": 390, "height": 667}, "has_touch": True, "is_mobile": True}


def test_the_address_of_a_row_opens_it_again_also_on_a_phone_where_all_of_it_fits(browser, talks):
    page, rows = talks
    pick(page, "config", "stage_1")
    expect(page.locator("#sr-row-id")).to_have_attribute("data-config", "stage_1")
    find(page, rows[9]["row_id"])
    expect(page.locator("#sr-row-id")).to_have_text(rows[9]["row_id"])
    expect(page).to_have_url(re.compile(r"\?config=stage_1&split=train&row=deepdialogue_ttt/train/.*/ttt$"))
    expect(page.locator(".keys")).to_be_visible()
    context = browser.new_context(**PHONE)
    context.set_default_timeout(20_000)
    try:
        phone = context.new_page()
        phone.goto(page.url)
        expect(phone.locator("#sr-row-id")).to_have_text(rows[9]["row_id"])
        expect(phone.locator("#sr-config input")).to_have_value("stage_1")
        expect(phone.locator(".turn.is-open audio")).to_be_in_viewport(ratio=1)
        for hidden in (".keys", ".by-mouse", "#sr-task"):
            expect(phone.locator(hidden)).to_be_hidden()
        phone.locator(".tok.supervised").first.tap()
        expect(phone.locator(".readout")).to_contain_text("takes loss")
        for tab in ("Distributions", "Ledger", "Listen"):
            phone.get_by_role("tab", name=tab).tap()
            expect(phone.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
            assert phone.evaluate(BEYOND) == []
    finally:
        context.close()
        pick(page, "config", "ttt")


# What stands beyond the right edge of the page, but for what is scrolled in a part of it.
BEYOND = """() => [...document.querySelectorAll('.gradio-container *')]
  .filter((e) => !e.closest('.grid-scroll > *'))
  .filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map((e) => e.outerHTML.slice(0, 99))"""


def test_codes_lie_under_the_waveform_and_splits_and_tasks_are_chosen(browser, tmp_path):
    rows_folder = tmp_path / "omni_tasks"
    build_rows(SAMPLE_OF["omni_tasks"], rows_folder, "omni", builder="omni_tasks")
    with opened(browser, rows_folder, "dark") as page:
        pick(page, "config", "omni")
        expect(page.locator(".fact").first).to_contain_text("19")
        pick(page, "split", "validation")
        expect(page.locator(".fact").first).to_contain_text("3")
        pick(page, "split", "train")
        pick(page, "task", "s2s_mimi")
        expect(page.locator(".badge")).to_have_text("s2s_mimi")
        lanes = [page.locator(f".lane.{name}").bounding_box() for name in ("wave", "mel", "codes")]
        assert {round(lane["x"]) for lane in lanes} == {round(lanes[0]["x"])}
        assert lanes[0]["width"] == pytest.approx(lanes[1]["width"], abs=1)
        assert lanes[2]["width"] >= lanes[0]["width"] > lanes[2]["width"] * 0.9
        expect(page.locator(".hear")).to_contain_text("hf download kyutai/mimi")

        # A click into the pictures plays from there.
        page.mouse.click(lanes[0]["x"] + lanes[0]["width"] / 2, lanes[0]["y"] + 20)
        page.wait_for_function("() => document.querySelector('.open-row audio').currentTime > 0.9")
        page.locator(".tok.supervised").nth(5).hover()
        shoot(page, "preview-tokens.png", ".open-row")


def test_what_screening_found_is_listed_the_worst_first_is_heard_there_and_opens_its_row(browser, tmp_path):
    wave, rate_hz = soundfile.read(next(iter(sorted(XTTS.rglob("education_1_4/segments/*.wav")))))
    (tmp_path / "clips").mkdir()
    clips = {"fine": wave, "soft": wave / 300, "cut_off": (8 * wave).clip(-0.4, 0.4)}
    text = "I keep mixing up mitosis and meiosis, and I do not know why."
    for name, samples in clips.items():
        soundfile.write(tmp_path / "clips" / f"{name}.wav", samples, rate_hz)
        (tmp_path / "clips" / f"{name}.txt").write_text(text)
    build_rows(tmp_path / "clips", tmp_path / "rows", "transcription", builder="audio_table")
    with opened(browser, tmp_path / "rows") as page:
        page.get_by_role("tab", name="Distributions").click()
        expect(page.get_by_role("tab", name="Distributions")).to_have_attribute("aria-selected", "true")
        expect(page.get_by_text("The worst first")).to_have_count(0)
    worst = screen(str(tmp_path / "rows")).worst
    with opened(browser, tmp_path / "rows") as page:
        page.get_by_role("tab", name="Distributions").click()
        lines = page.locator(".lines.worst li")
        expect(lines).to_have_count(len(worst))
        for line, row in zip(lines.all(), worst, strict=True):
            expect(line).to_contain_text(f"{row['badness']:.2f}")
            expect(line).to_contain_text(describe(row))
            expect(line).to_contain_text(row["row_id"])
        plays(page, ".lines.worst audio")
        lines.nth(1).get_by_role("button").click()
        expect(page.get_by_role("tab", name="Listen")).to_have_attribute("aria-selected", "true")
        expect(page.locator("#sr-row-id")).to_have_text(worst[1]["row_id"])


CONFIG_OF = {
    "deepdialogue_ttt": "ttt",
    "multidialog_ttt": "response",
    "instructs2s_ttt": "response",
    "dailytalk_usdm": "transcription",
    "omni_tasks": "omni",
    "audio_table": "ttt",
    "chat_json": "chat",
    "lhotse_cuts": "ttt",
    "nemo_manifest": "transcription",
}


@pytest.mark.parametrize("builder", BUILDERS)
def test_rows_of_every_corpus_are_heard_and_read_and_of_the_hub_as_well(builder, browser, hub, tmp_path):
    address = tmp_path / builder
    build_rows(SAMPLE_OF[builder], address, CONFIG_OF[builder], builder=builder)
    tasks = [task.name for task in load_builder(builder).tasks(CONFIG_OF[builder])]
    rows = {row["row_id"]: row for task in tasks for row in read_rows(address, task)}
    if builder == "instructs2s_ttt":
        address = f"org/{builder}"
        Publisher(tmp_path / builder, Target(repo_id=address)).publish()
        shutil.rmtree(tmp_path / builder)
    with opened(browser, address) as page:
        expect(page.locator("h1")).to_have_text(getattr(address, "name", address))
        row = rows[page.locator("#sr-row-id").inner_text()]
        assert page.locator(".turn.is-open .said").first.inner_text() == row["transcript"]
        plays(page, ".open-row audio")
        heard = page.locator(".open-row audio").first.evaluate("a => a.duration")
        assert heard == pytest.approx(row["num_samples"] / row["sampling_rate"], abs=0.1)
        expect(page.locator(".tok.supervised")).to_have_count(
            sum(label != IGNORE_INDEX for label in row["labels"])
        )
        page.get_by_role("tab", name="Ledger").click()
        expect(page.locator(".ledger .sums")).to_contain_text("rows")
        expect(page.locator(".trouble")).to_have_count(0)
    hub.repos.clear()


def test_a_corpus_that_attacks_is_read_as_text_and_its_faults_are_listed(browser, tmp_path):
    rows_folder = tmp_path / "hostile"
    build_rows(hostile_corpus(tmp_path), rows_folder)
    with opened(browser, rows_folder) as page:
        find(page, "window.broken")
        expect(page.locator(".turn.is-open .said")).to_have_text(ATTACK)
        expect(page.locator(".hits mark")).to_have_text("window.broken")
        find(page, "<img src=x onerror=broken=5>")
        expect(page.locator("#sr-row-id")).to_contain_text("onerror=broken=5>${broken=6}{{x}}")
        expect(page.locator(".hits")).to_have_count(0)  # the name is that of one conversation, now open
        page.get_by_role("tab", name="Distributions").click()
        expect(page.locator(".numbers")).to_contain_text("onerror=broken=5")
        page.get_by_role("tab", name="Ledger").click()
        faults = page.locator("table.faults tbody tr")
        expect(faults.filter(has_text="the file is truncated")).to_have_count(1)
        pick(page, "reason", "missing")
        expect(faults).to_have_count(1)
        expect(page.locator(".fact.bad")).to_contain_text("of 17 items")
        assert page.evaluate("window.broken") is None
        assert page.locator("img[src=x]").count() == 0


class Echo:
    """A conversation in which each answer is what was heard: its turn, its length, and its sound."""

    def __init__(self) -> None:
        self.turn = 0

    def hear(self, clip: bytes) -> tuple[str, bytes | None]:
        facts = soundfile.info(io.BytesIO(clip))
        if facts.duration < 0.1:
            raise UsageError("<b>too short</b>")
        self.turn += 1
        return f"<b>turn {self.turn}</b> of {facts.duration:.2f} s", clip


def test_a_person_talks_with_a_model_from_files_and_by_microphone(browser, talks, tmp_path):
    _, rows = talks
    clips = [row["audio"]["bytes"] for row in rows[:2]]
    seconds = [f"{soundfile.info(io.BytesIO(clip)).duration:.2f}" for clip in clips]
    for turn, clip in enumerate(clips):
        (tmp_path / f"{turn}.wav").write_bytes(clip)
    soundfile.write(tmp_path / "short.wav", [0.0, 0.1], 16_000)
    build_rows(XTTS, tmp_path / "rows")
    with opened(browser, tmp_path / "rows", open_talk=Echo) as page:
        page.get_by_role("tab", name="Talk").click()
        said, clear = page.locator("#sr-talk .said"), page.locator("#sr-clip").get_by_label("Clear")
        page.get_by_label("Upload file").click()

        def answer_to(name: str) -> None:
            page.locator("#sr-clip input[type=file]").set_input_files(tmp_path / name)
            expect(clear).to_be_visible()
            page.locator("#sr-answer").click()

        answer_to("0.wav")
        expect(said).to_have_text([f"<b>turn 1</b> of {seconds[0]} s"])
        expect(page.locator("#sr-voice [data-testid='waveform-Answer']")).to_be_visible()
        clear.click()
        answer_to("1.wav")
        expect(said).to_have_text([f"<b>turn {i + 1}</b> of {s} s" for i, s in enumerate(seconds)])
        clear.click()
        answer_to("short.wav")
        expect(page.locator("#sr-talk .trouble")).to_contain_text("<b>too short</b>")

        page.locator("#sr-anew").click()
        expect(page.locator("#sr-talk")).to_contain_text("Record a turn")
        page.get_by_label("Record audio").click()
        page.get_by_role("button", name="Record", exact=True).click()
        page.wait_for_timeout(600)
        page.get_by_role("button", name="Stop").first.click()
        expect(page.locator("#sr-clip [data-testid='waveform-Your turn'] .play-pause-button")).to_be_visible()
        page.locator("#sr-answer").click()
        expect(said).to_have_text([re.compile(r"<b>turn 1</b> of \d\.\d\d s")])
