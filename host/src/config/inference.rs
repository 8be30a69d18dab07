//! `[inference]`: who scores models, and where.

use super::plan::InferencePlan;
use super::raw::InferenceSection;
use super::resolve::Resolver;
use super::resolved;
use crate::model::{BackendChoice, Device, Dtype};
use std::path::Path;

impl Resolver<'_> {
    pub(super) fn inference(&mut self) -> Option<InferencePlan> {
        let entry = self.merged.single.get("inference");
        let written: InferenceSection = match entry {
            Some(entry) => self.read("inference", entry)?,
            None => InferenceSection::default(),
        };
        let folder = entry.map_or(Path::new(""), |e| self.findings.places.folder(e.file));
        let path = |path: &std::path::PathBuf| resolved(folder, path);
        let (libtorch, library) = (written.libtorch.as_ref().map(path), written.library.as_ref().map(path));
        let backends = [("auto", BackendChoice::Auto), ("cpu", BackendChoice::Cpu), ("torch", BackendChoice::Torch)];
        let backend = self.word("inference.backend", &written.backend, &backends);
        let dtypes = [Dtype::F32, Dtype::F16, Dtype::Bf16].map(|dtype| (dtype.name(), dtype));
        let dtype = self.word("inference.dtype", &written.dtype, &dtypes);
        let device = match &*written.device {
            "auto" => Some(None),
            word => word.parse::<Device>().ok().map(Some),
        };
        if device.is_none() {
            let (at, help) = ("inference.device", "write \"auto\", \"cpu\", or \"cuda:0\" for the first CUDA device");
            self.bad(at, format!("`{}` is no value for `{at}`", written.device), "no device", help);
        }
        if backend == Some(BackendChoice::Torch) && libtorch.is_none() {
            let help =
                "`kaminari doctor inference` finds it, `cargo xtask torch` fetches it; both print the lines to use";
            let text = "`inference.backend` is `torch`, and `inference.libtorch` does not say where that is";
            self.bad("inference.backend", text, "takes `libtorch`", help);
        }
        self.in_range("inference.max_batch", written.max_batch as u64, 64, 1 << 24);
        self.in_range("inference.max_wait_us", written.max_wait_us, 0, 1_000_000);
        Some(InferencePlan {
            backend: backend?,
            device: device?,
            dtype: dtype?,
            libtorch,
            library,
            max_batch: written.max_batch,
            max_wait_us: written.max_wait_us,
        })
    }
}
