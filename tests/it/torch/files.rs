//! Shared objects that are not what they should be.

use kaminari::inference::torch::{Library, TorchError};
use kaminari_tests::kaminari;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A shared object made of these lines of C; `None` without a C compiler.
fn object(dir: &Path, name: &str, text: &str) -> Option<PathBuf> {
    let (source, object) = (dir.join(format!("{name}.c")), dir.join(format!("lib{name}.so")));
    std::fs::write(&source, text).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&object).arg(&source).status();
    match made {
        Ok(status) if status.success() => Some(object),
        _ => {
            println!("SKIPPED: shared objects of another kind: no C compiler");
            None
        }
    }
}

/// Each case in a process of its own: what is loaded stays.
#[test]
fn an_object_of_another_kind_or_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let lib = dir.path().join("lib");
    std::fs::create_dir(&lib).unwrap();
    std::fs::write(dir.path().join("build-version"), "2.11.0+cpu").unwrap();
    // Two libraries with nothing in them stand for libtorch: the object is looked at after them.
    for part in ["c10", "torch_cpu"] {
        let Some(made) = object(dir.path(), part, "int kaminari_nothing_here;") else { return };
        std::fs::rename(made, lib.join(format!("lib{part}.so"))).unwrap();
    }
    let told = |object: &Path| {
        let mut doctor = kaminari();
        doctor.args(["doctor", "inference", "--format", "json", "--python", "/none"]);
        let output = doctor.arg("--libtorch").arg(&lib).arg("--library").arg(object).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        said["loaded"]["error"].as_str().unwrap().replace(&*dir.path().to_string_lossy(), "DIR")
    };
    let missing = told(&dir.path().join("libno.so"));
    assert!(missing.starts_with("DIR/libno.so: there is no such file; the backend of the engine"), "{missing}");
    let Some(other) = object(dir.path(), "other", "int f(void) { return 1; }") else { return };
    let other = told(&other);
    assert!(other.starts_with("DIR/libother.so is no backend of kaminari, and this engine wants version 1"), "{other}");
    let newer =
        "struct api { unsigned abi, size; } table = { 9, 8 }; void *kaminari_torch_api(void) { return &table; }";
    let Some(newer) = object(dir.path(), "newer", newer) else { return };
    let newer = told(&newer);
    assert!(newer.starts_with("DIR/libnewer.so is version 9 of the backend's interface, and this"), "{newer}");
    let unresolved = "int at_nowhere(void); int f(void) { return at_nowhere(); }";
    let Some(unresolved) = object(dir.path(), "unresolved", unresolved) else { return };
    let unresolved = told(&unresolved);
    assert!(unresolved.contains("cannot be loaded: ") && unresolved.contains("at_nowhere"), "{unresolved}");
}

#[test]
fn a_process_has_one_libtorch() {
    let Some((libtorch, library)) = kaminari_tests::libtorch("a second libtorch") else { return };
    let first = Library::open(&libtorch, &library).unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &Library::open(&libtorch, &library).unwrap()));
    let dir = tempfile::tempdir().unwrap();
    for part in ["libc10.so", "libtorch_cpu.so"] {
        std::fs::write(dir.path().join(part), "").unwrap();
    }
    let error = Library::open(dir.path(), &library).err().expect("refused");
    assert!(matches!(&error, TorchError::Another { .. }), "{error}");
}
