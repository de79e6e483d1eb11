import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion import InputError
from keras_simple_diffusion.distillation import moment_matching
from tests.helpers.models import make_data
from tests.helpers.models import make_model
from tests.helpers.models import make_text_encoder
from tests.helpers.models import randomize
from tests.helpers.models import values_of
from tests.reference.linear_backbone import LinearBackbone

METHODS = (
    ksd.distillation.ProgressiveDistillation,
    ksd.distillation.ConsistencyDistillation,
    ksd.distillation.MomentMatching,
)
SCHEDULE = ksd.schedules.CosineSchedule()


def to_numpy(x):
    return ops.convert_to_numpy(x)


# === Closed forms: pixels of mean 0 and standard deviation 0.5 ===
# The teacher is linear, so that only these two moments count.


def linear_teacher(num_levels, loss="x"):
    if isinstance(loss, str):
        loss = ksd.losses.DiffusionLoss(loss)
    return ksd.models.DiffusionModel(
        LinearBackbone(num_levels),
        schedule=SCHEDULE,
        loss=loss,
        prediction_type="x",
    )


def random_images(count=512):
    signs = np.random.default_rng(0).integers(0, 2, size=(count, 4, 4, 1))
    return (signs - 0.5).astype("float32")


def levels(t):
    """alpha, sigma and the spread of noisy pixels at a time, in float64."""
    low, high = np.arctan(np.exp([-7.5, 7.5]))
    angle = low + t * (high - low)
    alpha, sigma = np.cos(angle), np.sin(angle)
    return alpha, sigma, np.sqrt(0.25 * alpha**2 + sigma**2)


def ddim_factor(t, s):
    """The number by which a step of DDIM multiplies noisy pixels."""
    (alpha, sigma, spread), (next_alpha, next_sigma, _) = levels(t), levels(s)
    denoised = alpha * 0.25 / spread**2
    return next_alpha * denoised + next_sigma / sigma * (1 - alpha * denoised)


def factor_between(whole, t, s):
    """The prediction's factor with which a step of DDIM multiplies so."""
    (alpha, sigma, _), (next_alpha, next_sigma, _) = levels(t), levels(s)
    ratio = next_sigma / sigma
    return (whole - ratio) / (next_alpha - alpha * ratio)


def train_linear(task, steps, learning_rate):
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    adam = keras.optimizers.Adam(rate, beta_2=0.99)
    task.compile(adam, ema_decay=None, jit_compile=False)
    images = np.tile(random_images(512), (steps, 1, 1, 1))
    task.fit(images, batch_size=512, verbose=0)
    return to_numpy(task.backbone.factors.factors)


def test_progressive_distillation_learns_two_steps_as_one():
    whole = ddim_factor(0.75, 0.625) * ddim_factor(0.625, 0.5)
    exact = factor_between(whole, 0.75, 0.5)
    assert abs(exact - 0.14113) < 1e-5
    task = ksd.distillation.ProgressiveDistillation(
        linear_teacher(8), num_steps=4, num_halvings=1
    )
    before = to_numpy(task.backbone.factors.factors)[6]
    assert abs(before - 0.10756) < 1e-5
    factors = train_linear(task, 150, 2e-2)
    assert abs(factors[6] - 0.14113) < 1e-3
    # The last step predicts as the teacher does in the middle of it.
    alpha, _, spread = levels(0.125)
    last = alpha * 0.25 / spread**2 * ddim_factor(0.25, 0.125)
    assert abs(factors[2] - last) < 1e-3
    # Times that are not on the student's grid are not trained.
    np.testing.assert_array_equal(factors[[1, 3, 5, 7]] > 0, True)
    teacher = linear_teacher(8).backbone.factors.factors
    untrained = [1, 3, 5, 7]
    np.testing.assert_allclose(
        factors[untrained], to_numpy(teacher)[untrained], atol=1e-6
    )


def adjusted_factor(t, s):
    """The number by which a step of aDDIM multiplies noisy pixels.

    It adds 0.75 times the variance of x given z.
    """
    (alpha, sigma, spread), (next_alpha, next_sigma, _) = map(levels, (t, s))
    denoised = alpha * 0.25 / spread**2
    noise = (1 - alpha * denoised) / sigma
    gain = next_alpha - alpha * next_sigma / sigma
    lacking = 0.75 * 0.25 * sigma**2 / spread**2 * gain**2
    scale = np.sqrt(next_sigma**2 + lacking / (noise * spread) ** 2)
    return next_alpha * denoised + scale * noise


