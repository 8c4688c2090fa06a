"""The networks of wgrad's registry as PyTorch modules: `build` makes one from its settings as wgrad writes them."""
import torch
from torch import nn
import torch.nn.functional as F


class LeNet5(nn.Module):
    def __init__(self, shape, num_classes, batch_norm=False, dropout=0.0):
        super().__init__()
        channels, height, width = shape
        side = lambda extent: ((extent - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * side(height) * side(width), 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)
        self.bn1 = nn.BatchNorm2d(6) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = self.dropout(F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(self.dropout(F.relu(self.fc1(x))))))


ACTIVATIONS = {"relu": F.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "none": lambda x: x}


class Mlp(nn.Module):
    def __init__(self, shape, num_classes, hidden=(128, 64), activation="relu", dropout=0.0):
        super().__init__()
        channels, height, width = shape
        widths = [channels * height * width, *hidden, num_classes]
        for index in range(1, len(widths)):
            self.add_module(f"fc{index}", nn.Linear(widths[index - 1], widths[index]))
        self.num_layers, self.activation = len(hidden) + 1, ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = x.flatten(1)
        for index in range(1, self.num_layers):
            x = self.dropout(self.activation(self.get_submodule(f"fc{index}")(x)))
        return self.get_submodule(f"fc{self.num_layers}")(x)


class Vgg(nn.Module):
    """`features` is what `torchvision.models.vgg.make_layers` makes."""

    def __init__(self, shape, num_classes, widths=(32, 64, 128), convolutions=(2, 2, 2), batch_norm=True, dropout=0.0):
        super().__init__()
        layers, channels = [], shape[0]
        for width, count in zip(widths, convolutions):
            for _ in range(count):
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU(inplace=True))
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x):
        return self.classifier(self.dropout(self.features(x).mean(dim=(2, 3))))


class Pad(nn.Module):
    """Option A of He et al."""

    def __init__(self, more):
        super().__init__()
        self.before, self.after = more // 2, more - more // 2

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class Block(nn.Module):
    """`torchvision.models.resnet.BasicBlock`, with either shortcut."""

    def __init__(self, in_channels, channels, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = nn.Identity()
        if stride != 1 and shortcut == "A":
            self.downsample = Pad(channels - in_channels)
        elif stride != 1:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, shape, num_classes, depth=20, width=16, shortcut="A"):
        super().__init__()
        self.conv1 = nn.Conv2d(shape[0], width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for stage in range(3):
            blocks = []
            for index in range((depth - 2) // 6):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(Block(channels, width << stage, stride, shortcut))
                channels = width << stage
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(x.mean(dim=(2, 3)))


class AllConv(nn.Module):
    def __init__(self, shape, num_classes, width=32, batch_norm=True, dropout=0.0):
        super().__init__()
        layers, channels = [], shape[0]
        for widths, kernel, stride in [(1, 3, 1), (1, 3, 1), (1, 3, 2), (2, 3, 1), (2, 3, 1), (2, 3, 2), (2, 3, 1), (2, 1, 1)]:
            layers.append(nn.Conv2d(channels, widths * width, kernel, stride, padding=kernel // 2))
            if batch_norm:
                layers.append(nn.BatchNorm2d(widths * width))
            layers.append(nn.ReLU())
            if stride > 1 and dropout > 0:
                layers.append(nn.Dropout(dropout))
            channels = widths * width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x):
        return self.classifier(self.features(x)).mean(dim=(2, 3))


class Residual(nn.Module):
    def __init__(self, layers, shortcut):
        super().__init__()
        self.layers, self.shortcut = layers, shortcut

    def forward(self, x):
        return self.shortcut(x) + self.layers(x)


class Layers(nn.Sequential):
    """A list of layers as a file has it. Widths follow from a forward pass, as in wgrad."""

    def __init__(self, shape, num_classes, layers):
        super().__init__()
        extend(self, layers, torch.zeros(2, *shape), num_classes)


def extend(sequential, layers, x, num_classes):
    """Appends layers to `sequential`; gives what `x` comes out as."""
    for place, settings in enumerate(layers):
        settings = dict(settings)
        kind, name = settings.pop("kind"), settings.pop("name", str(place))
        settings.pop("init", None)
        if kind == "residual":
            inner, shortcut = nn.Sequential(), nn.Sequential()
            extend(inner, settings["layers"], x, num_classes)
            extend(shortcut, settings.get("shortcut", []), x, num_classes)
            module = Residual(inner, shortcut)
        elif kind == "conv2d":
            module = nn.Conv2d(x.shape[1], **settings)
        elif kind == "linear":
            module = nn.Linear(x.shape[-1], settings.pop("out_features", num_classes), **settings)
        elif kind == "batch_norm2d":
            module = nn.BatchNorm2d(x.shape[1], **settings)
        else:
            module = PLAIN[kind](**settings)
        sequential.add_module(name, module)
        with torch.no_grad():
            x = module(x)
    return x


PLAIN = {
    "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU, "log_softmax": lambda: nn.LogSoftmax(dim=-1), "max_pool2d": nn.MaxPool2d,
    "avg_pool2d": nn.AvgPool2d, "global_avg_pool2d": lambda: nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten,
    "dropout": nn.Dropout,
}
KINDS = {"lenet5": LeNet5, "mlp": Mlp, "vgg": Vgg, "resnet": ResNet, "all_conv": AllConv, "layers": Layers}


def build(network, shape, num_classes):
    """The module of a network as wgrad's files describe it, such as {"kind": "resnet", "depth": 20}."""
    settings = dict(network)
    return KINDS[settings.pop("kind")](shape, num_classes, **settings)


def forget_batches(module):
    """Takes num_batches_tracked, which wgrad does not store, out of a module's state dict."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.num_batches_tracked = None
    return module
