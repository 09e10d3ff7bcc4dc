"""The built-in library: its facts agree with each other, and with what transformers builds."""

import pytest

from shared.model_library import BUNDLED_MODEL, LibraryEntry, built_in_library
from shared.model_shapes import linears, parameter_count

ENTRIES = list(built_in_library().values())
WANTED = {
    "google-t5/t5-small", "google-t5/t5-base", "google/flan-t5-small", "google/flan-t5-base",
    "google/byt5-small", "google/gemma-2b-it", "google/gemma-7b-it", "microsoft/phi-1_5",
    "databricks/dolly-v2-3b", BUNDLED_MODEL, "HuggingFaceTB/SmolLM2-360M-Instruct",
    "HuggingFaceTB/SmolLM2-1.7B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct",
    "Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-3B-Instruct", "Qwen/Qwen2.5-7B-Instruct",
    "meta-llama/Llama-3.2-1B-Instruct", "meta-llama/Llama-3.2-3B-Instruct",
    "mistralai/Mistral-7B-Instruct-v0.3",
}  # fmt: skip


def test_the_library_holds_what_it_promises() -> None:
    assert set(built_in_library()) == WANTED


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_parameters_follow_from_the_shape(entry: LibraryEntry) -> None:
    assert entry.shape is not None
    assert entry.parameters == parameter_count(entry.architecture, entry.shape)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_every_entry_says_all_that_a_page_shows(entry: LibraryEntry) -> None:
    assert entry.licence and entry.tokenizer and entry.architecture and entry.shape
    named = {linear.name for linear in linears(entry.architecture, entry.shape)}
    assert set(entry.target_modules) == named
    assert (entry.family == "seq2seq") == (entry.architecture == "T5ForConditionalGeneration")
    assert entry.gated == entry.id.startswith(("meta-llama/", "google/gemma", "mistralai/"))


def test_only_models_without_a_template_of_their_own_are_given_one() -> None:
    given = {entry.id for entry in ENTRIES if entry.chat_template}
    assert given == {"microsoft/phi-1_5", "databricks/dolly-v2-3b"}
    prefixed = {entry.id for entry in ENTRIES if entry.task_prefix}
    assert prefixed == {entry for entry in WANTED if "t5-" in entry and "byt5" not in entry}
