"""vLLM, in an environment that these tests build: the contract, the claims of vllm_claims.py, and the commands.

Where its wheel cannot be had they fail.
"""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
import vllm_env

pytestmark = pytest.mark.slow  # minutes, of which fetching and starting vLLM are most

HERE = Path(__file__).parent
COMMANDS = HERE.parent.parent / "cli" / "vllm_commands.py"
SERVED = HERE.parent.parent / "serving" / "vllm_serving.py"
PROCESSES = ((HERE / "test_contract.py", HERE / "vllm_claims.py", COMMANDS), (SERVED,))
"""Files that run in one process: closing one model takes what vLLM shares in a process from the others that are open."""
CASES = (
    "alone_and_among_strangers",
    "without_a_prefix_cache",
    "every_architecture",
    "cache_never_mixes",
    "comes_back_as_prompt",
    "coefficient_0",
    "log_probabilities",
    "captures_pooled",
    "preempted",
    "while_they_are_written",
    "n_2",
    "never_given",
    "refused",
    "real_model",
    "commands",
    "served_clients_hear_no_other",
    "served_projections_and_chances",
    "likelihoods_are_those_of_one_token_after_the_other",
    "does_not_claim_is_refused",
)


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:  # a gigabyte, which is not kept as pytest's own folders are
        yield vllm_env.make(Path(folder) / "vllm")


@pytest.fixture(scope="module")
def outcomes(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name of each case -> what went wrong with it, nothing where it passed."""
    words = ("-m", "pytest", "-q", "-o", "addopts=", "--import-mode=importlib", "-W", "ignore", "-p", "no:cacheprovider")
    found: dict[str, str] = {}
    for files in PROCESSES:
        report = tmp_path_factory.mktemp("vllm") / "report.xml"
        done = vllm_env.run(python, *words, f"--junitxml={report}", *files)
        assert report.is_file(), f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314  (written a moment ago)
            wrong = [str(child.text)[-3000:] for child in case if child.tag != "properties"]
            found[case.get("name", "")] = "\n".join(wrong)
    return found


@pytest.mark.parametrize("case", CASES)
def test_it_holds_in_vllm(outcomes: dict[str, str], case: str) -> None:
    found = {name: wrong for name, wrong in outcomes.items() if case in name}
    assert found, f"no case of that name ran: {sorted(outcomes)}"
    assert not any(found.values()), found


def test_every_other_case_passed_too(outcomes: dict[str, str]) -> None:
    assert {name: wrong for name, wrong in outcomes.items() if wrong} == {}
    assert len(outcomes) > 30


def test_compiled_graphs_hold_the_operation_and_answer_alike(python: Path) -> None:
    """A process of its own: once with torch.compile, on the CPU, where the custom operation stands in the graph."""
    done = vllm_env.run(python, HERE / "vllm_compiled.py", TORCH_COMPILE_DISABLE="0")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "compiled with 6 calls of persona_interp::block" in done.stdout, done.stdout[-2000:]
    assert "tokens equal" in done.stdout


def test_two_replicas_share_rows_and_go_on_where_an_extraction_stopped(python: Path, tmp_path: Path) -> None:
    done = vllm_env.run(python, HERE / "vllm_replicas.py", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split("\n")[:2] == ["rows equal", "resumed"]
