"""Claims about the U-Net family."""

from __future__ import annotations

import copy
import io
import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from astrid.config import ConfigError, ModelConfig
from astrid.unet import UNet, _arcsinh, build_unet, parameter_count, receptive_field_pixels

NORMS = ("batch", "group", "instance", "none")
SIZES = ((1, 1), (37, 53), (100, 100), (128, 128))


@pytest.fixture(autouse=True)
def _repeatable():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def unet(*, channels=3, stretch="arcsinh", prior=0.01, **knobs) -> UNet:
    return build_unet(ModelConfig(**knobs), channels=channels, stretch=stretch, prior=prior)


def image(*size: int) -> Tensor:
    return torch.randn(2, 3, *size)


def backward(network: nn.Module, pixels: Tensor) -> dict[str, Tensor]:
    """Gradients of a loss that no symmetry makes vanish."""
    network.zero_grad()
    network(pixels).square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


@pytest.mark.parametrize(("depth", "filters", "norm"), list(product(range(1, 7), (4, 16), NORMS)))
def test_every_shape_infers_at_any_size_and_trains_from_a_2x2_bottleneck(depth, filters, norm):
    network = unet(depth=depth, filters=filters, norm=norm)
    network.eval()
    with torch.inference_mode():
        for size in SIZES:
            logits = network(torch.randn(1, 3, *size))
            assert logits.shape == (1, 1, *size)
            assert logits.isfinite().all()
    network.train()
    gradients = backward(network, torch.randn(1, 3, 2**depth + 1, 2 * 2**depth))
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert sum(gradient.abs().sum() for gradient in gradients.values()) > 0


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_training_on_less_than_a_2x2_bottleneck_names_depth_size_and_remedy(depth):
    network = unet(depth=depth, filters=4).train()
    with pytest.raises(ConfigError, match=rf"model.depth={depth} .*got {2**depth}×200.*data.tile_size={2 * 2**depth}"):
        network(torch.randn(1, 3, 2**depth, 200))


def test_depth_is_the_number_of_poolings(monkeypatch):
    poolings = []
    pool = F.max_pool2d
    monkeypatch.setattr(F, "max_pool2d", lambda *inputs: poolings.append(1) or pool(*inputs))
    unet(depth=5, filters=4).eval()(image(32, 32))
    assert len(poolings) == 5


@pytest.mark.parametrize(("knobs", "expected"), [({"depth": 1, "filters": 4, "norm": "none"}, 1_717), ({}, 482_737)])
def test_parameters_are_as_many_as_counted_by_hand(knobs, expected):
    assert parameter_count(unet(**knobs)) == expected


@pytest.mark.parametrize("size", [(33, 47), (64, 64)])
def test_padding_loses_and_shifts_no_pixel(size):
    """Sky added by the caller changes nothing where the network already pads with sky."""
    network = unet(depth=2, filters=4).eval()
    pixels = image(*size)
    padded = F.pad(pixels, (0, -size[1] % 4, 0, -size[0] % 4))
    with torch.inference_mode():
        torch.testing.assert_close(network(pixels), network(padded)[..., : size[0], : size[1]], rtol=0, atol=0)


def test_each_image_of_a_batch_is_judged_alone_in_evaluation():
    network = unet().eval()
    pixels = image(37, 53)
    with torch.inference_mode():
        torch.testing.assert_close(network(pixels)[1:], network(pixels[1:]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prior", [1e-4, 0.3])
@pytest.mark.parametrize("knobs", [{}, {"norm": "none", "residual": True, "depth": 6, "filters": 4}])
def test_the_first_answer_is_the_prior(knobs, prior):
    probability = torch.sigmoid(unet(prior=prior, **knobs).eval()(image(64, 64)))
    assert probability.mean().item() == pytest.approx(prior, rel=0.3)


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, math.nan])
def test_a_prior_without_both_classes_is_refused(prior):
    with pytest.raises(ConfigError, match="prior must be in"):
        unet(prior=prior)


