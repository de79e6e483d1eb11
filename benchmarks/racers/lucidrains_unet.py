"""`denoising-diffusion-pytorch`: its U-Net and DDPM, what most people train.

    pip install --no-deps denoising-diffusion-pytorch einops ema-pytorch \
        accelerate pytorch-fid

Its objective and schedule are its defaults; batch and optimizer those of its
trainer, whose average follows faster here. The trainer takes no part:
torchvision, which only that needs, is stood in for.
"""

import importlib.metadata
import sys
import types

import torch
from ema_pytorch import EMA

from racers import STEPS
from racers.torch_racer import TorchRacer
from racers.torch_racer import size_of

NETWORK = {"dim": 10, "dim_mults": (1, 2, 4, 8)}


def _module():
    if "torchvision" not in sys.modules:
        torchvision = types.ModuleType("torchvision")
        torchvision.transforms = torchvision.utils = None
        sys.modules["torchvision"] = torchvision
    from denoising_diffusion_pytorch import denoising_diffusion_pytorch

    return denoising_diffusion_pytorch


class Racer(TorchRacer):
    def __init__(self, images, learning_rate, seed):
        torch.manual_seed(seed)
        module = _module()
        self.diffusion = module.GaussianDiffusion(
            module.Unet(**NETWORK),
            image_size=images.shape[1],
            timesteps=1000,
            sampling_timesteps=STEPS,
        )
        optimizer = torch.optim.Adam(
            self.diffusion.parameters(), lr=learning_rate, betas=(0.9, 0.99)
        )
        super().__init__(
            images, self.diffusion, optimizer, 16, flip=True, seed=seed
        )
        # Its trainer updates every 10 steps: over more than such a race has.
        self.ema = EMA(self.diffusion, beta=0.995, update_every=1)

    def loss(self, images):
        return self.diffusion(images)

    def average(self):
        self.ema.update()

    def sample(self, count):
        self.ema.ema_model.eval()
        return self.ema.ema_model.sample(batch_size=count)


def make(images, learning_rate, seed):
    racer = Racer(images, learning_rate, seed)
    racer.facts = {
        "project": "denoising-diffusion-pytorch, U-Net",
        "version": importlib.metadata.version("denoising-diffusion-pytorch"),
        "network": NETWORK,
        **size_of(racer.diffusion.model, images.shape[1]),
        "batch_size": 16,
        "optimizer": "Adam, betas 0.9, 0.99; gradient norm at most 1",
        "average": "0.995 at most, updated every step",
        "sampler": f"DDIM, {STEPS} steps",
    }
    return racer
