"""What the installed lm-eval defines about a task or a group; no row is read here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flrc.core.jsonfile import digest
from flrc.data.dataset_catalog import DATASETS, MULTIPLE_CHOICE, DatasetSpec
from flrc.errors import UserError
from flrc.evaluation.lm_eval_index import GROUP, PYTHON, TAG, find_name, index, tasks_folder

PAPER_TASKS = MULTIPLE_CHOICE
"""The seven tasks of the paper: rows are checked against the catalog, ``acc`` is reported."""

TASKS_SETTING = "evaluation.zeroshot.tasks"

GENERATION, CHOICE = "generate_until", "multiple_choice"
_OUTPUT_TYPES = (CHOICE, "loglikelihood", "loglikelihood_rolling", GENERATION)
_REPLY_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_DEFAULT_REPLY_LENGTH = 256  # lm-eval's

# The files of the paper's tasks, so that they are found without the index.
_PAPER_FILES = {
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "winogrande": "winogrande/default.yaml",
    "mathqa": "mathqa/mathqa.yaml",
    "piqa": "piqa/piqa.yaml",
}
_FILE_FORMATS = ("arrow", "csv", "json", "parquet", "text")
"""``dataset_path`` of tasks whose data is files anywhere, not a data set on the hub."""
_OF_GROUP = {"group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag"}
_OF_MEMBER = {"task", "task_alias"}


@dataclass(frozen=True)
class Aggregate:
    """A metric that a group reports over its tasks.

    Attributes:
        metric: Name of the metric.
        filters: Filters of replies for which it is reported; None for all.
        by_size: Whether tasks count by their number of questions.
    """

    metric: str
    filters: tuple[str, ...] | None
    by_size: bool


@dataclass(frozen=True)
class TaskGroup:
    """A group of tasks: its leaf tasks, and what it reports over them.

    Attributes:
        name: Name of the group.
        tasks: All of its tasks, those of groups inside it included.
        aggregates: Metrics reported over them; empty for a mere list of tasks.
        inside: Groups inside it that report something.
        version: Version of the group in lm-eval.
    """

    name: str
    tasks: tuple[str, ...]
    aggregates: tuple[Aggregate, ...] = ()
    inside: tuple[TaskGroup, ...] = ()
    version: str = ""


@dataclass(frozen=True)
class Generation:
    """How a task's replies are generated; always greedily.

    Attributes:
        max_new_tokens: Longest reply in tokens.
        until: Texts that end a reply, next to the end-of-sequence token.
    """

    max_new_tokens: int
    until: tuple[str, ...] = field(default=())


def task_file(task: str) -> Path:
    """The YAML file that defines a task.

    Raises:
        UserError: If lm-eval has no such task.
    """
    if task in _PAPER_FILES:
        return tasks_folder() / _PAPER_FILES[task]
    entry = find_name(TASKS_SETTING, task)
    if entry.file is None:
        raise ValueError(f"{task} is a {entry.kind}")
    return entry.file


@cache
def installed_definition(task: str) -> dict[str, Any]:
    """A task's definition in the installed lm-eval, with its functions.

    Raises:
        UserError: If one of its functions cannot be imported, because a package is missing.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        definition: dict[str, Any] = load_yaml(task_file(task))
    except Exception as error:  # modules beside the task files may raise anything
        raise UserError(
            f"lm-eval cannot load the task {task}",
            given=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}",
            fix=f"install what {task_file(task)} needs, or leave the task out",
        ) from error
    return definition


@cache
def outline(task: str) -> Mapping[str, Any]:
    """A task's or group's definition with its functions as text; imports none of them."""
    return _outline(task_file(task))


