"""A tiny network over features, as training leaves it in a bundle: numpy alone runs it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.errors import BundleError

Floats = NDArray[np.float64]

_LIMIT = 6.0  # standard deviations beyond which a feature says nothing more


@dataclass(frozen=True)
class Scorer:
    """linear(x) + output · relu(hidden(x)) for standardised features x; no hidden units make it a linear model.

    Shapes: `F` features, `H` hidden units.
    """

    mean: Floats  # [F]
    scale: Floats  # [F], above 0
    linear: Floats  # [F]
    bias: Floats  # []
    hidden: Floats  # [F, H]
    hidden_bias: Floats  # [H]
    output: Floats  # [H]

    def __call__(self, features: NDArray[np.floating]) -> Floats:
        """Scores [...] of features [..., F], in float64."""
        rows = features.reshape(-1, features.shape[-1])
        scores = np.empty(len(rows))
        _score(
            rows,
            self.mean,
            self.scale,
            self.linear,
            float(self.bias),
            self.hidden,
            self.hidden_bias,
            self.output,
            scores,
        )
        return scores.reshape(features.shape[:-1])

    def probability(self, features: NDArray[np.floating]) -> Floats:
        """sigmoid of the scores [...], for a scorer of log-odds."""
        probabilities: Floats = 1.0 / (1.0 + np.exp(-self(features)))
        return probabilities

    def standardise(self, features: NDArray[np.floating]) -> Floats:
        """What the weights are multiplied with: zero mean, unit deviation, clipped; [..., F]."""
        return np.clip((features.astype(np.float64) - self.mean) / self.scale, -_LIMIT, _LIMIT)

    def arrays(self, prefix: str) -> dict[str, Floats]:
        """The weights by name, to be stored."""
        return {f"{prefix}{field.name}": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[np.float64]], prefix: str, features: int) -> "Scorer":
        """Read what `arrays` named.

        Raises:
            BundleError: an array is missing or has not the shape that `features` asks for.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if f"{prefix}{name}" not in arrays]
        if missing:
            raise BundleError(f"a learned fusion needs the arrays {names} under {prefix}, {missing} are missing")
        found = {name: arrays[f"{prefix}{name}"] for name in names}
        units = found["output"].size
        expected = {
            "mean": (features,),
            "scale": (features,),
            "linear": (features,),
            "bias": (),
            "hidden": (features, units),
            "hidden_bias": (units,),
            "output": (units,),
        }
        wrong = {name: array.shape for name, array in found.items() if array.shape != expected[name]}
        if wrong:
            raise BundleError(
                f"this release computes {features} features for {prefix}, so its arrays have the shapes {expected}; "
                f"got {wrong}. Fit the ensembles again: tandem fit."
            )
        return cls(**found)


@compiled
def _score(
    features: NDArray[np.floating],
    mean: Floats,
    scale: Floats,
    linear: Floats,
    bias: float,
    hidden: Floats,
    hidden_bias: Floats,
    output: Floats,
    scores: Floats,
) -> None:
    units = np.empty(len(output))
    for row in range(len(features)):
        units[:] = hidden_bias
        score = bias
        for feature in range(len(mean)):
            value = (features[row, feature] - mean[feature]) / scale[feature]
            value = min(max(value, -_LIMIT), _LIMIT)
            score += value * linear[feature]
            for unit in range(len(units)):
                units[unit] += value * hidden[feature, unit]
        for unit in range(len(units)):
            score += max(units[unit], 0.0) * output[unit]
        scores[row] = score
