"""Tunes an existing compressed model on the caller's own texts."""

from __future__ import annotations

import dataclasses
import gc
import importlib.metadata
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flrc.calibration.activation_checkpointing import graph_fits
from flrc.calibration.dense_model import DenseModel
from flrc.config import Paths
from flrc.core.cache import Entry, StageCache
from flrc.core.folders import check_writable
from flrc.core.progress import display
from flrc.data.token_sequences import TokenSequences
from flrc.errors import UserError
from flrc.healing.distilled import Distilled
from flrc.healing.draws import Tuned, tuned_plans
from flrc.healing.healing_input import HealingInput, distilled
from flrc.healing.lessons import Lesson, lessons
from flrc.healing.states import remove_states
from flrc.healing.teacher import TOLERANCE
from flrc.healing.tuned_tensors import read_tensors, tensors_of
from flrc.library.compressed_model import as_model, loaded_of
from flrc.library.dense_teacher import Teacher, teacher_of
from flrc.library.given_texts import GivenTexts
from flrc.library.healed_record import healed_record
from flrc.library.student import Student, head_outputs
from flrc.models.anatomy.input_limits import Limits
from flrc.models.anatomy.targets import find_targets
from flrc.models.layers.compressed_layers import low_rank_layers
from flrc.models.layers.switching import activate
from flrc.results.records.lookup import RUNS
from flrc.running.healing import COURSE, HEALED, STEPS

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from flrc.library.compressed_model import CompressedModel

log = logging.getLogger(__name__)

LONGEST = 2048
"""Tokens of a sequence at most, unless ``length`` says otherwise."""
UNTUNED = "untuned.safetensors"
"""What a model in memory was before its tuning, while that lasts."""


def heal(
    model: CompressedModel | str | Path,
    texts: Sequence[str | Sequence[int] | Tensor],
    *,
    teacher: PreTrainedModel | str | Path | None = None,
    held_out: int = 4,
    length: int | None = None,
    seed: int = 0,
    device: str = "auto",
    cache: str | Path = ".cache",
    runs: str | Path = RUNS,
    **settings: Any,
) -> CompressedModel:
    """Tune the factors of a compressed model on one's own texts.

    The model's next-token distributions are moved towards those of the dense model that it was made
    of, as ``heal=distilled`` does in a run. Ranks, size and speed stay; under a schedule, the
    constant plan and those of all phases are tuned. The dense model is asked first and then freed;
    a compressed model that is given by its path is loaded after that, so that the two are not in
    memory together.

    A text longer than ``length`` is cut into windows of that many tokens; the last one is shorter.
    The last ``held_out`` sequences are not tuned on: the state with the least loss on them is kept,
    the untuned one among them.

    A second call with the same model, texts, settings and teacher is answered from the cache; one
    that was interrupted continues where it was.

    Args:
        model: From :func:`flrc.load` or :func:`flrc.compress`: changed in place. Or what
            :func:`flrc.load` takes; the checkpoint stays as it is.
        texts: Texts, tokenized without a chat template, or token ids as integer tensors
            ``(tokens,)``, arrays or lists.
        teacher: The dense model that was compressed: in memory, of the same dtype, or by its name
            or path as in :func:`flrc.compress`. None: what the record of the model says.
        held_out: How many sequences are held out; at least 1.
        length: Tokens of a sequence at most. None: the model's context length, at most 2048.
        seed: Of the order of the sequences.
        device: Where a model that is given by its path goes.
        cache: Folder of results, as ``paths.cache``.
        runs: The folder of runs, where ids and records are looked up.
        settings: Those of ``heal=distilled``, with their defaults: ``passes``, ``learning_rate``,
            ``batch_size``, ``optimizer``, ``vectors`` ... (see the options of the group ``heal``).

    Returns:
        The tuned model under its constant plan, in evaluation mode; no parameter requires
        gradients. Its record says how the tuning went, in ``results["healing"]``: losses by step,
        the held-out ones in nats per token. If the weights have changed, it has no measurements.

    Raises:
        UserError: If an argument is wrong, the model is quantized, or the teacher is not found or
            does not fit. Whatever is raised, a model in memory is then as it was.
    """
    chosen = _settings(held_out, settings)
    given = GivenTexts.of(texts, "texts", "a text to tune on")
    folder, places = Path(cache).expanduser().resolve(), Path(runs).expanduser()
    check_writable("cache", folder, "cache=FOLDER")
    store = StageCache(folder, int(Paths().cache_limit_gb * 1e9))
    with display.shown("healing"):
        student = Student.of(model, device, places)
        sequences = _sequences(given, student, length, held_out)
        dense = teacher_of(teacher, student, places, store)
        healing = _Healing(student, dense, sequences, held_out, seed, chosen)
        healed = healing.healed(store)
    store.trim()
    return healed


