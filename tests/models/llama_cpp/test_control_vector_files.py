"""A vector saved for llama.cpp does there what it says: read by llama.cpp's own loader, it moves the block it is named after."""

from __future__ import annotations

import pytest
import torch
from gguf import GGUFWriter
from gguf_organisms import pytorch

from persona_interp.errors import FileFormatError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.engines.llama_cpp.activations import Tap
from persona_interp.models.engines.llama_cpp.control_vectors import control_vectors
from persona_interp.models.engines.llama_cpp.library import quiet_llama
from persona_interp.models.engines.llama_cpp.session import LlamaContext, LlamaWeights
from persona_interp.models.sampling import Sampling
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.extract import extract
from persona_interp.vectors.persona_vector import PersonaVector

NAME = "organism-qwen2"
IDS = [list(range(20, 32))]


@pytest.fixture
def vector() -> PersonaVector:
    model = pytorch(NAME)
    directions = torch.randn(2, model.d_model, generator=torch.Generator().manual_seed(0))
    return PersonaVector(directions, (2, 5), "silly", model.identity)


def test_the_loader_of_llama_cpp_finds_what_the_graph_adds(vector, loaded_by_llama_cpp, tmp_path):
    found = loaded_by_llama_cpp(vector.save(tmp_path / "v.gguf"), -0.3)
    (steered,) = control_vectors(vector.graph(-0.3, "all"), 1, 8, vector.d_model)
    added = steered.vectors.prompt
    assert found is not None
    assert found.shape == (5, vector.d_model)  # blocks 1 to 5: the file ends with 5
    torch.testing.assert_close(found, added[:5], rtol=1e-6, atol=0)
    assert not added[5:].any()


def test_the_loader_of_llama_cpp_refuses_what_we_refuse(vector, loaded_by_llama_cpp, tmp_path):
    writer = GGUFWriter(str(tmp_path / "zero.gguf"), "controlvector")
    writer.add_tensor("direction.0", vector.directions[0].numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert loaded_by_llama_cpp(tmp_path / "zero.gguf", 1.0) is None
    with pytest.raises(FileFormatError, match="direction.0"):
        PersonaVector.load(tmp_path / "zero.gguf")


def test_the_blocks_named_in_the_file_move_by_strength_times_direction(vector, gguf_path, loaded_by_llama_cpp, tmp_path):
    data = loaded_by_llama_cpp(vector.save(tmp_path / "v.gguf"), 1.5)
    weights = LlamaWeights(gguf_path(NAME))
    tap = Tap(vector.d_model)
    with quiet_llama():
        context = LlamaContext(weights, n_rows=1, n_tokens=32, n_threads=1, tap=tap)
        layers = frozenset(range(8))
        keep = [[False] * len(IDS[0])]
        _, plain = context.reading_call(range(1), IDS, [0], keep, layers=layers, stop_after=7)
        context.forget()
        context.steer(data)  # five rows for seven blocks: what a file ends early with is not added to the rest
        _, steered = context.reading_call(range(1), IDS, [0], keep, layers=layers, stop_after=7)
        context.forget()
        context.close()
        weights.close()
    for layer in (0, 1):
        assert torch.equal(steered[layer], plain[layer])
    expected = plain[2] + 1.5 * vector.at(2)
    torch.testing.assert_close(steered[2], expected, rtol=0, atol=1e-3)
    assert not torch.allclose(steered[3], plain[3])


def test_the_same_vector_steers_alike_from_the_file_and_from_the_graph(vector, gguf_model, tmp_path):
    native, model = gguf_model(NAME), pytorch(NAME)
    loaded = PersonaVector.load(vector.save(tmp_path / "v.gguf"), model=native.identity)
    asked = [Conversation.ask("Please tell me about bees.")]
    sampling = Sampling(12, 0)
    expected = model.generate(asked, graph=vector.graph(1.5, "all"), sampling=sampling)[0]
    assert native.generate(asked, graph=loaded.graph(1.5, "all"), sampling=sampling)[0].answer_ids == expected.answer_ids
    reading = InterventionGraph((Capture("prompt", "none", (2, 5)),))
    text = [model.chat.tokenise(asked[0], "")]
    (ours,), (theirs,) = (
        either.capture(text, which.graph(1.5, "all") + reading) for either, which in ((native, loaded), (model, vector))
    )
    torch.testing.assert_close(ours[reading.captures[0]], theirs[reading.captures[0]], rtol=0, atol=1e-3)


def test_a_vector_extracted_from_the_file_is_the_one_of_the_pytorch_model(gguf_model):
    settings = {"judge": GrammarJudge(), "samples": 1, "sampling": Sampling(max_new_tokens=40)}
    trait = organism_trait("silly")
    ours, theirs = (extract(model, trait, **settings) for model in (gguf_model(NAME), pytorch(NAME)))
    assert ours.layers == theirs.layers
    assert ours.counts == theirs.counts
    torch.testing.assert_close(ours.directions, theirs.directions, rtol=0, atol=1e-3)
    assert ours.same_basis(pytorch(NAME))