def consistent_factor(count):
    """The student's factor at time 0.75, of `count` steps from there to 0.5."""
    factor = None
    for i in range(1, count + 1):
        t, s = 0.5 + 0.25 * i / count, 0.5 + 0.25 * (i - 1) / count
        whole = adjusted_factor(t, s)
        if factor is not None:  # From there by the student.
            next_alpha, next_sigma, _ = levels(s)
            end_alpha, end_sigma, _ = levels(0.5)
            ratio = end_sigma / next_sigma
            whole *= ratio + (end_alpha - next_alpha * ratio) * factor
        factor = factor_between(whole, t, 0.5)
    return factor


def test_consistency_distillation_follows_the_flow_through_a_range():
    # The limit of many steps of the teacher.
    exact = factor_between(levels(0.5)[2] / levels(0.75)[2], 0.75, 0.5)
    assert abs(exact - 0.17522) < 1e-5
    assert abs(consistent_factor(1024) - exact) < 2e-5
    task = ksd.distillation.ConsistencyDistillation(
        linear_teacher(32), num_steps=4, teacher_steps=(32, 32)
    )
    factors = train_linear(task, 400, 2e-2)
    assert abs(factors[24] - consistent_factor(8)) < 2e-3
    assert abs(factors[24] - exact) < 3e-3


@pytest.mark.parametrize("use_teacher", [True, False])
def test_with_as_many_steps_as_the_teacher_it_is_diffusion(use_teacher):
    # Eq. 9, with the norm of errors. The model's times are on the grid as well.
    class OnGrid(ksd.models.DiffusionModel):
        def place_times(self, time, training):
            return ops.ceil(time * 8.0) / 8.0

        def image_losses(self, **outputs):
            return ops.sqrt(super().image_losses(**outputs))

    teacher = linear_teacher(8)
    task = ksd.distillation.ConsistencyDistillation(
        teacher, num_steps=8, teacher_steps=(8, 8), use_teacher=use_teacher
    )
    # Another student, whose error is not zero.
    task.backbone.factors.bias.assign(0.3)
    model = OnGrid(
        task.backbone,
        schedule=SCHEDULE,
        loss=ksd.losses.DiffusionLoss("v"),
        prediction_type="x",
    )
    images = random_images(4096)
    ours = task.evaluate(images, batch_size=4096, verbose=0)
    diffusion = model.evaluate(images, batch_size=4096, verbose=0)
    if not use_teacher:
        np.testing.assert_allclose(ours, diffusion - 1e-4, rtol=2e-5)
    else:  # Its target is the mean of x, and the noise that aDDIM adds.
        errors = []
        for t in np.arange(1, 9) / 8:
            alpha, sigma, spread = levels(t)
            target = factor_between(adjusted_factor(t, t - 0.125), t, t - 0.125)
            wrong = target - alpha * 0.25 / spread**2
            errors.append(np.hypot(0.3, wrong * spread) / sigma)
        np.testing.assert_allclose(ours, np.mean(errors), rtol=0.1)
        assert ours < diffusion


