//! Templates as the decoder needs them: for each field its target and width. Comes in: template and options template
//! sets (RFC 3954 5.2, 6.1; RFC 7011 3.4); goes out: layouts by template id, and records cut out of sets by them.
//! Refused: templates whose records would be empty, and such with more than [`MAX_FIELDS`] fields.

use super::exporters::Held;
use super::target::{Target, V9_SCOPE};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Field length that says "see the record" (RFC 7011 7).
const VARIABLE: u16 = 65_535;
/// Fields of one template; more is no template but an attack on memory.
const MAX_FIELDS: usize = 1024;

/// One field of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FieldSpec {
    pub target: Target,
    pub pen: u32,
    pub element: u16,
    pub len: u16,
}

/// What a template describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flows,
    Options,
}

/// One template.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub fields: Box<[FieldSpec]>,
    pub kind: Kind,
    /// Length of the shortest record; of every record when nothing is variable.
    pub min_len: usize,
    pub variable: bool,
    /// Ingest time of the template set that brought it.
    pub learned_ns: u64,
    /// Rises with every use; the lowest gives way when there is no room.
    pub used: u64,
}

/// What a layout takes besides its fields, in fields.
const LAYOUT_FIELDS: usize = 8;

impl Layout {
    fn new(fields: Vec<FieldSpec>, kind: Kind) -> Option<Self> {
        let min_len = fields.iter().map(|f| if f.len == VARIABLE { 1 } else { usize::from(f.len) }).sum();
        let variable = fields.iter().any(|f| f.len == VARIABLE);
        // A record without bytes would make endless records of any set.
        (min_len > 0 && fields.len() <= MAX_FIELDS).then(|| Self {
            fields: fields.into(),
            kind,
            min_len,
            variable,
            learned_ns: 0,
            used: 0,
        })
    }

    /// The layout of a template that was read before: enterprise number, element and length of its fields.
    pub fn again(id: u16, fields: &[(u32, u16, u16)], kind: Kind, learned_ns: u64, want_extra: bool) -> Option<Self> {
        let field = |(pen, element, len): &(u32, u16, u16)| FieldSpec {
            target: Target::of(*pen, *element, want_extra),
            pen: *pen,
            element: *element,
            len: *len,
        };
        match learn(id, fields.iter().map(field).collect(), kind)? {
            Definition::Learn(_, layout) => Some(Self { learned_ns, ..layout }),
            _ => None,
        }
    }

    /// What it takes, in fields.
    pub fn cost(&self) -> usize {
        self.fields.len() + LAYOUT_FIELDS
    }

    /// Calls `f` for each field of the record at the start of `body`; gives the record's length. `None`: no whole
    /// record there (and `f` may have seen some fields).
    #[inline]
    pub fn walk<'a>(&self, body: &'a [u8], mut f: impl FnMut(&FieldSpec, &'a [u8])) -> Option<usize> {
        if body.len() < self.min_len {
            return None;
        }
        let mut at = 0;
        for field in &self.fields {
            let mut len = usize::from(field.len);
            if field.len == VARIABLE {
                (len, at) = variable_length(body, at)?;
            }
            f(field, body.get(at..at + len)?);
            at += len;
        }
        Some(at)
    }

    /// Length of the record at the start of `body`.
    #[inline]
    pub fn record_len(&self, body: &[u8]) -> Option<usize> {
        if self.variable { self.walk(body, |_, _| {}) } else { (body.len() >= self.min_len).then_some(self.min_len) }
    }

    /// Whole records in `body`, and the bytes they take.
    #[inline]
    pub fn count(&self, body: &[u8]) -> (usize, usize) {
        if !self.variable {
            let n = body.len() / self.min_len;
            return (n, n * self.min_len);
        }
        let (mut n, mut at) = (0, 0);
        while let Some(len) = self.record_len(&body[at..]) {
            n += 1;
            at += len;
        }
        (n, at)
    }
}

/// RFC 7011 7: one byte, or 255 and two bytes. Zero is a length like any other (exporters send empty strings).
fn variable_length(body: &[u8], at: usize) -> Option<(usize, usize)> {
    match *body.get(at)? {
        255 => {
            let b = body.get(at + 1..at + 3)?;
            Some((usize::from(u16::from_be_bytes([b[0], b[1]])), at + 3))
        }
        n => Some((usize::from(n), at + 1)),
    }
}

/// One record of a template set.
#[derive(Debug)]
pub(super) enum Definition {
    Learn(u16, Layout),
    /// RFC 7011 8.1: a template without fields is withdrawn.
    Withdraw(u16),
    /// RFC 7011 8.1: the set's own id withdraws all templates of its kind.
    WithdrawAll(Kind),
}

/// Reads the template (or options template) set `set_id` of a v9 or IPFIX datagram. `Err` gives the number of bytes
/// that made no sense; what came before them is in `out`.
pub(super) fn read_template_set(
    ipfix: bool,
    set_id: u16,
    body: &[u8],
    want_extra: bool,
    out: &mut Vec<Definition>,
) -> Result<(), usize> {
    let kind = if matches!(set_id, 1 | 3) { Kind::Options } else { Kind::Flows };
    let mut c = Cursor(body);
    // Less than a template's header: padding.
    while c.0.len() >= 4 {
        let rest = c.0.len();
        let definition = match (ipfix, kind) {
            (true, _) => ipfix_template(&mut c, set_id, kind, want_extra),
            (false, Kind::Flows) => v9_template(&mut c, want_extra),
            (false, Kind::Options) => v9_options_template(&mut c, want_extra),
        };
        match definition {
            Some(definition) => out.push(definition),
            None if c.0.iter().all(|b| *b == 0) && body[body.len() - rest..].iter().all(|b| *b == 0) => return Ok(()),
            None => return Err(rest),
        }
    }
    Ok(())
}

