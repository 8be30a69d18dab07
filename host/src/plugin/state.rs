//! Keyed state that the host keeps for a plugin in one pipeline. Comes in: keys and values of a guest; goes out: the same,
//! also to the next instance, and as bytes for checkpoints. Refused: buckets that were not granted, more bytes than
//! `limits.state_bytes`, calls that change twice as much, answers above [`HOST_BYTES`]. Time is stream time: what expires does so at the same record in every run.

use super::bindings::kaminari::plugin::{common, state};
use super::instance::State;
use super::limits::HOST_BYTES;
use crate::model::saved::{Loader, NotLoaded, Saver};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wasmtime::component::Resource;

/// Bytes that an item costs besides its key and its value.
const ITEM: usize = 96;
/// Items of one `scan`.
const SCAN: usize = 10_000;
/// Expires never.
const NEVER: u64 = u64::MAX;

type Key = Vec<u8>;

#[derive(Clone, Debug, PartialEq)]
struct Item {
    value: Vec<u8>,
    expires: u64,
}

#[derive(Debug, Default)]
struct Inner {
    items: BTreeMap<(u32, Key), Item>,
    by_expiry: BTreeSet<(u64, u32, Key)>,
    bytes: usize,
    /// What the call at hand has changed: before it, this was there.
    undo: BTreeMap<(u32, Key), Option<Item>>,
    undo_bytes: usize,
}

/// The buckets of one plugin in one place. Clones share them.
#[derive(Clone, Debug)]
pub struct Buckets {
    /// Names that were granted; a bucket is a position here.
    names: Arc<[Arc<str>]>,
    cap: usize,
    inner: Arc<Mutex<Inner>>,
}

/// What stands behind a `bucket` handle.
pub struct BucketHandle(u32);

impl Buckets {
    /// Empty ones. `cap`: bytes of all of them together.
    pub fn new(names: &[Arc<str>], cap: usize) -> Self {
        Self { names: names.into(), cap, inner: Arc::default() }
    }

    /// True when none is granted.
    pub fn is_none(&self) -> bool {
        self.names.is_empty()
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins at this stream time: what has expired is gone.
    pub(super) fn begin(&self, now_ns: u64) {
        if self.names.is_empty() {
            return;
        }
        let mut inner = self.lock();
        inner.forget_undo();
        while let Some((expires, bucket, key)) = inner.by_expiry.first().cloned() {
            if expires > now_ns {
                break;
            }
            inner.set((bucket, key), None);
        }
    }

    /// The call has ended: what it changed counts, or not.
    pub(super) fn end(&self, keep: bool) {
        if self.names.is_empty() {
            return;
        }
        let mut inner = self.lock();
        let undo = inner.forget_undo();
        if !keep {
            for (at, before) in undo {
                inner.set(at, before);
            }
        }
    }

    fn open(&self, plugin: &str, name: &str) -> Result<BucketHandle, common::Error> {
        match self.names.iter().position(|granted| **granted == *name) {
            Some(at) => Ok(BucketHandle(at as u32)),
            None => Err(common::Error::Denied(format!("bucket `{name}`: name it in `plugins.{plugin}.state`"))),
        }
    }

    fn put(&self, bucket: u32, items: Vec<(Key, Vec<u8>)>, expires: u64, plugin: &str) -> Result<(), common::Error> {
        let mut inner = self.lock();
        // Of several values for one key the last counts.
        let items = items.into_iter().map(|(key, value)| ((bucket, key), Item { value, expires }));
        let items: BTreeMap<(u32, Key), Item> = items.collect();
        let (mut wanted, mut undo) = (inner.bytes, inner.undo_bytes);
        for (at, item) in &items {
            let before = inner.items.get(at);
            wanted = (wanted + item.cost(&at.1)).saturating_sub(before.map_or(0, |before| before.cost(&at.1)));
            if !inner.undo.contains_key(at) {
                undo += undo_cost(&at.1, before);
            }
        }
        let limit = format!("{} are allowed (`plugins.{plugin}.limits.state_bytes`)", self.cap);
        if wanted > self.cap {
            return Err(common::Error::Quota(format!("the state would take {wanted} bytes, {limit}")));
        }
        // What a call has changed is kept until it has ended, beside what it has put.
        if undo > 2 * self.cap {
            return Err(common::Error::Quota(format!("one call would change {undo} bytes of state, twice {limit}")));
        }
        items.into_iter().for_each(|(at, item)| inner.change(at, Some(item)));
        Ok(())
    }

    fn get(&self, bucket: u32, keys: Vec<Key>) -> Result<Vec<Option<Vec<u8>>>, common::Error> {
        let inner = self.lock();
        let (mut bytes, mut values) = (0usize, Vec::with_capacity(keys.len()));
        for key in keys {
            let value = inner.items.get(&(bucket, key)).map(|item| &item.value);
            // The same key may be asked for a million times.
            bytes += value.map_or(0, Vec::len);
            if bytes > HOST_BYTES {
                return Err(common::Error::Quota(format!("the values asked for are more than {HOST_BYTES} bytes")));
            }
            values.push(value.cloned());
        }
        Ok(values)
    }

    fn scan(&self, bucket: u32, prefix: &[u8], after: Option<Key>, limit: u32) -> Vec<(Key, Vec<u8>)> {
        let inner = self.lock();
        let from = match after {
            Some(after) if after.as_slice() >= prefix => Bound::Excluded((bucket, after)),
            _ => Bound::Included((bucket, prefix.to_vec())),
        };
        let range = inner.items.range((from, Bound::Unbounded));
        let mine = range.take_while(|((of, key), _)| *of == bucket && key.starts_with(prefix));
        mine.take(SCAN.min(limit as usize)).map(|((_, key), item)| (key.clone(), item.value.clone())).collect()
    }

    /// All of it, for a checkpoint; empty: there is nothing.
    pub fn save(&self) -> Vec<u8> {
        let inner = self.lock();
        if inner.items.is_empty() {
            return Vec::new();
        }
        let mut saver = Saver::new("buckets", 1);
        saver.count(self.names.len());
        self.names.iter().for_each(|name| saver.text(name));
        saver.count(inner.items.len());
        for ((bucket, key), item) in &inner.items {
            saver.u32(*bucket);
            saver.bytes(key);
            saver.bytes(&item.value);
            saver.u64(item.expires);
        }
        saver.done()
    }

    /// Goes on with what was saved. Buckets that are no longer granted are left out.
    pub fn restore(&self, saved: &[u8]) -> Result<(), NotLoaded> {
        let mut loader = Loader::new(saved, "buckets", 1)?;
        let mut names = Vec::new();
        for _ in 0..loader.count(4)? {
            names.push(loader.text()?);
        }
        let mut read = Inner::default();
        for _ in 0..loader.count(20)? {
            let (bucket, key, value) = (loader.u32()?, loader.bytes()?.to_vec(), loader.bytes()?.to_vec());
            let expires = loader.u64()?;
            let name = names.get(bucket as usize).ok_or(NotLoaded::Insane("an item of no bucket"))?;
            if let Some(at) = self.names.iter().position(|n| **n == **name) {
                read.set((at as u32, key), Some(Item { value, expires }));
            }
        }
        loader.end()?;
        *self.lock() = read;
        Ok(())
    }
}

impl Inner {
    fn set(&mut self, at: (u32, Key), item: Option<Item>) -> Option<Item> {
        let before = self.items.remove(&at);
        if let Some(before) = &before {
            self.bytes -= before.cost(&at.1);
            self.by_expiry.remove(&(before.expires, at.0, at.1.clone()));
        }
        if let Some(item) = item {
            self.bytes += item.cost(&at.1);
            if item.expires != NEVER {
                self.by_expiry.insert((item.expires, at.0, at.1.clone()));
            }
            self.items.insert(at, item);
        }
        before
    }

