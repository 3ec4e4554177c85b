//! Plays random sequences of what people do to a checkout (its sources, programs and results), and
//! compares the outcome with a slow and obvious oracle: no hit is wrong, and nobody's file is lost.
//!
//! All code under test is xtask's, except for two things. [`builder::Builder`] behaves like cargo:
//! it believes time stamps. A program that it builds is the text of its sources, and [`stage`] runs
//! a program by digesting that text together with what the stage reads. So a result shows what it
//! was really made from, and the oracle computes what it should have been made from.
//!
//! `KNOCKLINE_SEQUENCES=10000 cargo test --package xtask model` plays more sequences, and
//! `KNOCKLINE_SEQUENCE=17` plays only that one.

mod builder;
mod player;
mod stage;
mod world;

use player::Player;

/// The default number of sequences.
const FEW: u64 = 150;
/// The number of actions in a sequence.
const LENGTH: usize = 14;

#[test]
fn no_hit_is_wrong_and_no_file_is_lost() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("KNOCKLINE_SEQUENCE") {
        Some(one) => one..one + 1,
        None => 0..number("KNOCKLINE_SEQUENCES").unwrap_or(FEW),
    };
    let mut counts = std::collections::BTreeMap::new();
    for seed in seeds.clone() {
        let mut player = Player::new(seed);
        for _ in 0..LENGTH {
            player.act();
        }
        player.settle();
        for (what, count) in player.counts {
            *counts.entry(what).or_insert(0_u64) += count;
        }
    }
    println!("{} sequences: {counts:?}", seeds.end - seeds.start);
    if seeds.end - seeds.start >= FEW {
        for what in [
            "edit", "restore", "touch", "build", "swap", "data", "map", "damage", "force", "kill",
            "resumed", "gc", "export", "import", "stranger", "meddled", "refused", "hit", "run",
        ] {
            assert!(
                counts.get(what).is_some_and(|&count| count > 0),
                "{what} never happened: {counts:?}"
            );
        }
    }
}
