// Scores a row by the feature that lies furthest from its level, in deviations. The level of a feature is that of all rows
// of the windows before: for features that mean the same for every entity.

const SCHEMA = {
  type: "object",
  description: "What an operator writes as `config` of the detector.",
  properties: {
    features: { type: "array", items: { type: "string" }, description: "Features to watch." },
    z: { type: "number", description: "Alert above so many deviations." },
    half_life: { type: "number", default: 60.0, description: "A window loses half of its weight after so many." },
  },
  required: ["features", "z"],
  additionalProperties: false,
};

// An object that is thrown is an error of the contract; anything else ends the instance.
const badConfig = (path, message) => ({ tag: "config", val: { path, message } });

/** Mean and variance of a feature over all rows of the windows before. */
class Level {
  mean = 0;
  variance = 0;
  windows = 0;

  /** Raises scores; sums of distances and of their squares. */
  judge(column, scores) {
    const mean = this.mean;
    const scale = this.variance > 0 ? 1 / Math.sqrt(this.variance) : 0;
    let [first, second] = [0, 0];
    for (let row = 0; row < column.length; row++) {
      const d = column[row] - mean;
      const z = Math.abs(d) * scale;
      if (z > scores[row]) scores[row] = z;
      first += d;
      second += d * d;
    }
    if (Number.isFinite(second)) return [first, second];
    // A value that is no number teaches nothing, and takes no other with it.
    const distances = Array.from(column, (x) => x - mean).filter(Number.isFinite);
    return [distances.reduce((sum, d) => sum + d, 0), distances.reduce((sum, d) => sum + d * d, 0)];
  }

  /** From the means of a window's distances and of their squares. */
  learn(first, second, alpha) {
    this.windows += 1;
    const a = Math.max(alpha, 1 / this.windows);
    this.variance = (1 - a) * this.variance + a * second - a * a * first * first;
    this.mean += a * first;
  }
}

/** All that one instance knows. */
class Watch {
  constructor(config) {
    for (const name of SCHEMA.required) {
      if (!(name in config)) throw badConfig("", `missing field \`${name}\``);
    }
    for (const name in config) {
      if (!(name in SCHEMA.properties)) throw badConfig(name, `unknown field \`${name}\``);
    }
    if (config.features.length === 0) throw badConfig("features", "name one at least");
    const halfLife = config.half_life ?? 60;
    if (!(halfLife > 0)) throw badConfig("half_life", "must be above 0");
    this.features = config.features;
    this.z = config.z;
    this.alpha = 1 - 0.5 ** (1 / halfLife);
    this.levels = this.features.map(() => new Level());
  }
}

let watch;

export const lifecycle = {
  describe() {
    return {
      name: "javascript-zmax",
      version: "0.1.0",
      description: "Alerts on rows that lie far from the level of one of many features",
      configSchema: JSON.stringify(SCHEMA),
      stateVersion: 0,
    };
  },

  configure(text) {
    watch = new Watch(JSON.parse(text));
  },
};

export const detector = {
  requires(schema) {
    const names = schema.fields.map((field) => field.name);
    watch.features.forEach((name, at) => {
      if (names.includes(name)) return;
      throw badConfig(`features[${at}]`, `the pipeline has no feature \`${name}\`; it has ${names.join(", ")}`);
    });
  },

  detect(window, features) {
    const rows = features.numRows();
    const scores = new Float64Array(rows);
    watch.features.forEach((name, at) => {
      const level = watch.levels[at];
      const column = features.f64s(features.column(name));
      // Not far from the mean: squares of what is left are exact.
      if (level.windows === 0) level.mean = column.find(Number.isFinite) ?? 0;
      const [first, second] = level.judge(column, scores);
      if (rows > 0 && !window.partial && window.revision === 0) level.learn(first / rows, second / rows, watch.alpha);
    });
    const alerts = [];
    const message = "a feature lies far from its level";
    scores.forEach((score, row) => {
      if (!(score > watch.z)) return;
      const what = { row, kind: "outlier", severity: "medium", score, threshold: watch.z, message };
      alerts.push({ ...what, contributions: [], attributes: [] });
    });
    return { scores, alerts };
  },
};
