import numpy as np
import pytest
from polaris_data import SettingError
from polaris_data.duplicates.embeddings import close_pairs, embed
from polaris_data.errors import MissingExtraError

QUESTIONS = ["How many red hens are there?", "Find the largest prime.", "How many red hens are there?"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Save a tiny randomly initialised model; sentence-transformers takes the mean over its tokens."""
    pytest.importorskip("sentence_transformers", reason="the extra 'embeddings' is not installed")
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    words = sorted({word for question in QUESTIONS for word in question.lower().replace("?", " ?").split()})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=5 + len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_equal_questions_have_equal_embeddings_of_length_one(model):
    vectors = embed(QUESTIONS, model=model)
    assert vectors.shape == (3, 16)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert [(a, b) for a, b, _ in close_pairs(vectors, min_cosine=0.999)] == [(0, 2)]


def test_a_model_that_is_not_there_is_refused(tmp_path):
    pytest.importorskip("sentence_transformers", reason="the extra 'embeddings' is not installed")
    with pytest.raises(SettingError, match=r"cannot load the embedding model.*--embedding-model"):
        embed(QUESTIONS, model=tmp_path / "nothing")


def test_without_the_extra_the_command_to_install_it_is_named():
    try:
        import sentence_transformers  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match=r"pip install 'polaris-data\[embeddings\]"):
            embed(QUESTIONS)
    else:
        pytest.skip("the extra 'embeddings' is installed")


def test_close_pairs_are_what_comparing_every_two_finds(monkeypatch):
    monkeypatch.setattr("polaris_data.duplicates.embeddings.ROWS_AT_ONCE", 7)
    vectors = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    slow = [(a, b) for a in range(40) for b in range(a + 1, 40) if float(vectors[a] @ vectors[b]) > 0.8]
    assert sorted((a, b) for a, b, _ in close_pairs(vectors, min_cosine=0.8)) == slow
