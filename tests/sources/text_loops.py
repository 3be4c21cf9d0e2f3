"""Every method on text as a plain loop, from its page, on tiny networks and made-up texts."""

from dataclasses import replace

import numpy as np
import torch

from replicate import datasets, models
from replicate.datasets.text import Corpus, Pairs
from replicate.sources.zhang2019lookahead import _bleu, _translation
from replicate.sources.zhang2019lookahead.presets import PRESETS
from replicate.streams import rng
from replicate.training import measure_pairs, measure_text

DRAWS = np.random.default_rng(8)
WORDS = 12


def draw_text(length):
    """A text in which a word says something of the next one."""
    text = [0]
    for _ in range(length - 1):
        text.append((3 * text[-1] + int(DRAWS.integers(3))) % WORDS)
    return np.array(text)


CORPUS = Corpus("ptb", draw_text(300), draw_text(90), draw_text(80), tuple(map(str, range(WORDS))))
NOUNS = {"man": "Mann", "dog": "Hund", "cat": "Kater", "hat": "Hut", "bus": "Bus"}
VERBS = {"sees": "sieht", "has": "hat", "wants": "will"}
ENGLISH = [f"a {x} {v} a {y}" for x in NOUNS for v in VERBS for y in NOUNS]
GERMAN = [
    f"ein {NOUNS[x]} {VERBS[v]} einen {NOUNS[y]}" for x in NOUNS for v in VERBS for y in NOUNS
]
PAIRS = Pairs(
    "multi30k",
    (tuple(ENGLISH[:60]), tuple(GERMAN[:60])),
    (tuple(ENGLISH[60:70]), tuple(GERMAN[60:70])),
    (tuple(ENGLISH[70:]), tuple(GERMAN[70:])),
)
TEXTS = {"ptb": CORPUS, "multi30k": PAIRS}

LANGUAGE = replace(
    PRESETS["night"]["ptb"],
    embedding=5,
    hidden=6,
    batch=4,
    bptt=9,
    epochs=3,
    checks=3,
    patience=2,
    nonmonotone=1,
    k=4,
    alpha=0.6,
    weight_decay=0.01,
    check_tokens=60,
    measure_batch=2,
    sgd_rates=(1.0, 2.0),
    adam_rates=(0.01, 0.03),
    seeds=(0, 1),
)
TRANSLATION = replace(
    PRESETS["night"]["multi30k"],
    width=8,
    heads=2,
    layers=1,
    feed_forward=12,
    pieces=60,
    batch=16,
    steps=20,
    warmup=5,
    k=3,
    alpha=0.6,
    adam_rates=(0.01, 0.02),
    adafactor_rates=(0.05, 0.1),
    measured=7,
    translated=5,
    longest=20,
    seeds=(0, 1),
)


