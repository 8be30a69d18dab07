//! Errors on their way out: an exception of libtorch, a panic or a refusal of ours in; a status and a short text out.

use kaminari_torch_abi::{Failure, Status};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::TchError;

/// What went wrong.
#[derive(Debug)]
pub struct Fault {
    status: Status,
    text: String,
}

/// Most functions' result.
pub type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    /// The request cannot be done.
    pub fn refused(text: impl Into<String>) -> Self {
        Self { status: Status::Refused, text: text.into() }
    }

    /// The device is not there.
    pub fn lost(text: impl Into<String>) -> Self {
        Self { status: Status::DeviceLost, text: text.into() }
    }

    /// Made of what libtorch says.
    fn torch(said: &str) -> Self {
        Self { status: classify(said), text: shorten(said) }
    }

    /// The same, with what it is about in front.
    pub fn about(self, what: &str) -> Self {
        Self { status: self.status, text: format!("{what}: {}", self.text) }
    }

    fn tell(&self, failure: &mut Failure) -> Status {
        let mut len = self.text.len().min(failure.text.len());
        while !self.text.is_char_boundary(len) {
            len -= 1;
        }
        failure.text[..len].copy_from_slice(&self.text.as_bytes()[..len]);
        failure.len = len;
        self.status
    }
}

impl From<TchError> for Fault {
    fn from(error: TchError) -> Self {
        match error {
            TchError::Torch(said) => Self::torch(&said),
            other => Self::refused(other.to_string()),
        }
    }
}

/// Libtorch has one type of exception for nearly everything; the words tell.
fn classify(said: &str) -> Status {
    const MEMORY: [&str; 2] = ["out of memory", "can't allocate memory"];
    const LOST: [&str; 8] = [
        "CUDA error",
        "CUDA driver",
        "CUDNN_STATUS_",
        "CUBLAS_STATUS_",
        "NVIDIA driver",
        "NVIDIA GPU",
        "device-side assert",
        "no CUDA-capable device",
    ];
    let has = |words: &[&str]| words.iter().any(|w| said.contains(w));
    match () {
        () if has(&MEMORY) => Status::OutOfMemory,
        () if has(&LOST) => Status::DeviceLost,
        () => Status::Refused,
    }
}

/// The line that matters: the last one that names an error (the interpreter of TorchScript puts its traceback before
/// it), else the first. The stack of C++ calls goes.
fn shorten(said: &str) -> String {
    const LONGEST: usize = 400;
    let said = said.split("\nException raised from").next().unwrap_or_default();
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let named = lines.clone().rfind(|line| line.split_once("Error: ").is_some_and(|(name, _)| !name.contains(' ')));
    let line = named.or_else(|| lines.next()).unwrap_or("libtorch failed and does not say why");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

/// Runs what a function of the table does. Gradients are off: training turns them on where it wants them.
pub fn call(failure: &mut Failure, body: impl FnOnce() -> Result<()>) -> Status {
    failure.len = 0;
    let guarded = || {
        let _guard = tch::no_grad_guard();
        body()
    };
    match catch_unwind(AssertUnwindSafe(guarded)) {
        Ok(Ok(())) => Status::Ok,
        Ok(Err(fault)) => fault.tell(failure),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Fault::torch(said.unwrap_or("panicked")).tell(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_make_the_status() {
        for (said, status) in [
            ("CUDA out of memory. Tried to allocate 2.00 GiB", Status::OutOfMemory),
            ("CUDA error: out of memory\nCUDA kernel errors might", Status::OutOfMemory),
            ("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", Status::OutOfMemory),
            ("CUDA error: an illegal memory access was encountered", Status::DeviceLost),
            ("Found no NVIDIA driver on your system.", Status::DeviceLost),
            ("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)", Status::Refused),
        ] {
            assert_eq!(classify(said), status, "{said}");
        }
    }

    #[test]
    fn only_the_telling_line_stays() {
        let plain = "expected 2 dimensions\nException raised from check at /pytorch/x.cpp:3 (most recent call first):";
        assert_eq!(shorten(plain), "expected 2 dimensions");
        let script = "The following operation failed in the TorchScript interpreter.\nTraceback:\n  x @ y\n  ~ <--- HERE\n\
            RuntimeError: sizes differ\n";
        assert_eq!(shorten(script), "RuntimeError: sizes differ");
        assert_eq!(shorten(&"x".repeat(500)).len(), 403);
        assert!(shorten("\n").contains("does not say why"));
    }

    #[test]
    fn panics_become_texts_and_long_texts_are_cut_between_letters() {
        let mut failure = Failure::new();
        assert_eq!(call(&mut failure, || panic!("CUDA error: gone")), Status::DeviceLost);
        assert_eq!(&failure.text[..failure.len], b"CUDA error: gone");
        assert_eq!(call(&mut failure, || Err(Fault::refused("é".repeat(600) + "x"))), Status::Refused);
        assert_eq!(failure.len, 1024);
        assert_eq!(call(&mut failure, || Err(Fault::refused("x".to_owned() + &"é".repeat(600)))), Status::Refused);
        assert_eq!(failure.len, 1023);
        assert_eq!(call(&mut failure, || Ok(())), Status::Ok);
        assert_eq!(failure.len, 0);
    }
}
