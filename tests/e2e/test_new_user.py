"""What a new user does by hand, in a real browser against the real platform, from the printed
login link to a picture beside its source."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.conftest import Console
from tests.e2e.stack import RunningStack, running_stack
from tests.e2e.waiting import wait_until
from tests.trainer_service.tiny import TINY_MODEL

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

# So short that a tiny random model learns it by heart within a minute.
SOURCE = "@startuml\nUser -> Shop : order\n@enduml"
DEEDS = ("orders a book", "wants tea", "asks for help", "pays the bill", "calls", "opens the door")
# Generous: everything runs on whatever two cores the tests share.
SOON = 30_000
LONG = 300_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("e2e") / "data") as running:
        yield running


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    path = tmp_path / "orders.jsonl"
    rows = [
        {"prompt": f"The user {DEEDS[number % len(DEEDS)]} {number}.", "completion": SOURCE}
        for number in range(24)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_new_user_does_the_main_job_by_hand(
    chromium: Browser, stack: RunningStack, examples: Path
) -> None:
    console = Console()
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = console.listen(context.new_page())
        page.goto(stack.login_url)
        expect(page.get_by_role("heading", level=1)).to_have_text("Next: bring your data")
        upload(page, examples)
        address = start_run(page, "orders", steps=150)
        watch(page)
        page.close()
        page = come_back(context, console, address)
        pause_resume_and_keep_another(context, console, stack.url)
        cancel_another(context, console, stack.url)
        deploy(page)
        chat(page)
        draw(page)
        draw_in_vain(page)
        see_that_home_knows(page, stack.url)
    assert console.problems == []


def upload(page: Page, examples: Path) -> None:
    page.get_by_role("link", name="Upload a file").click()
    page.get_by_label("File", exact=True).set_input_files(examples)
    page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("orders")
    expect(page.locator("table.cells tbody tr")).to_have_count(10)
    expect(page.locator("pre.prompt mark").first).to_contain_text("@startuml")
    page.get_by_role("link", name="Fine-tune on this").click()


def start_run(page: Page, suffix: str, steps: int) -> str:
    """Fills the form for a run on the one dataset; the run's address."""
    page.get_by_label("Base model").select_option(TINY_MODEL)
    page.get_by_label("Name of the result").fill(suffix)
    page.get_by_text("Hyperparameters").click()
    numbers = {"Steps": str(steps), "Learning rate": "0.02", "Rank": "32", "Alpha": "64"}
    for label, value in numbers.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Start the run").click()
    expect(page).to_have_url(re.compile(r"/runs/run_\w+$"))
    return page.url


def watch(page: Page) -> None:
    """The curve, the log, the step and the time left move; the page is never loaded again."""
    page.evaluate("window.sameDocument = true")
    chart = page.locator(".chart-first[data-drawn]")
    chart.wait_for(timeout=LONG)
    first = int(chart.get_attribute("data-drawn") or 0)
    lines = page.locator("#log p").count()
    left = page.locator("#eta").inner_text()
    wait_until(
        page,
        "([drawn, left]) => document.querySelector('.chart-first').dataset.drawn > drawn + 5"
        " && document.getElementById('eta').textContent != left",
        [first, left],
        timeout=SOON,
    )
    wait_until(
        page,
        "(lines) => document.querySelectorAll('#log p').length > lines",
        lines,
        timeout=LONG,
    )
    expect(page.locator("#panel")).to_contain_text("of 150 steps")
    assert page.evaluate("window.sameDocument") is True


def come_back(context: BrowserContext, console: Console, address: str) -> Page:
    """The run went on while nobody looked."""
    page = console.listen(context.new_page())
    page.goto(address)
    expect(page.locator(".chart-first[data-drawn]")).to_be_visible()
    assert page.locator("#log p").count() > 0
    return page


def pause_resume_and_keep_another(context: BrowserContext, console: Console, url: str) -> None:
    """A run that is paused goes on where it was; stopped early, it is a model all the same."""
    page = console.listen(context.new_page())
    page.goto(f"{url}/runs/new")
    start_run(page, "halfway", steps=5000)
    badge = page.locator("#head .badge")
    page.locator(".chart-first[data-drawn]").wait_for(timeout=LONG)
    page.get_by_role("button", name="Pause").click()
    expect(badge).to_have_text("paused", timeout=LONG)
    page.get_by_role("button", name="Resume").click()
    expect(badge).to_have_text("running", timeout=LONG)
    page.get_by_role("button", name="Stop and keep", exact=True).click()
    page.get_by_role("button", name="Stop and keep the model").click()
    expect(badge).to_have_text("succeeded", timeout=LONG)
    expect(page.locator("#panel")).to_contain_text("and kept")
    expect(page.locator("#checkpoints tbody tr").first).to_be_visible()
    page.get_by_role("link", name="Continue training").click()
    expect(page.get_by_label("Begin with the weights of")).to_contain_text("halfway")
    page.close()


