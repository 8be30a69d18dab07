//! What the export macros call in a component: between the contract's types and the SDK's.

use crate::bindings::kaminari::plugin::common;
use crate::export::__rt::{config_schema, parse_config};
use crate::{
    Batch, DataType, Decoded, Detector, Error, Extractor, Field, Frames, Schema, Severity, Source, Verdict, Window,
};
use std::cell::RefCell;

pub use crate::bindings::detector::exports::kaminari::plugin::detector;
pub use crate::bindings::exports::kaminari::plugin::{checkpoint, lifecycle, migration};
pub use crate::bindings::extractor::exports::kaminari::plugin::feature_extractor;
pub use crate::bindings::kaminari::plugin::common::{Error as RawError, Schema as RawSchema, Window as RawWindow};
pub use crate::bindings::kaminari::plugin::data::RecordBatch;
pub use crate::bindings::source::exports::kaminari::plugin::source_decoder;

/// What all roles have.
pub trait Part: Sized {
    const STATE_VERSION: u32;
    fn config_schema() -> String;
    fn make(config: &str) -> crate::Result<Self>;
    fn snapshot(&self) -> crate::Result<Vec<u8>>;
    fn restore(&mut self, version: u32, bytes: &[u8]) -> crate::Result<()>;
    fn migrate(&self, from: u32, bytes: &[u8]) -> crate::Result<Vec<u8>>;
}

macro_rules! parts {
    ($($name:ident: $role:ident;)*) => {$(
        pub struct $name<T>(pub T);

        impl<T: $role> Part for $name<T> {
            const STATE_VERSION: u32 = T::STATE_VERSION;
            fn config_schema() -> String {
                config_schema::<T::Config>()
            }
            fn make(config: &str) -> crate::Result<Self> {
                T::new(parse_config(config)?).map(Self)
            }
            fn snapshot(&self) -> crate::Result<Vec<u8>> {
                self.0.snapshot()
            }
            fn restore(&mut self, version: u32, bytes: &[u8]) -> crate::Result<()> {
                self.0.restore(version, bytes)
            }
            fn migrate(&self, from: u32, bytes: &[u8]) -> crate::Result<Vec<u8>> {
                self.0.migrate(from, bytes)
            }
        }
    )*};
}

parts! {
    AsSource: Source;
    AsExtractor: Extractor;
    AsDetector: Detector;
}

/// The one instance of a role; why there is none; nothing before `configure`.
pub type Slot<P> = RefCell<Option<Result<P, Error>>>;

pub fn about<P: Part>(_: &Slot<P>) -> (String, u32) {
    (P::config_schema(), P::STATE_VERSION)
}

/// A plugin of several roles takes the configuration of any of them, and its state has all of theirs.
pub fn describe(name: &str, version: &str, description: &str, parts: &[(String, u32)]) -> lifecycle::Info {
    let schemas: Vec<&str> = parts.iter().map(|(schema, _)| schema.as_str()).collect();
    lifecycle::Info {
        name: name.to_owned(),
        version: version.to_owned(),
        description: description.to_owned(),
        config_schema: match schemas[..] {
            [only] => only.to_owned(),
            _ => format!("{{\"anyOf\":[{}]}}", schemas.join(",")),
        },
        state_version: parts.iter().map(|(_, version)| version).sum(),
    }
}

/// An old instance stays where the new configuration is refused.
pub fn configure<P: Part>(slot: &Slot<P>, config: &str) -> Result<(), Error> {
    let mut slot = slot.borrow_mut();
    match P::make(config) {
        Ok(new) => *slot = Some(Ok(new)),
        Err(error) => {
            if !matches!(*slot, Some(Ok(_))) {
                *slot = Some(Err(error.clone()));
            }
            return Err(error);
        }
    }
    Ok(())
}

/// A plugin of several roles does not know which one is wanted here: the one that is asked says what it does not like.
pub fn configured<const N: usize>(made: [Result<(), Error>; N]) -> Result<(), RawError> {
    match made.into_iter().find_map(Result::err) {
        Some(error) if N == 1 => Err(error.into()),
        _ => Ok(()),
    }
}

fn with<P, R>(slot: &Slot<P>, f: impl FnOnce(&mut P) -> crate::Result<R>) -> Result<R, RawError> {
    match &mut *slot.borrow_mut() {
        Some(Ok(part)) => Ok(f(part)?),
        Some(Err(error)) => Err(error.clone().into()),
        None => Err(RawError::Other("called before `configure`".into())),
    }
}

/// What a role has saved, under the version that its state had; 0: nothing.
pub type Saved = (u32, Vec<u8>);