    /// A change by the call at hand.
    fn change(&mut self, at: (u32, Key), item: Option<Item>) {
        if item.is_none() && !self.items.contains_key(&at) {
            return;
        }
        let before = self.set(at.clone(), item);
        let cost = undo_cost(&at.1, before.as_ref());
        if let Entry::Vacant(first) = self.undo.entry(at) {
            first.insert(before);
            self.undo_bytes += cost;
        }
    }

    fn forget_undo(&mut self) -> BTreeMap<(u32, Key), Option<Item>> {
        self.undo_bytes = 0;
        std::mem::take(&mut self.undo)
    }
}

impl Item {
    /// Bytes that it takes under its key; what expires has its key twice.
    fn cost(&self, key: &Key) -> usize {
        let keys = if self.expires == NEVER { 1 } else { 2 };
        keys * key.len() + self.value.len() + ITEM
    }
}

fn undo_cost(key: &Key, before: Option<&Item>) -> usize {
    before.map_or(key.len() + ITEM, |before| before.cost(key))
}

type Bucket = Resource<BucketHandle>;
type Answer<T> = wasmtime::Result<Result<T, common::Error>>;

impl state::Host for State {}

impl state::HostBucket for State {
    fn open(&mut self, name: String) -> Answer<Bucket> {
        Ok(match self.buckets.open(&self.id, &name) {
            Ok(handle) => Ok(self.table.push(handle)?),
            Err(error) => Err(error),
        })
    }

    fn get(&mut self, bucket: Bucket, keys: Vec<Key>) -> Answer<Vec<Option<Vec<u8>>>> {
        let at = self.table.get(&bucket)?.0;
        Ok(self.buckets.get(at, keys))
    }

    fn put(&mut self, bucket: Bucket, items: Vec<(Key, Vec<u8>)>, expires: Option<u64>) -> Answer<()> {
        let at = self.table.get(&bucket)?.0;
        Ok(self.buckets.put(at, items, expires.unwrap_or(NEVER), &self.id))
    }

    fn delete(&mut self, bucket: Bucket, keys: Vec<Key>) -> Answer<()> {
        let at = self.table.get(&bucket)?.0;
        let mut inner = self.buckets.lock();
        keys.into_iter().for_each(|key| inner.change((at, key), None));
        Ok(Ok(()))
    }

    fn scan(&mut self, bucket: Bucket, prefix: Vec<u8>, after: Option<Key>, limit: u32) -> Answer<Vec<(Key, Vec<u8>)>> {
        let at = self.table.get(&bucket)?.0;
        Ok(Ok(self.buckets.scan(at, &prefix, after, limit)))
    }

    fn drop(&mut self, bucket: Bucket) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
