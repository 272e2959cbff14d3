"""Which numbers are shown first: any mean accuracy takes the place of the paper's."""

from __future__ import annotations

from records_factory import measurement, record

from flrc.results.pages.model_card import _result
from flrc.results.plots.titles import title_of
from flrc.results.records.headline import headline
from flrc.results.records.measurement import Measurement
from flrc.results.tables.columns import measurement_columns

OTHER = "zeroshot/mean_acc_of_boolq+sciq"


def test_a_mean_over_other_tasks_is_a_headline() -> None:
    names = ["boolq/acc", OTHER, "sotu/rougeL", "c4/perplexity", "zeroshot/mean_acc"]
    assert headline(names) == ["c4/perplexity", OTHER, "zeroshot/mean_acc", "sotu/rougeL"]
    assert headline(["boolq/acc", "sciq/acc"]) == ["boolq/acc", "sciq/acc"]


def test_a_mean_comes_first_in_its_group_of_columns() -> None:
    measured = [measurement(name, 50.0, 0.2) for name in ("zeroshot/other", OTHER)]
    columns = measurement_columns([record("flra", measurements=measured)])
    assert [column.name for column in columns] == [OTHER, "zeroshot/other"]


def test_a_plot_says_which_tasks_a_mean_covers() -> None:
    measured = [measurement(name, 50.0, 0.2) for name in (OTHER, "zeroshot/mean_acc")]
    other, papers = measurement_columns([record("flra", measurements=measured)])
    assert title_of(other) == "Zero-shot accuracy of boolq+sciq (%) ↑"
    assert title_of(papers) == "Zero-shot accuracy (%) ↑"


def test_a_mean_is_an_accuracy_on_the_hub() -> None:
    result = _result(Measurement(**measurement(OTHER, 50.0, 0.2)))
    assert (result.metric_type, result.metric_name) == ("accuracy", "mean_acc_of_boolq+sciq")
