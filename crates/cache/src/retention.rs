//! Which earlier results stay when a store is cleaned up.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// Which earlier results stay. Without any limit, none does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The newest results of each node stay.
    pub newest: Option<usize>,
    /// So do those that were made since this time.
    pub since: Option<SystemTime>,
    /// Of those, only so many bytes stay, the newest first.
    pub most_bytes: Option<u64>,
}

/// An earlier result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier<T> {
    /// The result.
    pub result: T,
    /// Its node.
    pub node: String,
    /// When it was made.
    pub made: SystemTime,
    /// The size of its files.
    pub bytes: u64,
}

impl Retention {
    /// Whether any earlier result may stay.
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// The results that do not stay.
    pub fn dropped<T>(&self, mut all: Vec<Earlier<T>>) -> Vec<Earlier<T>> {
        if !self.is_any() {
            return all;
        }
        all.sort_by_key(|earlier| std::cmp::Reverse(earlier.made));
        let mut of_node = std::collections::BTreeMap::new();
        let mut bytes = 0_u64;
        let stays = |earlier: &Earlier<T>| {
            let newer = of_node.entry(earlier.node.clone()).or_insert(0_usize);
            let is_new = self.newest.is_some_and(|newest| *newer < newest);
            *newer += 1;
            let is_young = self.since.is_some_and(|since| earlier.made >= since);
            let only_size = self.newest.is_none() && self.since.is_none();
            if !(is_new || is_young || only_size) {
                return false;
            }
            bytes = bytes.saturating_add(earlier.bytes);
            self.most_bytes.is_none_or(|most| bytes <= most)
        };
        let (_, dropped) = all.into_iter().partition::<Vec<_>, _>(stays);
        dropped
    }
}

/// A time span on the command line, such as `30d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age(pub Duration);

impl FromStr for Age {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)];
        let seconds = units.iter().find_map(|(unit, seconds)| {
            text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*seconds)
        });
        seconds
            .map(|seconds| Self(Duration::from_secs(seconds)))
            .ok_or_else(|| "write a whole number with d, h, min or s, such as 30d".to_owned())
    }
}

/// A number of bytes on the command line, such as `2GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let units =
            [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
        let bytes = units.iter().find_map(|(unit, bytes)| {
            text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*bytes)
        });
        bytes
            .map(Self)
            .ok_or_else(|| "write a whole number with kB, MB, GB or TB, such as 2GB".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// The names of those that do not stay, the newest first.
    fn dropped(retention: Retention) -> String {
        let all = [("a1", 1), ("b1", 2), ("a2", 3), ("a3", 4), ("b2", 5)];
        let all = all.map(|(name, made)| Earlier {
            result: name,
            node: name.chars().take(1).collect(),
            made: at(made),
            bytes: 10,
        });
        let dropped = retention.dropped(all.to_vec()).into_iter().map(|earlier| earlier.result);
        dropped.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_no_limit_keeps_is_dropped() {
        let none = Retention::default();
        assert_eq!(dropped(none).split(' ').count(), 5);
        let newest = Some(1);
        assert_eq!(dropped(Retention { newest, ..none }), "a2 b1 a1");
        let since = Some(at(3));
        assert_eq!(dropped(Retention { since, ..none }), "b1 a1");
        assert_eq!(dropped(Retention { newest: Some(2), since, ..none }), "a1");
        assert_eq!(dropped(Retention { newest: Some(0), ..none }).split(' ').count(), 5);
    }

    #[test]
    fn the_oldest_are_dropped_first_until_the_rest_fits() {
        let most = |bytes| Retention { most_bytes: Some(bytes), ..Retention::default() };
        assert_eq!(dropped(most(50)), "");
        assert_eq!(dropped(most(49)), "a1");
        assert_eq!(dropped(most(25)), "a2 b1 a1");
        assert_eq!(dropped(Retention { newest: Some(1), ..most(10) }), "a3 a2 b1 a1");
    }

    #[test]
    fn ages_and_sizes_have_a_unit() {
        assert_eq!("30d".parse(), Ok(Age(Duration::from_hours(720))));
        assert_eq!("5min".parse(), Ok(Age(Duration::from_mins(5))));
        assert_eq!("2GB".parse(), Ok(Bytes(2_000_000_000)));
        for wrong in ["", "30", "d", "-1d", "1.5h", "99999999999999999999d", "2m"] {
            assert!(wrong.parse::<Age>().is_err(), "{wrong}");
        }
        for wrong in ["", "2", "GB", "2G", "1.5GB", "99999999999TB"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
    }
}
