#!/usr/bin/env bash
# PyTorch 2.13.0 to ONNX Runtime 1.32.0: a log-SNR of -20 becomes infinite.
#
# `logsigmoid(log_snr)` is the logarithm of the signal's share of the variance
# in a variance-preserving diffusion. PyTorch computes it without underflow, and
# `torch.onnx.export` writes the logarithm of a sigmoid. The sigmoid of ONNX
# Runtime, on the CPU in float32, is a rational function with an absolute error:
# it is 0 from -18 on, where float32 could hold it down to -87, and the exported
# model answers with -inf. Log-SNRs of -20 are common at high resolution and
# near zero terminal SNR.
#
# Guessed: equal values down to -87, where a sigmoid in float32 ends.
#
# Expected output:
#   log-SNR -10: PyTorch -10.00, ONNX Runtime -10.00
#   log-SNR -20: PyTorch -20.00, ONNX Runtime -inf
#   log-SNR -40: PyTorch -40.00, ONNX Runtime -inf
#   float32 sigmoid at -20: NumPy 2.1e-09, ONNX Runtime 0.0e+00
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 onnx==1.23.2 \
    onnxruntime==1.32.0 onnxscript==0.7.2
cat > "$place/run.py" <<'END'
import numpy as np
import onnxruntime
import torch

log_snr = torch.tensor([-10.0, -20.0, -40.0])


def run_exported(module):
    program = torch.onnx.export(module, (log_snr,), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(),
        providers=["CPUExecutionProvider"],
    )
    return session.run(None, {session.get_inputs()[0].name: log_snr.numpy()})[0]


right = torch.nn.LogSigmoid()(log_snr).numpy()
exported = run_exported(torch.nn.LogSigmoid().eval())
for value, expected, found in zip(log_snr, right, exported):
    print(
        f"log-SNR {value:.0f}: PyTorch {expected:.2f}, ONNX Runtime {found:.2f}"
    )
sigmoid = 1 / (1 + np.exp(np.float32(20)))
found = run_exported(torch.nn.Sigmoid().eval())[1]
print(
    f"float32 sigmoid at -20: NumPy {sigmoid:.1e}, ONNX Runtime {found:.1e}"
)
assert np.allclose(right, log_snr, atol=1e-3), "the behaviour has changed"
assert np.isclose(exported[0], -10, atol=1e-2), "the behaviour has changed"
assert np.isneginf(exported[1:]).all(), "the behaviour has changed"
assert sigmoid > 0 and found == 0, "the behaviour has changed"
END
PYTHONWARNINGS=ignore "$place/venv/bin/python" "$place/run.py"
