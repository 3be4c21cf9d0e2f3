"""What one step along a mini-batch's gradient g = G + n does, to second order in its size e.

    others' loss    L(e) = L - e G.g + e^2/2 g.H g            E G.g = |G|^2
    its own loss    the same with |g|^2 for G.g               E |g|^2 = |G|^2 + tr C / B
    E g.H g = G.H G + tr(H C) / B                             B the batch, C one example's covariance

With the noise scale S = tr C / |G|^2 (McCandlish et al. 2018) the least losses of both curves lie
(1 + S/B)^2 apart as drops, their largest harmless steps 1 + S/B, and at the step that is best for
itself the batch lifts the others' loss if and only if B < S. The batch's own Hessian is taken for
that of all, which for small batches it is not.
"""

from dataclasses import dataclass

from replicate.curvature.noise import GradientNoise


@dataclass(frozen=True)
class SingleStep:
    """The moments of gradient and curvature at a point, from mini-batches of `batch` examples.

    squared_mean: |G|^2; trace: tr C / batch; along_mean: G.H G; along_batch: E g.H g, g a
    mini-batch's gradient.
    """

    batch: int
    squared_mean: float
    trace: float
    along_mean: float
    along_batch: float

    @classmethod
    def of(cls, noise: GradientNoise, batch: int, along_mean: float, along_batch: float):
        """From measured noise; along_mean: of the mean of its gradients, which is not quite G: its
        share of tr(H C) is taken off.
        """
        share = (along_batch - along_mean) / (noise.count - 1)
        return cls(batch, noise.squared_mean, noise.trace, along_mean - share, along_batch)

    @property
    def noise_scale(self) -> float:
        """S in examples; infinite where nothing but noise is seen."""
        scale = self.batch * self.trace
        return scale / self.squared_mean if self.squared_mean > 0 else float("inf")

    def curvature(self, size: int) -> float:
        """E g.H g of a batch of `size` examples."""
        noisy = (self.along_batch - self.along_mean) * self.batch / size
        return self.along_mean + noisy

    def critical_step(self, size: int) -> float:
        """The largest step along the gradient of `size` examples that does not lift the others'
        loss, 2 |G|^2 / E g.H g; 0 where nothing but noise is seen, infinite where it never turns.
        """
        if self.squared_mean <= 0:
            return 0.0
        curvature = self.curvature(size)
        return 2 * self.squared_mean / curvature if curvature > 0 else float("inf")

    def drop_ratio(self, size: int) -> float:
        """The batch's own largest drop over the others', (1 + S/B)^2."""
        return (1 + self.noise_scale / size) ** 2


def scale_of_drops(own: float, others: float, size: float) -> float:
    """The noise scale at which drops have this ratio: S = B (sqrt(own / others) - 1)."""
    return size * ((own / others) ** 0.5 - 1)