def cancel_another(context: BrowserContext, console: Console, url: str) -> None:
    page = console.listen(context.new_page())
    page.goto(f"{url}/runs/new")
    start_run(page, "unwanted", steps=5000)
    page.get_by_role("button", name="Cancel run").click()
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#head .badge")).to_have_text("cancelled", timeout=SOON)
    expect(page.get_by_role("link", name="Run again")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel run")).to_have_count(0)
    expect(page.get_by_text("Delete this run")).to_be_visible()
    page.close()


def deploy(page: Page) -> None:
    """One click, on the page that has been open since the run was training."""
    page.get_by_role("button", name="Deploy", exact=True).click(timeout=LONG)
    expect(page).to_have_url(re.compile(r"/deployments/orders$"))
    expect(page.locator("#state")).to_have_text("ready", timeout=SOON)
    expect(page.locator("#snippet-curl")).to_contain_text('"model": "orders"')


def ask(page: Page, text: str) -> None:
    # Before its scripts are there, Enter brings the answer as a page of its own.
    page.wait_for_load_state("load")
    page.get_by_label("Message").fill(text)
    page.get_by_label("Message").press("Enter")


def chat(page: Page) -> None:
    """Tokens show one after another, not all at once."""
    page.locator("main").get_by_role("link", name="Chat").click()
    expect(page.locator("#messages")).to_be_attached()
    # What each change leaves: an answer that came in one piece would have two lengths, nothing and
    # all of it. (Not what each frame shows: a fast model writes it all between two of a slow one.)
    page.evaluate(
        """() => { window.lengths = new Set();
          new MutationObserver(() => {
            const text = document.querySelector(".message.assistant .text");
            if (text) window.lengths.add(text.textContent.length);
          }).observe(document.body, {subtree: true, childList: true, characterData: true}); }"""
    )
    ask(page, "The user wants tea 1.")
    expect(page.locator(".message.assistant .text")).to_have_text(SOURCE, timeout=SOON)
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert page.evaluate("window.lengths.size") > 3


def draw(page: Page) -> None:
    """A picture that really loaded, beside the source that it was drawn from."""
    page.get_by_text("Diagram", exact=True).first.click()
    ask(page, "The user calls 4.")
    picture = page.locator(".drawing img")
    picture.wait_for(timeout=SOON)
    wait_until(page, "document.querySelector('.drawing img').naturalWidth > 50")
    expect(page.locator(".drawing .source")).to_have_text(SOURCE)
    boxes = [page.locator(f".drawing .{part}").bounding_box() for part in ("picture", "source")]
    assert boxes[0] and boxes[1]
    assert boxes[1]["x"] >= boxes[0]["x"] + boxes[0]["width"] - 2
    assert abs(boxes[1]["y"] - boxes[0]["y"]) < 2
    for name, kind in (("SVG", "image/svg+xml"), ("PNG", "image/png")):
        link = page.get_by_role("link", name=name).get_attribute("href")
        answer = page.request.get(f"{page.url.partition('/chat')[0]}{link}")
        assert answer.headers["content-type"].startswith(kind)


def draw_in_vain(page: Page) -> None:
    """The untaught model never draws; the renderer's own words come instead of a picture."""
    page.get_by_label("Model").select_option(TINY_MODEL)
    page.get_by_text("Settings").click()
    page.get_by_label("Longest answer").fill("24")
    page.get_by_label("Attempts at a diagram").fill("2")
    page.get_by_text("Settings").click()
    ask(page, "The user calls 5.")
    problem = page.locator(".drawing .problem")
    expect(problem).to_contain_text("Not drawable after 2 attempts.", timeout=SOON)


def see_that_home_knows(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.get_by_role("heading", level=1)).to_have_text("Everything is running")
    expect(page.locator(".steps .done")).to_have_count(3)
