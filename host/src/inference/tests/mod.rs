//! Tests of the room, and what they share: random networks and models.

mod directory;
mod pytorch;
mod scoring;

use super::*;

/// A generator of numbers that is the same everywhere (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From -1 to 1.
    pub fn number(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

pub fn network(dims: &[usize], activation: Activation, random: &mut Random) -> Network {
    let layer = |d: &[usize], random: &mut Random| {
        let spread = (6.0 / (d[0] + d[1]) as f64).sqrt();
        let mut numbers = |n| (0..n).map(|_| (spread * random.number()) as f32).collect();
        Layer { inputs: d[0], outputs: d[1], weight: numbers(d[0] * d[1]), bias: numbers(d[1]) }
    };
    Network { layers: dims.windows(2).map(|d| layer(d, random)).collect(), activation, code: None }
}

pub fn manifest(dims: &[usize], activation: Activation, random: &mut Random) -> Manifest {
    let feature = |at: usize| FeatureSpec {
        name: format!("f{at}"),
        transform: if random.below(3) > 0 { Transform::Log1p } else { Transform::Identity },
        center: 3.0 * random.number(),
        scale: 1.5 + random.number(),
        clip: [4.0, 8.0, 20.0][random.below(3)],
    };
    Manifest {
        format_version: FORMAT_VERSION,
        name: "test".into(),
        version: "1".into(),
        input: None,
        architecture: Architecture {
            kind: "mlp-autoencoder".into(),
            dims: dims.to_vec(),
            activation: Some(activation),
            code: None,
            tensor_prefix: String::new(),
        },
        weights: WeightsFile::default(),
        features: (0..dims[0]).map(feature).collect(),
        calibration: None,
        golden: None,
        training: None,
    }
}

pub fn model(dims: &[usize], activation: Activation, seed: u64) -> Model {
    let mut random = Random::new(seed);
    let manifest = manifest(dims, activation, &mut random);
    Model::new(manifest, network(dims, activation, &mut random)).unwrap()
}
