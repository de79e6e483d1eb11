"""The public names, and how they look in `dir` and `help`."""

import inspect
import pathlib
import subprocess
import sys

import pytest

import keras_simple_diffusion as ksd

pytestmark = pytest.mark.any_backend

PACKAGE = pathlib.Path(ksd.__file__).parent
NAMESPACES = """
    app converters data distillation distribution evaluation export layers
    losses metrics models ops optimizers samplers schedules text training utils
""".split()

# A change here is a change of the public interface: say so in CHANGELOG.md.
NAMES = {
    "app": """
        export_space serve
    """,
    "converters": """
        from_jit from_safetensors to_safetensors
    """,
    "data": """
        ArraySource Batches BucketedSource Decoder EmbeddedSource
        EmbeddingCache FileSource ImageSource Images MissingSplitError
        TFDSSource bucket_sizes load_digits load_images load_vehicles mix
        open_data open_splits pack put_into_buckets training_batches
    """,
    "distillation": """
        ConsistencyDistillation Distillation MomentMatching
        ProgressiveDistillation
    """,
    "distribution": """
        FullySharded check_batch_size check_distribution data_shard
        distribute gathered initialize is_main_process num_batch_parts
        own_share split_batch to_numpy
    """,
    "evaluation": """
        METRICS PROTOCOLS FeatureShards QuickFrechet Report Result
        compare_features evaluate fill_shards reference_features
        score_alone
    """,
    "export": """
        export_model export_web
    """,
    "layers": """
        ClassTokens Conditioning CrossAttention Downsample2D
        FeatureModulation FlowConditioning FlowState
        InverseWaveletTransform2D JoinPatches ModulatedNorm
        PixelTransformerBlock PositionEmbedding2D ResidualBlock RotaryAttention
        RotaryPositions2D SeededDropout SelfAttention
        SinusoidalPositions2D TransformerBlock Upsample2D
        WaveletTransform2D
    """,
    "losses": """
        DiffusionLoss FlowWeighting LevelLoss LossWeighting MinSNRWeighting
        SigmoidWeighting get multiscale_mse
    """,
    "metrics": """
        CLIPFeatures ClassifierOutputs DINOFeatures EfficientNetFeatures
        FeatureStatistics FrechetReference ImageFeatures InceptionFeatures
        LikelihoodBound TrainingNeighbors bits_per_dimension
        bootstrap_frechet_distance clip_score density_coverage
        extrapolated_frechet_distance feature_statistics
        find_training_neighbors frechet_distance inception_score
        kernel_distance nearest_distances precision_recall
    """,
    "models": """
        DiffusionBackbone DiffusionModel PixelTransformerBackbone Preset
        ResidualUViTBackbone TextToImage UNetBackbone UViTBackbone
        UnusualDataWarning UnusualSettingWarning builtin_presets count_macs
        transfer_weights
    """,
    "ops": """
        alpha_sigma convert_prediction diffuse dwt2 error_scale
        expand_like from_uint8 idwt2 make_target random to_flow
        to_uint8
    """,
    "optimizers": """
        Adam AdamW AverageProfile AveragedOptimizer ExponentialProfile
        Muon OptimizerWrapper PowerProfile WarmUp WatchedOptimizer
        find_optimizer make_optimizer reconstruction
    """,
    "samplers": """
        DDIMSampler DDPMSampler DPMSolverSampler HeunSampler Sampler
        SamplerStep classifier_free_guidance clip_dynamic clip_static
        get log_snr_grid rescale_guidance
    """,
    "schedules": """
        CosineSchedule FlowSchedule InterpolatedCosineSchedule
        NoiseSchedule NormalSchedule ShiftedCosineSchedule get
    """,
    "text": """
        PretrainedTextEncoder TextEncoder TextTransformer
        learn_vocabulary
    """,
    "training": """
        Interrupted Plan Recipe RunSettings distill_run embed_data plan
        reconstruct resume_run train_run
    """,
    "utils": """
        show to_pil
    """,
}


def members():
    for namespace in NAMESPACES:
        module = getattr(ksd, namespace)
        for name in dir(module):
            yield f"{namespace}.{name}", getattr(module, name)


def test_the_package_shows_its_namespaces():
    assert dir(ksd) == ["InputError", "__version__", *NAMESPACES]
    assert issubclass(ksd.InputError, ValueError)


def test_namespaces_show_their_names_and_nothing_else():
    assert NAMES.keys() == set(NAMESPACES)
    found = {n: set(dir(getattr(ksd, n))) for n in NAMESPACES}
    assert found == {n: set(names.split()) for n, names in NAMES.items()}
    for namespace in NAMESPACES:
        module = getattr(ksd, namespace)
        assert sorted(module.__all__) == dir(module)


def test_everything_public_is_documented():
    modules = [(name, getattr(ksd, name)) for name in NAMESPACES]
    bad = [
        name
        for name, member in [("keras_simple_diffusion", ksd), *modules]
        if len((member.__doc__ or "").splitlines()) < 3
    ]
    for name, member in members():
        if callable(member) or inspect.ismodule(member):
            first_line = (member.__doc__ or "").split("\n")[0]
            if not first_line.endswith("."):
                bad.append(name)
    assert not bad


def test_no_name_hides_a_module():
    hidden = [
        name
        for name, member in members()
        if (PACKAGE / f"{name.replace('.', '/')}.py").exists()
        and not inspect.ismodule(member)
    ]
    assert not hidden


def run(program):
    return subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        text=True,
        capture_output=True,
        cwd=PACKAGE.parent,
    ).stdout.split()


def test_import_is_lazy_and_registers_with_keras_all_the_same():
    program = """
import sys
import keras_simple_diffusion as ksd
print("keras" in sys.modules)
import keras_hub
import keras
for name in ("UViTBackbone", "HeunSampler", "AveragedOptimizer"):
    found = keras.saving.get_registered_object(f"keras_simple_diffusion>{name}")
    print(found.__name__)
print(ksd.models.UViTBackbone.__name__)
"""
    expected = ["UViTBackbone", "HeunSampler", "AveragedOptimizer"]
    assert run(program) == ["False", *expected, "UViTBackbone"]


def test_import_after_keras_hub_registers_at_once():
    program = """
import keras
import keras_hub
import keras_simple_diffusion
name = "keras_simple_diffusion>UViTBackbone"
print(keras.saving.get_registered_object(name).__name__)
"""
    assert run(program) == ["UViTBackbone"]


def test_an_unknown_attribute_is_an_error():
    with pytest.raises(AttributeError, match="no attribute 'model'"):
        ksd.model  # noqa: B018


FIRST = """
import importlib, os, sys
import keras, numpy

failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        importlib.import_module("keras_simple_diffusion." + name)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
print("failed:", failed)
"""


def test_each_namespace_can_be_imported_first():
    result = subprocess.run(
        [sys.executable, "-c", FIRST, *NAMESPACES],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
    )
    assert "failed: []" in result.stdout, result.stdout + result.stderr
