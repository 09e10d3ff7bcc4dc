"""Data brought in by hand in a browser without JavaScript: columns chosen, wrong rows left out,
versions compared; one upload each."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.gateway_process import Server, environment, wait_until_live
from tests.valkey import free_port, running_valkey

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("gateway")
    port = free_port()
    with running_valkey(folder) as valkey:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.app", "--port", str(port)],
            env=environment(folder / "data", valkey),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        server = Server(process, port, folder)
        try:
            wait_until_live(server)
            yield server
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def page(chromium: Browser, gateway: Server) -> Iterator[Page]:
    with chromium.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{gateway.url}/login")
        page.get_by_label("API key").fill(ADMIN_KEY)
        page.get_by_role("button", name="Log in").click()
        page.goto(f"{gateway.url}/datasets/new")
        yield page


def choose(page: Page, folder: Path, content: str) -> None:
    (folder / "mine.csv").write_text(content)
    page.get_by_label("File").set_input_files(folder / "mine.csv")


def test_columns_are_chosen_from_what_the_file_has(page: Page, tmp_path: Path) -> None:
    choose(page, tmp_path, "q,a,about\nWho?,Me.,Be brief.\n,z,\n")
    page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Which column is what?")
    expect(page.get_by_role("cell", name="Be brief.")).to_be_visible()
    page.get_by_label("Text: what goes in").select_option("q")
    page.get_by_label("Answer: what is learned").select_option("a")
    page.get_by_label("System message").select_option("about")
    page.get_by_role("button", name="Check and store").click()
    expect(page.get_by_role("alert")).to_contain_text("Q is blank.")
    page.get_by_label("Leave out rows that are wrong").check()
    page.get_by_role("button", name="Check and store").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("mine v1")
    expect(page.get_by_role("heading", name="1 row was left out")).to_be_visible()
    expect(page.locator("mark", has_text="Me.")).to_be_visible()


def test_wrong_rows_are_left_out_and_versions_compared(page: Page, tmp_path: Path) -> None:
    for number, rows in enumerate(("a,b\n,c\n", "a,b\nd,e\n,c\n"), start=1):
        page.goto(page.url.partition("/datasets")[0] + "/datasets/new")
        choose(page, tmp_path, "text,target\n" + rows)
        page.get_by_label("Name", exact=False).first.fill("pairs")
        page.get_by_role("button", name="Upload and check").click()
        page.get_by_role("button", name="Leave out the wrong rows").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"pairs v{number}")
    page.get_by_role("link", name="What changed from v1 to v2").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("What changed")
    added = page.locator("dl.facts div", has_text="Added rows").locator("dd")
    expect(added).to_have_text("1")
