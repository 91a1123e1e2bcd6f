"""Small networks for images, grids and tables."""

import torch
from torch import nn
from torch.nn import functional

N_CLASSES = 3


class PlainCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 12, 3, stride=2, bias=False)
        self.conv3 = nn.Conv2d(12, 10, 3, padding=1, padding_mode="circular")
        self.drop = nn.Dropout2d(0.1)
        self.fc = nn.Linear(10, N_CLASSES)

    def forward(self, x):
        x = functional.relu(self.conv1(x))
        x = functional.gelu(self.conv2(x))
        x = self.drop(functional.leaky_relu(self.conv3(x)))
        return self.fc(x.mean(dim=(2, 3)))


class LeNet5(nn.Module):
    """LeNet-5-Caffe, with 4 x 4 positions of each channel of the second layer read apart."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 10, 5)
        self.fc1 = nn.Linear(160, 20)
        self.fc2 = nn.Linear(20, N_CLASSES)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        return self.fc2(functional.relu(self.fc1(x.view(-1, 160))))


def lenet_300_100():
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(36, 30),
        nn.ReLU(),
        nn.Linear(30, 10),
        nn.ReLU(),
        nn.Linear(10, N_CLASSES),
    )


class VGG(nn.Module):
    def __init__(self):
        super().__init__()
        layers, inputs = [], 3
        for width in (6, 8):
            conv = nn.Conv2d(inputs, width, 3, padding=1)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            inputs = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(8 * 2 * 2, 12), nn.ReLU(True), nn.Dropout(), nn.Linear(12, N_CLASSES)
        )

    def forward(self, x):
        return self.classifier(self.features(x).view(x.size(0), 8 * 2 * 2))


class Residual(nn.Module):
    def __init__(self, inputs, width, stride=1, groups=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.projection = nn.Identity()
        if stride > 1 or inputs != width:
            self.projection = nn.Sequential(
                nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + self.projection(x))


class ResNet(nn.Module):
    def __init__(self, groups=1):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block1 = Residual(8, 8, groups=groups)
        self.block2 = Residual(8, 12, stride=2, groups=groups)
        self.block3 = Residual(12, 12, groups=groups)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(12, N_CLASSES)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.stem(x))))
        return self.fc(torch.flatten(self.pool(x), 1))


class DenseNet(nn.Module):
    def __init__(self, growth=4, n_layers=3):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        width, self.layers = 6, nn.ModuleList()
        for _ in range(n_layers):
            conv = nn.Conv2d(width, growth, 3, padding=1, bias=False)
            self.layers.append(nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), conv))
            width += growth
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, N_CLASSES)

    def forward(self, x):
        parts = [self.stem(x)]
        for layer in self.layers:
            parts.append(layer(torch.cat(parts, 1)))
        x = functional.relu(self.bn(torch.cat(parts, 1)))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class InvertedResidual(nn.Module):
    def __init__(self, width, expansion=2):
        super().__init__()
        inner = width * expansion
        self.expand = nn.Sequential(
            nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.Hardswish(),
        )
        self.project = nn.Sequential(nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        return x + self.project(self.depthwise(self.expand(x)))


def mobilenet():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
        InvertedResidual(6),
        InvertedResidual(6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, N_CLASSES),
    )


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.excite = nn.Conv2d(4, 8, 1)
        self.head = nn.Conv2d(8, N_CLASSES, 1)

    def forward(self, x):
        x = functional.silu(self.conv(x))
        scale = functional.relu(self.squeeze(functional.adaptive_avg_pool2d(x, 1)))
        return self.head(x * torch.sigmoid(self.excite(scale))).mean((2, 3))


class ShuffleNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.grouped1 = nn.Conv2d(8, 12, 1, groups=2)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.grouped2 = nn.Conv2d(12, 8, 1, groups=2)
        self.conv = nn.Conv2d(8, 10, 1)
        self.fc = nn.Linear(10, N_CLASSES)

    def forward(self, x):
        x = functional.relu(self.grouped1(self.stem(x)))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = functional.relu(self.conv(self.grouped2(self.depthwise(x))))
        return self.fc(x.amax((2, 3)))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.down2 = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.merge = nn.Conv2d(12, 5, 3, padding=1)
        self.out = nn.Conv2d(5, 2, 1)

    def forward(self, x):
        skip = self.down1(x)
        deep = self.up(self.down2(functional.max_pool2d(skip, 2)))
        return {"mask": self.out(functional.relu(self.merge(torch.cat([skip, deep], dim=1))))}


def dilated_conv1d():
    return nn.Sequential(
        nn.Conv1d(2, 6, 3, padding="same"),
        nn.PReLU(6),
        nn.Conv1d(6, 8, 3, dilation=2),
        nn.InstanceNorm1d(8, affine=True),
        nn.ELU(),
        nn.Conv1d(8, 6, 3, dilation=4, padding=4),
        nn.Softplus(),
        nn.AvgPool1d(2),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(6, N_CLASSES),
    )


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten())
        self.table = nn.Sequential(nn.Linear(5, 7), nn.ReLU())
        self.joint = nn.Linear(24 + 7, 9)
        self.out = nn.Linear(9, N_CLASSES)

    def forward(self, image, *, table):
        joint = torch.cat([self.image(image), self.table(table)], dim=1)
        return self.out(torch.tanh(self.joint(joint)))


def group_norm():
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.GroupNorm(4, 12),
        nn.ReLU(),
        nn.Conv2d(12, 8, 3),
        nn.GroupNorm(8, 8),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d((2, 2)),
        nn.Flatten(),
        nn.Linear(32, N_CLASSES),
    )


def autoencoder():
    return nn.Sequential(
        nn.Linear(10, 12),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Linear(12, 4),
        nn.BatchNorm1d(4),
        nn.ReLU(),
        nn.Linear(4, 12),
        nn.BatchNorm1d(12),
        nn.LeakyReLU(),
        nn.Linear(12, 10),
    )


def conv3d():
    return nn.Sequential(
        nn.Conv3d(1, 6, 3, padding=1),
        nn.BatchNorm3d(6),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(6, 5, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5, N_CLASSES),
    )


class PixelShuffle(nn.Module):
    """Super-resolution: channels become positions."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.up = nn.PixelShuffle(2)
        self.conv3 = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x):
        return self.conv3(functional.relu(self.up(self.conv2(torch.tanh(self.conv1(x))))))
