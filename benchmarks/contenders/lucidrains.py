"""`denoising-diffusion-pytorch`: its U-ViT and its training objective.

    pip install --no-deps denoising-diffusion-pytorch einops ema-pytorch

Its package imports torchvision, accelerate and pytorch-fid for its trainer,
which takes no part here; only the file of the U-ViT is loaded.
"""

import importlib.metadata
import importlib.util
import pathlib

import torch
from ema_pytorch import EMA
from torch.utils.flop_counter import FlopCounterMode

from contenders import STEPS

_PACKAGE = "denoising_diffusion_pytorch"


def _module():
    folder = importlib.util.find_spec(_PACKAGE).submodule_search_locations[0]
    path = pathlib.Path(folder) / "simple_diffusion.py"
    spec = importlib.util.spec_from_file_location("simple_diffusion", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(setting):
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = _module()
    channels, blocks = setting.network["channels"], setting.network["blocks"]
    first, size = channels[0], setting.network["image_shape"][0]
    network = module.UViT(
        first,
        dim_mults=tuple(c // first for c in channels[1:]),
        vit_depth=blocks[-1],
        attn_heads=4,
        attn_dim_head=channels[-1] // 4,
    )
    diffusion = module.GaussianDiffusion(
        network, image_size=size, num_sample_steps=2 * STEPS
    ).to(device)
    images, _ = setting.images()
    images = torch.tensor(images, device=device).permute(0, 3, 1, 2)
    noise, log_snr = (torch.tensor(a, device=device) for a in setting.noise())
    noise = noise.permute(0, 3, 1, 2).contiguous()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(noise[:1], log_snr[:1])
    facts = {
        "gmacs": counter.get_total_flops() / 2e9,
        "parameters": sum(p.numel() for p in network.parameters()),
        "version": importlib.metadata.version("denoising-diffusion-pytorch"),
    }
    if setting.compiled:
        diffusion.model = torch.compile(network)
    if setting.task == "train":
        diffusion.train()
        optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-4)
        average = EMA(network, beta=0.995, update_every=10)

        def train():
            for _ in range(setting.repeats):
                loss = diffusion(images.float() / 255)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                average.update()
            loss.item()

        return train, facts
    diffusion.eval()
    if setting.task == "sample":

        def sample():
            for _ in range(setting.repeats):
                diffusion.sample(setting.batch_size).cpu()

        return sample, {**facts, "steps": 2 * STEPS, "guided": False}

    @torch.inference_mode()
    def predict():
        for _ in range(setting.repeats):
            diffusion.model(noise, log_snr).cpu()

    return predict, facts
