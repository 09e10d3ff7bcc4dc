"""What a run reads of its datasets before it loads a model."""

from dataclasses import replace

from shared.datasets import Record
from shared.storage import Storage
from tests.trainer_service.families import prepare_family
from tests.trainer_service.runs import make_job
from trainer_service.job_files import WeightedRecords
from trainer_service.lessons import read_lessons, split
from trainer_service.mixing import Part


def pairs(sources: range, answer: str) -> list[Record]:
    return [Record.from_pair(f"source {index}", answer) for index in sources]


def test_a_source_text_of_several_datasets_is_on_one_side_in_all_of_them(storage: Storage) -> None:
    first, second = pairs(range(20), "one"), pairs(range(10, 40), "two")
    datasets = (WeightedRecords(first), WeightedRecords(second, 3.0))
    job = replace(make_job(storage, validation_split=0.3), datasets=datasets)
    learned, validation = split(job)
    assert [weight for _, weight in learned] == [1.0, 3.0]
    kept = {record.source_key for records, _ in learned for record in records}
    assert not kept & {record.source_key for record in validation}
    assert len({record.source_key for record in validation}) == 12
    # Nothing is lost, and weights do not count on this side.
    assert sum(len(records) for records, _ in learned) + len(validation) == 50


def test_an_epoch_counts_datasets_with_their_weights(storage: Storage) -> None:
    datasets = (WeightedRecords(pairs(range(10), "a")), WeightedRecords(pairs(range(9), "b"), 2.5))
    job = make_job(storage, validation_split=0, max_steps="auto", num_train_epochs=1)
    lessons = read_lessons(replace(job, datasets=datasets))
    assert lessons.parts == [Part(10), Part(9, 2.5)]
    assert len(lessons.rows) == 19
    # 10 and 18 and 5 rows, two a step.
    assert lessons.numbers.max_steps == 17


def test_the_librarys_chat_template_is_for_tokenizers_without_one(storage: Storage) -> None:
    own = read_lessons(replace(make_job(storage), chat_template="{{ messages }}")).template
    assert "<|im_start|>" in own.chat_template and own.family == "causal"
    prepare_family(storage, "t5")
    job = make_job(storage, base_model="tests/t5", max_length=16)
    seq2seq = read_lessons(replace(job, chat_template="{{ messages }}")).template
    assert seq2seq.chat_template == "" and seq2seq.family == "seq2seq"
    assert seq2seq.stop_token_ids == (1,)


def test_rows_longer_than_usual_are_learned_where_nobody_set_a_limit(storage: Storage) -> None:
    prepare_family(storage, "t5")
    answers = [5, 300, 600]
    records = [Record.from_pair(f"source {n}", "a" * n) for n in answers]
    job = make_job(storage, base_model="tests/t5", validation_split=0)
    lessons = read_lessons(replace(job, datasets=(WeightedRecords(records),)))
    assert lessons.numbers.max_target_length == 512
    assert [row.size[1] for row in lessons.rows] == [6, 301]
