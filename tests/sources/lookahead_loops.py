"""Every method of the Lookahead experiments as a plain loop, from its page, on a tiny net with
BatchNorm, weight decay, flips and noise.
"""

import copy
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from replicate.models import use_group_norm
from replicate.sources import images as kit
from replicate.sources.zhang2019lookahead import _networks
from replicate.sources.zhang2019lookahead.presets import PRESETS

SMALL = replace(
    PRESETS["smoke"]["digits"],
    steps=12,
    batch=32,
    k=3,
    alpha=0.6,
    flip=True,
    pad=1,
    pixel_noise=0.1,
    label_noise=0.1,
    weight_decay=0.01,
    norm_batches=2,
    curve_images=50,
    tail=0.5,
    probes=(0.25, 0.5),
    cycles=1,
)


class Plain:
    """Every method as a list of iterates, from its page.

    fast: the weights of every step before a pull; seen: after it; averaged: the schedule-free x;
    last_pull: a step after which there is none.
    """

    def __init__(self, settings, point, net="batch norm", last_pull=10**9):
        settings = replace(settings, **{n: v for n, v in point.items() if hasattr(settings, n)})
        self.settings = settings
        self.data = _networks.Data.load(settings, "cpu")
        self.model = kit.network(settings, point["seed"], self.data.images, "cpu")
        if net == "group norm":
            self.model = use_group_norm(self.model)
        parameters = list(self.model.parameters())
        method = point["method"]
        self.memory = [[torch.zeros_like(p) for _ in range(3)] for p in parameters]
        phi = [p.detach().clone() for p in parameters]
        self.seen = [[p.detach().clone() for p in parameters]]
        self.fast, self.averaged = [self.seen[0]], [self.seen[0]]
        self.buffers, self.losses = [self.copy_buffers()], []
        squares = 0.0
        for t in range(settings.steps):
            images, labels = self.data.batches.batch(point["seed"], 0, t)
            self.model.train()
            loss = functional.cross_entropy(self.model(images), labels)
            self.losses.append(float(loss.detach()))
            gradients = torch.autograd.grad(loss, parameters)
            rate = point["lr"]
            if point["schedule"] == "decayed":
                rate *= settings.drop ** sum(
                    t >= share * settings.steps for share in settings.drops
                )
            inner = settings.inner if method == "lookahead" else method
            with torch.no_grad():
                if method == "schedule-free":
                    gamma = rate / (1 - settings.momentum)
                    squares += gamma**2
                    self.move_schedule_free(parameters, gradients, gamma, gamma**2 / squares)
                elif inner == "adamw":
                    self.move_adamw(parameters, gradients, 0.01 * rate, t + 1)
                else:
                    if method == "outer-nesterov":
                        rate *= (1 - settings.outer_momentum) / settings.outer_rate
                    for p, (v, *_), g in zip(parameters, self.memory, gradients, strict=True):
                        v.mul_(settings.momentum).add_(g + settings.weight_decay * p)
                        p.sub_(rate * v)
                self.fast.append([p.clone() for p in parameters])
                pulls = method in ("lookahead", "outer-nesterov") and t < last_pull
                if (t + 1) % settings.k == 0 and pulls:
                    self.pull(parameters, phi, method)
            self.seen.append([p.detach().clone() for p in parameters])
            self.buffers.append(self.copy_buffers())

    def move_schedule_free(self, parameters, gradients, gamma, share):
        x = [p.clone() for p in self.averaged[-1]]
        for p, (z, _, begun), g, mean in zip(parameters, self.memory, gradients, x, strict=True):
            if not begun.any():
                z.copy_(p), begun.fill_(1)
            z.sub_(gamma * (g + self.settings.weight_decay * p))
            mean.copy_((1 - share) * mean + share * z)
            p.copy_(0.1 * z + 0.9 * mean)
        self.averaged.append(x)

    def move_adamw(self, parameters, gradients, rate, t):
        decay = self.settings.weight_decay / (0.01 * (1 - self.settings.momentum))
        for p, (m, v, _), g in zip(parameters, self.memory, gradients, strict=True):
            p.mul_(1 - rate * decay)
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g**2)
            p.sub_(rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8))

    def pull(self, parameters, phi, method):
        s = self.settings
        for p, slow, (m, v, outer) in zip(parameters, phi, self.memory, strict=True):
            if method == "outer-nesterov":
                outer.mul_(s.outer_momentum).add_(p - slow)
                slow.add_(s.outer_rate * (p - slow + s.outer_momentum * outer))
            else:
                slow.copy_((1 - s.alpha) * slow + s.alpha * p)
                if s.inner_state == "interpolate":  # what the momentum was after the last pull
                    outer.copy_((1 - s.alpha) * outer + s.alpha * m)
                    m.copy_(outer)
                if s.inner_state == "reset":
                    m.zero_(), v.zero_()
            p.copy_(slow)

    def copy_buffers(self):
        return [b.clone() for b in self.model.buffers()]

    def look(self, weights, images, labels, buffers=None):
        """Loss and accuracy at weights; BatchNorm's statistics those given, or estimated anew."""
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            for p, value in zip(model.parameters(), weights, strict=True):
                p.copy_(value)
            if buffers is not None:
                for b, value in zip(model.buffers(), buffers, strict=True):
                    b.copy_(value)
            else:
                for layer in model.modules():
                    if isinstance(layer, nn.BatchNorm2d):
                        layer.reset_running_stats()
                        layer.momentum = None
                model.train()
                for batch in self.data.norm:
                    model(batch)
            model.eval()
            outputs = model(images)
        loss = functional.cross_entropy(outputs, labels)
        return float(loss), float((outputs.argmax(1) == labels).float().mean())


def forget(iterates, beta):
    """The running mean of iterates, from the first on."""
    mean = [p.clone() for p in iterates[0]]
    for weights in iterates[1:]:
        mean = [beta * m + (1 - beta) * p for m, p in zip(mean, weights, strict=True)]
    return mean


def mean_of(iterates):
    return [torch.stack(ps).mean(0) for ps in zip(*iterates, strict=True)]
