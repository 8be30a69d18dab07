//! Blue Gene's RAS log as it is passed around: `LABEL EPOCH DATE NODE TIME NODE TYPE COMPONENT LEVEL TEXT`. No syslog, but
//! what log analysis is measured on. The label is somebody's judgement, and no part of the message.

use crate::parse::Message;

/// Reads one line. `None`: it is none.
pub(crate) fn parse(line: &str) -> Option<Message<'_>> {
    let mut rest = line;
    let mut word = || {
        let (word, after) = rest.split_once(' ')?;
        rest = after.trim_start();
        Some(word)
    };
    let (_label, epoch, date, host, fine) = (word()?, word()?, word()?, word()?, word()?);
    let (_again, kind, app, level) = (word()?, word()?, word()?, word()?);
    let digits = |text: &str, n: usize| text.len() == n && text.bytes().all(|b| b.is_ascii_digit());
    let is_date = date.split('.').map(str::len).eq([4, 2, 2]);
    if !digits(epoch, 10) || !is_date || !kind.bytes().all(|b| b.is_ascii_uppercase()) {
        return None;
    }
    // The seconds are UTC; the fine time is local, and only its fraction counts.
    let micros = fine.rsplit('.').next().filter(|m| digits(m, 6))?;
    let time_ns = epoch.parse::<u64>().ok()? * 1_000_000_000 + micros.parse::<u64>().ok()? * 1000;
    let severity = match level {
        "FATAL" => 2,
        "SEVERE" | "ERROR" | "FAILURE" => 3,
        "WARNING" => 4,
        _ => 6,
    };
    Some(Message {
        time_ns: Some(time_ns),
        severity: Some(severity),
        host: Some(host),
        app: Some(app),
        text: rest,
        ..Message::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_its_label() {
        let line = "KERNDTLB 1118536327 2005.06.11 R30-M0-N9-C:J16-U01 2005-06-11-17.32.07.581048 R30-M0-N9-C:J16-U01 RAS KERNEL FATAL data TLB error interrupt";
        let message = parse(line).unwrap();
        assert_eq!(message.time_ns, Some(1_118_536_327_581_048_000));
        assert_eq!(
            (message.host, message.app, message.severity),
            (Some("R30-M0-N9-C:J16-U01"), Some("KERNEL"), Some(2))
        );
        assert_eq!(message.text, "data TLB error interrupt");
        for broken in
            ["- 1118536327 x", &line.replace("RAS", "ras"), &line.replace(".06.11 ", " "), &line.replace("11185", "x")]
        {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
