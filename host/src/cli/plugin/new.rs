//! `kaminari plugin new`: a folder that builds and passes its test.

use crate::authoring::{Language, New, Sdk, create};
use crate::plugin::Role;
use clap::Args;
use miette::IntoDiagnostic;
use std::path::PathBuf;

/// Arguments of `plugin new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The folder; its last part is the plugin's name
    #[arg(value_name = "NAME")]
    dir: PathBuf,
    /// What it is to the engine: source-decoder, feature-extractor or detector
    #[arg(long, default_value = "detector", value_parser = role)]
    role: Role,
    /// What it is written in
    #[arg(long, default_value = "rust")]
    lang: Language,
    /// kaminari-plugin-sdk, or a checkout that has it; else that of the checkout that this folder or kaminari lies in,
    /// else by version
    #[arg(long, value_name = "DIR", env = "KAMINARI_SDK")]
    sdk: Option<PathBuf>,
}

fn role(text: &str) -> Result<Role, String> {
    let known = Role::ALL.map(Role::name).join(", ");
    Role::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| format!("known: {known}"))
}

/// Makes the folder.
pub fn run(args: NewArgs) -> miette::Result<()> {
    let name = args.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let sdk = match &args.sdk {
        Some(dir) => Sdk::at(dir).into_diagnostic()?,
        None => {
            let places = [std::env::current_dir(), std::env::current_exe()];
            Sdk::find(places.iter().flatten().map(PathBuf::as_path))
        }
    };
    let new = New { name: &name, role: args.role, language: args.lang, dir: &args.dir, sdk: &sdk };
    let made = create(&new).into_diagnostic()?;
    let dir = args.dir.display();
    let mut text = format!("{dir}: a {} in {}\n", args.role, args.lang.name());
    for file in made {
        text += &format!("  {}\n", file.display());
    }
    text += &match (args.lang, &sdk) {
        (Language::Rust, Sdk::Path(path)) => format!("kaminari-plugin-sdk by path: {}\n", path.display()),
        (Language::Rust, Sdk::Version(version)) => {
            format!("kaminari-plugin-sdk {version} by version: --sdk DIR takes it from a checkout\n")
        }
        (Language::Python, _) => "first the tool: README.md has the line\n".to_owned(),
        (Language::Javascript, _) => "first the tool: npm install\n".to_owned(),
    };
    text += &format!("next: kaminari plugin build {dir} && kaminari plugin test {dir}\n");
    crate::cli::print(&text)
}
