from keras import ops

from keras_simple_diffusion.ops import random


class Sampler:
    """Base class of the samplers: it walks a grid of noise levels.

    A sampler is immutable. Everything that belongs to one run (grid, noise,
    seed) is an argument of `sample`, so that a compiled run can never be
    stale. Subclasses define `step`.
    """

    def step(self, denoise, noisy_images, log_snr, next_log_snr, draw_noise):
        """Go from one noise level to the next.

        Args:
            denoise: function of `(noisy_images, log_snr)`, with log-SNR of
                shape `(B,)`, that returns the predicted clean pictures.
            noisy_images: float32 tensor of shape `(B, H, W, C)`, at `log_snr`.
            log_snr: float32 scalar tensor.
            next_log_snr: float32 scalar tensor, above `log_snr`.
            draw_noise: function without arguments that returns fresh standard
                normal noise shaped like `noisy_images`, or zeros in the last
                step. To be called at most once.

        Returns:
            A tuple `(noisy_images, clean_images)`: the pictures at
            `next_log_snr`, and the clean ones predicted on the way.
        """
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def sample(
        self, denoise, noise, grid, seed=0, indices=None, return_clean=False
    ):
        """Draw pictures by walking from the first to the last noise level.

        Args:
            denoise: function of `(noisy_images, log_snr)`, with log-SNR of
                shape `(B,)`, that returns the predicted clean pictures.
            noise: float tensor of shape `(B, H, W, C)`, the pictures at
                `grid[0]`: standard normal noise.
            grid: float tensor of shape `(num_steps + 1,)`, increasing
                log-SNR, see `keras_simple_diffusion.samplers.log_snr_grid`.
            seed: int, or a key made by `ops.random.seed_to_key`. The fresh
                noise of a picture depends on it and on the picture's index
                alone. Defaults to `0`.
            indices: int tensor of shape `(B,)`, the pictures' indices.
                Defaults to `0, 1, ...`.
            return_clean: bool. Whether to return the clean pictures predicted
                in the last step, instead of those at `grid[-1]`, which still
                hold the little noise of that level. Defaults to `False`.

        Returns:
            A float32 tensor of shape `(B, H, W, C)`.
        """
        noise = ops.cast(noise, "float32")
        grid = ops.cast(ops.convert_to_tensor(grid), "float32")
        batch_size, num_steps = noise.shape[0], grid.shape[0] - 1
        if isinstance(seed, int):
            seed = random.seed_to_key(seed)
        key = ops.cast(ops.convert_to_tensor(seed), "int32")
        if indices is None:
            indices = ops.arange(batch_size, dtype="int32")
        indices = ops.cast(ops.convert_to_tensor(indices), "int32")
        keys = random.picture_keys(key, indices)

        def denoise_batch(noisy_images, log_snr):
            log_snr = ops.broadcast_to(log_snr, (batch_size,))
            return denoise(noisy_images, log_snr)

        def body(i, state):
            def draw_noise():
                # Stream 0 is the initial noise.
                fresh = random.normal(keys, i + 1, noise.shape[1:])
                return ops.where(i + 1 < num_steps, fresh, 0.0)

            return self.step(
                denoise_batch,
                state[0],
                ops.take(grid, i, axis=0),
                ops.take(grid, i + 1, axis=0),
                draw_noise,
            )

        noisy_images, clean_images = ops.fori_loop(
            0, num_steps, body, (noise, ops.zeros_like(noise))
        )
        return clean_images if return_clean else noisy_images

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)