def _settings(held_out: int, given: dict[str, Any]) -> Distilled:
    """The checked settings of the tuning."""
    schema = OmegaConf.structured(Distilled)
    allowed = [name for name in schema if name not in ("name", "held_out")]
    for name in given:
        if name not in allowed:
            raise UserError(f"flrc.heal has no setting {name!r}", given=name, allowed=allowed)
    for name, value in {**given, "held_out": held_out}.items():
        try:
            schema[name] = value
        except OmegaConfBaseException as error:
            kind = next(f.type for f in dataclasses.fields(Distilled) if f.name == name)
            raise UserError(
                f"flrc.heal: {name} has the wrong type",
                given=f"{name}={value!r}",
                allowed=str(kind),
            ) from error
    return Distilled(**{str(name): value for name, value in schema.items()})


def _sequences(
    given: GivenTexts, student: Student, length: int | None, held_out: int
) -> list[Tensor]:
    """Windows of the texts that fit the model; the last ``held_out`` of them are held out."""
    context = student.limits.context
    longest = min(context or LONGEST, LONGEST) if length is None else length
    if type(longest) is not int or longest < 2 or (context is not None and longest > context):
        raise UserError(
            "flrc.heal: length is out of range",
            given=f"length={length}",
            allowed="2 or more" + (f", up to the context length, {context}" if context else ""),
        )
    sequences = [
        window
        for ids in given.token_ids(student.tokenizer)
        for window in torch.split(ids, longest)
        if len(window) >= 2
    ]
    read = TokenSequences(given.what, sequences, "length")
    read.check(student.limits, student.tokenizer.__class__.__name__)
    if len(sequences) <= held_out:
        raise UserError(
            "there are too few sequences: the last ones are held out",
            given=f"{len(sequences)} sequences of at most {longest} tokens, held_out={held_out}",
            allowed=f"{held_out + 1} sequences or more",
            fix="more texts" + ", or held_out=1" * (held_out > 1) + ", or a smaller length=",
        )
    return sequences