pub fn snapshot<P: Part>(slot: &Slot<P>) -> Result<Saved, RawError> {
    match &*slot.borrow() {
        Some(Ok(part)) if P::STATE_VERSION > 0 => Ok((P::STATE_VERSION, part.snapshot()?)),
        _ => Ok((0, Vec::new())),
    }
}

/// One role's state is what it says; that of several is a list, in which each has its own version: the host sees their sum.
pub fn joined(mut parts: Vec<Result<Saved, RawError>>) -> Result<Vec<u8>, RawError> {
    if parts.len() == 1
        && let Some(only) = parts.pop()
    {
        return Ok(only?.1);
    }
    let parts: Vec<Saved> = parts.into_iter().collect::<Result<_, _>>()?;
    Ok(crate::state::to_bytes(&parts)?)
}

pub fn parted(parts: usize, version: u32, bytes: Vec<u8>) -> Result<Vec<Saved>, RawError> {
    if parts == 1 {
        return Ok(vec![(version, bytes)]);
    }
    let saved: Vec<Saved> = crate::state::from_bytes(&bytes)?;
    if saved.len() != parts {
        return Err(RawError::Other(format!(
            "{} roles have saved this state, and the plugin has {parts}",
            saved.len()
        )));
    }
    Ok(saved)
}

/// In the form of the role's own version where there is a way, and whether it was changed.
fn own<P: Part>(part: &P, (version, bytes): Saved) -> crate::Result<(Saved, bool)> {
    if version == 0 || version == P::STATE_VERSION {
        return Ok(((version, bytes), false));
    }
    if P::STATE_VERSION == 0 {
        return Err(Error::Other(format!(
            "a role saves no state any more: that of version {version} would be forgotten"
        )));
    }
    match part.migrate(version, &bytes) {
        Ok(bytes) => Ok(((P::STATE_VERSION, bytes), true)),
        Err(Error::NotFound(_)) => Ok(((version, bytes), false)),
        Err(error) => Err(error),
    }
}

pub fn migrate<P: Part>(slot: &Slot<P>, saved: Option<Saved>) -> Result<(Saved, bool), RawError> {
    match (&*slot.borrow(), saved) {
        (Some(Ok(part)), Some(saved)) => Ok(own(part, saved)?),
        (_, saved) => Ok((saved.unwrap_or_default(), false)),
    }
}

/// Roles without a way from theirs have it as it was: `restore` tells them the version.
pub fn migrated(from: u32, parts: Vec<Result<(Saved, bool), RawError>>) -> Result<Vec<u8>, RawError> {
    let parts: Vec<(Saved, bool)> = parts.into_iter().collect::<Result<_, _>>()?;
    if !parts.iter().any(|(_, changed)| *changed) {
        return Err(crate::error::no_migration(from).into());
    }
    joined(parts.into_iter().map(|(saved, _)| Ok(saved)).collect())
}

/// A role's version may be another one while the sum that the host sees is the same, and an older host does not ask for a
/// migration: what is not of the role's own version is migrated here, too.
pub fn restore<P: Part>(slot: &Slot<P>, saved: Option<Saved>) -> Result<(), RawError> {
    match (&mut *slot.borrow_mut(), saved) {
        (Some(Ok(part)), Some(saved)) if saved.0 > 0 => {
            let ((version, bytes), _) = own(part, saved)?;
            Ok(part.restore(version, &bytes)?)
        }
        _ => Ok(()),
    }
}

pub fn requires<D: Detector>(slot: &Slot<AsDetector<D>>, input: RawSchema) -> Result<(), RawError> {
    with(slot, |part| part.0.requires(&schema(input)))
}

pub fn detect<D: Detector>(
    slot: &Slot<AsDetector<D>>,
    of: RawWindow,
    features: &RecordBatch,
) -> Result<detector::Verdict, RawError> {
    with(slot, |part| Ok(verdict(part.0.detect(&window(&of), &Batch::from_host(features))?)))
}

pub fn source_schema<S: Source>(slot: &Slot<AsSource<S>>) -> Result<RawSchema, RawError> {
    with(slot, |part| Ok(raw_schema(&part.0.schema())))
}

pub fn time_column<S: Source>(slot: &Slot<AsSource<S>>) -> String {
    with(slot, |part| Ok(part.0.time_column())).unwrap_or_default()
}