def _outline(file: Path) -> Mapping[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml

    return MappingProxyType(load_yaml(file, resolve_func=False))


def definition_digest(task: str) -> str:
    """Digest of a task's definition: prompts, choices, filters, metrics; not of its functions."""
    folder = str(tasks_folder())
    return digest(_without(folder, dict(outline(task))))


def _without(folder: str, value: Any) -> Any:
    """The value with file names relative to lm-eval's folder, so that they do not matter."""
    if isinstance(value, dict):
        return {str(key): _without(folder, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(folder, item) for item in value]
    return value if isinstance(value, bool | int | float | None) else str(value).replace(folder, "")


def task_version(task: str) -> str:
    """The task's version in lm-eval; ``Yaml`` if it has none, as there."""
    metadata = outline(task).get("metadata")
    return str(metadata.get("version", "Yaml")) if isinstance(metadata, dict) else "Yaml"


def shots_of(task: str, asked: int | None) -> int:
    """Number of examples in the prompt: as asked, else the task's own, which is 0 for most.

    Raises:
        UserError: If examples are asked for and the task is defined without.
    """
    own = outline(task).get("num_fewshot")
    if asked and own == 0:
        raise UserError(
            f"lm-eval defines {task} without examples",
            given=f"evaluation.zeroshot.shots={asked}",
            allowed="null or 0 for this task",
            fix="evaluation.zeroshot.shots=null, or leave the task out",
        )
    return int(own or 0) if asked is None else asked


def evaluation_split(task: str) -> str:
    """The split that is asked: test if the task has one, else validation."""
    if task in PAPER_TASKS:
        return DATASETS[task].evaluation_split
    definition = outline(task)
    return str(definition.get("test_split") or definition.get("validation_split"))


def example_split(task: str, shots: int) -> str | None:
    """The split that examples are drawn from; None without examples or if the task has its own."""
    definition = outline(task)
    config = definition.get("fewshot_config") or {}
    if not shots:
        return None
    split = config.get("split") or definition.get("fewshot_split")
    if split is None and config.get("samples") is not None:
        return None
    return str(
        split
        or definition.get("training_split")
        or definition.get("validation_split")
        or definition.get("test_split")
    )


def generates(task: str) -> bool:
    """Whether the model generates replies, instead of scoring given ones."""
    return task not in PAPER_TASKS and output_type(task) == GENERATION


def output_type(task: str) -> str:
    """What is asked of the model, in lm-eval's words: ``multiple_choice``, ``loglikelihood`` ..."""
    return str(outline(task).get("output_type", GENERATION))


def generation(task: str) -> Generation:
    """How the replies of a generating task are made.

    Raises:
        UserError: If they are sampled, or with options other than a length and texts that end them.
    """
    definition = outline(task)
    options = dict(definition.get("generation_kwargs") or {})
    default = definition.get("fewshot_delimiter", "\n\n")
    until = options.pop("until", [default])
    lengths = [options.pop(name) for name in _REPLY_LENGTHS if options.get(name) is not None]
    options.pop("top_p", None)  # without sampling, neither has an effect
    temperature = float(options.pop("temperature", 0.0))
    if options.pop("do_sample", temperature > 0):
        raise _refused(task, f"its replies are sampled at temperature {temperature:g}", _GREEDY)
    if int(definition.get("repeats", 1)) > 1:
        raise _refused(task, f"it asks for {definition['repeats']} replies a question", _GREEDY)
    if options.pop("num_beams", 1) != 1 or options:
        given = definition["generation_kwargs"]
        raise _refused(task, f"its replies need other options than greedy: {given}", _GREEDY)
    texts = until if isinstance(until, list) else [until]
    length = int(lengths[0]) if lengths else _DEFAULT_REPLY_LENGTH
    return Generation(length, tuple(str(text) for text in texts))


_GREEDY = "tasks with greedy replies, one a question"


def data_of(task: str) -> str | DatasetSpec:
    """The data set of a task, for a data source: from the catalog, or as lm-eval publishes it.

    Its folder under ``data.root`` is its path on the hub with its configuration, as in
    ``openai/gsm8k/main``, or the name in the catalog if it is one of those data sets. A task whose
    data is files at other places has the task's name.
    """
    if task in PAPER_TASKS:
        return task
    definition = outline(task)
    path = str(definition.get("dataset_path") or "")
    config = definition.get("dataset_name")
    options = dict(definition.get("dataset_kwargs") or {})
    for name in ("trust_remote_code", "streaming"):  # code of data sets is never run
        options.pop(name, None)
    files = path in _FILE_FORMATS or not path
    name = task if files else "/".join([path, *([str(config)] if config else [])])
    for spec in DATASETS.values():
        if not files and (spec.hub_path, spec.hub_config) == (path, config):
            name = spec.name
    splits = {definition.get(f"{kind}_split") for kind in ("training", "validation", "test")}
    splits |= {
        definition.get("fewshot_split"),
        (definition.get("fewshot_config") or {}).get("split"),
    }
    return DatasetSpec(
        name=name,
        kind="lm_eval",
        columns=(),
        texts=(),
        hub_path=path,
        hub_config=None if config is None else str(config),
        splits=tuple(sorted(str(split) for split in splits if split)),
        evaluation_split=evaluation_split(task),
        hub_revision=str(options.pop("revision", "" if files else "main")),
        hub_options=MappingProxyType(options),
    )


def check_supported(task: str, run_code: bool = False) -> None:
    """Raise UserError, in one line, if a task needs what flrc does not do.

    ``run_code``: whether the user allows that program code which the model writes is run.
    """
    if task in PAPER_TASKS:
        return
    if index()[task].kind == PYTHON:
        raise _refused(task, "it is defined by a Python class", "tasks defined by a YAML file")
    definition = outline(task)
    if definition.get("unsafe_code") and not run_code:
        raise UserError(
            f"lm-eval's task {task} runs the program code that the model writes",
            given=f"{TASKS_SETTING}: {task}",
            allowed="tasks that run no code, unless you say so",
            fix="in a container: evaluation.zeroshot.run_code=true, or leave the task out",
        )
    if definition.get("doc_to_image") or definition.get("doc_to_audio"):
        raise _refused(task, "it needs images or sound", "tasks with text only")
    if definition.get("custom_dataset"):
        raise _refused(task, "its code makes the questions", "tasks with published questions")
    if output_type(task) not in _OUTPUT_TYPES:
        raise _refused(task, f"its output type is {output_type(task)}", ", ".join(_OUTPUT_TYPES))
    if not (definition.get("test_split") or definition.get("validation_split")):
        raise _refused(task, "it has no split to evaluate", "tasks with a test or validation split")
    if generates(task):
        generation(task)
    elif int(definition.get("repeats", 1)) > 1:
        raise _refused(task, f"it repeats each question {definition['repeats']} times", _GREEDY)


def _refused(task: str, reason: str, allowed: str) -> UserError:
    return UserError(
        f"flrc cannot evaluate lm-eval's task {task}: {reason}",
        given=f"{TASKS_SETTING}: {task}",
        allowed=allowed,
        fix="leave the task out",
    )


def expand(names: Iterable[str]) -> list[str]:
    """The tasks that names of tasks, groups and tags stand for, each once, in order.

    Raises:
        UserError: If lm-eval lacks a name, or a group changes the definition of its tasks.
    """
    return list(dict.fromkeys(task for name in names for task in group_of(name).tasks))


@cache
def group_of(name: str) -> TaskGroup:
    """A name as a group: a task is one of itself, a tag one without aggregates.

    Raises:
        UserError: As :func:`expand`.
    """
    if name in PAPER_TASKS:
        return TaskGroup(name, (name,))
    entry = find_name(TASKS_SETTING, name)
    if entry.kind == TAG:
        return TaskGroup(name, tuple(sorted(entry.tasks)))
    if entry.kind != GROUP or entry.file is None:
        return TaskGroup(name, (name,))
    return _group(name, _outline(entry.file))


def _group(name: str, definition: Mapping[str, Any]) -> TaskGroup:
    _refuse_changes(name, set(definition) - _OF_GROUP - {"include"})
    members = [_member(name, member) for member in definition.get("task") or []]
    metrics = definition.get("aggregate_metric_list") or []
    inside = [group for member in members for group in (member, *member.inside)]
    metadata = definition.get("metadata")
    return TaskGroup(
        name,
        tuple(dict.fromkeys(task for member in members for task in member.tasks)),
        tuple(
            _aggregate(metric) for metric in (metrics if isinstance(metrics, list) else [metrics])
        ),
        tuple(group for group in inside if group.aggregates),
        str(metadata.get("version", "")) if isinstance(metadata, dict) else "",
    )


def _member(group: str, member: str | Mapping[str, Any]) -> TaskGroup:
    if isinstance(member, str):
        return group_of(member)
    if "group" in member:
        name = str(member["group"])
        if name in index():
            _refuse_changes(group, set(member) - {"group", "group_alias"})
            return group_of(name)
        return _group(f"{group}::{name}", member)
    _refuse_changes(group, set(member) - _OF_MEMBER)
    return group_of(str(member["task"]))


def _refuse_changes(group: str, changes: set[str]) -> None:
    if changes:
        raise UserError(
            f"lm-eval's group {group} changes the definition of its tasks",
            given=f"{group}: {', '.join(sorted(changes))}",
            allowed="groups of tasks as they are defined",
            fix=f"name its tasks in {TASKS_SETTING}",
        )


def _aggregate(metric: Mapping[str, Any]) -> Aggregate:
    filters = metric.get("filter_list")
    if isinstance(filters, str):
        filters = [filters]
    return Aggregate(
        str(metric["metric"]),
        None if filters is None else tuple(str(name) for name in filters),
        bool(metric.get("weight_by_size", True)),
    )
