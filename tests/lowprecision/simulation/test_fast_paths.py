from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from optuna_peppp.configurations.precision import Precision
from optuna_peppp.lowprecision import LowPrecisionModule, Quantizer
from optuna_peppp.lowprecision.simulation.fast_paths import without_fast_paths

X = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))


def encoder(layers: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, layers) if layers else layer


def padding() -> Tensor:
    mask = torch.zeros(3, 5, dtype=torch.bool)
    mask[:, -1] = True
    return mask


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_evaluation_is_rounded_as_training_is(layers: int) -> None:
    network = encoder(layers)
    low = LowPrecisionModule(network, Quantizer(Precision.parse("1-4-3", "1-6-7")))
    expected = low.train()(X, src_key_padding_mask=padding())
    low.eval()
    for guard in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with guard():
            assert torch.equal(low(X, src_key_padding_mask=padding()), expected)


def test_attention_alone() -> None:
    network = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    low = LowPrecisionModule(network, Quantizer(Precision.parse("1-4-3", "1-6-7")))
    expected, _ = low(X, X, X, key_padding_mask=padding())
    with torch.no_grad():
        output, _ = low(X, X, X, key_padding_mask=padding())
    torch.testing.assert_close(output, expected, rtol=2**-6, atol=1e-3)


def test_the_encoder_is_left_as_it_was() -> None:
    network = encoder(2)
    assert network.use_nested_tensor

    def fail() -> None:
        with without_fast_paths(nn.Sequential(network)):
            assert not network.use_nested_tensor
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert network.use_nested_tensor
    assert torch.backends.mha.get_fastpath_enabled()