@dataclasses.dataclass(frozen=True)
class _Healing:
    """One tuning: all that decides it.

    Attributes:
        student: The compressed model.
        teacher: The dense model.
        sequences: Token ids; the last ``held_out`` are held out.
        held_out: How many.
        seed: Of their order.
        settings: How.
    """

    student: Student
    teacher: Teacher
    sequences: list[Tensor]
    held_out: int
    seed: int
    settings: Distilled

    def healed(self, store: StageCache) -> CompressedModel:
        """The tuned model; from the cache, if it is there."""
        entry = store.entry("healed", self._inputs())
        with entry.lock():
            lessons, fits = None, True
            if not entry.done:
                store.require_space(self._bytes(), "the states of a tuning")
                lessons, fits = self._lessons(store)
            model = self.student.open()
            if lessons is not None:
                self._tune(model, lessons, entry, fits)
            read_tensors(model, entry.path / HEALED)
            model.eval().requires_grad_(False)
            activate(model, self.student.plans.constant)
            course = entry.read_json(COURSE)
        return as_model(loaded_of(model), healed_record(self.student, model, self._notes(course)))

    def _inputs(self) -> dict[str, Any]:
        student = self.student
        plans = [{"ranks": tuned.plan.ranks, "weight": tuned.weight} for tuned in self._plans()]
        return {
            "weights": student.weights,
            "plans": plans,
            "form": student.form.describe(),
            "heal": self.settings.describe(),
            **self._given(),
        }

    def _given(self) -> dict[str, Any]:
        """What decides what the teacher makes of the sequences."""
        return {
            "tokens": TokenSequences("", self.sequences, "").digest(),
            "held_out": self.held_out,
            "seed": self.seed,
            "teacher": self.teacher.fingerprint,
            "dtype": self.student.dtype,
            "device": str(self.student.device),
            "torch": importlib.metadata.version("torch"),
            "transformers": importlib.metadata.version("transformers"),
        }

    def _bytes(self) -> int:
        """On disk at a time: the model; the best masters; the latest with two moments, twice.

        A state is written before the one that it replaces is deleted. Embeddings are counted too,
        though none of the files holds them, so this is the most that it can be.
        """
        size: int = getattr(torch, self.student.dtype).itemsize
        return self.student.numbers * (size + 7 * max(size, 4))

    def _plans(self) -> list[Tuned]:
        record = self.student.record
        search = {} if record is None else (record.run.get("config") or {}).get("search") or {}
        return tuned_plans(self.student.plans, search.get("max_new_tokens", STEPS))

    def _lessons(self, store: StageCache) -> tuple[tuple[Lesson, Lesson], bool]:
        """What the teacher makes of the sequences; and whether a whole graph fits into memory.

        The teacher is freed again.
        """
        dense, seen = self.teacher.load(), len(self.sequences) - self.held_out
        training = dense.training
        dense.eval()
        try:
            self._check_fits(dense)
            memory = Paths().statistics_memory_gb * 1e9
            fits = graph_fits(dense, find_targets(dense), self.sequences, memory)
            generated = store.entry("generated", self._given() | self.settings.drawn)
            found = lessons(
                DenseModel(dense, (), self.sequences[:seen], self.seed),
                self.sequences[seen:],
                self.settings,
                generated,
            )
        finally:
            dense.train(training)
            del dense
            gc.collect()
        return found, fits

    def _check_fits(self, dense: PreTrainedModel) -> None:
        """Raise UserError unless the teacher reads the sequences and has the student's head."""
        fix = "teacher=..., the dense model that was compressed"
        read = TokenSequences("a text to tune on", self.sequences, "length")
        read.check(Limits.of(dense.config), f"teacher, {self.teacher.label}")
        found, known = head_outputs(dense), self.student.head
        if found.shape != known.shape:
            raise UserError(
                "the teacher does not have the vocabulary of the compressed model",
                given=f"{self.teacher.label}: {found.shape[1]} tokens",
                allowed=f"{known.shape[1]} tokens",
                fix=fix,
            )
        if float((found - known).abs().max()) > TOLERANCE * float(known.abs().max()):
            raise UserError(
                "the teacher's head is not that of the compressed model, which shares it",
                given=self.teacher.label,
                allowed="the dense model that was compressed, or one with the same head",
                fix=fix,
            )

    def _tune(
        self, model: CompressedModel, lessons: tuple[Lesson, Lesson], entry: Entry, fits: bool
    ) -> None:
        given = HealingInput(
            DenseModel(model, (), lessons[0].sequences, self.seed), lessons[1].sequences,
            self._plans(), self.student.form, lambda _: None, entry, lambda _: entry,
            recomputed=not fits,
        )  # fmt: skip
        with self._restored_on_failure(model, entry):
            model.eval()
            course = distilled(given, self.settings, lessons)
            entry.write_tensors(HEALED, tensors_of(model, model), {})
        entry.write_json(COURSE, {self.settings.name: course.to_json()})
        remove_states(entry)
        entry.finish()

    @contextmanager
    def _restored_on_failure(self, model: CompressedModel, entry: Entry) -> Iterator[None]:
        """The caller's own model is not left half tuned: another call could not continue then."""
        (entry.path / UNTUNED).unlink(missing_ok=True)  # of a call that was killed
        if not self.student.in_memory:
            yield
            return
        layers = low_rank_layers(model).values()
        ranks = [(layer, layer.rank) for layer in layers]
        modes = [(module, module.training) for module in model.modules()]
        wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        entry.write_tensors(UNTUNED, tensors_of(model, model), {})
        try:
            yield
        except BaseException:
            read_tensors(model, entry.path / UNTUNED)
            for layer, rank in ranks:
                layer.rank = rank
            for module, training in modes:
                module.training = training
            for parameter, requires in wanted:
                parameter.requires_grad_(requires)
            raise
        finally:
            (entry.path / UNTUNED).unlink(missing_ok=True)

    def _notes(self, course: dict[str, Any]) -> dict[str, Any]:
        """As a run's record has it, with what that has in its configuration."""
        counts = {"tuned_on": len(self.sequences) - self.held_out, "held_out": self.held_out}
        return {
            **course,
            "tokens": sum(map(len, self.sequences)),
            "sequences": counts,
            "settings": {**self.settings.describe(), "seed": self.seed},
            "teacher": {"label": self.teacher.label, "fingerprint": self.teacher.fingerprint},
        }
