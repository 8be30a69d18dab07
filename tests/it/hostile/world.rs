//! WASI is there, because standard libraries ask for it, and behind it is nothing.

use super::*;

#[test]
fn the_world_is_empty_in_every_call() {
    let mut chance = None;
    for (role, call) in WORK {
        let mut used = Used::new(&tight("hostile"), role, &does("wasi", call)).unwrap();
        let (reason, text) = used.fails();
        assert_eq!(reason, "error", "{text}");
        let told = text.split_once("answered: ").unwrap().1;
        let expected = "env=0 args=0 dir=refused read=refused write=refused tcp=refused listen=refused udp=refused \
                        name=refused stdin=0 time=";
        assert!(told.starts_with(expected), "{told}");
        let value = |name: &str| told.split(' ').find_map(|word| word.strip_prefix(name)).unwrap().to_owned();
        // Stream time: when the last frame was received, or the watermark.
        let time = if role == Role::SourceDecoder { "7000000000" } else { "10000000000" };
        assert_eq!(value("time="), time);
        // Not by chance: a replay repeats.
        assert_eq!(*chance.get_or_insert(value("chance=")), value("chance="));
    }
    assert!(!std::path::Path::new("/tmp/kaminari-hostile").exists());
}