pub fn decode<S: Source>(
    slot: &Slot<AsSource<S>>,
    input: source_decoder::Frames,
) -> Result<source_decoder::Decoded, RawError> {
    let source_decoder::Frames { data, ends, received, peer, peers } = input;
    let frames = Frames { data, ends, received_ns: received, peer, peers };
    with(slot, |part| {
        let Decoded { rows, rejected } = part.0.decode(&frames)?;
        let rejected = rejected.into_iter().map(|(frame, reason)| source_decoder::Rejected { frame, reason }).collect();
        let rows = if rows.is_empty() { None } else { Some(rows.into_host()?) };
        Ok(source_decoder::Decoded { rows, rejected })
    })
}

pub fn feature_schema<X: Extractor>(slot: &Slot<AsExtractor<X>>, input: RawSchema) -> Result<RawSchema, RawError> {
    with(slot, |part| Ok(raw_schema(&part.0.schema(&schema(input))?)))
}

pub fn extract<X: Extractor>(
    slot: &Slot<AsExtractor<X>>,
    of: RawWindow,
    rows: &RecordBatch,
) -> Result<RecordBatch, RawError> {
    with(slot, |part| part.0.extract(&window(&of), &Batch::from_host(rows))?.into_host())
}

fn window(window: &RawWindow) -> Window {
    Window {
        start_ns: window.start,
        end_ns: window.end,
        revision: window.revision,
        watermark_ns: window.watermark,
        partial: window.partial,
    }
}

fn verdict(verdict: Verdict) -> detector::Verdict {
    let alerts = verdict.alerts.into_iter().map(|a| detector::Alert {
        row: a.row,
        kind: a.kind,
        severity: match a.severity {
            Severity::Info => detector::Severity::Info,
            Severity::Low => detector::Severity::Low,
            Severity::Medium => detector::Severity::Medium,
            Severity::High => detector::Severity::High,
            Severity::Critical => detector::Severity::Critical,
        },
        score: a.score,
        threshold: a.threshold,
        message: a.message,
        contributions: a.contributions.into_iter().map(contribution).collect(),
        attributes: a.attributes,
    });
    detector::Verdict { alerts: alerts.collect(), scores: verdict.scores }
}

fn contribution(c: crate::Contribution) -> detector::Contribution {
    detector::Contribution { column: c.column, weight: c.weight, observed: c.observed, expected: c.expected }
}

const TYPES: [(DataType, common::DataType); 8] = [
    (DataType::Boolean, common::DataType::Boolean),
    (DataType::Int64, common::DataType::Int64),
    (DataType::Uint64, common::DataType::Uint64),
    (DataType::Float64, common::DataType::Float64),
    (DataType::Utf8, common::DataType::Utf8),
    (DataType::Binary, common::DataType::Binary),
    (DataType::Ip, common::DataType::Ip),
    (DataType::TimestampNs, common::DataType::TimestampNs),
];

pub fn schema(raw: RawSchema) -> Schema {
    let ty = |raw| TYPES.iter().find(|(_, r)| *r == raw).map_or(DataType::Binary, |(ty, _)| *ty);
    let fields = raw.fields.into_iter().map(|f| Field { ty: ty(f.ty), name: f.name, nullable: f.nullable });
    Schema { fields: fields.collect() }
}

pub fn raw_schema(schema: &Schema) -> RawSchema {
    let ty = |ty| TYPES.iter().find(|(t, _)| *t == ty).map_or(common::DataType::Binary, |(_, raw)| *raw);
    let field = |f: &Field| common::Field { name: f.name.clone(), ty: ty(f.ty), nullable: f.nullable };
    RawSchema { fields: schema.fields.iter().map(field).collect(), metadata: Vec::new() }
}

impl From<Error> for RawError {
    fn from(e: Error) -> Self {
        match e {
            Error::Config { path, message } => RawError::Config(common::ConfigError { path, message }),
            Error::Schema(m) => RawError::Schema(m),
            Error::Denied(m) => RawError::Denied(m),
            Error::NotFound(m) => RawError::NotFound(m),
            Error::Quota(m) => RawError::Quota(m),
            Error::Retry(m) => RawError::Retry(m),
            Error::Other(m) => RawError::Other(m),
        }
    }
}

impl From<RawError> for Error {
    fn from(e: RawError) -> Self {
        match e {
            RawError::Config(c) => Error::Config { path: c.path, message: c.message },
            RawError::Schema(m) => Error::Schema(m),
            RawError::Denied(m) => Error::Denied(m),
            RawError::NotFound(m) => Error::NotFound(m),
            RawError::Quota(m) => Error::Quota(m),
            RawError::Retry(m) => Error::Retry(m),
            RawError::Other(m) => Error::Other(m),
        }
    }
}
