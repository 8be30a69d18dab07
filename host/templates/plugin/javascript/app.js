// Alerts when a feature of an entity jumps above the entity's own level.

const SCHEMA = {
  type: "object",
  description: "What an operator writes as `config` of the detector.",
  properties: {
    feature: { type: "string", description: "Feature to watch." },
    z: { type: "number", description: "Alert above so many deviations." },
  },
  required: ["feature", "z"],
  additionalProperties: false,
};
const KEY_BYTES = 21;
const ALPHA = 1 - 0.5 ** (1 / 60); // a value loses half of its weight after 60 windows

let config = {};
let levels = new Map(); // of each entity: mean, variance, count

// An object that is thrown is an error of the contract; anything else ends the instance.
const badConfig = (path, message) => ({ tag: "config", val: { path, message } });

export const lifecycle = {
  describe() {
    return {
      name: "{{name}}",
      version: "0.1.0",
      description: "Alerts when a feature of an entity jumps above its own level",
      configSchema: JSON.stringify(SCHEMA),
      stateVersion: 0,
    };
  },

  configure(text) {
    const read = JSON.parse(text);
    for (const name of SCHEMA.required) {
      if (!(name in read)) throw badConfig("", `missing field \`${name}\``);
    }
    for (const name in read) {
      if (!(name in SCHEMA.properties)) throw badConfig(name, `unknown field \`${name}\``);
    }
    config = read;
    levels = new Map();
  },
};

export const detector = {
  requires(schema) {
    if (!schema.fields.some((field) => field.name === config.feature)) {
      throw badConfig("feature", `the pipeline has no feature \`${config.feature}\``);
    }
  },

  detect(_window, features) {
    const [column, key] = [features.column(config.feature), features.column("key")];
    if (column === undefined || key === undefined) {
      throw { tag: "schema", val: `no column \`${config.feature}\` or no \`key\`` };
    }
    const keys = features.bytes(key).data;
    const alerts = [];
    const scores = Float64Array.from(features.f64s(column), (x, row) => {
      const z = zThenUpdate(keys.subarray(row * KEY_BYTES, (row + 1) * KEY_BYTES).join(), x);
      if (z > config.z) {
        const message = `${config.feature} is ${x}`;
        const what = { row, kind: "jump", severity: "medium", score: z, threshold: config.z, message };
        alerts.push({ ...what, contributions: [], attributes: [] });
      }
      return z;
    });
    return { scores, alerts };
  },
};

/** By how many deviations `x` lies above what was known; then it is known too. */
function zThenUpdate(key, x) {
  const { mean, variance, count } = levels.get(key) ?? { mean: 0, variance: 0, count: 0 };
  const z = variance > 0 ? (x - mean) / Math.sqrt(variance) : 0;
  if (Number.isFinite(x)) {
    const [alpha, delta] = [Math.max(ALPHA, 1 / (count + 1)), x - mean];
    const spread = (1 - alpha) * (variance + alpha * delta * delta);
    levels.set(key, { mean: mean + alpha * delta, variance: spread, count: count + 1 });
  }
  return z;
}
