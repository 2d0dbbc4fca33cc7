//! A time zone as a table of its changes, for a process whose C may be told another one.
//!
//! `src/nginx/worker/clock.rs` makes it when a worker starts, and asks it each second.
//! Runs on: event loop.

/// How far the table goes: no worker is that old. No two changes lie in one step.
const YEARS: i64 = 10;
const STEP: i64 = 7 * 86400;

/// Since when (seconds since 1970), and how many minutes local time is ahead of UTC. In order.
#[derive(Debug, PartialEq, Eq)]
pub struct Zone(Vec<(i64, i64)>);

impl Zone {
    /// From `now` on, as `offset` tells it of any second.
    pub fn new(now: i64, offset: impl Fn(i64) -> i64) -> Self {
        let mut changes = vec![(i64::MIN, offset(now))];
        let mut at = now;
        while at < now + YEARS * 366 * 86400 {
            let (mut before, mut after) = (at, at + STEP);
            at = after;
            let (old, new) = (offset(before), offset(after));
            if old != new {
                while after - before > 1 {
                    let middle = before + (after - before) / 2;
                    *(if offset(middle) == old { &mut before } else { &mut after }) = middle;
                }
                changes.push((after, new));
            }
        }
        Self(changes)
    }

    /// Minutes that local time is ahead of UTC.
    pub fn offset(&self, at: i64) -> i64 {
        let next = self.0.partition_point(|(since, _)| *since <= at);
        next.checked_sub(1).and_then(|last| self.0.get(last)).map_or(0, |(_, offset)| *offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_without_summer_time_is_one_line() {
        let zone = Zone::new(1_000_000_000, |_| 330);
        assert_eq!(zone, Zone(vec![(i64::MIN, 330)]));
        assert_eq!((zone.offset(0), zone.offset(i64::MAX)), (330, 330));
    }

    #[test]
    fn changes_are_found_to_the_second() {
        let now = 1_000_000_000;
        let summer = (now + 12_345_678)..(now + 12_345_678 + 200 * 86400);
        let zone = Zone::new(now, |at| if summer.contains(&at) { 120 } else { 60 });
        assert_eq!(zone.0.len(), 3);
        for (at, offset) in [
            (now, 60),
            (summer.start - 1, 60),
            (summer.start, 120),
            (summer.end - 1, 120),
            (summer.end, 60),
        ] {
            assert_eq!(zone.offset(at), offset, "{at}");
        }
    }
}
