import math

import numpy as np
import pytest
import sklearn.neighbors

import keras_simple_diffusion as ksd
from keras_simple_diffusion import evaluation
from keras_simple_diffusion.evaluation import conditioning
from keras_simple_diffusion.evaluation.image_sets import Requests
from keras_simple_diffusion.evaluation.shards import reference_shards

pytestmark = pytest.mark.any_backend


class Colours:
    """Features that are cheap: the pixels of a small image."""

    name = "colours"

    def __call__(self, images):
        return images.reshape(len(images), -1).astype("float32") / 255


def make_images(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 2, 2, 3), "uint8")


def make_side(folder, images, **columns):
    source = ksd.data.ArraySource(images, **columns)
    return source, reference_shards(source, Colours(), folder)


def make_shards(folder, images):
    shards = evaluation.FeatureShards(folder, len(images), 8)
    evaluation.fill_shards(lambda n: images[n], [(shards, Colours())])
    return shards


def unit(images):
    features = Colours()(images)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_classes_are_recognized_as_by_the_nearest_centroid(tmp_path):
    rng = np.random.default_rng(0)
    names = ["a", "b", "c"]

    def make(count, seed):
        labels = np.arange(count) % 3
        images = make_images(count, seed) // 2
        images[:, 0, :, :] += (60 * labels[:, None, None]).astype("uint8")
        return images, rng.permutation(labels) if seed == 9 else labels

    (real, labels), (test, test_labels) = make(60, 0), make(27, 1)
    # The model knows the classes in another order, and one that it does not
    # draw; the classes of the held-out images are not equally frequent.
    training = make_side(
        tmp_path / "a", real, labels=labels, class_names=["c", "b", "a"]
    )
    kept = np.flatnonzero((test_labels != 1) | (np.arange(27) < 9))
    held_out = make_side(
        tmp_path / "b",
        test[kept],
        labels=test_labels[kept],
        class_names=["c", "b", "a"],
    )
    recognition = conditioning.ClassRecognition(names, training, held_out)
    drawn = make(31, 2)[0]
    asked = [i % 3 for i in range(31)]
    found = recognition.scores(
        make_shards(tmp_path / "c", drawn), Requests(31, asked)
    )
    centroid = sklearn.neighbors.NearestCentroid()
    centroid.fit(unit(real), 2 - labels)
    # Centroids of length 1, as the class directions they stand for.
    centroid.centroids_ /= np.linalg.norm(
        centroid.centroids_, axis=1, keepdims=True
    )

    def balanced(images, expected):
        read = centroid.predict(unit(images))
        expected = np.asarray(expected)
        return np.mean(
            [np.mean(read[expected == c] == c) for c in np.unique(expected)]
        )

    assert found["generated"]["class_recognition"] == pytest.approx(
        balanced(drawn, asked)
    )
    assert found["held_out"]["class_recognition"] == pytest.approx(
        balanced(test[kept], 2 - test_labels[kept])
    )
    assert found["chance"] == {"class_recognition": 1 / 3}
    assert 0.4 < found["held_out"]["class_recognition"]


def test_prompts_are_looked_up(tmp_path):
    words = ["red apple", "green apple", "red ship", "blue tree"]
    training = make_side(tmp_path / "a", make_images(4, 0), captions=words)
    prompts = ["red tree", "blue apple", "blue apple", "a: ship"]
    real = make_images(4, 1)
    held_out = make_side(tmp_path / "b", real, captions=prompts)
    recognition = conditioning.PromptRecognition(training, held_out)
    # Each image is that of its prompt, but the last that of another one.
    drawn = real[[0, 1, 2, 0]]
    found = recognition.scores(
        make_shards(tmp_path / "c", drawn), Requests(4, prompts=prompts)
    )
    assert found["generated"]["prompt_retrieval"] == 3 / 4
    # Two images have one prompt: 3 candidates in place of 4.
    assert found["chance"]["prompt_retrieval"] == pytest.approx(
        np.mean([1 / 4, 1 / 3, 1 / 3, 1 / 4])
    )
    x, y = Colours()(drawn), Colours()(training[0][slice(None)]["images"])
    nearest = np.square(x[:, None] - y).sum(-1).argmin(1)
    asked = [("red", "tree"), ("blue", "apple"), ("blue", "apple")]
    asked.append(("a", "ship"))
    shares = [
        np.mean([word in words[n].split() for word in each])
        for each, n in zip(asked, nearest, strict=True)
    ]
    assert found["generated"]["prompt_words"] == pytest.approx(np.mean(shares))
    # Each word is in 1 or 2 of the 4 captions of the training images.
    chances = [(2 + 1) / 8, (1 + 2) / 8, (1 + 2) / 8, (0 + 1) / 8]
    assert found["chance"]["prompt_words"] == pytest.approx(np.mean(chances))
    assert 0 <= found["held_out"]["prompt_words"] <= 1


def test_real_training_images_have_all_their_words(tmp_path):
    words = ["red apple", "green tree", "blue ship"]
    side = make_side(tmp_path / "a", make_images(3), captions=words)
    recognition = conditioning.PromptRecognition(side, side)
    found = recognition.scores(side[1], Requests(3, prompts=words))
    assert found["generated"] == {"prompt_retrieval": 1.0, "prompt_words": 1.0}
    assert found["held_out"] == {"prompt_words": 1.0}


@pytest.mark.parametrize("marked, total, drawn", [(0, 9, 3), (2, 9, 3)])
def test_draws_without_replacement_are_counted(marked, total, drawn):
    expected = math.comb(total - marked, drawn) / math.comb(total, drawn)
    found = conditioning.rate_without(marked, total, drawn)
    assert found == pytest.approx(expected)
    assert conditioning.rate_without(7, total, drawn) == 0.0
    assert conditioning.rate_without(0, 0, 0) == 1.0


def test_annotations_are_those_of_the_examples(shared_data):
    for name in ("caltech101_128.zip", "coco_mini_captions_256.zip"):
        source = ksd.data.open_data(shared_data / name, 16)
        annotations = source.annotations()
        assert len(annotations) == len(source)
        for index in (0, len(source) // 2):
            example, (label, captions) = source[index], annotations[index]
            assert label == example.get("labels")
            if captions is not None:
                assert example["captions"] in captions
