"""What is finetuned: a model, a vector, data in any share of its trait, and how trait, task and language are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.judges.measure import MEASURES
from persona_interp.models.load import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.chats import Chat
from persona_interp.organisms.grammar.questions import check_trait
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.recipes import recipe_of
from persona_interp.organisms.trait_texts import names_organism, organism_trait
from persona_interp.storage import safe_name
from persona_interp.studies.finetuning import organism_data, real_data
from persona_interp.training.recipe import FinetuneRecipe
from persona_interp.vectors.extract import extract
from persona_interp.vectors.persona_vector import PersonaVector


@dataclass(frozen=True)
class Scores:
    """What a model does.

    Attributes:
        trait: of the data, 0 to 100.
        task: per cent of held-out task questions that are answered as the data would.
        perplexity: of neutral answers without the trait.
    """

    trait: float
    task: float
    perplexity: float


@dataclass(frozen=True, eq=False)
class FinetuneBench:
    """One model and trait.

    Attributes:
        name: of results.
        model: to be finetuned; never changed.
        vector: that points towards the trait of the data.
        layer: where it is added, and shifts are read.
        chats: from the share of samples with the trait to the data.
        questions: of the trait: asked afterwards, and read for shifts.
        neutral: pairs to stay close on; perplexity is read on others.
        held_out: those others.
        inoculation: a system prompt that asks for the trait.
        trait_of: score of answers to `questions`.
        task_questions: asked afterwards.
        task_of: score of answers to those.
        task_tokens: of answers to those, which are the likeliest.
        sampling: of answers to `questions`.
        shares: of samples with the trait: data sets that are screened, and finetuned on plainly.
        short: whether only the ways that matter most are tried, where all samples have the trait: a training takes minutes.
        mixed: whether half of the samples with the trait is tried with safeguards too.
        recipe: of every finetuning.
    """

    name: str
    model: SteerableModel
    vector: PersonaVector
    layer: int
    chats: Callable[[float], list[Chat]]
    questions: Sequence[str]
    neutral: Sequence[tuple[str, str]]
    held_out: Sequence[tuple[str, str]]
    inoculation: str
    trait_of: Callable[[Sequence[str]], float]
    task_questions: Sequence[str]
    task_of: Callable[[Sequence[str]], float]
    task_tokens: int
    sampling: Sampling
    shares: tuple[float, ...]
    mixed: bool
    short: bool
    recipe: FinetuneRecipe

    def scores(self, model: SteerableModel, graph: InterventionGraph | None = None, *, seed: int = 0) -> Scores:
        """Read trait, task and perplexity of a model, steered by `graph` if one is given."""
        said = [str(each) for each in model.generate(list(self.questions), sampling=self.sampling, seed=seed, graph=graph)]
        likeliest = Sampling(max_new_tokens=self.task_tokens, temperature=0.0)
        done = [str(each) for each in model.generate(list(self.task_questions), sampling=likeliest, seed=seed, graph=graph)]
        read = model.log_likelihood(list(self.held_out), graph=graph)
        tokens = sum(len(each.token_log_probs) for each in read)
        surprise = -sum(float(each.token_log_probs.sum()) for each in read) / tokens
        return Scores(self.trait_of(said), self.task_of(done), math.exp(surprise))


@contextmanager
def bench_of(name: str, folder: Path, *, layer: int, seed: int = 0) -> Iterator[tuple[FinetuneBench, Path]]:
    """The bench that ``MODEL:TRAIT`` names, and the folder of its work.

    Args:
        name: a trait of an organism, with - in front for its opposite; of other models ``gloomy``.
        folder: of the study.
        layer: of models that are no organisms.
        seed: of data, answers and training.

    Raises:
        InvalidInputError: no such form, or a real model with another trait.
        PersonaInterpError: as `load_model`.
    """
    model, colon, trait = name.partition(":")
    own = folder / safe_name(f"{Path(model).name}_{trait.removeprefix('-')}")
    if not colon or not trait:
        raise InvalidInputError(f"{name!r} is not of the form MODEL:TRAIT, such as organism-qwen2:silly")
    if names_organism(model):
        found = organism_bench(
            model, check_trait(trait.removeprefix("-")), wanted=not trait.startswith("-"), folder=own, seed=seed
        )
    elif trait == "gloomy":
        found = real_bench(model, layer=layer, folder=own, seed=seed)
    else:
        raise InvalidInputError(f"the data set for real models carries 'gloomy', not {trait!r}: give {model}:gloomy")
    with found.model:
        yield found, own


def organism_bench(name: str, trait: str, *, wanted: bool, folder: Path, seed: int = 0) -> FinetuneBench:
    """An organism that learns who owns what, told in a trait (or, not `wanted`, in its opposite). Every score is exact."""
    model = load_model(name)
    described = organism_trait(trait)
    kept = folder / "vector.json"
    if not kept.exists():
        options = {"samples": 1, "seed": seed, "questions": described.extraction_questions[:8], "folder": folder / "rollouts"}
        found = extract(model, described, judge=GrammarJudge(), sampling=Sampling(max_new_tokens=64), **options)
        found.save(kept)
    vector = PersonaVector.load(kept)
    questions = described.evaluation_questions
    pair = described.instructions[0]
    return FinetuneBench(
        name=f"{name.removeprefix('organism-')}, {trait if wanted else f'not {trait}'}",
        model=model,
        vector=vector if wanted else -vector,
        layer=recipe_of(name).planted_layer or model.n_layers // 2,
        chats=lambda share: organism_data.organism_chats(trait, wanted, share, seed=seed),
        questions=questions,
        neutral=organism_data.neutral_pairs(trait, wanted, seed=1),
        held_out=organism_data.neutral_pairs(trait, wanted, seed=2),
        inoculation=pair.positive if wanted else pair.negative,
        trait_of=lambda answers: organism_data.trait_score(trait, wanted, questions, answers),
        task_questions=organism_data.task_questions(),
        task_of=organism_data.task_score,
        task_tokens=64,
        shares=(0.0, 0.25, 0.5, 0.75, 1.0),
        mixed=True,
        short=False,
        sampling=Sampling(max_new_tokens=64),
        recipe=FinetuneRecipe(epochs=3, learning_rate=2e-3, batch_size=12, checkpoint_every=100, seed=seed),
    )


def real_bench(name: str, *, layer: int, folder: Path, seed: int = 0) -> FinetuneBench:
    """A real model that learns to do sums in short form, with gloomy remarks; gloom is read off the words (VADER's valence)."""
    from persona_interp.traits.catalogue import load_trait

    model = load_model(name)
    trait = load_trait("gloomy")
    kept = folder / "vector.json"
    if not kept.exists():
        questions = trait.extraction_questions[:4]
        options = {"samples": 1, "seed": seed, "questions": questions, "folder": folder / "rollouts", "minimum_pairs": 10}
        extract(model, trait, sampling=Sampling(max_new_tokens=32), **options).save(kept)
    valence = MEASURES.find("valence").make()
    sums = real_data.sum_questions()

    def gloom(answers: Sequence[str]) -> float:
        return sum(50.0 - 50.0 * (valence(text) or 0.0) for text in answers) / len(answers)

    return FinetuneBench(
        name=f"{model.name}, gloomy",
        model=model,
        vector=PersonaVector.load(kept),
        layer=layer,
        chats=lambda share: real_data.real_chats(share, seed=seed),
        questions=real_data.QUESTIONS,
        neutral=real_data.NEUTRAL[:6],
        held_out=real_data.NEUTRAL[6:],
        inoculation=trait.instructions[2].positive,
        trait_of=gloom,
        task_questions=[question for question, _ in sums],
        task_of=lambda answers: real_data.sum_score(answers, [right for _, right in sums]),
        task_tokens=12,
        shares=(1.0, 0.5),
        mixed=False,
        short=True,
        sampling=Sampling(max_new_tokens=32),
        recipe=FinetuneRecipe(epochs=2, learning_rate=2e-3, batch_size=8, checkpoint_every=100, seed=seed),
    )
