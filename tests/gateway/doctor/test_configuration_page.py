"""docs/configuration.md says what the settings classes say."""

from pathlib import Path

from gateway.doctor.configuration_page import as_markdown
from gateway.doctor.variables import all_variables

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_lists_every_setting_as_it_is() -> None:
    assert as_markdown(all_variables()) in PAGE.read_text(encoding="utf-8"), (
        "docs/configuration.md is not up to date: put in the tables that "
        "`python -m gateway.doctor.configuration_page` prints"
    )
