"""diffusers' `UNet2DModel` with widths and depths like the library's U-Net."""

import importlib.metadata

import diffusers
import torch
from diffusers.training_utils import EMAModel
from torch.utils.flop_counter import FlopCounterMode


def make(setting):
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = setting.network
    channels = network["channels"]
    attention = set(network.get("attention_levels", (len(channels) - 1,)))
    kinds = [("Attn" if i in attention else "") for i in range(len(channels))]
    model = diffusers.UNet2DModel(
        sample_size=network["image_shape"][0],
        block_out_channels=channels,
        layers_per_block=2,
        down_block_types=[f"{kind}DownBlock2D" for kind in kinds],
        up_block_types=[f"{kind}UpBlock2D" for kind in reversed(kinds)],
        norm_num_groups=8,
    ).to(device)
    schedule = diffusers.DDPMScheduler(1000)
    images, _ = setting.images()
    images = torch.tensor(images, device=device).permute(0, 3, 1, 2)
    noise, _ = (torch.tensor(a, device=device) for a in setting.noise())
    noise = noise.permute(0, 3, 1, 2).contiguous()
    times = torch.arange(len(noise), device=device) * 10
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(noise[:1], times[:1])
    facts = {
        "gmacs": counter.get_total_flops() / 2e9,
        "parameters": sum(p.numel() for p in model.parameters()),
        "version": importlib.metadata.version("diffusers"),
    }
    network = torch.compile(model) if setting.compiled else model
    if setting.task == "train":
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        average = EMAModel(model.parameters(), decay=0.9999)

        def train():
            for _ in range(setting.repeats):
                x = images.float() / 127.5 - 1.0
                noise = torch.randn_like(x)
                t = torch.randint(0, 1000, (len(x),), device=device)
                predicted = network(schedule.add_noise(x, noise, t), t).sample
                loss = (predicted - noise).square().mean()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                average.step(model.parameters())
            loss.item()

        return train, facts
    model.eval()

    @torch.inference_mode()
    def predict():
        for _ in range(setting.repeats):
            network(noise, times).sample.cpu()

    return predict, facts
