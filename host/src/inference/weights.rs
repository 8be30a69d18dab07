//! `weights.safetensors`: tensors named as PyTorch's `nn.Sequential` names them (`0.weight`, `0.bias`, `2.weight`, ...).
//! Refused: files cut short, tensors that are missing, too many, of another shape or type, or not finite.

use super::error::ModelError;
use super::manifest::{Architecture, TORCHSCRIPT};
use super::network::{Layer, Network, Weights};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::path::Path;

/// Reads what an architecture that was checked asks for; `path` is for errors.
pub(super) fn parse(path: &Path, bytes: &[u8], architecture: &Architecture) -> Result<Weights, ModelError> {
    let file = |problem: String| ModelError::Weights { path: path.into(), problem };
    if bytes.is_empty() {
        return Err(file("empty file: copy or export the weights again".into()));
    }
    if architecture.kind != TORCHSCRIPT {
        return perceptron(path, bytes, architecture).map(Weights::Mlp);
    }
    // The archive is a zip file; what is in it libtorch reads.
    if !bytes.starts_with(b"PK") {
        return Err(file("no TorchScript archive (torch.jit.save writes one): export the model again".into()));
    }
    Ok(Weights::TorchScript(bytes.into()))
}

fn perceptron(path: &Path, bytes: &[u8], architecture: &Architecture) -> Result<Network, ModelError> {
    let file = |problem: String| ModelError::Weights { path: path.into(), problem };
    let tensors = SafeTensors::deserialize(bytes)
        .map_err(|e| file(format!("no safetensors file, or cut short ({e}): copy or export the weights again")))?;
    let prefix = &architecture.tensor_prefix;
    let mut layers = Vec::new();
    let mut known = Vec::new();
    for (at, dims) in architecture.dims.windows(2).enumerate() {
        let (inputs, outputs) = (dims[0], dims[1]);
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{prefix}{}.{part}", 2 * at));
        layers.push(Layer {
            inputs,
            outputs,
            weight: numbers(path, &tensors, &weight, &[outputs, inputs])?,
            bias: numbers(path, &tensors, &bias, &[outputs])?,
        });
        known.extend([weight, bias]);
    }
    let mut extra: Vec<&str> = tensors.names().into_iter().filter(|name| !known.iter().any(|k| k == name)).collect();
    extra.sort_unstable();
    if !extra.is_empty() {
        return Err(file(format!(
            "tensors that architecture.dims has no layer for: {}; correct dims or tensor_prefix in the manifest",
            extra.join(", ")
        )));
    }
    let activation =
        architecture.activation.ok_or_else(|| file("the manifest has no architecture.activation".into()))?;
    Ok(Network { layers, activation, code: architecture.code })
}

fn numbers(path: &Path, tensors: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
    let wrong = |problem: String| ModelError::Tensor { path: path.into(), tensor: name.into(), problem };
    let tensor = tensors.tensor(name).map_err(|_| {
        let mut names = tensors.names();
        names.sort_unstable();
        wrong(format!(
            "missing; the file has {}: correct architecture.dims or tensor_prefix in the manifest",
            names.join(", ")
        ))
    })?;
    if tensor.shape() != shape {
        let found = tensor.shape();
        return Err(wrong(format!("shape {found:?}, and architecture.dims in the manifest wants {shape:?}")));
    }
    let numbers = decode(&tensor)
        .ok_or_else(|| wrong(format!("type {:?}, and F32 (or F64) is wanted: export with .float()", tensor.dtype())))?;
    match numbers.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(wrong(format!("number {at} is {}: the training went astray, train again", numbers[at]))),
        None => Ok(numbers),
    }
}

fn decode(tensor: &TensorView) -> Option<Vec<f32>> {
    match tensor.dtype() {
        Dtype::F32 => Some(tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Dtype::F64 => Some(tensor.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()),
        _ => None,
    }
}

/// The file; a network must be one that [`super::check::network`] lets pass.
pub(super) fn render(weights: &Weights, prefix: &str) -> Vec<u8> {
    let network = match weights {
        Weights::Mlp(network) => network,
        Weights::TorchScript(archive) => return archive.to_vec(),
    };
    let bytes = |numbers: &[f32]| -> Vec<u8> { numbers.iter().flat_map(|x| x.to_le_bytes()).collect() };
    let mut tensors = Vec::new();
    for (at, layer) in network.layers.iter().enumerate() {
        let name = |part| format!("{prefix}{}.{part}", 2 * at);
        tensors.push((name("weight"), vec![layer.outputs, layer.inputs], bytes(&layer.weight)));
        tensors.push((name("bias"), vec![layer.outputs], bytes(&layer.bias)));
    }
    let views = tensors.iter().map(|(name, shape, data)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), data).expect("shapes were checked");
        (name.as_str(), view)
    });
    safetensors::serialize(views, None).expect("a header of a few names can be written")
}
