"""Scores a row by the feature that lies furthest from its level, in deviations.

The level of a feature is that of all rows of the windows before: for features that mean the same for every entity.
"""

# All imports stand here: the sandbox has no files, so that none can be loaded later.
import json
from math import isfinite, sqrt

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.detector import Alert, Severity, Verdict
from wit_world.exports.lifecycle import Info
from wit_world.imports.common import ConfigError, Error_Config

SCHEMA = {
    "type": "object",
    "description": "What an operator writes as `config` of the detector.",
    "properties": {
        "features": {"type": "array", "items": {"type": "string"}, "description": "Features to watch."},
        "z": {"type": "number", "description": "Alert above so many deviations."},
        "half_life": {
            "type": "number",
            "default": 60.0,
            "description": "A window loses half of its weight after so many.",
        },
    },
    "required": ["features", "z"],
    "additionalProperties": False,
}


def bad_config(path, message):
    return Err(Error_Config(ConfigError(path, message)))


class Level:
    """Mean and variance of a feature over all rows of the windows before."""

    def __init__(self):
        self.mean, self.variance, self.windows = 0.0, 0.0, 0

    def judge(self, column, scores):
        """Raises scores; sums of distances and of their squares."""
        mean, scale = self.mean, 1 / sqrt(self.variance) if self.variance > 0 else 0.0
        first = second = 0.0
        for row, x in enumerate(column):
            d = x - mean
            z = abs(d) * scale
            if z > scores[row]:
                scores[row] = z
            first += d
            second += d * d
        if isfinite(second):
            return first, second
        # A value that is no number teaches nothing, and takes no other with it.
        distances = [x - mean for x in column if isfinite(x)]
        return sum(distances), sum(d * d for d in distances)

    def learn(self, first, second, alpha):
        """From the means of a window's distances and of their squares."""
        self.windows += 1
        a = max(alpha, 1 / self.windows)
        self.variance = (1 - a) * self.variance + a * second - a * a * first * first
        self.mean += a * first


class Watch:
    """All that one instance knows."""

    def __init__(self, config):
        for name in SCHEMA["required"]:
            if name not in config:
                raise bad_config("", f"missing field `{name}`")
        for name in config:
            if name not in SCHEMA["properties"]:
                raise bad_config(name, f"unknown field `{name}`")
        if not config["features"]:
            raise bad_config("features", "name one at least")
        half_life = config.get("half_life", 60.0)
        if not half_life > 0:
            raise bad_config("half_life", "must be above 0")
        self.features, self.z = config["features"], config["z"]
        self.alpha = 1 - 0.5 ** (1 / half_life)
        self.levels = [Level() for _ in self.features]


watch = None


class Lifecycle(exports.Lifecycle):
    def describe(self):
        about = "Alerts on rows that lie far from the level of one of many features"
        return Info("python-zmax", "0.1.0", about, json.dumps(SCHEMA), 0)

    def configure(self, text):
        global watch
        watch = Watch(json.loads(text))


class Detector(exports.Detector):
    def requires(self, schema):
        names = [field.name for field in schema.fields]
        for at, name in enumerate(watch.features):
            if name not in names:
                raise bad_config(f"features[{at}]", f"the pipeline has no feature `{name}`; it has {', '.join(names)}")

    def detect(self, window, features):
        rows = features.num_rows()
        scores = [0.0] * rows
        for name, level in zip(watch.features, watch.levels):
            column = features.f64s(features.column(name))
            if level.windows == 0:
                # Not far from the mean: squares of what is left are exact.
                level.mean = next((x for x in column if isfinite(x)), 0.0)
            first, second = level.judge(column, scores)
            if rows and not window.partial and window.revision == 0:
                level.learn(first / rows, second / rows, watch.alpha)
        message = "a feature lies far from its level"
        hits = [row for row, score in enumerate(scores) if score > watch.z]
        alerts = [Alert(row, "outlier", Severity.MEDIUM, scores[row], watch.z, message, [], []) for row in hits]
        return Verdict(scores, alerts)
