"""phi <- phi + alpha (theta_k - phi),   theta <- phi      after every k inner steps, for Keras 3

phi: slow weights, in the optimizer's variables; theta: fast weights, the model's; k: `k`, alpha:
`alpha`, inner steps: `inner`, any Keras optimizer, on any backend.

Zhang, Lucas, Hinton, Ba 2019, Algorithm 1. TensorFlow Addons' Lookahead was of Keras 2, is no longer
kept, and pulled by the inner count before the step. The authors' TensorFlow file pulls after k + 1
steps, and its slow weights begin at 0.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from replicate.errors import BadParameter, Unavailable
from replicate.optim.cycle import check_cycle

try:
    import keras
except ModuleNotFoundError as error:
    how = (
        "pip install 'replicate[keras]'"
        if error.name == "keras"
        else f"Keras' backend here is {error.name}; set KERAS_BACKEND to torch or jax"
    )
    raise Unavailable(
        f"replicate.optim.keras needs {error.name}, which is not installed: {how}"
    ) from None


HALF = ("float16", "bfloat16")  # in which a small pull would be lost to rounding


@keras.saving.register_keras_serializable(package="replicate")
class Lookahead(keras.optimizers.Optimizer):
    """Lookahead around a Keras optimizer; `compile`, callbacks and `.keras` files take it for one.

    The rate, its schedule and the count of iterations are the inner optimizer's. Clipping, weight
    decay, moving averages and accumulation of gradients are set there too; with accumulation, k
    counts updates. The inner state is kept at a pull ("maintain" of the torch optimizer).

    The slow weights begin where the model's are at the first step. `fit` ends with the fast weights in the model, so that a second one goes on in the middle of a cycle as if
    there had been one, also from a saved file; `slow_weights()` puts the slow ones into the model
    for evaluation. The slow weights are in float32 where the model's are of half precision.

    >>> from replicate.optim.keras import Lookahead
    >>> theta = keras.Variable(8.0)
    >>> optimizer = Lookahead(keras.optimizers.SGD(1.0), k=2, alpha=0.5)
    >>> for _ in range(2):
    ...     optimizer.apply([keras.ops.ones(())], [theta])
    >>> float(theta)  # half way back from 6 to 8
    7.0
    """

    def __init__(
        self,
        inner: keras.optimizers.Optimizer,
        k: int = 5,
        alpha: float = 0.5,
        extrapolate: bool = False,
        name: str | None = None,
    ):
        """k: inner steps a cycle; alpha: the slow weights' step, in (0, 1].

        Defaults: k = 5 and alpha = 0.5 are the setting of the paper's robustness figure.
        extrapolate: alpha may be above 1, which is not in the paper; name: Keras', for its
        variables. Raises BadParameter (a ValueError) if `inner` is no Keras optimizer, or is a
        Lookahead or a LossScaleOptimizer (which goes around this one), and for a k or alpha that
        the torch optimizer refuses.
        """
        check_cycle(k, alpha, extrapolate)
        if not isinstance(inner, keras.optimizers.Optimizer):
            raise BadParameter(f"inner must be a Keras optimizer, got {type(inner).__name__}")
        if isinstance(inner, (Lookahead, keras.optimizers.LossScaleOptimizer)):
            raise BadParameter(
                f"inner must not be a {type(inner).__name__}: loss scaling goes around Lookahead, "
                "and nested cycles are for replicate.optim.Lookahead"
            )
        super().__init__(learning_rate=0.0, name=name)
        for unused in self._variables[:]:  # Keras' rate and count; both are the inner one's here
            self._untrack_variable(unused)
        self.inner = inner
        self.k = int(k)
        self.alpha = float(alpha)
        self.extrapolate = bool(extrapolate)

    def build(self, variables: list) -> None:
        """Make the slow weights, where the variables are, and the inner optimizer's state.

        >>> optimizer = Lookahead(keras.optimizers.SGD(1.0))
        >>> optimizer.build([keras.Variable(8.0)])
        >>> float(optimizer.slow[0])
        8.0
        """
        super().build(variables)
        self.inner.build(variables)
        self.slow = [self._add_slow(variable) for variable in variables]

    def apply(self, grads: list, trainable_variables: list | None = None) -> None:
        """One inner step, and at the end of a cycle the pull.

        grads: a gradient for each variable, or None. The variables may be left out once it is
        built. Raises Keras' ValueError for variables it was not built for.

        >>> theta = keras.Variable(8.0)
        >>> optimizer = Lookahead(keras.optimizers.SGD(1.0), k=2)
        >>> optimizer.apply([keras.ops.ones(())], [theta])
        >>> float(theta), float(optimizer.slow[0])
        (7.0, 8.0)
        """
        if len(grads) == 0:
            return
        if not self.built:
            self.build(list(trainable_variables))
        self._move(self._count() == 0, lambda slow, fast: fast)
        self.inner.apply(grads, trainable_variables)
        ends = self._count() % self.k == 0
        self._move(ends, lambda slow, fast: slow + self.alpha * (fast - slow))
        for slow, variable in self._pairs():
            fast = keras.ops.stop_gradient(keras.ops.convert_to_tensor(variable))
            pulled = keras.ops.cast(keras.ops.convert_to_tensor(slow), fast.dtype)
            variable.assign(keras.ops.where(ends, pulled, fast))

    @contextmanager
    def slow_weights(self) -> Iterator[None]:
        """The slow weights in the variables' place, for evaluation; then the fast ones are back.

        Statistics of BatchNormalization are no trainable variables: they stay those of the fast
        weights.

        >>> theta = keras.Variable(8.0)
        >>> optimizer = Lookahead(keras.optimizers.SGD(1.0))
        >>> optimizer.apply([keras.ops.ones(())], [theta])
        >>> with optimizer.slow_weights():
        ...     float(theta)
        8.0
        >>> float(theta)
        7.0
        """
        fast = [keras.ops.copy(variable) for _, variable in self._pairs()]
        try:
            for slow, variable in self._pairs():
                variable.assign(keras.ops.copy(keras.ops.cast(slow, variable.dtype)))
            yield
        finally:
            for (_, variable), value in zip(self._pairs(), fast, strict=True):
                variable.assign(value)

    @property
    def variables(self) -> list:
        """The slow weights, and what the inner optimizer keeps.

        >>> optimizer = Lookahead(keras.optimizers.SGD(1.0))
        >>> optimizer.build([keras.Variable(8.0)])
        >>> len(optimizer.variables)  # slow, and SGD's count and rate
        3
        """
        return self._variables + self.inner.variables

    @property
    def iterations(self):
        """The inner optimizer's count of updates.

        >>> int(Lookahead(keras.optimizers.SGD(1.0)).iterations)
        0
        """
        return self.inner.iterations

    @property
    def learning_rate(self):
        """The inner optimizer's rate; set here, it is set there.

        >>> optimizer = Lookahead(keras.optimizers.SGD(1.0))
        >>> optimizer.learning_rate = 0.5
        >>> float(optimizer.inner.learning_rate)
        0.5
        """
        return self.inner.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate) -> None:
        """Set the inner optimizer's rate.

        >>> optimizer = Lookahead(keras.optimizers.SGD(1.0))
        >>> optimizer.learning_rate = 0.25
        >>> float(optimizer.learning_rate)
        0.25
        """
        self.inner.learning_rate = learning_rate

    def finalize_variable_values(self, var_list: list) -> None:
        """What `fit` does at its end: only what the inner optimizer asks for, an average of its.

        >>> theta = keras.Variable(8.0)
        >>> optimizer = Lookahead(keras.optimizers.SGD(1.0))
        >>> optimizer.apply([keras.ops.ones(())], [theta])
        >>> optimizer.finalize_variable_values([theta])
        >>> float(theta)
        7.0
        """
        self.inner.finalize_variable_values(var_list)

    def get_config(self) -> dict:
        """The settings, and the inner optimizer's.

        >>> sorted(Lookahead(keras.optimizers.SGD(1.0)).get_config())
        ['alpha', 'extrapolate', 'inner', 'k', 'name']
        """
        inner = keras.saving.serialize_keras_object(self.inner)
        settings = {name: getattr(self, name) for name in ("k", "alpha", "extrapolate", "name")}
        return settings | {"inner": inner}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "Lookahead":
        """The optimizer of a config, without its state.

        >>> config = Lookahead(keras.optimizers.Adam(0.1), k=7).get_config()
        >>> Lookahead.from_config(config).k
        7
        """
        inner = keras.saving.deserialize_keras_object(config["inner"], custom_objects)
        return cls(**{**config, "inner": inner})

    def _add_slow(self, variable: keras.Variable) -> keras.Variable:
        slow = self.add_variable(
            variable.shape,
            dtype="float32" if variable.dtype in HALF else variable.dtype,
            layout=getattr(variable, "_layout", None),
            name=f"{variable.path.replace('/', '_')}_slow",
        )
        slow.assign(keras.ops.copy(keras.ops.cast(variable, slow.dtype)))
        return slow

    def _pairs(self) -> list[tuple]:
        return list(zip(self.slow, self._trainable_variables, strict=True))

    def _count(self):
        """Updates of the inner optimizer, as a tensor, so that comparisons with it are traced."""
        return keras.ops.convert_to_tensor(self.inner.iterations)

    def _move(self, when, rule) -> None:
        """slow <- rule(slow, fast) where `when` is true."""
        for slow, variable in self._pairs():
            old = keras.ops.convert_to_tensor(slow)
            fast = keras.ops.stop_gradient(keras.ops.convert_to_tensor(variable))
            fast = keras.ops.cast(fast, old.dtype)
            slow.assign(keras.ops.where(when, rule(old, fast), old))
