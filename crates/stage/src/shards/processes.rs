//! What one of the processes that share a run does: its arguments, and its part of the work.

use std::io::Write as _;
use std::ops::Range;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use failure::{Failure, Result};

use crate::{Event, Next, Shared, Stage, Step, Until};

/// What this process does of a run that several share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// It lists the steps.
    List,
    /// It does some chunks of a step.
    Chunks(String, Range<usize>),
    /// It makes the result from the pieces.
    Finish,
}

/// Parses `A..B`.
fn parse_chunks(text: &str) -> std::result::Result<Range<usize>, String> {
    let ends = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    ends.filter(|range: &Range<usize>| !range.is_empty())
        .ok_or_else(|| "write A..B, with A less than B".to_owned())
}

/// Adds the arguments of a stage whose work several processes can share.
pub fn shared_arguments(command: Command) -> Command {
    let chunk_rows = Arg::new("chunk-rows")
        .long("chunk-rows")
        .value_name("N")
        .value_parser(value_parser!(u32).range(1..))
        .help("share the work with other processes, in chunks of N rows");
    let list = Arg::new("list-steps")
        .long("list-steps")
        .action(ArgAction::SetTrue)
        .requires("chunk-rows")
        .conflicts_with("step")
        .help("print the steps that are not done, and how many chunks each has, as lines");
    let step = Arg::new("step")
        .long("step")
        .value_name("NAME")
        .requires("chunk-rows")
        .requires("chunks")
        .help("do some chunks of this step");
    let chunks = Arg::new("chunks")
        .long("chunks")
        .value_name("A..B")
        .requires("step")
        .value_parser(parse_chunks)
        .help("the chunks A to B - 1");
    command.arg(chunk_rows).arg(list).arg(step).arg(chunks)
}

/// Which part of a shared run this process does, if the run is shared.
pub fn part(matches: &ArgMatches) -> Option<Part> {
    matches.get_one::<u32>("chunk-rows")?;
    if matches.get_flag("list-steps") {
        return Some(Part::List);
    }
    let step = matches.get_one::<String>("step").zip(matches.get_one::<Range<usize>>("chunks"));
    Some(step.map_or(Part::Finish, |(step, chunks)| Part::Chunks(step.clone(), chunks.clone())))
}

pub fn do_part(stage: &Stage, shared: Shared, part: Part) -> Result<()> {
    let steps = (shared.steps)(stage)?;
    match part {
        Part::List => {
            let pieces = stage.pieces();
            std::fs::create_dir_all(&pieces)
                .map_err(|e| Failure::io("create folder", &pieces, &e))?;
            for step in &steps {
                stage.drop_damaged(step)?;
            }
            (shared.check)(stage)?;
            let steps: Vec<Step> = steps.into_iter().filter(|step| !stage.is_done(step)).collect();
            if stage.artifacts.is_some() {
                // Without xtask, for whoever starts the processes.
                for Step { name, chunks } in &steps {
                    // Whoever closed stdout does not want the lines.
                    let _ = writeln!(std::io::stdout(), "{name} {chunks}");
                }
            }
            stage.progress.send(&Event::Steps { steps });
            Ok(())
        }
        Part::Finish => Ok(()),
        Part::Chunks(name, chunks) => {
            let known = steps.iter().find(|step| step.name == name);
            if known.is_none_or(|step| step.chunks < chunks.end) {
                return Err(Failure::usage(
                    format_args!("there are no chunks {chunks:?} of a step `{name}`"),
                    "--step",
                    "--list-steps lists them",
                ));
            }
            for chunk in chunks {
                if stage.piece(&name, chunk).exists() {
                    continue;
                }
                let until = match (shared.work)(stage, &name, chunk)? {
                    Next::Step => continue,
                    Next::At(step) => Until::Step(step.to_owned()),
                    Next::Result => Until::Result,
                };
                stage.progress.send(&Event::StepsDone { until });
            }
            // A process whose machine fails may seem to end well to whoever started it there.
            stage.progress.send(&Event::ChunksDone);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_chunks_is_not_empty() {
        assert_eq!(parse_chunks("0..3"), Ok(0..3));
        for wrong in ["", "3", "3..3", "4..3", "a..3", "0..", "-1..2"] {
            assert!(parse_chunks(wrong).is_err(), "{wrong}");
        }
    }
}
