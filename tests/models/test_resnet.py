"""ResNet: equal outputs with weights under the names of torchvision."""

import numpy as np
import pytest

from npdl import checkpoint, models, tree

torch = pytest.importorskip("torch")
nn = torch.nn


class Block(nn.Module):
    """A residual block with the names of torchvision."""

    def __init__(self, inputs, filters, stride, bottleneck):
        super().__init__()
        wide = 4 * filters if bottleneck else filters
        sizes = [(1, filters), (3, filters), (1, wide)] if bottleneck else [(3, filters), (3, wide)]
        self.count, strided, width = len(sizes), 1 if bottleneck else 0, inputs
        for i, (size, count) in enumerate(sizes):
            step = stride if i == strided else 1
            convolution = nn.Conv2d(width, count, size, step, size // 2, bias=False)
            self.add_module(f"conv{i + 1}", convolution)
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(count))
            width = count
        self.downsample = None
        if stride > 1 or wide != inputs:
            projection = nn.Conv2d(inputs, wide, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(wide))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = y.relu() if i < self.count else y
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    """A network with the names of torchvision."""

    def __init__(self, blocks, bottleneck, filters, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, filters, 7, 2, 3, bias=False)
        self.bn1, self.maxpool = nn.BatchNorm2d(filters), nn.MaxPool2d(3, 2, 1)
        width, layers = filters, []
        for i, count in enumerate(blocks):
            parts = []
            for j in range(count):
                parts.append(Block(width, filters * 2**i, 2 if i and not j else 1, bottleneck))
                width = filters * 2**i * (4 if bottleneck else 1)
            layers.append(f"layer{i + 1}")
            self.add_module(layers[-1], nn.Sequential(*parts))
        self.layers, self.fc = layers, nn.Linear(width, classes)

    def forward(self, x):
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for name in self.layers:
            x = getattr(self, name)(x)
        return self.fc(x.mean((2, 3)))


SIZES = {
    "basic blocks": ((2, 2, 1), False),
    "bottlenecks": ((1, 2), True),
    "one resolution": ((1,), False),
}


def made(blocks, bottleneck):
    torch.manual_seed(0)
    module = ResNet(blocks, bottleneck, 4, 5)
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand(buffer.shape) + 0.5)
    return module.eval()


@pytest.mark.parametrize(("blocks", "bottleneck"), SIZES.values(), ids=SIZES)
def test_the_weights_of_torchvision_give_its_scores(blocks, bottleneck, tmp_path):
    module = made(blocks, bottleneck)
    np.savez(tmp_path / "resnet.npz", **{k: v.numpy() for k, v in module.state_dict().items()})
    model = models.resnet(blocks, bottleneck=bottleneck, filters=4, classes=5)
    like = model.init(0, (3, 33, 40))
    params = checkpoint.from_torch(tmp_path / "resnet.npz", model, like)
    x = np.random.default_rng(0).normal(size=(2, 3, 33, 40)).astype(np.float32)
    expected = module(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(model(params, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("blocks", "bottleneck"), SIZES.values(), ids=SIZES)
def test_weights_have_the_names_of_torchvision(blocks, bottleneck):
    model = models.resnet(blocks, bottleneck=bottleneck, filters=4, classes=5)
    params = model.init(0, (3, 32, 32))
    params = model.update_stats(
        params, model.apply(params, np.ones((2, 3, 32, 32), np.float32), train=True)[1]
    )
    arrays = checkpoint.to_torch(params, model)
    module = ResNet(blocks, bottleneck, 4, 5)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    again = checkpoint.from_torch(module.state_dict(), model, params)
    assert tree.all_close(again, params, rtol=0, atol=0)


@pytest.mark.parametrize("blocks", [(), 3, (2, 0), (2.0,), None, "22"])
def test_wrong_numbers_of_blocks_are_refused(blocks):
    with pytest.raises((ValueError, TypeError), match=r"resnet\(blocks=\(2, 2, 2, 2\)\)"):
        models.resnet(blocks)
