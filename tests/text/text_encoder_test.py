import io

import keras
import keras_hub
import numpy as np
import pytest
from keras import ops

from keras_simple_diffusion.text import PretrainedTextEncoder
from keras_simple_diffusion.text import TextTransformer
from keras_simple_diffusion.text import learn_vocabulary
from keras_simple_diffusion.utils.errors import InputError

TEXTS = ["a red apple", b"a ship", ""]


def make_small(sequence_length=8):
    return TextTransformer(
        learn_vocabulary(["a red apple", "a ship"]),
        embedding_dim=8,
        num_layers=1,
        num_heads=2,
        sequence_length=sequence_length,
    )


def embed(encoder, texts):
    return ops.convert_to_numpy(encoder(*encoder.tokenize(texts)))


def test_texts_are_padded_and_cut():
    token_ids, mask = make_small(4).tokenize(TEXTS)
    assert token_ids.shape == mask.shape == (3, 4)
    assert mask.sum(axis=1).tolist() == [4, 3, 1]
    assert (token_ids[mask == 0] == 0).all()


def test_padding_changes_nothing():
    short, long = make_small(4), make_small(16)
    for a, b in zip(short.blocks, long.blocks, strict=True):
        b.set_weights(a.get_weights())
    table, positions = short.token_embedding.get_weights()
    padded = np.zeros((16, 8), "float32")
    padded[:4] = positions
    long.token_embedding.set_weights([table, padded])
    first, second = embed(short, TEXTS), embed(long, TEXTS)
    mask = short.tokenize(TEXTS)[1].astype(bool)
    np.testing.assert_allclose(first[mask], second[:, :4][mask], atol=1e-6)


def test_a_frozen_encoder_stays_frozen():
    encoder = make_small()
    encoder.trainable = False
    config = encoder.get_config()
    copy = TextTransformer.from_config(config)
    assert not copy.trainable and not copy.trainable_variables
    assert not any(weight.trainable for weight in copy.weights)
    new = TextTransformer.from_config({**config, "vocabulary": None})
    new = new.with_vocabulary(["a ship"])
    assert not any(weight.trainable for weight in new.weights)
    del config["trainable"]  # Of an earlier version.
    assert TextTransformer.from_config(config).trainable_variables


def test_weights_are_copied_by_token():
    source = make_small()
    words = learn_vocabulary(["a green ship"])
    target = TextTransformer(words, 8, 1, 2, 8)
    fresh = target.copy_weights(source)
    assert "green" in fresh and "ship" not in fresh
    np.testing.assert_array_equal(
        embed(target, ["a ship"]), embed(source, ["a ship"])
    )