def test_the_stretch_compresses_arcsinh_first_and_linear_not_at_all():
    arcsinh, linear = unet(filters=4).eval(), unet(filters=4, stretch="linear").eval()
    linear.load_state_dict(arcsinh.state_dict())
    pixels = image(16, 16) * 1000
    torch.testing.assert_close(arcsinh(pixels), linear(torch.asinh(pixels)), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(arcsinh(pixels), linear(pixels))


def test_our_arcsinh_is_the_arcsinh_from_noise_to_saturation():
    values = torch.cat([torch.zeros(1), torch.logspace(-20, 20, 401)])
    values = torch.cat([values, -values])
    expected = torch.asinh(values.double())
    moderate = values.abs() < 1e18
    torch.testing.assert_close(_arcsinh(values)[moderate].double(), expected[moderate], rtol=4e-7, atol=0)
    assert _arcsinh(values).isfinite().all()


def test_the_stretch_and_the_logits_stay_float32_under_autocast():
    """Two pixels that bfloat16 can't tell apart get different logits."""
    network = unet(depth=1, filters=4).eval()
    stretched: list[Tensor] = []
    network.encoders[0].register_forward_pre_hook(lambda _, inputs: stretched.append(inputs[0]))
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        logits = network(image(64, 64) + 1000)
    assert stretched[0].dtype == logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_receptive_field_is_where_gradients_reach(depth, upsampling):
    config = ModelConfig(depth=depth, filters=4, upsampling=upsampling, activation="gelu")
    network = build_unet(config, channels=1, stretch="linear", prior=0.5).eval()
    expected = receptive_field_pixels(config)
    centre = (expected // 2**depth + 1) * 2**depth
    reach = max(_columns_seen(network, centre + phase, 2 * centre) for phase in range(2**depth))
    assert 2 * reach + 1 == expected


def _columns_seen(network: UNet, x: int, size: int) -> int:
    """Distance in columns from a logit to the farthest pixel that changes it."""
    pixels = torch.randn(1, 1, size, size, requires_grad=True)
    network(pixels)[0, 0, size // 2, x].backward()
    columns = pixels.grad[0, 0].abs().sum(0).nonzero()
    return int((columns - x).abs().max())


@pytest.mark.parametrize("depth", [1, 3])
def test_deep_supervision_adds_coarser_answers_in_training_only(depth):
    network = unet(depth=depth, filters=4, deep_supervision=True, norm="none").train()
    pixels = image(37, 53)
    logits = network(pixels)
    assert logits.shape == (2, depth, 37, 53)
    torch.testing.assert_close(network.eval()(pixels), logits[:, :1])


def test_a_coarser_answer_is_smoother():
    logits = unet(depth=3, filters=4, deep_supervision=True).train()(image(64, 64))
    contrast = (logits - logits.mean((2, 3), keepdim=True)) / logits.std((2, 3), keepdim=True)
    roughness = contrast.diff(dim=-1).square().mean((0, 2, 3))
    assert roughness[0] > roughness[1] > roughness[2]


def test_attention_gates_weigh_the_skip_connections():
    network = unet(depth=2, filters=4, attention=True).eval()
    pixels = image(32, 32)
    open_gates = network(pixels)
    for decoder in network.decoders:
        nn.init.constant_(decoder.gate.weight.bias, -100.0)
    closed_gates = network(pixels)
    for decoder in network.decoders:
        decoder.gate = _Nothing()
    torch.testing.assert_close(closed_gates, network(pixels))
    assert not torch.allclose(open_gates, closed_gates)


class _Nothing(nn.Module):
    def forward(self, skip: Tensor, _: Tensor) -> Tensor:
        return torch.zeros_like(skip)


def test_dropout_drops_whole_channels_in_training_only():
    block = unet(depth=1, filters=16, dropout=0.5, activation="gelu").encoders[0]
    dropped = (block.train()(image(8, 8)) == 0).flatten(2)
    assert (dropped.all(-1) == dropped.any(-1)).all()
    assert 0 < dropped.float().mean() < 1
    assert (block.eval()(image(8, 8)) != 0).all()


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_initial_weights_neither_fade_nor_blow_up_without_norm(activation, residual, upsampling):
    network = unet(depth=6, filters=8, norm="none", activation=activation, residual=residual, upsampling=upsampling)
    seen: list[Tensor] = []
    network.decoders[-1].register_forward_hook(lambda _, inputs, output: seen.append(output))
    with torch.inference_mode():
        network.eval()(image(64, 64))
    assert 0.1 < seen[0].square().mean().sqrt() < 10


DROPPING = {"depth": 3, "filters": 8, "dropout": 0.3}


def test_test_time_augmentation_is_the_mean_over_eight_orientations_turned_back():
    plain = unet(depth=2, filters=4).eval()
    network = unet(depth=2, filters=4, test_time_augmentation=True).eval()
    network.load_state_dict(plain.state_dict())
    pixels = image(24, 32)
    turns = [(quarters, axes) for quarters in range(4) for axes in ((), (-1,))]
    answers = [
        torch.rot90(plain(torch.rot90(pixels.flip(axes), quarters, (2, 3))), -quarters, (2, 3)).flip(axes)
        for quarters, axes in turns
    ]
    torch.testing.assert_close(network(pixels), torch.stack(answers).mean(0))
    assert (network(pixels) - plain(pixels)).abs().max() > 1e-4
    torch.testing.assert_close(network.train()(pixels), plain.train()(pixels), rtol=0, atol=0)


def test_test_time_augmentation_turns_the_padding_with_the_sky():
    network = unet(depth=2, filters=4, test_time_augmentation=True).eval()
    pixels = image(37, 53)
    padded = F.pad(pixels, (0, 3, 0, 3))
    torch.testing.assert_close(network(pixels), network(padded)[..., :37, :53])


@pytest.mark.parametrize("knobs", [{}, {"residual": True, "attention": True}, {"norm": "group"}])
def test_gradient_checkpointing_changes_no_gradient_and_no_statistic(knobs):
    plain = unet(**DROPPING, **knobs).train()
    thrifty = unet(**DROPPING, **knobs, gradient_checkpointing=True).train()
    thrifty.load_state_dict(plain.state_dict())
    pixels = image(32, 32)
    gradients = []
    for network in (plain, thrifty):
        torch.manual_seed(1)  # the same channels drop out
        gradients.append(backward(network, pixels))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(thrifty.state_dict(), plain.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("knobs", [{}, {"depth": 5, "norm": "group", "activation": "gelu"}])
def test_gradient_checkpointing_keeps_at_least_30_percent_less(knobs):
    plain = activation_bytes(unet(**knobs).train())
    assert activation_bytes(unet(**knobs, gradient_checkpointing=True).train()) < 0.7 * plain


def activation_bytes(network: UNet) -> int:
    """Bytes that wait for the backward pass, parameters not counted."""
    owned = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, Tensor] = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: kept.setdefault(id(saved), saved), lambda saved: saved):
        network(image(64, 64))
    storages = {saved.untyped_storage().data_ptr(): saved.untyped_storage().nbytes() for saved in kept.values()}
    return sum(size for pointer, size in storages.items() if pointer not in owned)


@pytest.mark.parametrize("knobs", [{}, {"norm": "instance", "residual": True, "attention": True, "dropout": 0.1}])
def test_channels_last_in_bfloat16_trains_close_to_float32(knobs):
    network = unet(depth=2, filters=8, **knobs).train()
    fast = copy.deepcopy(network).to(memory_format=torch.channels_last)
    pixels = image(32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = fast(pixels.to(memory_format=torch.channels_last))
    logits.mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in fast.parameters())
    if not network.encoders[0].dropout.p:
        torch.testing.assert_close(logits, network(pixels), rtol=0, atol=0.05)


def test_overfits_one_source_in_a_few_steps():
    network = unet(depth=2, filters=8).train()
    pixels = image(32, 32)
    target = torch.zeros(2, 1, 32, 32)
    target[:, :, 9:12, 20:23] = 1
    pixels += 5 * target
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(network(pixels), target).backward()
        optimizer.step()
    with torch.inference_mode():
        found = network.eval()(pixels) > 0
    torch.testing.assert_close(found, target.bool())


def test_a_pickled_network_answers_alike():
    network = unet(depth=2, filters=4, deep_supervision=True).eval()
    buffer = io.BytesIO()
    torch.save(network, buffer)
    buffer.seek(0)
    pixels = image(37, 53)
    torch.testing.assert_close(torch.load(buffer, weights_only=False)(pixels), network(pixels), rtol=0, atol=0)


@pytest.mark.parametrize(
    "knobs",
    [{}, {"attention": True, "upsampling": "bilinear", "deep_supervision": True}, {"test_time_augmentation": True}],
)
def test_an_exported_network_answers_alike_for_any_batch(knobs):
    network = unet(depth=2, filters=4, **knobs).eval()
    exported = torch.export.export(network, (image(37, 53),), dynamic_shapes={"image": {0: torch.export.Dim("batch")}})
    pixels = torch.randn(5, 3, 37, 53)
    torch.testing.assert_close(exported.module()(pixels), network(pixels))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_compiled_network_trains_alike(checkpointing):
    network = unet(depth=2, filters=4, gradient_checkpointing=checkpointing).train()
    compiled = torch.compile(copy.deepcopy(network), backend="aot_eager")
    pixels = image(32, 32)
    expected = backward(network, pixels)
    gradients = backward(compiled, pixels)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[f"_orig_mod.{name}"], gradient, rtol=1e-5, atol=1e-6)
    for name, value in network.named_buffers():
        torch.testing.assert_close(compiled.get_buffer(f"_orig_mod.{name}"), value)
