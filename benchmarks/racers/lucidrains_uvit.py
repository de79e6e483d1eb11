"""`denoising-diffusion-pytorch`: its U-ViT of simple diffusion.

    pip install --no-deps denoising-diffusion-pytorch einops ema-pytorch

Its objective, schedule, min-SNR weight and dropout are its defaults; batch and
optimizer those of its trainer, whose average follows faster here. The network
is as large as the others', with its own input downsampling.
"""

import importlib.metadata

import torch
from contenders.lucidrains import _module
from ema_pytorch import EMA

from racers import STEPS
from racers.torch_racer import TorchRacer
from racers.torch_racer import size_of

NETWORK = {
    "dim": 32,
    "dim_mults": (4,),
    "patch_size": 2,
    "vit_depth": 4,
    "attn_dim_head": 32,
}


class Racer(TorchRacer):
    def __init__(self, images, learning_rate, seed):
        torch.manual_seed(seed)
        module = _module()
        self.diffusion = module.GaussianDiffusion(
            module.UViT(**NETWORK),
            image_size=images.shape[1],
            num_sample_steps=STEPS,
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
        "project": "denoising-diffusion-pytorch, U-ViT",
        "version": importlib.metadata.version("denoising-diffusion-pytorch"),
        "network": NETWORK,
        **size_of(racer.diffusion.model, images.shape[1]),
        "batch_size": 16,
        "optimizer": "Adam, betas 0.9, 0.99; gradient norm at most 1",
        "average": "0.995 at most, updated every step",
        "sampler": f"DDPM, {STEPS} steps",
    }
    return racer