class Walk:
    """A method's walk from its gradients alone: iterates, slow weights, means.

    parameters: of a model, moved in place; settings: k, alpha, weight_decay and, of Adam, betas and
    epsilon. seen: the iterates from the start on, each a list of tensors.
    """

    def __init__(self, parameters, method, settings, betas=(0.9, 0.999), epsilon=1e-8, decay=0.0):
        self.parameters, self.settings = list(parameters), settings
        self.adam, self.pulls = "adam" in method, method.startswith("lookahead")
        self.betas, self.epsilon, self.decay = betas, epsilon, decay
        self.slow = self.copy()
        self.seen, self.step = [self.copy()], 0
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.parameters]

    def copy(self):
        return [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def move(self, gradients, rate):
        self.step += 1
        a, b = self.betas
        for p, g, (m, v) in zip(self.parameters, gradients, self.moments, strict=True):
            g = g + self.decay * p
            if self.adam:
                m.mul_(a).add_((1 - a) * g)
                v.mul_(b).add_((1 - b) * g**2)
                up, down = m / (1 - a**self.step), (v / (1 - b**self.step)).sqrt()
                p -= rate * up / (down + self.epsilon)
            else:
                p -= rate * g
        if self.pulls and self.step % self.settings.k == 0:
            for slow, p in zip(self.slow, self.parameters, strict=True):
                slow += self.settings.alpha * (p - slow)
                p.copy_(slow)
        self.seen.append(self.copy())

    def running_mean(self):
        """The mean of all iterates that forgets in k steps what a pull leaves."""
        beta = (1 - self.settings.alpha) ** (1 / self.settings.k)
        mean = [p.clone() for p in self.seen[0]]
        for weights in self.seen[1:]:
            for old, new in zip(mean, weights, strict=True):
                old.mul_(beta).add_((1 - beta) * new)
        return mean

    def tail_mean(self, begin):
        """The mean of the iterates behind the first `begin` steps."""
        tail = self.seen[begin + 1 :]
        return [torch.stack(weights).mean(0) for weights in zip(*tail, strict=True)]


def fill(model, weights):
    for parameter, value in zip(model.parameters(), weights, strict=True):
        parameter.data = value.clone()


class PlainReader:
    """A method on the text, check by check, with what it is judged by at each."""

    def __init__(self, settings, point):
        self.settings, seed, method = settings, point["seed"], point["method"]
        text = TEXTS["ptb"]
        train = datasets.fold(text.train, settings.batch)
        held = {"valid": text.valid, "check": text.valid[:60], "test": text.test}
        self.held = {name: datasets.fold(x, 2) for name, x in held.items()}
        shape = models.Shape(12, 5, 6, 2, 0.1, 0.65, 0.3, 0.4, 0.5)
        self.model = models.awd_lstm(shape, seed)
        decay = settings.weight_decay
        self.walk = Walk(self.model.parameters(), method, settings, decay=decay)
        self.losses, self.checks, self.begin, scale, since = [], [], None, 1.0, 0
        for epoch in range(settings.epochs):
            hidden = None
            windows = datasets.cut_windows(len(train), settings.bptt, seed, epoch)
            marks = [
                round(len(windows) * (i + 1) / settings.checks) for i in range(settings.checks)
            ]
            seen = []
            for number, (start, stop) in enumerate(windows, 1):
                loss, hidden = self.learn(train, start, stop, hidden, scale * point["lr"], seed)
                seen.append((loss, stop - start))
                if number not in marks:
                    continue
                words = sum(length for _, length in seen)
                self.losses.append(sum(loss * length for loss, length in seen) / words)
                seen = []
                self.checks.append(self.look(method, "check"))
                if method == "asgd":
                    t, n = len(self.checks) - 1, settings.nonmonotone
                    if t > n and self.checks[t] > min(self.checks[: t - n]) and self.begin is None:
                        self.begin = self.walk.step
                else:
                    best = min([np.inf, *self.checks[:-1]])
                    since = 0 if self.checks[-1] < best else since + 1
                    if since == settings.patience:
                        scale, since = scale * settings.factor, 0

    def learn(self, train, start, stop, hidden, rate, seed):
        settings = self.settings
        self.model.train()
        torch.manual_seed(int(rng(seed, "dropout", self.walk.step).integers(2**63)))
        outputs = self.model(train[start:stop], hidden)
        words = train[start + 1 : stop + 1].flatten()
        loss = torch.nn.functional.cross_entropy(outputs.logits.flatten(0, 1), words)
        penalty = 2.0 * (outputs.dropped**2).mean()
        if stop - start > 1:
            penalty = penalty + ((outputs.last[1:] - outputs.last[:-1]) ** 2).mean()
        gradients = torch.autograd.grad(loss + penalty, self.walk.parameters)
        norm = float(torch.cat([g.flatten() for g in gradients]).norm())
        gradients = [g * min(1.0, settings.clip / norm) for g in gradients]
        self.walk.move(gradients, rate * (stop - start) / settings.bptt)
        return float(loss.detach()), [(h.detach(), c.detach()) for h, c in outputs.hidden]

    def look(self, method, split, weights=None):
        """Nats a word at the weights that the method is judged by, or at others."""
        before = self.walk.copy()
        if weights is None and method.startswith("lookahead"):
            weights = self.walk.slow
        if weights is None and self.begin is not None and self.walk.step > self.begin:
            weights = self.walk.tail_mean(self.begin)
        fill(self.model, weights or before)
        value = measure_text(self.model, self.held[split], self.settings.bptt)
        for parameter, value_before in zip(self.walk.parameters, before, strict=True):
            parameter.data.copy_(value_before)
        return value


class PlainTranslator:
    """A method on the pairs."""

    def __init__(self, settings, point):
        self.settings, seed, method = settings, point["seed"], point["method"]
        self.data = _translation.Bilingual.load(settings, "cpu")
        sizes = models.Sizes(60, 8, 2, 1, 12, 0.1, False, 0)
        self.model = models.translator(sizes, seed)
        self.walk = Walk(
            self.model.parameters(), method.replace("lookahead", "lookahead-adam"), settings,
            betas=(0.9, 0.98), epsilon=1e-9,
        )  # fmt: skip
        self.losses = []
        for step in range(settings.steps):
            source, target = self.data.train.batch(seed, step)
            torch.manual_seed(int(rng(seed, "dropout", step).integers(2**63)))
            logits = self.model.train()(source, target[:, :-1])
            log_p, words = (
                logits.log_softmax(-1)[target[:, 1:] != 0],
                target[:, 1:][target[:, 1:] != 0],
            )
            hit = log_p[torch.arange(len(words)), words]
            loss = (-0.9 * hit - 0.1 * log_p.mean(1)).mean()
            gradients = torch.autograd.grad(loss, self.walk.parameters)
            rate = point["lr"] * min(1.0, (5 / (step + 1)) ** 0.5)
            rate *= min(1.0, (step + 1) / 5) if method.endswith("warmup") else 1.0
            self.walk.move(gradients, rate)
            self.losses.append(float(loss.detach()))

    def look(self, weights):
        """Losses on training and validation pairs, and BLEU, of weights."""
        fill(self.model, weights)
        self.model.eval()
        translations = []
        for row in range(5):
            source, pieces = self.data.test.gather([row])[0], [datasets.PIECE_MARKS.begin]
            while len(pieces) <= self.settings.longest:
                piece = int(self.model(source, torch.tensor([pieces]))[0, -1].argmax())
                if piece == datasets.PIECE_MARKS.end:
                    break
                pieces.append(piece)
            translations += self.data.pieces.decode([pieces[1:]])
        seen = measure_pairs(self.model, self.data.train, range(7), 3)
        valid = measure_pairs(self.model, self.data.valid, range(7), 3)
        return [seen, valid, _bleu.score(translations, PAIRS.test[1][:5])]
