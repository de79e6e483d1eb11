"""diffusers: `UNet2DModel` with its unconditional training recipe.

    pip install --no-deps diffusers

AdamW, warm-up and decay of the learning rate, growing average and the linear
DDPM schedule with an epsilon loss, as in its training example.
"""

import importlib.metadata

import diffusers
import torch
from diffusers.training_utils import EMAModel

from racers import STEPS
from racers.torch_racer import TorchRacer
from racers.torch_racer import size_of

WARM_UP = 100
NETWORK = {
    "block_out_channels": (16, 32, 48, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D",) * 2 + ("AttnDownBlock2D",) * 2,
    "up_block_types": ("AttnUpBlock2D",) * 2 + ("UpBlock2D",) * 2,
}


class Racer(TorchRacer):
    def __init__(self, images, learning_rate, seed):
        torch.manual_seed(seed)
        self.size = images.shape[1]
        network = diffusers.UNet2DModel(sample_size=self.size, **NETWORK)
        optimizer = torch.optim.AdamW(
            network.parameters(),
            lr=learning_rate,
            betas=(0.95, 0.999),
            weight_decay=1e-6,
        )
        # The example decays over as many steps as there will be; a race in
        # minutes does not know them, so the rate stays after the warm-up, which
        # is shorter than the example's 500 steps: half of such a race.
        warm_up = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / WARM_UP)
        )
        super().__init__(
            images, network, optimizer, 16, True, seed, scheduler=warm_up
        )
        self.schedule = diffusers.DDPMScheduler(1000)
        self.ema = EMAModel(
            network.parameters(), decay=0.9999, use_ema_warmup=True, power=0.75
        )

    def loss(self, images):
        x = 2 * images - 1
        noise = torch.randn_like(x)
        t = torch.randint(0, 1000, (len(x),))
        noisy = self.schedule.add_noise(x, noise, t)
        predicted = self.network(noisy, t).sample
        return (predicted - noise).square().mean()

    def average(self):
        self.ema.step(self.network.parameters())

    def sample(self, count):
        sampler = diffusers.DDIMScheduler.from_config(self.schedule.config)
        sampler.set_timesteps(STEPS)
        x = torch.randn(count, 3, self.size, self.size)
        for t in sampler.timesteps:
            x = sampler.step(self.network(x, t).sample, t, x).prev_sample
        return x / 2 + 0.5

    def draw(self, count, seed):
        self.network.eval()
        self.ema.store(self.network.parameters())
        self.ema.copy_to(self.network.parameters())
        try:
            return super().draw(count, seed)
        finally:
            self.ema.restore(self.network.parameters())


def make(images, learning_rate, seed):
    racer = Racer(images, learning_rate, seed)
    racer.facts = {
        "project": "diffusers, UNet2DModel",
        "version": importlib.metadata.version("diffusers"),
        "network": NETWORK,
        **size_of(racer.network, images.shape[1]),
        "batch_size": 16,
        "optimizer": "AdamW, betas 0.95, 0.999, weight decay 1e-6, warm-up of "
        f"{WARM_UP} steps; gradient norm at most 1",
        "average": "0.9999 at most, power 0.75",
        "sampler": f"DDIM, {STEPS} steps",
    }
    return racer
