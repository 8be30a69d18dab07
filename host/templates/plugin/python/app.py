"""Alerts when a feature of an entity jumps above the entity's own level."""

# All imports stand here: the sandbox has no files, so that none can be loaded later.
import json
from math import isfinite, sqrt

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.detector import Alert, Severity, Verdict
from wit_world.exports.lifecycle import Info
from wit_world.imports.common import ConfigError, Error_Config, Error_Schema

SCHEMA = {
    "type": "object",
    "description": "What an operator writes as `config` of the detector.",
    "properties": {
        "feature": {"type": "string", "description": "Feature to watch."},
        "z": {"type": "number", "description": "Alert above so many deviations."},
    },
    "required": ["feature", "z"],
    "additionalProperties": False,
}
KEY_BYTES = 21
ALPHA = 1 - 0.5 ** (1 / 60)  # a value loses half of its weight after 60 windows

config = {}
levels = {}  # of each entity: mean, variance, count


def bad_config(path, message):
    return Err(Error_Config(ConfigError(path, message)))


class Lifecycle(exports.Lifecycle):
    def describe(self):
        about = "Alerts when a feature of an entity jumps above its own level"
        return Info("{{name}}", "0.1.0", about, json.dumps(SCHEMA), 0)

    def configure(self, text):
        read = json.loads(text)
        for name in SCHEMA["required"]:
            if name not in read:
                raise bad_config("", f"missing field `{name}`")
        for name in read:
            if name not in SCHEMA["properties"]:
                raise bad_config(name, f"unknown field `{name}`")
        config.clear()
        config.update(read)
        levels.clear()


class Detector(exports.Detector):
    def requires(self, schema):
        names = [field.name for field in schema.fields]
        if config["feature"] not in names:
            raise bad_config("feature", f"the pipeline has no feature `{config['feature']}`")

    def detect(self, window, features):
        column, key = features.column(config["feature"]), features.column("key")
        if column is None or key is None:
            raise Err(Error_Schema(f"no column `{config['feature']}` or no `key`"))
        keys, scores, alerts = features.bytes(key).data, [], []
        for row, x in enumerate(features.f64s(column)):
            z = z_then_update(keys[row * KEY_BYTES : (row + 1) * KEY_BYTES], x)
            scores.append(z)
            if z > config["z"]:
                message = f"{config['feature']} is {x:g}"
                alerts.append(Alert(row, "jump", Severity.MEDIUM, z, config["z"], message, [], []))
        return Verdict(scores, alerts)


def z_then_update(key, x):
    """By how many deviations `x` lies above what was known; then it is known too."""
    mean, variance, count = levels.get(key, (0.0, 0.0, 0))
    z = (x - mean) / sqrt(variance) if variance > 0 else 0.0
    if isfinite(x):
        alpha, delta = max(ALPHA, 1 / (count + 1)), x - mean
        variance = (1 - alpha) * (variance + alpha * delta * delta)
        levels[key] = (mean + alpha * delta, variance, count + 1)
    return z
