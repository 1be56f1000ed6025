//! Commands on keys, whatever they hold.

use keypact_resp::{Arguments, Value};

use crate::partition::{Reply, View, Write, argument};
use crate::strings::SYNTAX;

/// `DEL` and `UNLINK`. A key that has expired does not count, but goes as well.
pub(crate) fn del(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    let mut count = 0;
    for key in arguments.iter().skip(1) {
        let at = write.store.locate(key);
        let visible = write.store.visible(at, key, write.stamp_ms).is_some();
        write.store.remove(at, key);
        count += i64::from(visible);
    }
    Ok(Value::Integer(count))
}

/// `EXISTS` and `TOUCH`: nothing here remembers when a key was last used.
pub(crate) fn exists(view: &View<'_>, arguments: &Arguments) -> Reply {
    let visible = |key: &&[u8]| view.store.visible(view.store.locate(key), key, view.at_ms).is_some();
    Ok(Value::Integer(arguments.iter().skip(1).filter(visible).count() as i64))
}

/// `TYPE`
pub(crate) fn kind(view: &View<'_>, arguments: &Arguments) -> Reply {
    let key = argument(arguments, 1);
    let found = view.store.visible(view.store.locate(key), key, view.at_ms).is_some();
    Ok(Value::Simple(if found { "string" } else { "none" }))
}

pub(crate) fn dbsize(view: &View<'_>, _: &Arguments) -> Reply {
    Ok(Value::Integer(view.count() as i64))
}

/// `FLUSHALL` and `FLUSHDB`: the two options mean the same here, memory is always freed bit by bit.
pub(crate) fn flush(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    let known = |option: &[u8]| option.eq_ignore_ascii_case(b"async") || option.eq_ignore_ascii_case(b"sync");
    match arguments.get(1) {
        None => {}
        Some(option) if arguments.len() == 2 && known(option) => {}
        Some(_) => return Err(SYNTAX),
    }
    write.store.clear();
    Ok(Value::ok())
}
