//! Buckets in this thread's memory.

use crate::bucket::Item;
use crate::error::Result;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Bucket and key; value and when it expires.
type Buckets = BTreeMap<(String, Vec<u8>), (Vec<u8>, u64)>;

thread_local! {
    static BUCKETS: RefCell<Buckets> = const { RefCell::new(BTreeMap::new()) };
}

pub struct Handle(String);

#[cfg_attr(target_arch = "wasm32", expect(dead_code))]
impl Handle {
    pub fn open(name: &str) -> Result<Self> {
        let now = super::watermark();
        BUCKETS.with_borrow_mut(|all| all.retain(|_, (_, expires)| *expires > now));
        Ok(Self(name.to_owned()))
    }

    fn at(&self, key: &[u8]) -> (String, Vec<u8>) {
        (self.0.clone(), key.to_vec())
    }

    pub fn get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        let now = super::watermark();
        let get =
            |all: &Buckets, key: &Vec<u8>| all.get(&self.at(key)).filter(|(_, e)| *e > now).map(|(v, _)| v.clone());
        Ok(BUCKETS.with_borrow(|all| keys.iter().map(|key| get(all, key)).collect()))
    }

    pub fn put(&self, items: &[Item], expires_ns: Option<u64>) -> Result<()> {
        let expires = expires_ns.unwrap_or(u64::MAX);
        let put =
            |all: &mut Buckets| items.iter().for_each(|(k, v)| drop(all.insert(self.at(k), (v.clone(), expires))));
        BUCKETS.with_borrow_mut(put);
        Ok(())
    }

    pub fn delete(&self, keys: &[Vec<u8>]) -> Result<()> {
        BUCKETS.with_borrow_mut(|all| keys.iter().for_each(|key| drop(all.remove(&self.at(key)))));
        Ok(())
    }

    pub fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: u32) -> Result<Vec<Item>> {
        let now = super::watermark();
        let found = |all: &Buckets| {
            let mine = all.iter().filter(|((of, key), (_, expires))| {
                *of == self.0 && key.starts_with(prefix) && after.is_none_or(|a| key.as_slice() > a) && *expires > now
            });
            mine.take(limit as usize).map(|((_, key), (value, _))| (key.clone(), value.clone())).collect()
        };
        Ok(BUCKETS.with_borrow(found))
    }
}