def test_the_loss_of_consistency_is_a_norm():
    task = ksd.distillation.ConsistencyDistillation(
        linear_teacher(8), num_steps=4
    )
    rng = np.random.default_rng(0)
    error, target = rng.normal(size=(2, 5, 4, 4, 1))
    error *= np.array([0, 1e-6, 1e-3, 1, 100])[:, None, None, None]
    log_snr = np.array([0.0, -3.0, 3.0, 7.0, -7.0], "float32")
    losses = task.image_losses(
        target=target,
        prediction=target + error,
        log_snr=log_snr,
    )
    # An error in x is one in v by the root of 1 + SNR.
    squares = (1 + np.exp(log_snr)) * np.mean(error**2, axis=(1, 2, 3))
    expected = np.sqrt(squares + 1e-8) - 1e-4
    np.testing.assert_allclose(to_numpy(losses), expected, 1e-3, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_the_students_loss_does_not_depend_on_the_teachers(method):
    # Of these, two would leave time 1 out, where each drawing begins.
    losses = [
        "v",
        "epsilon",
        ksd.losses.DiffusionLoss(weighting=ksd.losses.SigmoidWeighting()),
    ]
    images = random_images(64)
    values = []
    for loss in losses:
        task = method(linear_teacher(8, loss), num_steps=4)
        task.backbone.factors.bias.assign(0.3)
        values.append(task.evaluate(images, batch_size=64, verbose=0))
    assert abs(values[0]) > 1e-3
    np.testing.assert_allclose(values[1:], values[0], rtol=1e-6)


def test_gradient_of_the_students_loss():
    rng = np.random.default_rng(0)
    clean, auxiliary, teacher = rng.normal(size=(3, 2, 4, 4, 1))
    weight = np.array([0.5, 3.0])
    arrays = [
        ops.convert_to_tensor(each, "float32")
        for each in (clean, auxiliary, teacher, weight)
    ]
    losses = to_numpy(moment_matching.generator_loss(*arrays))
    # Linear in the clean images: its gradient is the difference of two values.
    changed = ops.convert_to_tensor(clean + auxiliary - teacher, "float32")
    slope = to_numpy(moment_matching.generator_loss(changed, *arrays[1:]))
    square = ((auxiliary - teacher) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(slope - losses, weight * square, rtol=1e-4)
    same = moment_matching.generator_loss(
        arrays[0], arrays[2], arrays[2], arrays[3]
    )
    np.testing.assert_array_equal(to_numpy(same), 0.0)


def test_moment_matching_trains_two_networks_in_turn():
    task = ksd.distillation.MomentMatching(linear_teacher(8), num_steps=2)
    task.compile(keras.optimizers.SGD(0.1), ema_decay=None)
    student = task.backbone.factors.bias
    auxiliary = task.auxiliary_backbone.factors.bias
    images = random_images(64)
    # The auxiliary network is the teacher: no gradient for the student.
    task.num_batches.assign(1)
    before = values_of(task.backbone.weights)
    task.train_on_batch(images)
    for a, b in zip(before, values_of(task.backbone.weights), strict=True):
        np.testing.assert_array_equal(a, b)
    # It predicts more than the teacher: the student has to go down.
    auxiliary.assign(0.2)
    task.num_batches.assign(1)
    task.train_on_batch(images)
    assert float(to_numpy(student)) < -1e-3
    assert abs(float(to_numpy(auxiliary)) - 0.2) < 1e-7
    # On even updates the student stays, and the auxiliary network learns.
    moved = float(to_numpy(student))
    task.train_on_batch(images)
    assert float(to_numpy(student)) == moved
    assert float(to_numpy(auxiliary)) < 0.2


def test_evaluation_of_moment_matching_does_not_depend_on_the_turn():
    task = ksd.distillation.MomentMatching(linear_teacher(8), num_steps=2)
    task.auxiliary_backbone.factors.bias.assign(0.2)
    losses = []
    for turn in range(3):
        task.num_batches.assign(turn)
        losses.append(task.evaluate(random_images(64), verbose=0))
    assert losses[0] > 0.0
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)


def test_posterior_is_that_of_ddpm():
    rng = np.random.default_rng(0)
    clean, noisy, noise = (
        ops.convert_to_tensor(each, "float32")
        for each in rng.normal(size=(3, 2, 4, 4, 1))
    )
    grid = ops.convert_to_tensor([-1.0, 0.5], "float32")
    at = ksd.samplers.SamplerStep(noisy, grid, 0)
    expected, _ = ksd.samplers.DDPMSampler(0.0).step(
        lambda z, log_snr: clean,
        at,
        lambda: noise,
    )
    found = moment_matching.draw_posterior(
        clean, noisy, np.float32([-1, -1]), np.float32([0.5, 0.5]), noise
    )
    np.testing.assert_allclose(to_numpy(found), to_numpy(expected), atol=1e-6)


# === The methods as tasks ===


@pytest.mark.parametrize("method", METHODS)
def test_a_guided_teacher_gives_an_unguided_student(method, tmp_path):
    teacher = make_model(guidance_scale=3.0, num_steps=16)
    data = make_data()
    teacher.fit(data, batch_size=16, verbose=0)
    kept = values_of(teacher.variables)
    extra = {}
    if method is METHODS[0]:
        extra = {"num_halvings": 2, "updates_per_halving": 2}
    task = method(teacher, num_steps=2, **extra)
    task.compile(jit_compile=False)  # Quick to compile with TensorFlow.
    with teacher.averaged_weights():
        averages = values_of(teacher.backbone.weights)
    for a, b in zip(averages, values_of(task.backbone.weights), strict=True):
        np.testing.assert_array_equal(a, b)
    frozen = values_of(task.teacher_backbone.weights)
    history = task.fit(data, batch_size=16, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for a, b in zip(kept, values_of(teacher.variables), strict=True):
        np.testing.assert_array_equal(a, b)
    after = values_of(task.teacher_backbone.weights)
    is_kept = all(map(np.array_equal, frozen, after))
    assert is_kept == (method is not METHODS[0])
    assert np.isfinite(task.evaluate(data, verbose=0))
    images = task.generate(labels=[0, 1], seed=3)
    task.save_to_preset(tmp_path / "student")
    student = ksd.models.Preset.open(tmp_path / "student").load()
    assert type(student) is ksd.models.DiffusionModel
    assert (student.num_steps, student.guidance_scale) == (2, 1.0)
    assert student.sampler == task.student.sampler
    np.testing.assert_allclose(
        student.generate(labels=[0, 1], seed=3).astype("int32"), images, atol=1
    )
    for wrong in ({"num_steps": 8}, {"guidance_scale": 2.0}):
        with pytest.raises(InputError, match="distilled for 2 steps of DD"):
            student.generate(labels=[0], **wrong)
        student.generate(labels=[0], allow=True, **wrong)


def test_progressive_distillation_halves_and_draws_with_its_phase():
    teacher = make_model(ema_decay=None)
    task = ksd.distillation.ProgressiveDistillation(
        teacher, num_steps=2, num_halvings=3, updates_per_halving=2
    )
    data = make_data(8)
    teachers = []
    for steps in (8, 8, 4, 4, 2, 2, 2, 2):
        before = values_of(task.backbone.weights)
        task.train_on_batch(data)
        assert task.finished_model().distilled_steps == steps
        teachers.append(values_of(task.teacher_backbone.weights))
        is_student = all(map(np.array_equal, before, teachers[-1]))
        # The student of the last phase is the teacher of the next.
        assert is_student == (len(teachers) in (1, 3, 5))
    assert all(map(np.array_equal, teachers[4], teachers[7]))


def test_validation_at_the_end_of_a_phase_is_that_of_this_phase():
    task = ksd.distillation.ProgressiveDistillation(
        make_model(), num_steps=2, num_halvings=2, updates_per_halving=2
    )
    task.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    # A student between the phases, which is not the teacher.
    randomize(task.backbone, 1)
    data = make_data(8)
    losses = [task.evaluate(data, verbose=0)]
    for _ in range(3):
        task.train_on_batch(data)
        losses.append(task.evaluate(data, verbose=0))
    np.testing.assert_allclose(losses[1:3], losses[0], rtol=1e-6)
    assert abs(losses[3] / losses[0] - 1.0) > 0.05


def test_updates_are_counted_when_gradients_are_accumulated():
    task = ksd.distillation.MomentMatching(make_model(), num_steps=2)
    task.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    data = make_data(8)
    counts = []
    for _ in range(5):
        counts.append(int(task.num_updates))
        task.train_on_batch(data)
    assert counts == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_those_of_one_batch(method):
    # Weights of the same path in the networks are not mistaken for another.
    task = method(make_model(guidance_scale=1.5), num_steps=2)
    sgd = keras.optimizers.SGD(0.0)
    task.compile(sgd, ema_decay=None, watch=True, jit_compile=False)
    data = make_data(8)
    norms = []
    for _ in range(2):
        task.seed_generator.state.assign([1, 0])
        task.time_seed_generator.state.assign([2, 0])
        task.num_batches.assign(0)
        task.train_on_batch(data)
        norms.append(task.optimizer.report()["gradient_norm"])
    assert norms[0] > 1e-4
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_second_compile_keeps_each_network_its_own(method):
    task = method(make_model(), num_steps=2)
    task.compile(keras.optimizers.SGD(0.1), ema_decay=0.5, jit_compile=False)
    for _ in range(2):
        task.train_on_batch(make_data(8))
    teacher = values_of(task.teacher_backbone.weights)
    averages = [values_of(each) for each in task.optimizer.averages]
    task.compile(keras.optimizers.SGD(0.1), ema_decay=0.5, jit_compile=False)
    for a, b in zip(
        teacher, values_of(task.teacher_backbone.weights), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    kept = [values_of(each) for each in task.optimizer.averages]
    for a, b in zip(averages[0], kept[0], strict=True):
        np.testing.assert_array_equal(a, b)


def test_steps_of_the_teacher_grow():
    task = ksd.distillation.ConsistencyDistillation(
        make_model(), num_steps=4, annealing_updates=100
    )
    found = []
    uniform = ops.convert_to_tensor(np.linspace(0, 0.9999, 4000), "float32")
    for updates in (0, 25, 50, 75, 100, 500):
        task.num_batches.assign(updates)
        times = to_numpy(task.place_times(uniform, training=True))
        found.append(round(1 / times.min()))
        assert times.max() == 1.0
    assert found == [64, 136, 288, 604, 1280, 1280]


@pytest.mark.parametrize("method", METHODS[1:])
def test_texts_and_mixed_precision(method):
    keras.config.set_dtype_policy("mixed_bfloat16")
    texts = ["a red apple", "a ship"]
    encoder = make_text_encoder(texts)
    backbone = ksd.models.UViTBackbone(
        (4, 4, 1),
        channels=(16,),
        blocks=(1,),
        num_heads=2,
        embedding_dim=16,
        context_dim=8,
    )
    teacher = ksd.models.TextToImage(backbone, encoder)
    task = method(teacher, num_steps=2)
    task.compile(jit_compile=False)
    assert task.guidance_scale == 4.0
    encoder_before = values_of(task.student.text_encoder.weights)
    data = {
        "images": make_data(8, None)["images"],
        "captions": np.array(texts * 4),
    }
    loss = task.fit(data, batch_size=4, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    encoder_after = values_of(task.student.text_encoder.weights)
    assert all(map(np.array_equal, encoder_before, encoder_after))
    assert encoder.trainable
    assert task.generate("a ship").shape == (4, 4, 1)


@pytest.mark.parametrize("scale", [3.0, (2.0, 4.0)])
def test_the_teacher_is_guided_within_its_interval(scale):
    def ask(interval):
        model = make_model(guidance_interval=interval)
        randomize(model.backbone, 1)
        task = METHODS[1](model, guidance_scale=scale)
        if interval is not None:  # As a run is resumed, from its student.
            task = METHODS[1](task.student, guidance_scale=scale)
        found = task.ask_teacher(*arrays, {"labels": labels, **inputs})
        return [to_numpy(each) for each in found]

    rng = np.random.default_rng(0)
    noisy = rng.normal(size=(4, 4, 4, 1)).astype("float32")
    log_snr = np.array([-2.0, -1.0, 1.5, 3.0], "float32")
    arrays = [ops.convert_to_tensor(each) for each in (noisy, log_snr)]
    labels = ops.convert_to_tensor([0, 1, 2, 0], "int32")
    inputs = {}
    if isinstance(scale, tuple):
        inputs["guidance_scale"] = ops.full((4,), 3.0)
    always, conditional = ask(None)
    guided, _ = ask((-1.0, 2.0))
    np.testing.assert_allclose(guided[1:3], always[1:3], atol=1e-6)
    np.testing.assert_allclose(guided[::3], conditional[::3], atol=1e-6)
    assert np.abs(always - conditional).max(axis=(1, 2, 3)).min() > 1e-3


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: METHODS[1](3), "must be a model"),
        (lambda: METHODS[2](make_model(), 0), "num_steps=0"),
        (lambda: METHODS[0](make_model(), num_halvings=0), "num_halvings=0"),
        (
            lambda: METHODS[1](make_model(), teacher_steps=(2, 8)),
            "teacher_steps=2",
        ),
        (
            lambda: METHODS[1](
                make_model(), use_teacher=False, guidance_scale=2.0
            ),
            "are not guided",
        ),
        (
            lambda: METHODS[2](make_model(num_classes=None), guidance_scale=2),
            "unconditional",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_student_learns_the_steps_that_it_takes():
    # A teacher of normal log-SNR is drawn along other times than it trained.
    teacher = make_model(schedule="normal")
    task = ksd.distillation.ConsistencyDistillation(teacher, num_steps=4)
    grid = ksd.samplers.log_snr_grid(task.student.schedule, 4)
    learned = task.schedule(np.linspace(1.0, 0.0, 5, dtype="float32"))
    np.testing.assert_array_equal(to_numpy(learned), to_numpy(grid))