def test_weights_of_another_width_are_not_copied():
    target = TextTransformer(learn_vocabulary(["a"]), 16, 1, 2, 8)
    before = target.get_weights()
    with pytest.raises(InputError, match="=16.*Received: embedding_dim=8"):
        target.copy_weights(make_small())
    for ours, theirs in zip(before, target.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_null_embedding_is_that_of_the_empty_text(t5):
    for encoder in (make_small(), PretrainedTextEncoder(t5, 8)):
        context, mask = map(ops.convert_to_numpy, encoder.encode_null())
        np.testing.assert_array_equal(mask, encoder.tokenize([""])[1])
        expected = embed(encoder, [""])
        np.testing.assert_allclose(
            context[mask == 1], expected[mask == 1], atol=1e-6
        )


def test_t5_is_its_encoder_half_with_its_own_tokens(t5):
    encoder = PretrainedTextEncoder(t5, 8)
    token_ids, mask = encoder.tokenize(["a red apple", "word " * 20])
    # As SentencePiece itself splits it, with the end of the sentence.
    spm = pytest.importorskip("sentencepiece")
    model = spm.SentencePieceProcessor(
        model_proto=encoder._loaded.tokenizer.proto
    )
    expected = [*model.encode("a red apple"), 1]
    assert token_ids[0, mask[0] == 1].tolist() == expected
    assert token_ids[1, -1] == 1  # A text that is cut ends as well.
    names = {v.path.split("/")[0] for v in encoder.borrowed_variables}
    assert not any("decoder" in name for name in names), names
    assert encoder.trainable_variables == []
    config = encoder.get_config()
    del config["trainable"]  # Of an earlier version.
    copy = PretrainedTextEncoder.from_config(config)
    assert not copy.trainable and copy.trainable_variables == []


def test_embeddings_are_what_the_backbone_gives_rounded(minilm):
    encoder = PretrainedTextEncoder(minilm, 8)
    token_ids, mask = encoder.tokenize(["a red apple", ""])
    assert token_ids[0, :5].tolist() == [101, 1037, 2417, 6207, 102]
    backbone = keras_hub.models.BertBackbone.from_preset(str(minilm))
    expected = backbone(
        {
            "token_ids": token_ids,
            "padding_mask": mask,
            "segment_ids": np.zeros_like(token_ids),
        }
    )["sequence_output"]
    expected = ops.convert_to_numpy(expected)[mask == 1]
    found = embed(encoder, ["a red apple", ""])[mask == 1]
    # Rounded to the 8 bits of bfloat16.
    np.testing.assert_allclose(found, expected, rtol=2**-8, atol=1e-5)


def test_it_is_loaded_when_it_is_needed(t5):
    config = PretrainedTextEncoder(t5, 8).get_config()
    encoder = PretrainedTextEncoder.from_config(config)
    assert encoder.borrowed_variables == []
    with pytest.raises(InputError, match="not loaded"):
        encoder(np.zeros((1, 8), "int32"), np.ones((1, 8), "int32"))
    encoder.tokenize(["a"])
    assert encoder.borrowed_variables


def test_a_missing_or_changed_encoder_is_told_before_it_is_loaded(t5):
    config = PretrainedTextEncoder(t5, 8).get_config()
    (t5 / "extra").write_text("x")
    with pytest.raises(InputError, match="has changed"):
        PretrainedTextEncoder.from_config(config)
    with pytest.raises(InputError, match="neither a preset of keras_hub"):
        PretrainedTextEncoder("t5_of_my_own", embedding_dim=8)
    # A public one is known by its handle, without asking for it.
    encoder = PretrainedTextEncoder("t5_1.1_xxl", embedding_dim=4096)
    assert encoder.revision.startswith("kaggle://keras/t5/")


def test_it_runs_in_the_precision_stated(t5, dtype="bfloat16"):
    encoder = PretrainedTextEncoder(t5, 4, dtype=dtype)
    kinds = {
        keras.backend.standardize_dtype(v.dtype)
        for v in encoder._loaded.network.weights
    }
    assert kinds == {dtype}
    exact = embed(PretrainedTextEncoder(t5, 4), ["a ship"])
    np.testing.assert_allclose(embed(encoder, ["a ship"]), exact, atol=0.1)


def test_texts_are_strings():
    with pytest.raises(InputError, match="must be strings. Received: int 3"):
        make_small().tokenize([3])


@pytest.mark.any_backend  # T5 and BERT show the same on each.
def test_gemma_is_understood(tmp_path):
    spm = pytest.importorskip("sentencepiece")
    proto = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(["a red apple", "a ship"]),
        model_writer=proto,
        vocab_size=12,
        model_type="WORD",
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    tokenizer = keras_hub.tokenizers.GemmaTokenizer(proto=proto.getvalue())
    backbone = keras_hub.models.GemmaBackbone(
        vocabulary_size=12,
        num_layers=1,
        num_query_heads=2,
        num_key_value_heads=1,
        hidden_dim=8,
        intermediate_dim=16,
        head_dim=4,
    )
    tokenizer.save_to_preset(tmp_path)
    backbone.save_to_preset(tmp_path)
    encoder = PretrainedTextEncoder(tmp_path, 6)
    token_ids, mask = encoder.tokenize(["a ship", ""])
    assert token_ids[0, [0, 3]].tolist() == [2, 1]
    assert mask.tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]]
    assert embed(encoder, ["a ship"]).shape == (1, 6, 8)