fn v9_template(c: &mut Cursor<'_>, want_extra: bool) -> Option<Definition> {
    let (id, count) = (c.u16()?, c.u16()?);
    let fields = (0..count).map(|_| c.v9_field(0, want_extra)).collect::<Option<Vec<_>>>()?;
    learn(id, fields, Kind::Flows)
}

fn v9_options_template(c: &mut Cursor<'_>, want_extra: bool) -> Option<Definition> {
    let (id, scope_bytes, option_bytes) = (c.u16()?, c.u16()?, c.u16()?);
    let scopes = (0..scope_bytes / 4).map(|_| c.v9_field(V9_SCOPE, want_extra));
    let mut fields = scopes.collect::<Option<Vec<_>>>()?;
    for _ in 0..option_bytes / 4 {
        fields.push(c.v9_field(0, want_extra)?);
    }
    learn(id, fields, Kind::Options)
}

fn ipfix_template(c: &mut Cursor<'_>, set_id: u16, kind: Kind, want_extra: bool) -> Option<Definition> {
    let (id, count) = (c.u16()?, c.u16()?);
    if count == 0 {
        return match id {
            0 => None,
            _ if id == set_id => Some(Definition::WithdrawAll(kind)),
            _ => Some(Definition::Withdraw(id)),
        };
    }
    if kind == Kind::Options {
        c.u16()?; // how many of the fields are scopes: they are elements like the others
    }
    let fields = (0..count).map(|_| c.ipfix_field(want_extra)).collect::<Option<Vec<_>>>()?;
    learn(id, fields, kind)
}

fn learn(id: u16, fields: Vec<FieldSpec>, kind: Kind) -> Option<Definition> {
    // Ids below 256 are set ids, not templates.
    if id < 256 {
        return None;
    }
    Layout::new(fields, kind).map(|layout| Definition::Learn(id, layout))
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn u16(&mut self) -> Option<u16> {
        let (head, tail) = self.0.split_first_chunk::<2>()?;
        self.0 = tail;
        Some(u16::from_be_bytes(*head))
    }

    fn v9_field(&mut self, pen: u32, want_extra: bool) -> Option<FieldSpec> {
        let (element, len) = (self.u16()?, self.u16()?);
        Some(FieldSpec { target: Target::of(pen, element, want_extra), pen, element, len })
    }

    fn ipfix_field(&mut self, want_extra: bool) -> Option<FieldSpec> {
        let (element, len) = (self.u16()?, self.u16()?);
        let pen = if element & 0x8000 == 0 { 0 } else { (u32::from(self.u16()?) << 16) | u32::from(self.u16()?) };
        let element = element & 0x7fff;
        Some(FieldSpec { target: Target::of(pen, element, want_extra), pen, element, len })
    }
}

/// The layouts of one observation domain.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    by_id: HashMap<u16, Layout, foldhash::fast::RandomState>,
    /// Sum of [`Layout::cost`].
    fields: usize,
    clock: u64,
}

impl Layouts {
    /// The layout of that id, unless it is older than `ttl_ns` (0: never too old).
    #[inline]
    pub fn get(&mut self, id: u16, now_ns: u64, ttl_ns: u64) -> Option<&Layout> {
        let Entry::Occupied(entry) = self.by_id.entry(id) else { return None };
        if ttl_ns > 0 && now_ns.saturating_sub(entry.get().learned_ns) > ttl_ns {
            self.fields -= entry.remove().cost();
            return None;
        }
        let layout = entry.into_mut();
        self.clock += 1;
        layout.used = self.clock;
        Some(layout)
    }

    /// Keeps a layout under that id.
    pub fn insert(&mut self, id: u16, mut layout: Layout) {
        self.clock += 1;
        layout.used = self.clock;
        self.fields += layout.cost();
        self.fields -= self.by_id.insert(id, layout).map_or(0, |old| old.cost());
    }

    /// Forgets one.
    pub fn remove(&mut self, id: u16) {
        self.fields -= self.by_id.remove(&id).map_or(0, |l| l.cost());
    }

    /// Forgets all of a kind.
    pub fn remove_all(&mut self, kind: Kind) {
        self.by_id.retain(|_, l| l.kind != kind);
        self.fields = self.by_id.values().map(Layout::cost).sum();
    }

    /// Forgets the one least recently used.
    pub fn evict(&mut self) {
        if let Some(id) = self.by_id.iter().min_by_key(|(_, l)| l.used).map(|(id, _)| *id) {
            self.remove(id);
        }
    }

    /// All of them with their ids, those used last at the end.
    pub fn by_use(&self) -> Vec<(u16, &Layout)> {
        let mut all: Vec<(u16, &Layout)> = self.by_id.iter().map(|(id, layout)| (*id, layout)).collect();
        all.sort_unstable_by_key(|(_, layout)| layout.used);
        all
    }

    /// When the layout of that id was learned.
    pub fn learned_ns(&self, id: u16) -> Option<u64> {
        self.by_id.get(&id).map(|layout| layout.learned_ns)
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// What they take.
    pub fn held(&self) -> Held {
        Held { templates: self.by_id.len(), fields: self.fields }
    }
}
